"""Keys of earlier recipes: five options of ALM that are now options like any other.

Files with these keys are still read; on the command line the error gives the new spelling.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class FormerKey:
    """A former key of recipes that is now an option of an objective.

    Attributes:
        objective: name of the objective.
        default: former default of the key.
    """

    objective: str
    default: Any


ALM_KEYS: Mapping[str, FormerKey] = {
    "temperature": FormerKey("alm", 100.0),
    "divergence": FormerKey("alm", "kl"),
    "min_boundary_mass": FormerKey("alm", 0.1),
    "debias": FormerKey("alm", True),
    "max_slope": FormerKey("alm", 10.0),
}


def translate(values: Mapping[str, Any], former: Mapping[str, FormerKey]) -> dict[str, Any]:
    """Move former keys of a recipe's values into ``options``.

    A key at its former default is dropped: it equals the objective's default, and it had no effect
    with another objective. Entries already in ``options`` take precedence, as before.
    """
    today = {name: value for name, value in values.items() if name not in former}
    changed = changed_keys(values, former)
    for name, value in changed.items():
        key = former[name]
        options = {**(today.get("options") or {})}
        own = options.get(key.objective) or {}
        today["options"] = {**options, key.objective: {name: _option(name, value), **own}}
    return today


def changed_keys(values: Mapping[str, Any], former: Mapping[str, FormerKey]) -> dict[str, Any]:
    """The former keys among a recipe's values that are not at their default."""
    return {n: v for n, v in values.items() if n in former and v != former[n].default}


def describe_moves(moved: Mapping[str, Any]) -> str:
    """``"temperature, debias: options of an objective now"``."""
    return (
        f"{', '.join(moved)}: {'an option' if len(moved) == 1 else 'options'} of an objective now"
    )


def spell_moves(moved: Mapping[str, Any], former: Mapping[str, FormerKey]) -> str:
    """``"--options alm.temperature=5 --options alm.debias=false"``."""
    return " ".join(
        f"--options {former[name].objective}.{name}={_spelled(_option(name, value))}"
        for name, value in moved.items()
    )


def _option(name: str, value: Any) -> Any:
    """Convert a value: no bound was inf and is now null."""
    is_unbounded = name == "max_slope" and str(value).lower().lstrip(".") == "inf"
    return None if is_unbounded else value


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else yaml.safe_dump(value).splitlines()[0]
