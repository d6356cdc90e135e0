"""Objectives as people pass them: by name, or as instances."""

from collections.abc import Sequence
from typing import Any

from crosstok.choices import OBJECTIVES
from crosstok.objectives.base import FitsAnyPair, Needs, Objective
from crosstok.plugins import resolve


def choose(given: str | Objective | Sequence[Objective]) -> tuple[Objective, ...]:
    """Turn names or instances into the objectives to train by.

    Args:
        given: names joined by ``+`` (with default options), one instance, or several.

    Raises:
        ValueError: there is none, something is not an objective, or two have one name.
    """
    if isinstance(given, str):
        places = [place.strip() for place in given.split("+")]
        group = "crosstok.objectives"
        classes: list[Any] = [resolve(place, OBJECTIVES, group, "objective") for place in places]
        for place, cls in zip(places, classes, strict=True):
            check_is_objective(cls, f"objective {place!r}")
        chosen: list[Any] = [cls() for cls in classes]
    else:
        chosen = list(given) if isinstance(given, list | tuple) else [given]
    if not chosen:
        raise ValueError("objectives is empty; give at least one.")
    for objective in chosen:
        if isinstance(objective, type):
            raise ValueError(
                f"objectives holds the class {objective.__name__}; give an instance, "
                f"{objective.__name__}()."
            )
        check_is_objective(objective, repr(objective))
    names = [objective.name for objective in chosen]
    if len(set(names)) < len(names):
        raise ValueError(f"objectives are called {names}; give each a name of its own.")
    return tuple(chosen)


def check_is_objective(objective: Any, called: str) -> None:
    """Check that a class or instance has every part of an objective.

    Args:
        objective: a class or an instance of one.
        called: its name in the error.

    Raises:
        ValueError: a part is missing; names it.
    """
    cls = objective if isinstance(objective, type) else type(objective)
    name = getattr(cls, "name", None)
    has = {
        "name, a short name such as 'mine'": isinstance(name, str) and name.isidentifier(),
        "needs, of type crosstok.objectives.Needs": isinstance(getattr(cls, "needs", None), Needs),
        "bind(student, teacher)": _defines(cls, "bind"),
    }
    if issubclass(cls, FitsAnyPair):  # is its own loss
        has["count(batch, teacher)"] = _defines(cls, "count")
        has["__call__(batch, student, teacher)"] = _defines(cls, "__call__")
    lacks = [part for part, is_there in has.items() if not is_there]
    if lacks:
        raise ValueError(
            f"{called} is not an objective: it lacks {'; '.join(lacks)}. "
            "docs/guides/extend.md shows how to write one."
        )


def _defines(cls: type, method: str) -> bool:
    return any(method in vars(base) for base in cls.__mro__)
