"""The recipe of a distillation."""

from dataclasses import dataclass

from crosstok.recipes.fields import Strings, option
from crosstok.recipes.training import DataAndOutput, TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class _TeacherAndStudent:
    """The two sides of a distillation."""

    teacher: Strings = option("Model to learn from, name or folder; may be repeated.")
    student: str = option("Model to train, with its own tokenizer: name or folder.")


@dataclass(frozen=True, kw_only=True)
class _RandomStart(DataAndOutput):
    """A start from nothing. A base of its own: flags come in the order of the bases."""

    random_init: bool = option("Start from random weights of the student's architecture.", False)


@dataclass(frozen=True, kw_only=True)
class DistilRecipe(TrainingRecipe, _RandomStart, _TeacherAndStudent):
    """Teach a student from a teacher with another tokenizer."""
