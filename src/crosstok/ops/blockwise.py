"""Sum a function of whole distributions over rows, one block of rows at a time.

A loss between distributions needs every logit of a row but keeps only one number. Each block's
gradient is computed together with its value, while its logits are in memory, so the logits of all
rows are never held at once, nothing is computed twice, and the cost of the backward pass is linear
in the number of rows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from crosstok.ops.linear_logprobs import default_tokens_per_block

RowFunction = Callable[..., Float[Tensor, " outputs"]]


def blockwise_sum(
    function: RowFunction,
    rows: Sequence[Tensor],
    shared: Sequence[Tensor] = (),
    *,
    vocab_size: int,
    rows_per_block: int | None = None,
) -> Float[Tensor, " outputs"]:
    """Sum of ``function(*block of rows, *shared)`` over blocks of rows.

    Differentiable (once) in ``rows`` and ``shared``, through the **first** output only: the others
    are metrics.

    Args:
        function: takes a block of every tensor in ``rows``, then every tensor in ``shared`` whole,
            and returns a vector of outputs: the loss, then metrics. It must be a sum over rows and
            must not keep the tensors that it computes.
        rows: tensors with N rows each, such as hidden states [N D] and labels [N].
        shared: tensors that every row needs, such as output matrices [V D].
        vocab_size: width of the widest row that ``function`` makes; it sets the rows per block.
        rows_per_block: number of rows per block, instead of the default for ``vocab_size``.

    Returns:
        The sums of the outputs; zeros [1] if there are no rows.

    Raises:
        ValueError: the tensors in ``rows`` have different numbers of rows.
    """
    lengths = {len(tensor) for tensor in rows}
    if len(lengths) != 1:
        raise ValueError(
            f"the tensors in rows have different lengths {sorted(lengths)}; they must have the "
            "same number of rows."
        )
    size = lengths.pop()
    if rows_per_block is None:
        rows_per_block = default_tokens_per_block(rows[0].device, vocab_size, size)
    tensors = [*rows, *shared]
    if not torch.is_grad_enabled():  # else gradients would be computed and thrown away
        tensors = [tensor.detach() for tensor in tensors]
    outputs: Tensor = _BlockwiseSum.apply(  # type: ignore[no-untyped-call]
        function, max(1, rows_per_block), len(rows), *tensors
    )
    return outputs


class _BlockwiseSum(torch.autograd.Function):
    """`blockwise_sum` after its checks; gradients are computed together with the values."""

    @staticmethod
    def forward(
        ctx: Any, function: RowFunction, step: int, num_rows: int, *tensors: Tensor
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        rows, shared = tensors[:num_rows], list(tensors[num_rows:])
        shared = [t.detach().requires_grad_(num_rows + i in wanted) for i, t in enumerate(shared)]
        grads = {i: torch.zeros_like(tensors[i]) for i in wanted}
        total: Tensor | None = None
        for start in range(0, len(rows[0]), step):
            block = [
                t[start : start + step].detach().requires_grad_(i in wanted)
                for i, t in enumerate(rows)
            ]
            with torch.set_grad_enabled(bool(wanted)):
                outputs = function(*block, *shared)
                loss = outputs[0]
            inputs = [*block, *shared]
            if loss.requires_grad:
                parts = torch.autograd.grad(loss, [inputs[i] for i in wanted], allow_unused=True)
                for i, part in zip(wanted, parts, strict=True):
                    if part is not None:
                        into = grads[i][start : start + step] if i < num_rows else grads[i]
                        into.add_(part)
            total = outputs.detach() if total is None else total + outputs.detach()
        ctx.grads = [grads.get(i) for i in range(len(tensors))]
        return total if total is not None else rows[0].new_zeros(1, dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        if grad is None:
            return (None,) * (3 + len(ctx.grads))
        scaled = [None if g is None else g * grad[0].to(g.dtype) for g in ctx.grads]
        return (None, None, None, *scaled)
