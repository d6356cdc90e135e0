"""What every value of a recipe must satisfy, whatever its option: finite numbers, names with text.

Options set further limits (`at_least`, `above`, `at_most` of `option`).
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field
from typing import Any

LARGEST = 2**31 - 1
"""The largest integer of an option that sets no limit of its own."""


def find_fault(known: Field[Any], value: Any) -> str | None:
    """Say in a sentence which rule a value breaks; None if it breaks none.

    Lists are checked entry by entry. Mappings hold options of others, which know their limits; only
    where the field sets one are their numbers checked.

    Args:
        known: a field made by `option`.
        value: converted to the type of the field.
    """
    if isinstance(value, list):
        faults = (find_fault(known, entry) for entry in value)
        empty = f"{known.name} is an empty list; give at least one value, or leave it out."
        if not value:
            return None if known.metadata.get("may_be_empty") else empty
        return next(filter(None, faults), None)
    if isinstance(value, Mapping):
        is_limited = known.metadata.get("at_least") is not None
        faults = (find_fault(known, entry) for entry in value.values() if is_limited)
        return next(filter(None, faults), None)
    if isinstance(value, str):
        return _find_in_text(known, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _find_in_number(known, value)
    return None


def _find_in_text(known: Field[Any], text: str) -> str | None:
    if known.metadata.get("free_text"):
        return None
    if not text.strip():
        return f"{known.name} is {text!r}; it must not be empty.{_default_of(known)}"
    if "\0" in text:
        return f"{known.name} is {text!r:.80}; it must not hold the character NUL. Remove it."
    return None


def _find_in_number(known: Field[Any], number: float) -> str | None:
    name, limits, use = known.name, known.metadata, _default_of(known)
    at_least, above = limits.get("at_least"), limits.get("above")
    if at_least is not None and not number >= at_least:
        return f"{name} is {number}; it must be at least {at_least:g}.{use}"
    if above is not None and not number > above:
        return f"{name} is {number}; it must be above {above:g}.{use}"
    if isinstance(number, float) and not math.isfinite(number):
        return f"{name} is {number}; it must be a finite number.{use}"
    at_most = limits.get("at_most")
    if at_most is None and isinstance(number, int):
        at_most = LARGEST
    if at_most is not None and not number <= at_most:
        return f"{name} is {number}; it must be at most {at_most}.{use}"
    return None


def _default_of(known: Field[Any]) -> str:
    if known.default is MISSING:
        return ""
    if known.default is None:
        return " Leave it out for the default."
    return f" Use {known.default} (the default)."


def is_bool_as_number(given: Any, converted: Any) -> bool:
    """Whether a truth value was converted to a number, which pydantic allows and nobody means."""
    if isinstance(given, Mapping) and isinstance(converted, Mapping):
        return any(is_bool_as_number(given[key], converted[key]) for key in given)
    if isinstance(converted, list):
        entries = given if isinstance(given, list) else [given]
        return any(map(is_bool_as_number, entries, converted))
    return isinstance(given, bool) and not isinstance(converted, bool)
