"""Options of what is measured on held-out data while a model trains."""

from dataclasses import dataclass

from crosstok.recipes.fields import CheckedRecipe, Strings, option
from crosstok.recipes.in_memory import Sources


@dataclass(frozen=True, kw_only=True)
class HeldOutRecipe(CheckedRecipe):
    """What is measured while a model trains, and how often; it changes no weight."""

    eval_data: Sources | None = option(
        "Held-out texts or chats to measure bits per byte on, named as for --data.",
        None,
        group="held-out data",
        on_resume="may change",  # measuring changes no weight
    )
    eval_split: str = option(
        "Split of the held-out data sets and folders.",
        "validation",
        group="held-out data",
        on_resume="may change",
    )
    eval_every: int = option(
        "Steps between measurements.",
        100,
        group="held-out data",
        on_resume="may change",
        at_least=1,
    )
    eval_texts: int = option(
        "Texts or chats of each, from its beginning.",
        100,
        group="held-out data",
        on_resume="may change",
        at_least=1,
    )
    eval_exam: Strings | None = option(
        "Exam to measure accuracy on; see crosstok evaluate --exam.",
        None,
        group="held-out data",
        on_resume="may change",
    )
    eval_limit: int | None = option(
        "Items of each exam, evenly spaced; all if not given.",
        None,
        group="held-out data",
        on_resume="may change",
        at_least=1,
    )
