"""Inputs of a model besides ids and mask; other code does not distinguish architectures.

A model with such inputs has a method ``extra_inputs()`` that returns an `ExtraInputs`. If it
extends a plain model, it has that model as ``backbone`` and describes the extension in
``describe_architecture()``. All code that runs a model gets its extra inputs from here.
"""

from typing import Any, Protocol

from jaxtyping import Int, Shaped
from torch import Tensor, nn

from crosstok.models.head_probe import unwrap_model


class ExtraInputs(Protocol):
    """Computes a model's extra inputs from its ids, on the CPU; picklable, for data loaders."""

    @property
    def context(self) -> int:
        """Number of tokens that a position's inputs depend on: its own and earlier ones."""
        ...

    def __call__(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Int[Tensor, "B T"] | None = None
    ) -> dict[str, Shaped[Tensor, "B T"]]:
        """Return the inputs by their argument names in the model's forward pass."""
        ...


def extra_inputs(model: nn.Module) -> ExtraInputs | None:
    """Return what computes a model's extra inputs; None if it takes only ids and mask.

    Args:
        model: a model, possibly wrapped.
    """
    find: Any = getattr(unwrap_model(model), "extra_inputs", None)
    found: ExtraInputs | None = find() if callable(find) else None
    return found


def describe_architecture(model: nn.Module) -> list[str]:
    """Describe a model's additions to a plain model in sentences for its card, if it has any."""
    describe: Any = getattr(unwrap_model(model), "describe_architecture", None)
    return list(describe()) if callable(describe) else []


def plain_model(model: Any) -> Any:
    """Return the model that takes only ids and mask: the model itself, or its backbone."""
    return model if extra_inputs(model) is None else model.backbone


def needs_code(model: Any) -> bool:
    """Return whether a folder with this model loads only if its own code is trusted."""
    return extra_inputs(model) is not None
