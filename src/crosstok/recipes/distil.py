"""The recipe of a distillation."""

from dataclasses import dataclass

from crosstok.recipes.fields import Strings, option
from crosstok.recipes.training import TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class DistilRecipe(TrainingRecipe):
    """Teach a student from a teacher with another tokenizer."""

    teacher: Strings = option("Model to learn from: name or folder.", group="model")
    student: str = option("Model to train, with its own tokenizer.", group="model")
    random_init: bool = option("Start the student from random weights.", False, group="model")
