"""The objectives of a run: those that its recipe names, or instances that a caller brings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from crosstok.objectives import Objective
from crosstok.objectives.choosing import choose
from crosstok.recipes import OBJECTIVES, RecipeError, TrainingRecipe

Recipe = TypeVar("Recipe", bound=TrainingRecipe)


def choose_objectives(
    recipe: Recipe, objectives: Sequence[Objective] | None
) -> tuple[Recipe, list[Objective]]:
    """What is trained, and the recipe that says so.

    Args:
        recipe: of a job that trains.
        objectives: instances, which win over what the recipe names; None: what it names.

    Returns:
        The recipe, in which ``objective`` names the classes of the instances, ours by name and
        others as ``module:Class``, and ``options`` holds their fields. What is not a number, text,
        list or mapping stands there as Python prints it: such a recipe is a record, and training
        it again takes the instances again. And the objectives.

    Raises:
        RecipeError: the recipe names what cannot be, or the sequence is empty, holds what is no
            objective, or holds two of one name.
    """
    if objectives is None:
        return recipe, recipe.objectives()
    try:
        chosen = list(choose(objectives))
    except ValueError as error:
        raise RecipeError(str(error)) from error
    joined = "+".join(_place(type(objective)) for objective in chosen)
    options = {objective.name: _options(objective) for objective in chosen}
    return replace(recipe, objective=joined, options=options), chosen


def need_teacher(objectives: Iterable[Objective]) -> bool:
    """Whether any of them needs a teacher."""
    return any(objective.needs.teacher for objective in objectives)


def _place(cls: type[Objective]) -> str:
    """What a recipe calls a class."""
    place = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, ours in OBJECTIVES.items() if ours == place), place)


def _options(objective: Objective) -> dict[str, Any]:
    if not is_dataclass(objective):
        return {}
    return {f.name: _as_plain(getattr(objective, f.name)) for f in fields(objective)}


def _as_plain(value: Any) -> Any:
    """What YAML can say, and the rest as Python prints it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _as_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_as_plain(entry) for entry in value]
    return repr(value)
