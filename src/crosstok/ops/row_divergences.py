"""Divergences between next-token distributions, as blocks of rows of logits.

Each is in nats, one number per row, and zero, in value and gradient, if the two rows give the same
distribution. Ids that are not tokens have logits of -inf. Detach a teacher's rows if they should
get no gradient.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from crosstok.ops.distributions import generalized_jsd

DivergenceName = Literal["forward_kl", "reverse_kl", "jensen_shannon"]

_BETA: dict[DivergenceName, float] = {"forward_kl": 0.0, "jensen_shannon": 0.5, "reverse_kl": 1.0}

_IMPOSSIBLE = -1e30
"""Used as log 0: its exponential is 0, and 0 times it is 0, unlike 0 times -inf."""


def row_divergence(
    name: DivergenceName,
    teacher_logits: Float[Tensor, "K V"],
    student_logits: Float[Tensor, "K V"],
) -> Float[Tensor, " K"]:
    """Forward KL(teacher || student), reverse KL(student || teacher), or Jensen-Shannon."""
    teacher, student = finite_log_softmax(teacher_logits), finite_log_softmax(student_logits)
    return generalized_jsd(teacher, student, _BETA[name])


def forward_kl_to(
    teacher_probs: Float[Tensor, "K V"], student_logits: Float[Tensor, "K V"]
) -> Float[Tensor, " K"]:
    """Forward KL(teacher || student) from teacher probabilities, which may contain zeros."""
    own = torch.special.xlogy(teacher_probs, teacher_probs)
    difference: Tensor = own - teacher_probs * finite_log_softmax(student_logits)
    return difference.sum(-1)


def finite_log_softmax(logits: Float[Tensor, "K V"]) -> Float[Tensor, "K V"]:
    """Log-probabilities; logits of -inf give a large negative number and no gradient."""
    logprobs: Tensor = torch.log_softmax(logits, dim=-1).clamp(min=_IMPOSSIBLE)
    return logprobs
