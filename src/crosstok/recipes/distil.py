"""The recipe of a distillation."""

from dataclasses import dataclass

from crosstok.recipes.fields import option
from crosstok.recipes.in_memory import ModelName, ModelNames
from crosstok.recipes.training import TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class DistilRecipe(TrainingRecipe):
    """Train a student on a teacher that has another tokenizer."""

    teacher: ModelNames = option(
        "Model to learn from: a name on the hub or a folder.", group="model", may_be_empty=True
    )
    student: ModelName = option("Model to train: a name on the hub or a folder.", group="model")
    random_init: bool = option("Start the student from random weights.", False, group="model")
