"""Log-probabilities of labels and of a set of ids, from hidden states and the output matrix.

Logits are the largest tensor of a training step. Here they are computed for one block of tokens at
a time, two numbers per token are kept, and the backward pass computes the logits again.
Legend: N tokens, V vocabulary, D hidden width, K tokens in a block, S ids of the boundary set.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from crosstok.ops.output_head import OutputHead

# Bytes of one block of logits. CPU: measured in benchmarks/linear_logprobs_cpu_202611.md.
BLOCK_BYTES = {"cpu": 64 * 2**20}
BLOCK_BYTES_ACCELERATOR = 512 * 2**20

# Below this probability, the mass of a set is computed by logsumexp over the set itself: its
# probabilities are then near the smallest numbers of fp32 and would be lost in a sum.
TINY_MASS = 1e-30


def linear_logprobs(
    hidden: Float[Tensor, "N D"],
    head: OutputHead,
    labels: Int[Tensor, "N"],
    boundary_mask: Bool[Tensor, "V"] | None = None,
    *,
    valid_ids: Bool[Tensor, "V"] | None = None,
    tokens_per_block: int | None = None,
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"] | None]:
    """Log-probability of each row's label, and of the boundary set, without an [N V] tensor.

    Row n of ``hidden`` predicts ``labels[n]``: the caller shifts labels and leaves out padding, so
    that unneeded rows cost nothing. N may be 0. Differentiable (once) in ``hidden``,
    ``head.weight`` and ``head.bias``; a tensor that needs no gradient costs none.

    Precision: operands of the matrix product keep their dtype (the wider of the two if they
    differ); products are accumulated, and everything after them is computed, in fp32, or in fp64 if
    the operands are fp64. Inside ``torch.autocast`` the operands (except fp64 ones) are first
    rounded to the autocast dtype, as they would be for the model's own head; autocast affects
    nothing else. On accelerators the gradient of a block's logits is rounded to the operands' dtype
    before its two products, as usual in mixed precision; sums over blocks stay in fp32.

    Args:
        hidden: input of the output matrix.
        head: the output matrix, its bias, scale and soft cap.
        labels: ids whose log-probability is computed.
        boundary_mask: true for the ids of the boundary set, such as ids that begin a word (ALM's
            boundary, arXiv 2503.20083).
        valid_ids: false for ids that are not tokens (padding rows, gaps); their probability is 0.
        tokens_per_block: rows of logits in memory at once; by default as many as fit in
            `BLOCK_BYTES` bytes.

    Returns:
        Log-probabilities of the labels [N] and log-mass of the boundary set [N] (None without a
        ``boundary_mask``), in nats, at most 0. fp32, or fp64 for fp64 operands.

    Raises:
        ValueError: a shape does not fit, a label is outside the vocabulary or not valid, or the
            boundary set has no valid id.
    """
    _check_arguments(hidden, head, labels, boundary_mask, valid_ids)
    if tokens_per_block is None:
        tokens_per_block = default_tokens_per_block(
            hidden.device, head.weight.shape[0], hidden.shape[0]
        )
    if tokens_per_block < 1:
        raise ValueError(f"tokens_per_block is {tokens_per_block}; it must be at least 1.")
    operand_dtype = _operand_dtype(hidden, head.weight)
    arithmetic = _Arithmetic(
        scale=float(head.scale),
        softcap=None if head.softcap is None else float(head.softcap),
        tokens_per_block=tokens_per_block,
        operand_dtype=operand_dtype,
        dtype=torch.float64 if operand_dtype == torch.float64 else torch.float32,
    )
    outputs: tuple[Tensor, Tensor | None] = _LinearLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, head.bias, labels, boundary_mask, valid_ids, arithmetic
    )
    return outputs


def default_tokens_per_block(device: torch.device, vocab_size: int, num_tokens: int) -> int:
    """Return how many rows of fp32 logits fit in the device's block budget, at most a quarter.

    Because of the quarter, the logits of all tokens are never in memory at once, however small the
    vocabulary.
    """
    budget = BLOCK_BYTES.get(device.type, BLOCK_BYTES_ACCELERATOR)
    return max(1, min(budget // (4 * vocab_size), -(-num_tokens // 4)))


def _operand_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    device_type = hidden.device.type
    if dtype != torch.float64 and torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return dtype


def _check_arguments(
    hidden: Tensor,
    head: OutputHead,
    labels: Tensor,
    boundary_mask: Tensor | None,
    valid_ids: Tensor | None,
) -> None:
    vocab_size, width = head.weight.shape
    if hidden.ndim != 2 or hidden.shape[1] != width:
        raise ValueError(
            f"hidden has shape {tuple(hidden.shape)}; it must be [N, {width}] to enter an output "
            f"matrix of shape {(vocab_size, width)}. Flatten batch and position first."
        )
    if labels.shape != hidden.shape[:1]:
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}; there must be one label for each of the "
            f"{hidden.shape[0]} rows of hidden."
        )
    for name, mask in (("boundary_mask", boundary_mask), ("valid_ids", valid_ids)):
        if mask is not None and (mask.shape != (vocab_size,) or mask.dtype != torch.bool):
            raise ValueError(
                f"{name} is {mask.dtype} of shape {tuple(mask.shape)}; it must be torch.bool of "
                f"shape [{vocab_size}], one entry for each row of the output matrix."
            )
    _check_labels(labels, valid_ids, vocab_size)
    if boundary_mask is not None:
        members = boundary_mask if valid_ids is None else boundary_mask & valid_ids
        if not bool(members.any()):
            raise ValueError(
                "boundary_mask marks no valid id; the mass of an empty set has no logarithm. Pass "
                "a mask with at least one True, or None to leave the boundary out."
            )


def _check_labels(labels: Tensor, valid_ids: Tensor | None, vocab_size: int) -> None:
    outside = (labels < 0) | (labels >= vocab_size)
    if valid_ids is not None:
        outside |= ~valid_ids[labels.clamp(0, vocab_size - 1)]
    if not bool(outside.any()):
        return
    row = int(outside.nonzero()[0])
    label = int(labels[row])
    if 0 <= label < vocab_size:
        raise ValueError(
            f"labels[{row}] is {label}, which valid_ids excludes; its probability is zero. "
            "Leave that row out, or mark the id as valid."
        )
    raise ValueError(
        f"labels[{row}] is {label}; labels must be in 0..{vocab_size - 1}, the rows of the output "
        "matrix. Leave out rows without a label (such as -100) before the call."
    )


@cache
def _multiplies_into_fp32(device_type: str, dtype: torch.dtype) -> bool:
    """Return whether torch.mm can multiply in `dtype` and sum in fp32 (CUDA, torch >= 2.8)."""
    if device_type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    operand = torch.zeros(16, 16, dtype=dtype, device=device_type)
    try:
        torch.mm(operand, operand, out_dtype=torch.float32)
    except (TypeError, RuntimeError):
        return False
    return True


@dataclass(frozen=True)
class _Arithmetic:
    """How a block is computed; the same for the forward and backward pass of one call."""

    scale: float
    softcap: float | None
    tokens_per_block: int
    operand_dtype: torch.dtype  # of the factors, before any exact widening
    dtype: torch.dtype  # of sums and of everything after the product

    def operand(self, tensor: Tensor) -> Tensor:
        """Round to the operands' dtype; widen (exactly) where the device cannot sum in fp32."""
        tensor = tensor.to(self.operand_dtype)
        if _multiplies_into_fp32(tensor.device.type, self.operand_dtype):
            return tensor
        return tensor.to(self.dtype)

    def product(self, a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
        """`a @ b` in `self.dtype`; written into `out` where that saves an allocation."""
        if a.dtype != self.dtype:
            return torch.mm(a, b, out_dtype=self.dtype)
        return torch.mm(a, b, out=out)

    def add_product(self, total: Tensor, a: Tensor, b: Tensor) -> None:
        """`total += a @ b`."""
        if a.dtype != self.dtype:
            total.add_(torch.mm(a, b, out_dtype=self.dtype))
        else:
            total.addmm_(a, b)


class _Blocks:
    """Computes the logits of one block of rows after another, in buffers that are reused."""

    def __init__(
        self,
        arithmetic: _Arithmetic,
        weight: Tensor,
        bias: Tensor | None,
        valid_ids: Tensor | None,
        num_rows: int,
    ) -> None:
        self.arithmetic = arithmetic
        self.weight = arithmetic.operand(weight)
        self.bias = None if bias is None else bias.to(arithmetic.dtype)
        self.excluded = None if valid_ids is None else ~valid_ids
        rows = min(arithmetic.tokens_per_block, num_rows)
        shape = (rows, weight.shape[0])
        self._logits = torch.empty(shape, dtype=arithmetic.dtype, device=weight.device)
        self._probs = torch.empty_like(self._logits)
        self._scratch: Tensor | None = None
        self.num_rows = num_rows

    def slices(self) -> list[slice]:
        step = self.arithmetic.tokens_per_block
        return [slice(i, min(i + step, self.num_rows)) for i in range(0, self.num_rows, step)]

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute the logits [K V] of rows [K D], valid until the next call."""
        arithmetic = self.arithmetic
        logits = arithmetic.product(hidden, self.weight.T, out=self._logits[: hidden.shape[0]])
        if self.bias is not None:
            logits.add_(self.bias)
        if arithmetic.scale != 1.0:
            logits.mul_(arithmetic.scale)
        if arithmetic.softcap is not None:
            logits.div_(arithmetic.softcap).tanh_().mul_(arithmetic.softcap)
        if self.excluded is not None:
            logits.masked_fill_(self.excluded, -torch.inf)
        return logits

    def scratch(self, num_rows: int) -> Tensor:
        """Return a third buffer [K V], allocated on first use."""
        if self._scratch is None:
            self._scratch = torch.empty_like(self._logits)
        return self._scratch[:num_rows]

    def probs(self, logits: Tensor) -> Tensor:
        """Compute the softmax [K V] of the logits, valid until the next call."""
        return torch.softmax(logits, dim=-1, out=self._probs[: logits.shape[0]])


class _LinearLogprobs(torch.autograd.Function):
    """`linear_logprobs` after its checks."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        boundary_mask: Tensor | None,
        valid_ids: Tensor | None,
        arithmetic: _Arithmetic,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        with torch.autocast(hidden.device.type, enabled=False):
            logprobs, log_mass = _forward_blocks(
                hidden,
                labels,
                boundary_mask,
                _Blocks(arithmetic, weight, bias, valid_ids, len(hidden)),
            )
        if any(ctx.needs_input_grad):
            ctx.arithmetic = arithmetic
            ctx.save_for_backward(hidden, weight, bias, labels, boundary_mask, valid_ids, log_mass)
        return logprobs, log_mass

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logprobs: Tensor | None, grad_log_mass: Tensor | None) -> Any:
        hidden, weight, bias, labels, boundary_mask, valid_ids, log_mass = ctx.saved_tensors
        if grad_logprobs is None and grad_log_mass is None:
            return (None,) * 7
        with torch.autocast(hidden.device.type, enabled=False):
            blocks = _Blocks(ctx.arithmetic, weight, bias, valid_ids, len(hidden))
            upstream = _Upstream(labels, grad_logprobs, boundary_mask, log_mass, grad_log_mass)
            grads = _backward_blocks(hidden, blocks, upstream, ctx.needs_input_grad[:3])
        like = (hidden, weight, bias)
        cast = [None if g is None else g.to(t.dtype) for g, t in zip(grads, like, strict=True)]
        return (*cast, None, None, None, None)


def _forward_blocks(
    hidden: Tensor, labels: Tensor, boundary_mask: Tensor | None, blocks: _Blocks
) -> tuple[Tensor, Tensor | None]:
    dtype = blocks.arithmetic.dtype
    logprobs = torch.empty(len(hidden), dtype=dtype, device=hidden.device)
    log_mass = None if boundary_mask is None else torch.empty_like(logprobs)
    members = None if boundary_mask is None else boundary_mask.to(dtype)
    for rows in blocks.slices():
        logits = blocks.logits(blocks.arithmetic.operand(hidden[rows]))
        probs = blocks.probs(logits)
        # log-sum-exp above the largest logit, from the largest probability (at least 1/V).
        largest = logits.amax(dim=-1, keepdim=True)
        log_sum = -probs.amax(dim=-1, keepdim=True).log()
        picked = logits.gather(1, labels[rows, None].long())
        logprobs[rows] = ((picked - largest) - log_sum).squeeze(1).clamp_(max=0)
        if log_mass is not None and members is not None:
            mass = torch.mv(probs, members)
            log_mass[rows] = mass.log()
            tiny = (mass < TINY_MASS).nonzero().squeeze(1)
            if tiny.numel():
                subset = logits[tiny][:, boundary_mask]
                total = (largest + log_sum)[tiny].squeeze(1)
                log_mass[rows.start + tiny] = subset.logsumexp(dim=-1) - total
    if log_mass is not None:
        log_mass.clamp_(max=0)
    return logprobs, log_mass


@dataclass(frozen=True)
class _Upstream:
    """Inputs of the backward pass: gradients [N] of both outputs, and where they apply."""

    labels: Tensor
    grad_logprobs: Tensor | None
    boundary_mask: Tensor | None
    log_mass: Tensor | None
    grad_log_mass: Tensor | None

    def grad_logits(self, rows: slice, logits: Tensor, blocks: _Blocks) -> Tensor:
        """Gradient [K V] of the (capped) logits of a block.

        d log p(y) / dz = [v = y] - p(v);   d log P(S) / dz = [v in S] p(v) / P(S) - p(v).
        """
        probs = blocks.probs(logits)
        zero = probs.new_zeros(probs.shape[0])
        of_label = zero if self.grad_logprobs is None else self.grad_logprobs[rows].to(probs.dtype)
        if self.grad_log_mass is None:
            grad = probs.mul_(-of_label[:, None])
        else:
            factors = blocks.scratch(len(probs))
            grad = self._with_boundary(rows, logits, probs, of_label, factors)
        if self.grad_logprobs is not None:
            grad.scatter_add_(1, self.labels[rows, None].long(), of_label[:, None])
        return grad

    def _with_boundary(
        self, rows: slice, logits: Tensor, probs: Tensor, of_label: Tensor, factors: Tensor
    ) -> Tensor:
        assert self.log_mass is not None
        assert self.boundary_mask is not None
        assert self.grad_log_mass is not None
        of_mass = self.grad_log_mass[rows].to(probs.dtype)
        mass = self.log_mass[rows].exp()
        is_tiny = mass < TINY_MASS
        everywhere = -(of_label + of_mass)
        inside = of_mass / mass.masked_fill(is_tiny, torch.inf)
        members = self.boundary_mask.to(probs.dtype)
        torch.addcmul(everywhere[:, None], inside[:, None], members, out=factors)
        grad = probs.mul_(factors)
        tiny = is_tiny.nonzero().squeeze(1)
        if tiny.numel():
            ids = self.boundary_mask.nonzero().squeeze(1)
            share = torch.softmax(logits[tiny][:, ids], dim=-1)
            grad[tiny[:, None], ids] += of_mass[tiny, None] * share
        return grad


def _backward_blocks(
    hidden: Tensor, blocks: _Blocks, upstream: _Upstream, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    arithmetic, weight = blocks.arithmetic, blocks.weight
    dtype = arithmetic.dtype
    grad_hidden = torch.empty_like(hidden, dtype=dtype) if needs[0] else None
    grad_weight = torch.zeros_like(weight, dtype=dtype) if needs[1] else None
    grad_bias = weight.new_zeros(weight.shape[0], dtype=dtype) if needs[2] else None
    for rows in blocks.slices():
        operand = arithmetic.operand(hidden[rows])
        logits = blocks.logits(operand)
        grad = upstream.grad_logits(rows, logits, blocks)
        if arithmetic.softcap is not None:
            if blocks.excluded is not None:
                logits.masked_fill_(blocks.excluded, 0)
            slope = logits.div_(arithmetic.softcap).square_().neg_().add_(1)
            grad.mul_(slope)
        if arithmetic.scale != 1.0:
            grad.mul_(arithmetic.scale)
        if grad_bias is not None:
            grad_bias += grad.sum(dim=0)
        grad = grad.to(operand.dtype)
        if grad_hidden is not None:
            grad_hidden[rows] = arithmetic.product(grad, weight)
        if grad_weight is not None:
            arithmetic.add_product(grad_weight, grad.T, operand)
    return grad_hidden, grad_weight, grad_bias
