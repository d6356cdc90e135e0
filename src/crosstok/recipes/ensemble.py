"""The flags that say which models answer, and how: `--combine`, `--weight`, `--alpha`, ..."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from crosstok.recipes.fields import RecipeError

if TYPE_CHECKING:
    from crosstok.recipes.evaluate import EvaluateRecipe
    from crosstok.recipes.generate import GenerateRecipe

# Options of `Ensemble`, and the flags that they are on the command line.
_FLAGS = {
    "combine": "--combine",
    "weights": "--weight",
    "alpha": "--alpha",
    "target": "--target",
    "bytes_view": "--bytes",
    "chat_templates": "--chat-template",
}


def ensemble_options(recipe: "EvaluateRecipe | GenerateRecipe") -> dict[str, Any]:
    """The flags as options of `Ensemble`, which alone knows what may be."""
    return {
        "combine": recipe.combine,
        "weights": recipe.weight,
        "alpha": recipe.alpha,
        "target": recipe.target,
        "bytes_view": recipe.bytes,
    }


@contextmanager
def spelt_as_flags() -> Iterator[None]:
    """Errors of an `Ensemble` as those of a recipe, with flags for options.

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
        names = "|".join(_FLAGS)
        text = re.sub(rf"\b({names})\b", lambda found: _FLAGS[found[0]], str(error))
        raise RecipeError(text) from error
