"""Recipes: everything a run depends on, as a frozen dataclass, command-line flags, or YAML.

A recipe's fields are the command's flags with ``_`` for ``-``, and the keys of the YAML file.
Heavy libraries are imported only in the functions that need them, so that a mistyped flag is
reported at once.
"""

from crosstok.choices import OBJECTIVES
from crosstok.recipes.calls import Job, takes
from crosstok.recipes.distil import DistilRecipe
from crosstok.recipes.evaluate import EvaluateRecipe
from crosstok.recipes.fields import (
    CheckedRecipe,
    RecipeError,
    as_mapping,
    grouped_fields,
    load_recipe,
    option,
    pairs,
    recipe_yaml,
    save_recipe,
    saved_values,
)
from crosstok.recipes.generate import GenerateRecipe
from crosstok.recipes.inspect import (
    InspectModelsRecipe,
    InspectTokenizersRecipe,
    load_inspect_recipe,
)
from crosstok.recipes.saving import PublishedRecipe
from crosstok.recipes.training import TrainingRecipe
from crosstok.recipes.transfer import TransferRecipe, TransplantRecipe

__all__ = [
    "OBJECTIVES",
    "CheckedRecipe",
    "DistilRecipe",
    "EvaluateRecipe",
    "GenerateRecipe",
    "InspectModelsRecipe",
    "InspectTokenizersRecipe",
    "Job",
    "PublishedRecipe",
    "RecipeError",
    "TrainingRecipe",
    "TransferRecipe",
    "TransplantRecipe",
    "as_mapping",
    "grouped_fields",
    "load_inspect_recipe",
    "load_recipe",
    "option",
    "pairs",
    "recipe_yaml",
    "save_recipe",
    "saved_values",
    "takes",
]
