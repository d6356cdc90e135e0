"""What a model is given besides ids and mask: the one place where architectures differ.

A model with such inputs has a method ``extra_inputs()`` that returns an `ExtraInputs`, and where it
is a plain model with something added, the plain one as ``backbone`` and the addition in words as
``describe_architecture()``. Everything that runs a model asks here; nothing names an architecture.
"""

from typing import Any, Protocol

from jaxtyping import Int, Shaped
from torch import Tensor, nn

from crosstok.models.head_probe import unwrap_model


class ExtraInputs(Protocol):
    """Finds a model's further inputs from its ids, on the CPU. Can be pickled, for data loaders."""

    @property
    def context(self) -> int:
        """Tokens that the inputs of a position depend on: itself and those before it."""
        ...

    def __call__(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Int[Tensor, "B T"] | None = None
    ) -> dict[str, Shaped[Tensor, "B T"]]:
        """The inputs by the names of the model's forward pass."""
        ...


def extra_inputs(model: nn.Module) -> ExtraInputs | None:
    """What finds a model's further inputs; None for a model that is given ids and mask alone.

    Args:
        model: possibly wrapped.
    """
    find: Any = getattr(unwrap_model(model), "extra_inputs", None)
    found: ExtraInputs | None = find() if callable(find) else None
    return found


def describe_architecture(model: nn.Module) -> list[str]:
    """What a model has beyond a plain one, in sentences for its card; nothing for plain ones."""
    describe: Any = getattr(unwrap_model(model), "describe_architecture", None)
    return list(describe()) if callable(describe) else []


def plain_model(model: Any) -> Any:
    """The model that is given ids and mask alone: itself, or what it was made from."""
    return model if extra_inputs(model) is None else model.backbone


def needs_code(model: Any) -> bool:
    """Whether a folder with this model loads only where its own code is trusted."""
    return extra_inputs(model) is not None
