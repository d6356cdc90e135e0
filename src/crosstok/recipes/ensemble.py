"""The options of a recipe that say which models answer, and how: combine, weight, alpha, ..."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from crosstok.recipes.fields import RecipeError

if TYPE_CHECKING:
    from crosstok.recipes.evaluate import EvaluateRecipe
    from crosstok.recipes.generate import GenerateRecipe

# Options of `Ensemble` that recipes call by another name.
_NAMES = {"weights": "weight", "bytes_view": "bytes", "chat_templates": "chat_template"}


def ensemble_options(recipe: "EvaluateRecipe | GenerateRecipe") -> dict[str, Any]:
    """The recipe's options as those of `Ensemble`, which checks them."""
    return {
        "combine": recipe.combine,
        "weights": recipe.weight,
        "alpha": recipe.alpha,
        "target": recipe.target,
        "bytes_view": recipe.bytes,
    }


@contextmanager
def spelled_as_in_recipes() -> Iterator[None]:
    """Raise errors of an `Ensemble` as errors of a recipe, in the recipe's names for options.

    Raises:
        RecipeError: the options contradict each other.
        EnsembleFileError: a file that defines an ensemble is missing or wrong.
    """
    from crosstok.inference.ensemble import EnsembleFileError

    try:
        yield
    except (EnsembleFileError, RecipeError):
        raise
    except ValueError as error:
        names = "|".join(_NAMES)
        text = re.sub(
            rf"(?<![\w/])({names})\b(?![/\\])", lambda found: _NAMES[found[0]], str(error)
        )
        raise RecipeError(text) from error
