"""Which checkpoint is the best: the one of the lowest bits per byte on held-out texts.

Transformers' trainer keeps the checkpoint of ``state.best_global_step`` and loads it at the end
(``load_best_model_at_end``). Its own evaluation is not used, so the step is noted here.
"""

from collections.abc import Mapping
from pathlib import Path

from transformers import TrainerControl, TrainerState, TrainingArguments

METRIC = "mean_bits_per_byte"


def load_best_at_end(arguments: TrainingArguments) -> None:
    """Have the trainer load the best checkpoint at the end.

    Set after the arguments are made: transformers would insist on evaluating by itself.
    """
    arguments.load_best_model_at_end = True
    arguments.metric_for_best_model = METRIC
    arguments.greater_is_better = False


def note_best(state: TrainerState, control: TrainerControl, figures: Mapping[str, float]) -> None:
    """Have a checkpoint saved if the mean of these figures is the lowest so far.

    The model before the first step does not count, as it has not been trained.

    Args:
        state: of the trainer, at the step that was measured.
        control: of the trainer.
        figures: bits per byte of each held-out set at this step.
    """
    if state.global_step == 0 or not figures:
        return
    mean = sum(figures.values()) / len(figures)
    if state.best_metric is None or mean < state.best_metric:
        state.best_metric, state.best_global_step = mean, state.global_step
        control.should_save = True


def best_checkpoint(state: TrainerState, folder: Path) -> Path | None:
    """The best checkpoint among those of a folder, which may have been moved since."""
    best = folder / f"checkpoint-{state.best_global_step}"
    return best if state.best_global_step and best.is_dir() else None
