"""What every recipe has: options with their help, YAML in and out, errors that name the key."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, field, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
import yaml

Recipe = TypeVar("Recipe")

# One value in a YAML file is a list of one.
Strings = Annotated[list[str], pydantic.BeforeValidator(lambda v: [v] if isinstance(v, str) else v)]
Numbers = Annotated[
    list[float], pydantic.BeforeValidator(lambda v: v if isinstance(v, list) else [v])
]


class RecipeError(ValueError):
    """What was asked for is not a recipe: a key or value that cannot be, or one that is missing."""


def option(help_text: str, default: Any = MISSING) -> Any:
    """A recipe field with the text that ``--help`` shows for it."""
    return field(default=default, metadata={"help": help_text})


def load_recipe(
    recipe_type: type[Recipe], file: str | Path | None, flags: Mapping[str, Any]
) -> Recipe:
    """A recipe from a YAML file (or none) and the flags that were given; flags win.

    Raises:
        RecipeError: the file is missing or no mapping, a key is unknown (names the nearest one), a
            value has the wrong type, or a required key is missing.
    """
    known = {f.name: f for f in fields(recipe_type)}  # type: ignore[arg-type]
    values = {**(_read_yaml(Path(file), known) if file else {}), **flags}
    _check_known(values, known, "the options")
    missing = [n for n, f in known.items() if f.default is MISSING and n not in values]
    if missing:
        spelled = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise RecipeError(f"missing: {spelled}. Give them as flags, or as keys of a --recipe file.")
    try:
        return pydantic.TypeAdapter(recipe_type).validate_python(values)
    except pydantic.ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()
        )
        raise RecipeError(f"the recipe does not fit: {problems}.") from error


def pairs(given: Iterable[str], flag: str) -> dict[str, Any]:
    """``["strict.top_k=32", "gold.beta=0"]`` as ``{"strict": {"top_k": 32}, "gold": {"beta": 0}}``.

    Values are read as YAML, so that ``[1, 0]`` is a list and ``null`` is nothing.

    Raises:
        RecipeError: an entry without ``=``, a value that is no YAML, or a key given twice.
    """
    values: dict[str, Any] = {}
    for entry in given:
        path, equals, value = entry.partition("=")
        *outer, key = path.strip().split(".")
        into = values
        for name in outer:
            into = into.setdefault(name, {})
        if not equals or not key or not isinstance(into, dict) or key in into:
            raise RecipeError(
                f"--{flag.replace('_', '-')} {entry!r} is not KEY=VALUE with a key of its own; "
                f"write, for example, --{flag.replace('_', '-')} strict.top_k=32."
            )
        try:
            into[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"{entry!r}: the value {value!r} is not YAML: {error}") from error
    return values


def save_recipe(recipe: Any, file: Path) -> None:
    """Write every field of a recipe, defaults too, so that the file alone repeats the run."""
    file.write_text(recipe_yaml(recipe), encoding="utf-8")


def recipe_yaml(recipe: Any) -> str:
    """The recipe as YAML, in the order of its fields."""
    return yaml.safe_dump(asdict(recipe), sort_keys=False, allow_unicode=True)


def nearest(name: str, known: Iterable[str]) -> str:
    """``": did you mean 'x'?"``, or ``"."`` where nothing is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else "."


def _read_yaml(file: Path, known: Iterable[str]) -> dict[str, Any]:
    if not file.is_file():
        raise RecipeError(f"there is no recipe {str(file)!r}; give the path of a YAML file.")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {str(file)!r} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {str(file)!r} must hold `key: value` lines, nothing else.")
    values = {str(key).replace("-", "_"): value for key, value in values.items()}
    _check_known(values, known, str(file))
    return values


def _check_known(values: Iterable[str], known: Iterable[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise RecipeError(
                f"unknown recipe key {key!r} in {where}{nearest(key, known)} "
                f"Keys are: {', '.join(known)}."
            )
