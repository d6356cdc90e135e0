r"""How several objectives become one loss: fixed weights, or weights by gradient magnitude.

``GradientMagnitude`` is GradMag (arXiv 2503.20083, section on combining objectives): with n_i the
norm of objective i's gradient in the trainable parameters of the last transformer layer,

    w_i = (1 / n_i) / sum over j of (1 / n_j)

so that the weighted gradients of all objectives have the same norm there, whatever the scales of
the losses. Constant factors cancel.

The reference code computes the weights of each micro-batch from that micro-batch alone, so they
depend on how a batch is split for gradient accumulation. Here the norms are measured on the whole
global batch of an *earlier* optimizer step, every tenth step (the first step measures its own batch
beforehand): one graph, one backward pass, and 1 x 8 micro-batches give the same weights as 8 x 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

_EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class FixedWeights:
    """Multiply each objective by a constant or a schedule; by default by 1."""

    weights: Mapping[str, float | Sequence[float]] | None = None
    """Weight by objective (``alm``) or by objective and teacher (``alm@llama``, which wins).

    A sequence is a schedule: its values are spread evenly over the run, the first at the start and
    the last at the end, with linear interpolation between them; ``[1, 0]`` fades out.
    """

    measures_gradients: ClassVar[bool] = False
    measure_every: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for name, weight in (self.weights or {}).items():
            if isinstance(weight, Sequence) and not weight:
                raise ValueError(f"the schedule of weight {name!r} is empty; give it values.")

    def __call__(self, norms: Mapping[str, float], progress: float = 0.0) -> dict[str, float]:
        """Weights of the terms named in ``norms``; the norms themselves are not used.

        Args:
            norms: gradient norm by term.
            progress: share of the run that is done, in [0, 1].

        Raises:
            ValueError: there is a weight for an objective that is not trained.
        """
        weights = dict(self.weights or {})
        unknown = sorted(weights.keys() - norms.keys() - {_objective(name) for name in norms})
        if unknown:
            raise ValueError(
                f"weights are given for {unknown}, but the objectives are {sorted(norms)}; "
                "remove them, or add them to the option objective."
            )
        given = {name: weights.get(name, weights.get(_objective(name), 1.0)) for name in norms}
        return {name: _at(weight, progress) for name, weight in given.items()}


def _objective(term: str) -> str:
    """Name of a term's objective: `alm` for `alm@teacher`."""
    return term.partition("@")[0]


def _at(weight: float | Sequence[float], progress: float) -> float:
    """Value of a schedule after this share of the run."""
    if not isinstance(weight, Sequence):
        return float(weight)
    place = min(max(progress, 0.0), 1.0) * (len(weight) - 1)
    left = min(int(place), max(0, len(weight) - 2))
    right = min(left + 1, len(weight) - 1)
    return float(weight[left] + (weight[right] - weight[left]) * (place - left))


@dataclass(frozen=True, kw_only=True)
class GradientMagnitude:
    """GradMag: every objective's gradient has the same norm in the last transformer layer."""

    measure_every: int = 10
    """Optimizer steps between two measurements of the norms."""

    measures_gradients: ClassVar[bool] = True

    def __call__(self, norms: Mapping[str, float], progress: float = 0.0) -> dict[str, float]:
        """Compute the weights from the gradient norm of each objective; they sum to 1."""
        inverse = {name: 1.0 / (norm + _EPS) for name, norm in norms.items()}
        return {name: value / sum(inverse.values()) for name, value in inverse.items()}


Weighting = FixedWeights | GradientMagnitude


def last_layer_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Trainable parameters of the last transformer layer: the last entry of the longest list.

    Raises:
        ValueError: the model has no such layer, or nothing in it is trained.
    """
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    layers = max(stacks, key=len, default=None)
    trainable = [p for p in layers[-1].parameters() if p.requires_grad] if layers else []
    if not trainable:
        raise ValueError(
            "gradient_magnitude balances objectives in the last transformer layer, but this model "
            "has no trainable parameter there. Train the layers (or LoRA), or use fixed weights."
        )
    return trainable


def gradient(loss: Float[Tensor, ""], parameters: Sequence[nn.Parameter]) -> Float[Tensor, " P"]:
    """Gradient of the loss in these parameters, flat, in fp32 or wider; the graph is kept."""
    parts: Sequence[Tensor | None] = [None] * len(parameters)
    if loss.requires_grad:
        parts = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    full = (
        torch.zeros_like(parameter) if part is None else part
        for parameter, part in zip(parameters, parts, strict=True)
    )
    return torch.cat([p.to(torch.promote_types(p.dtype, torch.float32)).flatten() for p in full])
