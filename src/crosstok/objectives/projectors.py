"""Linear maps from the hidden states of one model to the width of another."""

import torch
from torch import Tensor, nn

from crosstok.objectives.base import ModelView
from crosstok.objectives.shared_ids import SharedIds

_ROWS_PER_BLOCK = 8192


def projector(source: ModelView, target: ModelView) -> nn.Linear:
    """Make a trainable map W from the source's hidden states to the target's width.

    It is initialised by least squares: on the tokens O that both models have, the target's output
    matrix gives projected states the source's own logits, as nearly as possible (DSKD-v2, arXiv
    2504.11426):

        minimise  | U_target[O] W - U_source[O] |,   so   W = pinv(U_target[O]) U_source[O]

    For two models with the same output matrix (of full column rank) it is the identity.

    Returns:
        A linear layer without bias, in fp32 (fp64 for fp64 models), on the target's device.

    Raises:
        ValueError: the vocabularies share no token.
    """
    shared = SharedIds.of(target, source)
    device, width = target.head.weight.device, target.head.weight.shape[1]
    gram = torch.zeros(width, width, dtype=torch.float64, device=device)
    cross = gram.new_zeros(width, source.head.weight.shape[1])
    for start in range(0, len(shared), _ROWS_PER_BLOCK):
        rows = slice(start, start + _ROWS_PER_BLOCK)
        given, wanted = _rows(target, shared.student[rows]), _rows(source, shared.teacher[rows])
        gram += given.T @ given
        cross += given.T @ wanted.to(device)
    weight = torch.linalg.pinv(gram, hermitian=True) @ cross
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=device)
    layer = layer.to(parameter_dtype(source, target))
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def parameter_dtype(*models: ModelView) -> torch.dtype:
    """Return fp64 if a model is in fp64, otherwise fp32."""
    dtype = torch.float32
    for model in models:
        dtype = torch.promote_types(dtype, model.head.weight.dtype)
    return dtype


def apply(layer: nn.Linear, hidden: Tensor) -> Tensor:
    """Apply the layer to hidden states of any precision."""
    output: Tensor = layer(hidden.to(layer.weight.dtype))
    return output


def _rows(model: ModelView, ids: Tensor) -> Tensor:
    """Rows of the output matrix in fp64, times the scale of the model's logits."""
    head = model.head
    return head.weight.detach()[ids].double() * head.scale
