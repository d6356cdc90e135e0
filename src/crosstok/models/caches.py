"""The names that a model has for its cache: they differ by version and by architecture."""

import inspect
from typing import Any

from torch import nn

from crosstok.models.head_probe import unwrap_model

# transformers 5.24 renamed past_key_values and cache_params to cache.
_NAMES = ("cache", "past_key_values", "cache_params")


def cache_argument(model: nn.Module) -> str | None:
    """Return the name under which a model's forward pass takes a cache; None if it takes none.

    Args:
        model: a model, possibly wrapped.
    """
    taken = inspect.signature(unwrap_model(model).forward).parameters
    return next((name for name in _NAMES if name in taken), None)


def cache_of(output: Any) -> Any:
    """Return the cache in the output of a forward pass; None if it has none."""
    held = vars(output)
    return next((held[name] for name in _NAMES if held.get(name) is not None), None)
