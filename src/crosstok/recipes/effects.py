"""Options that would have no effect: refused, since whoever gave them expects one."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from crosstok.recipes.fields import RecipeError


def refuse_unused(recipe: Any, names: Sequence[str], needed: str) -> None:
    """Refuse options that differ from their defaults, where what they need is not given.

    Args:
        recipe: a recipe.
        names: its options that have no effect.
        needed: what they need, by the names of options.

    Raises:
        RecipeError: one of them is given.
    """
    defaults = {field.name: field.default for field in fields(recipe)}
    given = [name for name in names if getattr(recipe, name) != defaults[name]]
    if given:
        options = ", ".join(given)
        raise RecipeError(
            f"{options} would have no effect without {needed}. Add {needed}, or leave {options} "
            "out."
        )
