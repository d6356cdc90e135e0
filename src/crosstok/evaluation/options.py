"""How an evaluation is made."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from crosstok.choices import Precision, Target, TextUnit


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How texts are read and scored, and how models given by name answer (see `Ensemble`)."""

    max_length: int | None = None
    """Tokens in a window; by default each model's positions, at most 2,048."""

    window_bytes: int | None = None
    """Cut texts into windows of so many bytes instead, the same ones for every model. Where byte
    views or ensembles are among the models, whose tokens are not the same: 1,024, or as many as
    surely fit the model with the fewest positions."""

    overlap: int = 0
    """Tokens of a window that repeat the end of the one before (bits per byte)."""

    start_every_window: bool = True
    """Put the start token in front of every window, not of every text only (bits per byte)."""

    max_texts: int | None = None
    """Texts of each data set that are used, from its beginning; None for all."""

    limit: int | None = None
    """Items of each exam, evenly spaced, and of each task, from its beginning; None for all."""

    text_field: str = "text"
    """Field of a data set's rows that holds the text."""

    text_unit: TextUnit = "line"
    """What one text of a `.txt` file is."""

    split: str = "train"
    """Split of a data set's name or folder; a file has none."""

    tokens_per_batch: int | None = None
    """Tokens in one forward pass, padding included; the default goes by the device."""

    precision: Precision | torch.dtype | str | None = None
    """Of models loaded by name: fp32, bf16 or fp16, or what torch calls them; None for float32 on a
    CPU, and on an accelerator as they are saved."""

    device: str | None = None
    """Of models loaded by name; None for the accelerator if there is one."""

    trust_remote_code: bool = False
    """Whether Python code in a model's folder may be executed."""

    combine: str | None = None
    """Let all models answer as one, by one of `crosstok.inference.RULES`."""

    bytes_view: bool = False
    """Read every model byte by byte; the name "bytes:NAME" reads a single one so."""

    weights: Sequence[float] | None = None
    """Of the models that are combined; equal by default."""

    alpha: float = 1.0
    """Of the combination "proxy"."""

    target: Target = "all"
    """Which token sequences count where models are read byte by byte."""

    task_folder: str | None = None
    """Folder of task files of lm-eval, which come before its own."""

    num_fewshot: int | None = None
    """Solved examples in front of each question of a task; the task's own number by default."""

    apply_chat_template: bool = False
    """Put the questions of tasks as chats."""

    def __post_init__(self) -> None:
        for name in ("max_texts", "limit", "tokens_per_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
