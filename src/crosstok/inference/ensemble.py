"""The file that defines an ensemble.

combine: bytes-mixture        # one of `COMBINE`
members:
  - model: models/small       # folder (from this file, or from here) or name on the hub
    weight: 2                 # optional, for all members or for none
  - model: models/other
    chat_template: other.jinja   # optional: a file, or "plain"
alpha: 1.0                    # of proxy, whose members are base, expert, anti-expert
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from crosstok.chats import resolve_chat_template
from crosstok.inference.language_model import COMBINE


@dataclass(frozen=True)
class MemberFile:
    """One model of an ensemble.

    Attributes:
        model: Folder, or name on the hub.
        weight: Its weight, or None.
        chat_template: Text of a template in the place of the model's own, or None.
    """

    model: str
    weight: float | None = None
    chat_template: str | None = None


@dataclass(frozen=True)
class EnsembleFile:
    """What the file says."""

    combine: str
    members: tuple[MemberFile, ...]
    alpha: float = 1.0

    @property
    def weights(self) -> list[float] | None:
        """Of all members, or None."""
        found = [member.weight for member in self.members if member.weight is not None]
        return found or None


def is_ensemble_file(name: str) -> bool:
    """Whether a name is that of a definition file, there or not."""
    return Path(name).suffix in (".yaml", ".yml") and not Path(name).is_dir()


def read_ensemble_file(name: str) -> EnsembleFile:
    """Read and check a definition file.

    Raises:
        ValueError: It is not there or no YAML, or a key is unknown, missing or has a wrong value;
            names file, key and rule.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(f"ensemble file {name!r} is not there; check the path.")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"ensemble file {name!r} is no YAML: {error}") from error
    try:
        return _read(given, path.parent)
    except ValueError as error:
        raise ValueError(f"ensemble file {name!r}: {error}") from None


def _read(given: Any, folder: Path) -> EnsembleFile:
    _check_keys(given, "the file", required={"combine", "members"}, optional={"alpha"})
    combine, members = given["combine"], given["members"]
    if combine not in COMBINE:
        raise ValueError(f"combine is {combine!r}; it must be one of {', '.join(COMBINE)}.")
    if not isinstance(members, list) or not members:
        raise ValueError(f"members is {members!r}; it must be a list of at least one model.")
    alpha = _number(given.get("alpha", 1.0), "alpha")
    if "alpha" in given and combine != "proxy":
        raise ValueError(f"alpha is {alpha}; only combine: proxy has one. Remove it.")
    found = tuple(_member(member, number, folder) for number, member in enumerate(members, 1))
    if len({member.weight is None for member in found}) > 1:
        raise ValueError("some members have a weight and some have none; give all or none one.")
    return EnsembleFile(combine, found, alpha)


def _member(given: Any, number: int, folder: Path) -> MemberFile:
    where = f"members[{number}]"
    _check_keys(given, where, required={"model"}, optional={"weight", "chat_template"})
    model, weight, template = given["model"], given.get("weight"), given.get("chat_template")
    if not isinstance(model, str) or not model:
        raise ValueError(f"{where}.model is {model!r}; it must be a folder or a name on the hub.")
    if weight is not None and _number(weight, f"{where}.weight") <= 0:
        raise ValueError(f"{where}.weight is {weight}; it must be above 0.")
    if template is not None:
        if not isinstance(template, str):
            raise ValueError(f"{where}.chat_template is {template!r}; it must be a file or 'plain'")
        try:
            template = resolve_chat_template(_from(folder, template))
        except ValueError as error:
            raise ValueError(f"{where}.chat_template: {error}") from None
    return MemberFile(_from(folder, model), None if weight is None else float(weight), template)


def _from(folder: Path, name: str) -> str:
    """A path that is there from the file's folder, else the name as it is."""
    beside = folder / name
    return str(beside) if name != "plain" and beside.exists() else name


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is {value!r}; it must be a number.")
    return float(value)


def _check_keys(given: Any, where: str, *, required: set[str], optional: set[str]) -> None:
    known = f"{', '.join(sorted(required))} and, if wanted, {', '.join(sorted(optional))}"
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} is {given!r:.60}; it must have the keys {known}.")
    if wrong := sorted(map(str, given.keys() - required - optional)):
        raise ValueError(f"{where} has the unknown key {wrong[0]!r}; there are {known}.")
    if missing := sorted(required - given.keys()):
        raise ValueError(f"{where} has no {missing[0]!r}; it must have the keys {known}.")
