"""Objects that stand where recipes have names: models, tokenizers and data in memory."""

from collections.abc import Mapping
from typing import Annotated, Any

import pydantic

from crosstok.loaded import IN_MEMORY, Loaded

_PLAIN = (str, int, float, bool, bytes, Mapping, type, type(None))
"""What YAML can say, and what is never an object that a job can use."""
_TURN = ("role", "from")


def _take_model(value: Any, handler: pydantic.ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, Loaded):
        return value
    if isinstance(value, _PLAIN) or (isinstance(value, list) and not _are_parts(value)):
        return handler(value)
    return Loaded.model_of(value)


def _are_parts(value: list[Any]) -> bool:
    """Whether it is (model, tokenizer) or (name, model, tokenizer), not several models."""
    parts = value[1:] if len(value) == 3 and isinstance(value[0], str) else value
    return (
        len(parts) == 2
        and not any(isinstance(part, (*_PLAIN, list)) for part in parts)
        and not hasattr(parts[1], "parameters")
    )


def _take_models(value: Any, handler: pydantic.ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, list) and not _are_parts(value):
        if all(isinstance(entry, _PLAIN) and not isinstance(entry, Loaded) for entry in value):
            return handler(value)
        return [entry if _is_name(entry) else Loaded.model_of(entry) for entry in value]
    if isinstance(value, str):
        return [value]
    return handler(value) if isinstance(value, _PLAIN) else [Loaded.model_of(value)]


def _is_name(entry: Any) -> bool:
    if isinstance(entry, str):
        return True
    if isinstance(entry, _PLAIN):
        raise ValueError(f"{entry!r:.80} is neither a name nor a model")
    return False


def _take_data(value: Any, handler: pydantic.ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, str):
        return [value]
    if _has_columns(value):
        return [Loaded.data_of(value)]
    if isinstance(value, Mapping):
        raise ValueError(
            "it is one mapping; give a list of rows, or datasets.Dataset.from_dict(...) of it"
        )
    if isinstance(value, _PLAIN):
        return handler(value)
    if not isinstance(value, list):
        return [Loaded.data_of(value)]
    if not value or all(
        isinstance(entry, str) and not isinstance(entry, Loaded) for entry in value
    ):
        return handler(value)
    if all(_is_row(entry) for entry in value):
        return [Loaded.data_of(value)]
    if wrong := [entry for entry in value if _is_plain(entry)]:
        raise ValueError(f"{wrong[0]!r:.80} is neither a name nor data")
    return [entry if isinstance(entry, str) else Loaded.data_of(entry) for entry in value]


def _is_plain(entry: Any) -> bool:
    is_number = isinstance(entry, _PLAIN) and not isinstance(entry, str)
    return is_number and not _has_columns(entry)


def _has_columns(value: Any) -> bool:
    """Whether it is a data set of ``datasets``, with splits or without."""
    return hasattr(value, "column_names")


def _is_row(entry: Any) -> bool:
    """Whether it is a row, or the messages of a conversation."""
    if isinstance(entry, Mapping):
        return not _has_columns(entry)
    first = entry[0] if isinstance(entry, list) and entry else None
    return isinstance(first, Mapping) and any(key in first for key in _TURN)


ModelName = Annotated[str, pydantic.WrapValidator(_take_model)]
"""A name, or in Python a model or tokenizer, or both as ``(model, tokenizer)``."""

ModelNames = Annotated[list[str], pydantic.WrapValidator(_take_models)]
"""One or several of them."""

Sources = Annotated[list[str], pydantic.WrapValidator(_take_data)]
"""Names of data, or in Python data sets and lists of rows; one or several."""


def in_memory_keys(values: Mapping[str, Any]) -> list[str]:
    """The keys of a saved recipe that stand for objects which only the caller had."""
    return [
        key
        for key, value in values.items()
        if value == IN_MEMORY or (isinstance(value, list) and IN_MEMORY in value)
    ]


def as_saved(value: Any) -> Any:
    """A value of a recipe as it is saved: objects become their names."""
    if isinstance(value, list):
        return [as_saved(entry) for entry in value]
    return str(value) if isinstance(value, Loaded) else value
