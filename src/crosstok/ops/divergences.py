r"""Divergences between two Bernoulli outcomes, "this chunk" and "anything else", in log space.

Arguments are log-likelihoods in nats: ``teacher_logprobs`` log p, ``student_logprobs`` log q.
Every divergence is zero, in value and gradient, where the two agree.

With ``a = p^(1/tau)`` and ``b = q^(1/tau)`` the three forms of ALM (arXiv 2503.20083, section 3 and
appendix on temperature) are, multiplied by ``tau`` so that the scale does not depend on it:

* :func:`binary_kl`              ``tau * [a log(a/b) + (1-a) log((1-a)/(1-b))]``
* :func:`binary_total_variation` ``tau * |a - b|``        (one of the two equal halves)
* :func:`surprisal_kl`           the limit of the first for ``tau -> infinity``:
  ``s log(s/r) - s + r`` with surprisals ``s = -log p``, ``r = -log q``

**Bound on over-confidence.** The slope of the KL forms in ``log q`` lies in [-1, 0] where the
student's likelihood is too low, but is unbounded where it is too high: teacher -1, student -0.001
has slope 904 at ``tau = 100``. One such one-byte chunk would dominate a batch. With ``max_slope =
M`` the loss follows its tangent beyond the point where the slope reaches M: it stays convex,
smooth, and zero only at the optimum, and its gradient for an over-confident student is M instead of
0 (with ``log q`` clamped) or 994. ``max_slope=None`` (or infinity) gives the paper's form.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

SURPRISAL_FLOOR = 1e-6
"""Nats. Log-likelihoods nearer to 0 than this count as certain: fp32 is no more precise there."""


def log1mexp(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``log(1 - exp(x))`` for x < 0, exact near both ends, with finite gradients."""
    near_zero = x > -math.log(2)
    close = torch.where(near_zero, x, -1.0)
    far = torch.where(near_zero, -1.0, x)
    return torch.where(near_zero, torch.log(-torch.expm1(close)), torch.log1p(-torch.exp(far)))


def binary_kl(
    teacher_logprobs: Float[Tensor, "*shape"],
    student_logprobs: Float[Tensor, "*shape"],
    temperature: float = 1.0,
    max_slope: float | None = None,
) -> Float[Tensor, "*shape"]:
    """Forward KL(teacher || student) of the binary outcome, times temperature (nats)."""
    p, q = _floored(teacher_logprobs, student_logprobs)
    p, q = p / temperature, q / temperature

    def kl(q: Tensor) -> Tensor:
        return p.exp() * (p - q) - torch.expm1(p) * (log1mexp(p) - log1mexp(q))

    if max_slope is None or math.isinf(max_slope):
        return temperature * kl(q.clamp(max=-torch.finfo(q.dtype).tiny))
    # The slope (b - a) / (1 - b) is M where 1 - b = (1 - a) / (1 + M).
    start = log1mexp(log1mexp(p) - math.log1p(max_slope))
    return temperature * _tangent_beyond(kl, q, start, max_slope)


def surprisal_kl(
    teacher_logprobs: Float[Tensor, "*shape"],
    student_logprobs: Float[Tensor, "*shape"],
    max_slope: float | None = None,
) -> Float[Tensor, "*shape"]:
    """Limit of :func:`binary_kl` for infinite temperature: Poisson KL between surprisals (nats)."""
    p, q = _floored(teacher_logprobs, student_logprobs)

    def kl(q: Tensor) -> Tensor:
        return -p * torch.log(p / q) + p - q

    if max_slope is None or math.isinf(max_slope):
        return kl(q.clamp(max=-torch.finfo(q.dtype).tiny))
    return _tangent_beyond(kl, q, p / (1 + max_slope), max_slope)


def binary_total_variation(
    teacher_logprobs: Float[Tensor, "*shape"],
    student_logprobs: Float[Tensor, "*shape"],
    temperature: float = 1.0,
) -> Float[Tensor, "*shape"]:
    """Total variation of the binary outcome, times temperature."""
    teacher_probs = (teacher_logprobs / temperature).exp()
    return temperature * (teacher_probs - (student_logprobs / temperature).exp()).abs()


def _floored(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the teacher away from 0, where log(1 - exp) is not defined.

    The student is kept away from 0 only where the teacher is certain too, so that they agree there.
    Elsewhere a floor would remove the gradient that an over-confident student needs.
    """
    certain = p > -SURPRISAL_FLOOR
    q = torch.where(certain, q.clamp(max=-SURPRISAL_FLOOR), q)
    return p.clamp(max=-SURPRISAL_FLOOR), q


def _tangent_beyond(
    loss: Callable[[Tensor], Tensor], q: Tensor, start: Tensor, slope: float
) -> Tensor:
    """Replace the loss beyond ``start`` by its tangent there, which has this slope."""
    return loss(torch.minimum(q, start)) + slope * (q - start).clamp(min=0)
