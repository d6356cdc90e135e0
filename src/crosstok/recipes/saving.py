"""Options of what a training run leaves."""

from dataclasses import dataclass

from crosstok.recipes.fields import CheckedRecipe, option


@dataclass(frozen=True, kw_only=True)
class SavingRecipe(CheckedRecipe):
    """What a training run leaves beside its model."""

    keep_checkpoints: bool = option(
        "Keep the checkpoints of a run that is done, to extend it later with --resume.",
        False,
        group="output and run",
        on_resume="may change",
    )
