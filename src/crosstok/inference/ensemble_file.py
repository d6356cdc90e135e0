"""The file that defines an ensemble.

combine: bytes-mixture        # one of `RULES`
members:
  - model: models/small       # folder (relative to this file or to here) or name on the hub
    weight: 2                 # optional, for all members or for none
  - model: models/other
    chat_template: other.jinja   # optional: a file, or "plain"
alpha: 1.0                    # for proxy, whose members are base, expert, anti-expert
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from crosstok.chats import resolve_chat_template
from crosstok.choices import Target
from crosstok.inference.ensemble import Ensemble, EnsembleFileError, Member


def read_ensemble_file(name: str, target: Target = "all") -> Ensemble:
    """Read and check a definition file.

    Args:
        name: the file.
        target: which token sequences count where models are read byte by byte.

    Raises:
        EnsembleFileError: the file is missing or not YAML, or a key is unknown, missing or has a
            wrong value; names file, key and rule.
        ValueError: the ensemble is not read byte by byte, and a target is set.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise EnsembleFileError(f"ensemble file {name!r} is not there; check the path.")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise EnsembleFileError(f"ensemble file {name!r} is not YAML: {error}") from error
    try:
        read = _read(given, path.parent)
    except ValueError as error:
        raise EnsembleFileError(f"ensemble file {name!r}: {error}") from None
    return replace(read, target=target)


def _read(given: Any, folder: Path) -> Ensemble:
    _check_keys(given, "the file", required={"combine", "members"}, optional={"alpha"})
    combine, members = given["combine"], given["members"]
    if not isinstance(combine, str):
        raise ValueError(f"combine is {combine!r}; it must be the name of a rule.")
    if not isinstance(members, list) or not members:
        raise ValueError(f"members is {members!r}; it must be a list of at least one model.")
    found = tuple(_member(member, number, folder) for number, member in enumerate(members, 1))
    weights = [_weight(member, number) for number, member in enumerate(members, 1)]
    known = [weight for weight in weights if weight is not None]
    if known and len(known) < len(weights):
        raise ValueError(
            "some members have a weight and some have none; give all of them one, or none."
        )
    alpha = _number(given.get("alpha", 1.0), "alpha")
    return Ensemble(found, combine, tuple(known) or None, alpha)


def _member(given: Any, number: int, folder: Path) -> Member:
    where = f"members[{number}]"
    _check_keys(given, where, required={"model"}, optional={"weight", "chat_template"})
    model, template = given["model"], given.get("chat_template")
    if not isinstance(model, str) or not model:
        raise ValueError(f"{where}.model is {model!r}; it must be a folder or a name on the hub.")
    if template is not None:
        if not isinstance(template, str):
            raise ValueError(
                f"{where}.chat_template is {template!r}; it must be a file or 'plain'."
            )
        try:
            template = resolve_chat_template(_from(folder, template))
        except ValueError as error:
            raise ValueError(f"{where}.chat_template: {error}") from None
    return Member(_from(folder, model), template)


def _weight(member: Mapping[str, Any], number: int) -> float | None:
    weight = member.get("weight")
    return None if weight is None else _number(weight, f"members[{number}].weight")


def _from(folder: Path, name: str) -> str:
    """The path relative to the file's folder if it exists, else the name unchanged."""
    beside = folder / name
    return str(beside) if name != "plain" and beside.exists() else name


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is {value!r}; it must be a number.")
    return float(value)


def _check_keys(given: Any, where: str, *, required: set[str], optional: set[str]) -> None:
    known = f"{', '.join(sorted(required))} and optionally {', '.join(sorted(optional))}"
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} is {given!r:.60}; it must have the keys {known}.")
    if wrong := sorted(map(str, given.keys() - required - optional)):
        raise ValueError(f"{where} has the unknown key {wrong[0]!r}; the keys are {known}.")
    if missing := sorted(required - given.keys()):
        raise ValueError(f"{where} has no {missing[0]!r}; it must have the keys {known}.")
