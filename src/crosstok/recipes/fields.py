"""What all recipes share: options with help texts, checks, reading and writing YAML."""

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_type_hints

import pydantic

from crosstok.plugins import nearest
from crosstok.recipes.former_keys import (
    FormerKey,
    changed_keys,
    describe_moves,
    spell_moves,
    translate,
)
from crosstok.recipes.in_memory import as_saved, in_memory_keys
from crosstok.recipes.limits import find_fault, is_bool_as_number
from crosstok.recipes.yaml_text import read_yaml, write_yaml

log = logging.getLogger("crosstok")

Recipe = TypeVar("Recipe")

# One value in a YAML file or in Python is a list of one.
Strings = Annotated[list[str], pydantic.BeforeValidator(lambda v: [v] if isinstance(v, str) else v)]
Numbers = Annotated[
    list[float], pydantic.BeforeValidator(lambda v: v if isinstance(v, list) else [v])
]

# The path of a file or folder that crosstok writes.
PathName = Annotated[
    str, pydantic.BeforeValidator(lambda v: os.path.expanduser(v) if isinstance(v, str) else v)
]

GROUPS = (
    "",
    "model",
    "prompts",
    "chat",
    "answers",
    "two tokenizers",
    "a teacher and a student",
    "both",
    "data",
    "tasks and exams",
    "comparison",
    "objective",
    "teacher",
    "LoRA",
    "training",
    "held-out data",
    "output and run",
)
"""Headings of ``--help``, in their order; others follow in the order in which they first appear."""


class RecipeError(ValueError):
    """The options do not make a recipe: a key is unknown or missing, or a value is wrong."""


def option(  # noqa: PLR0913 (what is known of an option)
    help_text: str,
    default: Any = MISSING,
    *,
    group: str = "",
    on_resume: Literal["may change", "must stay"] = "must stay",
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    free_text: bool = False,
    may_be_empty: bool = False,
    instead_of: str | None = None,
    example: str = "NAME=VALUE",
) -> Any:
    """A field of a recipe, with its help text, heading and limits.

    Args:
        help_text: its line in ``--help``; ends in a full stop.
        default: its default value; an option without one is required.
        group: its heading in ``--help``.
        on_resume: whether a run may be resumed with another value.
        at_least: the smallest value allowed.
        above: the value must be larger than this.
        at_most: the largest value allowed.
        free_text: any text is a value, an empty one too.
        may_be_empty: an empty list is a value.
        instead_of: a field that excludes this one: an option for either removes the other from what
            the recipe file sets.
        example: for a mapping, an example of what to write after the flag.
    """
    facts = {
        "help": help_text,
        "group": group,
        "on_resume": on_resume,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "free_text": free_text,
        "may_be_empty": may_be_empty,
        "instead_of": instead_of,
        "example": example,
    }
    return field(default=default, metadata=facts)


@dataclass(frozen=True, kw_only=True)
class CheckedRecipe:
    """A recipe whose values are checked when it is made, in Python and from YAML alike.

    Raises:
        RecipeError: a value has the wrong type or is out of range.
    """

    former_keys: ClassVar[Mapping[str, FormerKey]] = {}
    """Keys of recipes of earlier versions."""

    def __post_init__(self) -> None:
        """Convert and check every value."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in validated(type(self), values).items():
            object.__setattr__(self, name, value)


def validated(recipe_type: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values to the types of a recipe: numbers, and lists where one value is allowed.

    Args:
        recipe_type: dataclass of `option` fields.
        values: by field name; fields may be missing.

    Raises:
        RecipeError: a value has the wrong type or is out of range.
    """
    adapters, known = _adapters(recipe_type), {f.name: f for f in fields(recipe_type)}
    converted, problems = {}, []
    for name, value in values.items():
        try:
            converted[name] = adapters[name].validate_python(_plain(value))
        except pydantic.ValidationError as error:
            problems += [_describe(name, entry) for entry in error.errors()]
            continue
        if is_bool_as_number(_plain(value), converted[name]):
            problems.append(f"{name} = {value!r}: Input should be a number")
        elif fault := find_fault(known[name], converted[name]):
            raise RecipeError(fault)
    if problems:
        raise RecipeError(f"the recipe does not fit: {'; '.join(problems)}.")
    return converted


def _describe(name: str, error: Any) -> str:
    """``precision = 'bfloat16': Input should be 'fp32' or 'bf16': did you mean 'bf16'?``."""
    given, said = error["input"], error["msg"].removeprefix("Value error, ").rstrip(".?")
    if error["type"] == "literal_error" and isinstance(given, str):
        near = nearest(given, re.findall("'([^']+)'", error["ctx"]["expected"]))
        said += near.rstrip(".?")
    return f"{'.'.join(map(str, (name, *error['loc'])))} = {given!r:.200}: {said}"


@cache
def _adapters(recipe_type: type[Any]) -> dict[str, pydantic.TypeAdapter[Any]]:
    hints = get_type_hints(recipe_type, include_extras=True)
    return {f.name: pydantic.TypeAdapter(hints[f.name]) for f in fields(recipe_type)}


def _plain(value: Any) -> Any:
    """Turn paths into strings, as in YAML files and on the command line."""
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def grouped_fields(*recipe_types: type[Any]) -> list[Field[Any]]:
    """The fields by group, in the order of `GROUPS`; within a group the required ones come first.

    Where several recipes have a field of the same name, the first recipe's is returned.
    """
    known: dict[str, Field[Any]] = {}
    for recipe_type in recipe_types:
        known = {**{f.name: f for f in fields(recipe_type)}, **known}
    groups = [f.metadata.get("group", "") for f in known.values()]
    order = list(dict.fromkeys([*GROUPS, *groups]))
    return [
        f
        for group in order
        for is_required in (True, False)
        for f in known.values()
        if f.metadata.get("group", "") == group and (f.default is MISSING) == is_required
    ]


def load_recipe(
    recipe_type: type[Recipe], file: str | Path | None, flags: Mapping[str, Any]
) -> Recipe:
    """Make a recipe from a YAML file, if any, and options; options take precedence.

    Options that are mappings take precedence key by key; the file's other keys stay.

    Args:
        recipe_type: class of the recipe.
        file: YAML file, or None.
        flags: options by name, from the command line or from a call in Python.

    Raises:
        RecipeError: the file is missing or not a mapping, a key is unknown (names the nearest
            one), a value has the wrong type or is out of range, or a required key is missing.
    """
    known = {f.name: f for f in grouped_fields(recipe_type)}
    former = _former_keys(recipe_type)
    if moved := {name: value for name, value in flags.items() if name in former}:
        raise RecipeError(f"{describe_moves(moved)}; give {spell_moves(moved, former)}.")
    _check_known(flags, known, "the options")
    values: dict[str, Any] = {}
    if file is not None:
        found = read_recipe_file(Path(file))
        values = translate(found, former)
        if moved := changed_keys(found, former):
            log.info("%s: %s; read as %s", file, describe_moves(moved), spell_moves(moved, former))
        _check_known(values, known, str(file))
        _check_named(values, flags, file)
        _put_aside(values, flags, known)
    values = validated(recipe_type, _merged(values, flags))
    missing = [n for n, f in known.items() if f.default is MISSING and n not in values]
    if missing:
        raise RecipeError(describe_missing(missing))
    return recipe_type(**values)


def _check_named(values: Mapping[str, Any], flags: Mapping[str, Any], file: str | Path) -> None:
    """Refuse the recipe of a run that was given objects, until they have names."""
    unnamed = [key for key in in_memory_keys(values) if key not in flags]
    if unnamed:
        raise RecipeError(
            f"{file}: {', '.join(unnamed)} was in memory, in a run that was started in Python. "
            f"Give a name ({', '.join(f'--{key} NAME' for key in unnamed)}) for a new run; to "
            "resume that one, call it again in Python with the same objects and resume=True."
        )


def describe_missing(names: Sequence[str]) -> str:
    """The message about required options that are missing, for Python and the command line."""
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in names)
    them, options = ("it", "an option") if len(names) == 1 else ("them", "options")
    keys = "a key" if len(names) == 1 else "keys"
    return (
        f"missing: {', '.join(names)}. Give {them} as {options} ({flags} on the command line) or "
        f"as {keys} of a recipe file."
    )


def saved_values(recipe_type: type[Any], file: Path) -> dict[str, Any]:
    """The recipe that a run saved, with today's keys; keys that it lacks have their defaults.

    Raises:
        RecipeError: the file is not a mapping in YAML, or a value in it has the wrong type.
    """
    defaults = {f.name: f.default for f in fields(recipe_type) if f.default is not MISSING}
    saved = translate(read_recipe_file(file), _former_keys(recipe_type))
    known = {f.name: saved[f.name] for f in fields(recipe_type) if f.name in saved}
    return {**defaults, **saved, **validated(recipe_type, known)}


def _former_keys(recipe_type: type[Any]) -> Mapping[str, FormerKey]:
    return recipe_type.former_keys if issubclass(recipe_type, CheckedRecipe) else {}


def _put_aside(
    values: dict[str, Any], flags: Mapping[str, Any], known: Mapping[str, Field[Any]]
) -> None:
    """Remove from the file's values what an option excludes (see ``instead_of``)."""
    for name, known_field in known.items():
        other = known_field.metadata.get("instead_of")
        if other is not None and (name in flags) != (other in flags):
            values.pop(other if name in flags else name, None)


def _merged(values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in flags.items():
        old = merged.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged


def pairs(given: Iterable[str], flag: str, example: str = "strict.top_k=32") -> dict[str, Any]:
    """Read ``strict.top_k=32`` and ``gold.beta=0`` as nested mappings.

    Values are read as YAML, so that ``[1, 0]`` is a list and ``null`` is None.

    Args:
        given: entries of the form ``KEY=VALUE``, with dots in keys for nesting.
        flag: name of the option, for errors.
        example: an entry to show in errors.

    Raises:
        RecipeError: an entry has no ``=``, a value is not YAML, or a key occurs twice.
    """
    values: dict[str, Any] = {}
    flag = f"--{flag.replace('_', '-')}"
    for entry in given:
        path, equals, value = entry.partition("=")
        *outer, key = path.strip().split(".")
        into = values
        for name in outer:
            into = into.setdefault(name, {}) if isinstance(into, dict) else into
        if not equals or not key or not isinstance(into, dict) or key in into:
            raise RecipeError(
                f"{flag} {entry!r} is not KEY=VALUE, or its key occurs twice; write, for example, "
                f"{flag} {example}."
            )
        try:
            into[key] = read_yaml(value)
        except ValueError as error:
            raise RecipeError(f"{flag} {entry!r}: the value is not YAML: {error}.") from error
    return values


def save_recipe(recipe: Any, file: Path) -> None:
    """Write every field of a recipe, defaults included, so that the file alone repeats the run."""
    file.write_text(recipe_yaml(recipe), encoding="utf-8")


def recipe_yaml(recipe: Any) -> str:
    """The recipe as YAML, in the order of its groups."""
    return write_yaml(as_mapping(recipe))


def as_mapping(recipe: Any) -> dict[str, Any]:
    """The values of a recipe by name, in the order of its groups."""
    values = asdict(recipe)
    return {f.name: as_saved(values[f.name]) for f in grouped_fields(type(recipe))}


def read_recipe_file(file: Path) -> dict[str, Any]:
    """Read the keys and values of a recipe file unchecked, with ``_`` for ``-`` in keys.

    Raises:
        RecipeError: there is no such file, or it is not a mapping in YAML.
    """
    if not file.is_file():
        raise RecipeError(f"there is no recipe {str(file)!r}; give the path of a YAML file.")
    try:
        values = read_yaml(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {str(file)!r} is not YAML: it is not text in UTF-8.") from error
    except ValueError as error:
        raise RecipeError(f"recipe {str(file)!r} is not YAML: {error}.") from error
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {str(file)!r} must hold `key: value` lines, nothing else.")
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def _check_known(values: Iterable[str], known: Iterable[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise RecipeError(
                f"unknown recipe key {key!r} in {where}{nearest(key, known)} "
                f"Keys are: {', '.join(known)}."
            )
