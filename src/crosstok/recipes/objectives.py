"""Find objectives by name: crosstok's, those of installed packages, and a user's own classes."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import pydantic

from crosstok.choices import OBJECTIVES
from crosstok.plugins import nearest, resolve
from crosstok.recipes.fields import RecipeError
from crosstok.recipes.limits import is_bool_as_number

if TYPE_CHECKING:
    from crosstok.objectives import Objective


def objective_places(joined: str) -> dict[str, str]:
    """The objectives of a recipe by short name: ``{"alm": "alm", "mine": "my_losses:Mine"}``.

    Args:
        joined: names joined by ``+``: ``alm+my_losses:Mine``. A class from outside is imported to
            read its short name.

    Raises:
        RecipeError: a name is unknown, a class is not an objective, or a short name occurs twice.
    """
    places: dict[str, str] = {}
    for place in (part.strip() for part in joined.split("+")):
        name = place if place in OBJECTIVES else _class_of(place).name
        if name in places:
            raise RecipeError(
                f"objective {joined!r} names {name!r} twice; give each objective once."
            )
        places[name] = place
    return places


def objective_names(joined: str) -> list[str]:
    """The short names of a recipe's objectives (see `objective_places`).

    Raises:
        RecipeError: see `objective_places`.
    """
    return list(objective_places(joined))


def make_objective(place: str, options: Mapping[str, Any]) -> "Objective":
    """Make an objective with these options and defaults for the others.

    Args:
        place: its name in ``OBJECTIVES`` or of an entry point, or ``module:Class``.
        options: values by name.

    Raises:
        RecipeError: there is no such objective, it has no such option (names the nearest), or a
            value is wrong.
    """
    cls = _class_of(place)
    known: list[str] = [field.name for field in fields(cls)] if is_dataclass(cls) else []
    for option in options:
        if option not in known:
            raise RecipeError(
                f"objective {cls.name!r} has no option {option!r}{nearest(option, known)} "
                f"Its options are: {', '.join(known) or 'none'}."
            )
    try:
        if not is_dataclass(cls):
            return _make_plain(cls)
        objective: Objective = pydantic.TypeAdapter(cls).validate_python(dict(options))
    except pydantic.ValidationError as error:
        problems = "; ".join(
            f"{cls.name}.{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}"
            for e in error.errors()
        )
        raise RecipeError(f"the objective's options do not fit: {problems}.") from error
    for name, value in options.items():
        if is_bool_as_number(value, getattr(objective, name)):
            raise RecipeError(f"{cls.name}.{name} is {value}; it must be a number.")
    return objective


def _make_plain(cls: "type[Objective]") -> "Objective":
    try:
        return cls()
    except TypeError as error:
        raise RecipeError(
            f"objective {cls.name!r} cannot be made without arguments ({error}); make its class a "
            "dataclass, whose fields are options, or give an instance in Python."
        ) from error


def _class_of(place: str) -> "type[Objective]":
    from crosstok.objectives.choosing import check_is_objective

    try:
        cls = resolve(place, OBJECTIVES, "crosstok.objectives", "objective")
        check_is_objective(cls, f"objective {place!r}")
    except ValueError as error:
        raise RecipeError(str(error)) from error
    return cls
