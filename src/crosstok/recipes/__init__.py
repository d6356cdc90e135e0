"""Recipes: everything a run depends on, as a frozen dataclass, as flags, and as YAML.

A recipe's fields are the command's flags with ``_`` for ``-``; the same names are the YAML keys.
Nothing heavy is imported here, so that a mistyped flag is answered at once: what a recipe builds is
imported where it is built.
"""

from crosstok.recipes.base import (
    RecipeError,
    load_recipe,
    nearest,
    option,
    pairs,
    recipe_yaml,
    save_recipe,
)
from crosstok.recipes.generation import GenerateRecipe
from crosstok.recipes.objectives import OBJECTIVES
from crosstok.recipes.tools import EvaluateRecipe, InspectRecipe
from crosstok.recipes.training import (
    DistilRecipe,
    TrainingRecipe,
    TransferRecipe,
    TransplantRecipe,
)

__all__ = [
    "OBJECTIVES",
    "DistilRecipe",
    "EvaluateRecipe",
    "GenerateRecipe",
    "InspectRecipe",
    "RecipeError",
    "TrainingRecipe",
    "TransferRecipe",
    "TransplantRecipe",
    "load_recipe",
    "nearest",
    "option",
    "pairs",
    "recipe_yaml",
    "save_recipe",
]
