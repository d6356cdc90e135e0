"""Divergences between next-token distributions, given as rows of logits; for blocks of rows.

Every one is in nats, one number a row, and zero, in value and gradient, where the two rows give the
same distribution. Logits of -inf stand for ids that are no tokens. Where a teacher's row should
take no gradient, hand it over detached.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

DivergenceName = Literal["forward_kl", "reverse_kl", "jensen_shannon"]

_IMPOSSIBLE = -1e30
"""Stands for log 0: its exponential is 0, and 0 times it is 0, which 0 times -inf is not."""


def forward_kl(
    teacher_logits: Float[Tensor, "K V"], student_logits: Float[Tensor, "K V"]
) -> Float[Tensor, " K"]:
    """KL(teacher || student)."""
    return _kl(finite_log_softmax(teacher_logits), finite_log_softmax(student_logits))


def reverse_kl(
    teacher_logits: Float[Tensor, "K V"], student_logits: Float[Tensor, "K V"]
) -> Float[Tensor, " K"]:
    """KL(student || teacher)."""
    return _kl(finite_log_softmax(student_logits), finite_log_softmax(teacher_logits))


def jensen_shannon(
    teacher_logits: Float[Tensor, "K V"], student_logits: Float[Tensor, "K V"]
) -> Float[Tensor, " K"]:
    """Mean of both KLs to the even mixture; at most log 2."""
    teacher, student = finite_log_softmax(teacher_logits), finite_log_softmax(student_logits)
    mixture = torch.logaddexp(teacher, student) - math.log(2)
    return 0.5 * (_kl(teacher, mixture) + _kl(student, mixture))


ROW_DIVERGENCES: dict[DivergenceName, Callable[[Tensor, Tensor], Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jensen_shannon": jensen_shannon,
}


def forward_kl_to(
    teacher_probs: Float[Tensor, "K V"], student_logits: Float[Tensor, "K V"]
) -> Float[Tensor, " K"]:
    """KL of given probabilities, zeros among them, to the student's."""
    own = torch.special.xlogy(teacher_probs, teacher_probs)
    difference: Tensor = own - teacher_probs * finite_log_softmax(student_logits)
    return difference.sum(-1)


def finite_log_softmax(logits: Float[Tensor, "K V"]) -> Float[Tensor, "K V"]:
    """Log-probabilities; logits of -inf give a large negative number and no gradient."""
    logprobs: Tensor = torch.log_softmax(logits, dim=-1).clamp(min=_IMPOSSIBLE)
    return logprobs


def _kl(logp: Tensor, logq: Tensor) -> Tensor:
    return (logp.exp() * (logp - logq)).sum(-1)
