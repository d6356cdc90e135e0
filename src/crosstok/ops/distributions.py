r"""Distances between whole distributions, one per row, for use inside ``blockwise_sum``.

Unlike in ``ops/divergences.py``, where an outcome is "this chunk" or "anything else", a row has a
probability for every id. Legend: N rows, V ids of the student, W ids of the teacher.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# On a CPU, numpy sorts a row in a third of torch's time, but on one thread only.
_FEW_THREADS = 4


def generalized_jsd(
    teacher_logprobs: Float[Tensor, "N V"], student_logprobs: Float[Tensor, "N V"], beta: float
) -> Float[Tensor, " N"]:
    r"""Generalised Jensen-Shannon divergence of each row (GKD, arXiv 2306.13649, equation 1).

    ``beta KL(T || M) + (1 - beta) KL(S || M)`` with ``M = beta T + (1 - beta) S``, in nats. At the
    two ends the limits are used (divided by ``beta`` and ``1 - beta``): 0 is the forward
    KL(T || S), 1 the reverse KL(S || T). The sum is over ids, so a distribution may be passed in
    parts.
    """
    if beta == 0:
        return _kl(teacher_logprobs, student_logprobs)
    if beta == 1:
        return _kl(student_logprobs, teacher_logprobs)
    mixture = torch.logaddexp(
        teacher_logprobs + math.log(beta), student_logprobs + math.log1p(-beta)
    )
    teacher, student = _kl(teacher_logprobs, mixture), _kl(student_logprobs, mixture)
    return beta * teacher + (1 - beta) * student


def sorted_l1(
    student_probs: Float[Tensor, "N V"], teacher_probs: Float[Tensor, "N W"]
) -> Float[Tensor, " N"]:
    """L1 distance of each row's probabilities in falling order, the shorter row padded with zeros.

    Differentiable (once) in the student; the teacher is a constant. Probabilities must be at least
    0.

    Example: the distance of (.7, .2, .1) and (.4, .5, .1, 0) is .4.
    """
    distance: Tensor = _SortedL1.apply(student_probs, teacher_probs)  # type: ignore[no-untyped-call]
    return distance


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum(-1)


class _SortedL1(torch.autograd.Function):
    """`sorted_l1`; its slope is the sign of the difference to the teacher at the same rank."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        # Negated, as numpy sorts in rising order only.
        order = _argsort(-student)
        gap = student.gather(-1, order)
        # Teacher probabilities after the student's last rank meet zeros: their order is irrelevant.
        both = min(student.shape[-1], teacher.shape[-1])
        by_rank = _smallest_first(-teacher, both).neg_()
        gap[:, :both] -= by_rank[:, :both]
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(torch.empty_like(gap).scatter_(-1, order, gap.sign()))
        return gap.abs_().sum(-1) + by_rank[:, both:].sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (slope,) = ctx.saved_tensors
        return grad[:, None] * slope, None


def _numpy_is_faster(rows: Tensor) -> bool:
    return rows.device.type == "cpu" and torch.get_num_threads() < _FEW_THREADS


def _smallest_first(rows: Tensor, number: int) -> Tensor:
    """Sort the smallest ``number`` entries of each row first; the others follow in any order.

    May overwrite ``rows``.
    """
    if not _numpy_is_faster(rows):
        return rows.sort(-1).values
    array = rows.detach().contiguous().numpy()
    if 0 < number < array.shape[-1]:
        array.partition(number, axis=-1)
    array[:, :number].sort(axis=-1)
    return torch.from_numpy(array)


def _argsort(rows: Tensor) -> Tensor:
    if not _numpy_is_faster(rows):
        return rows.argsort(-1)
    return torch.from_numpy(rows.detach().numpy().argsort(-1))
