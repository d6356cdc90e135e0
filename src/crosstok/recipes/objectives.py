"""Objectives by the names that recipes call them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pydantic

from crosstok.recipes.fields import RecipeError, nearest

if TYPE_CHECKING:
    from crosstok.objectives import Objective

# Name -> class of crosstok.objectives. A new objective is one line here.
OBJECTIVES = {
    "alm": "ALM",
    "cross_entropy": "CrossEntropy",
    "dskd": "DSKD",
    "gold": "GOLD",
    "hidden_states": "HiddenStates",
    "mined": "MinED",
    "strict": "Strict",
    "uld": "ULD",
}


def objective_names(joined: str) -> list[str]:
    """The names in ``alm+cross_entropy``.

    Raises:
        RecipeError: an unknown name, or one given twice.
    """
    names = [name.strip() for name in joined.split("+")]
    for name in names:
        if name not in OBJECTIVES:
            raise RecipeError(
                f"unknown objective {name!r}{nearest(name, OBJECTIVES)} "
                f"Objectives are {', '.join(OBJECTIVES)}; join several by +."
            )
    if len(set(names)) != len(names):
        raise RecipeError(f"objective {joined!r} names one twice; give each once.")
    return names


def make_objective(name: str, options: Mapping[str, Any]) -> "Objective":
    """One objective with these options, the others at their defaults.

    Raises:
        RecipeError: an option it does not have (names the nearest), or a value that cannot be.
    """
    from crosstok import objectives

    cls = getattr(objectives, OBJECTIVES[name])
    known = [f.name for f in fields(cls) if f.name != "kind"]
    for option in options:
        if option not in known:
            raise RecipeError(
                f"objective {name!r} has no option {option!r}{nearest(option, known)} "
                f"Its options are: {', '.join(known)}."
            )
    try:
        objective: Objective = pydantic.TypeAdapter(cls).validate_python(dict(options))
    except pydantic.ValidationError as error:
        problems = "; ".join(
            f"{name}.{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}"
            for e in error.errors()
        )
        raise RecipeError(f"the objective's options do not fit: {problems}.") from error
    return objective
