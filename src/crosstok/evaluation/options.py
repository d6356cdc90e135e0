"""Options of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch

from crosstok.choices import Precision, Target, TextUnit


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How texts are read and scored, and how models loaded by name answer (see `Ensemble`)."""

    max_length: int | None = None
    """Tokens in a window; by default each model's number of positions, at most 2,048."""

    window_bytes: int | None = None
    """Bytes in a window, instead of tokens; the windows are then the same for every model. By
    default windows are of tokens; where byte views or ensembles are among the models, of 1,024
    bytes, or fewer if the model with the fewest positions needs it."""

    overlap: int = 0
    """Tokens of a window that repeat the end of the previous one (bits per byte)."""

    start_every_window: bool = True
    """Put the start token before every window, not only before every text (bits per byte)."""

    max_texts: int | None = None
    """Texts to use from the beginning of each data set; None for all."""

    limit: int | None = None
    """Items of each exam, evenly spaced, and of each task, from its beginning; None for all."""

    text_field: str = "text"
    """Field of a data set's rows that holds the text."""

    text_unit: TextUnit = "line"
    """What one text of a `.txt` file is."""

    split: str = "train"
    """Split of a data set given by name or folder; files have none."""

    tokens_per_batch: int | None = None
    """Tokens in one forward pass, padding included; the default depends on the device."""

    batch_size: int | None = None
    """Rows in one forward pass at most (windows of texts, options of exam items), and prompts of
    tasks that are answered at once; by default as many as `tokens_per_batch` allows, and 8. Byte
    views and ensembles choose their batches themselves."""

    precision: Precision | torch.dtype | str | None = None
    """Precision of the weights of models loaded by name: fp32, bf16, fp16, or torch's names. None:
    float32 on a CPU, and on an accelerator as they are saved."""

    device: str | None = None
    """Device of models loaded by name; None for the accelerator if there is one."""

    trust_remote_code: bool = False
    """Whether Python code in a model's folder may be executed."""

    combine: str | None = None
    """Rule by which all models answer as one, from `crosstok.inference.RULES`."""

    bytes_view: bool = False
    """Read every model byte by byte; the name "bytes:NAME" does so for a single model."""

    weights: Sequence[float] | None = None
    """Weights of the combined models; equal by default."""

    alpha: float = 1.0
    """For "proxy": strength of expert minus anti-expert."""

    target: Target = "all"
    """Which token sequences count where models are read byte by byte."""

    task_folder: str | None = None
    """Folder with task files in lm-eval's format, which take precedence over its own."""

    num_fewshot: int | None = None
    """Solved examples before each question of a task; the task's own number by default."""

    apply_chat_template: bool = False
    """Put the questions of tasks as chats."""

    log_samples: str | None = None
    """Folder for the items of exams and tasks with each model's scores, a JSON line an item; None
    to keep only the figures."""

    def __post_init__(self) -> None:
        sizes = ("max_length", "window_bytes", "max_texts", "limit", "tokens_per_batch")
        least = {**dict.fromkeys((*sizes, "batch_size"), 1), "overlap": 0, "num_fewshot": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ValueError(f"{name} is {value}; it must be at least {lowest}.")
        if self.text_unit not in get_args(TextUnit):
            raise ValueError(
                f"text_unit is {self.text_unit!r}; it must be one of "
                f"{', '.join(get_args(TextUnit))}."
            )
