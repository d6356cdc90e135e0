"""Laws that every objective must satisfy: ``check_objective(MyLoss())`` checks them all.

They run in seconds, on small artificial pairs (:mod:`crosstok.objectives.example_pairs`). A loss
that passes can be split into micro-batches, padded, distributed over ranks and trained in fp32. The
laws do not test whether it teaches anything.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch.testing import assert_close

from crosstok.models import Scores
from crosstok.objectives.base import LossSum, Objective
from crosstok.objectives.example_pairs import random_pair, same_pair

Law = Callable[[Objective], None]


def check_objective(objective: Objective, *, is_divergence: bool = False) -> None:
    """Check every law on an objective.

    Args:
        objective: with the options to check it under.
        is_divergence: it is 0 where the student equals the teacher, above 0 elsewhere, and a
            smooth function of the student's scores alone.

    Raises:
        AssertionError: a law is broken; the message names every such law, and how it is broken.
    """
    laws = {**LAWS, **LAWS_OF_DIVERGENCES} if is_divergence else LAWS
    broken = []
    for sentence, law in laws.items():
        try:
            law(objective)
        except Exception as error:  # any error is reported with the law it breaks
            broken.append(f"- {sentence}: {_first_lines(error)}")
    if broken:
        raise AssertionError(
            f"{objective!r} breaks {len(broken)} of {len(laws)} laws:\n" + "\n".join(broken)
        )


def _check_halves(objective: Objective) -> None:
    pair = random_pair(5, rows=4)
    bound = pair.bind(objective)
    whole = pair.loss(bound)
    one, other = (pair.of_rows(half).loss(bound) for half in (slice(0, 2), slice(2, 4)))
    assert_close(one.total + other.total, whole.total)
    counts = [float(loss.count) for loss in (one, other, whole)]
    _expect(counts[0] + counts[1] == counts[2], f"counts {counts[:2]} do not sum to {counts[2]}")
    for name, sums in whole.metrics.items():
        halves = zip(one.metrics[name], other.metrics[name], strict=True)
        for part, expected in zip(halves, sums, strict=True):
            assert_close(sum(part), expected)


def _check_order(objective: Objective) -> None:
    pair = random_pair(5, rows=4)
    bound = pair.bind(objective)
    _check_same(pair.of_rows([2, 0, 3, 1]).loss(bound), pair.loss(bound))


def _check_padding(objective: Objective) -> None:
    pair = random_pair(8)
    bound, padded = pair.bind(objective), pair.padded(5)
    _check_same(padded.loss(bound), pair.loss(bound))
    grad, weight_grad = pair.gradients(bound)
    padded_grad, padded_weight_grad = padded.gradients(bound)
    assert_close(padded_grad[:, : grad.shape[1]], grad)
    _expect(not padded_grad[:, grad.shape[1] :].any(), "padding has a gradient")
    assert_close(padded_weight_grad, weight_grad)


def _check_nothing_to_compare(objective: Objective) -> None:
    pair = random_pair(8)
    silent = {
        name: torch.full_like(value, -1 if name.endswith("chunk_ids") else False)
        for name, value in vars(pair.batch).items()
        if name.endswith(("chunk_ids", "loss_mask", "chunk_mask"))
    }
    empty = replace(pair, batch=replace(pair.batch, **silent))
    loss = empty.loss(empty.bind(objective))
    _expect(loss.total.ndim == 0, f"the total has the shape {tuple(loss.total.shape)}")
    total = float(loss.total.detach())
    _expect(total == 0, f"the total is {total}")
    _expect(float(loss.count) == 0, f"the count is {float(loss.count)}")


def _check_single_precision(objective: Objective) -> None:
    pair = random_pair(9)
    narrow = pair.in_single_precision()
    bound, narrow_bound = pair.bind(objective), narrow.bind(objective)
    one, other = pair.loss(bound), narrow.loss(narrow_bound)
    assert_close(other.total.double(), one.total, rtol=1e-4, atol=1e-5)
    for wide, grad in zip(pair.gradients(bound), narrow.gradients(narrow_bound), strict=True):
        assert_close(grad.double(), wide, rtol=1e-3, atol=1e-4)


def _check_count(objective: Objective) -> None:
    pair = random_pair(9)
    bound = pair.bind(objective)
    count = bound.count(pair.batch, pair.teacher_scores())
    _expect(count.dtype == torch.float64, f"count is {count.dtype}, in which large counts are lost")
    counted = pair.loss(bound).count
    _expect(bool(count == counted), f"count says {float(count)}, the loss {float(counted)}")


def _check_extremes(objective: Objective) -> None:
    """Saturated distributions: probabilities of exactly 0 and 1 on one side or both."""
    for scales in ((1e4, 1.0), (1.0, 1e4), (1e4, 1e4)):
        pair = random_pair(4).in_single_precision().scaled(*scales)
        bound = pair.bind(objective)
        total = float(pair.loss(bound).total.detach())
        _expect(math.isfinite(total), f"the total is {total}")
        are_finite = all(bool(grad.isfinite().all()) for grad in pair.gradients(bound))
        _expect(are_finite, "a gradient is infinite or NaN")


def _check_needs(objective: Objective) -> None:
    """The loss is the same with only what the needs ask for."""
    pair = random_pair(6)
    expected = pair.loss(pair.bind(objective))
    needs, nothing = objective.needs, _nothing()
    reads_teacher = needs.distributions or needs.hidden_states
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bound = objective.bind(pair.student, pair.teacher if reads_teacher else nothing)
    student, teacher = (
        _only_needed(scores, objective) for scores in (pair.student_scores(), pair.teacher_scores())
    )
    _check_same(bound(pair.batch, student, teacher if needs.teacher else nothing), expected)


def _check_zero(objective: Objective) -> None:
    pair = same_pair(3)
    bound = pair.bind(objective)
    total = float(pair.loss(bound).total.detach())
    _expect(abs(total) <= 1e-12, f"the total is {total}")
    largest = max(float(grad.abs().max()) for grad in pair.gradients(bound))
    _expect(largest < 1e-12, f"the largest gradient is {largest}")


def _check_pull(objective: Objective) -> None:
    pair = random_pair(3)
    bound = pair.bind(objective)
    total = float(pair.loss(bound).total.detach())
    _expect(total > 1e-3, f"the total is {total}")
    largest = float(pair.gradients(bound)[0].abs().max())
    _expect(largest > 1e-4, f"the largest gradient is {largest}")


def _check_slopes(objective: Objective) -> None:
    """Along random directions, by central differences in double precision."""
    pair = random_pair(7)
    bound = pair.bind(objective)
    generator = torch.Generator().manual_seed(0)
    step = 1e-6
    inputs = [pair.student_hidden, pair.student.head.weight]
    for tensor, grad in zip(inputs, pair.gradients(bound), strict=True):
        direction = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.add_(sign * step * direction)
                values.append(pair.loss(bound).total)
                tensor.sub_(sign * step * direction)
        slope = (values[0] - values[1]) / (2 * step)
        assert_close((grad * direction).sum(), slope, rtol=1e-5, atol=1e-6)


LAWS: Mapping[str, Law] = MappingProxyType(
    {
        "the losses of two half-batches sum to that of the batch": _check_halves,
        "the order of the batch changes nothing": _check_order,
        "padding adds nothing": _check_padding,
        "a batch without anything to compare has total 0 and count 0": _check_nothing_to_compare,
        "single precision agrees with double": _check_single_precision,
        "the count is known without the student": _check_count,
        "values and gradients are finite at extremes": _check_extremes,
        "needs ask for all that is read": _check_needs,
    }
)
"""Laws of every objective, by their statements. Each raises ``AssertionError`` if broken."""

LAWS_OF_DIVERGENCES: Mapping[str, Law] = MappingProxyType(
    {
        "value and gradient are 0 where student equals teacher": _check_zero,
        "elsewhere the value is above 0 and the gradient is not 0": _check_pull,
        "gradients are the slopes of the loss": _check_slopes,
    }
)
"""Further laws of objectives that only compare the student with the teacher."""


def _check_same(one: LossSum, other: LossSum) -> None:
    assert_close(one.total, other.total)
    _expect(bool(one.count == other.count), f"the count is {one.count}, and not {other.count}")
    for name, sums in other.metrics.items():
        for found, expected in zip(one.metrics[name], sums, strict=True):
            assert_close(found, expected, check_dtype=False)


def _only_needed(scores: Scores, objective: Objective) -> Scores:
    needs = objective.needs
    return replace(
        scores,
        boundary_logprobs=scores.boundary_logprobs if needs.boundary_mass else None,
        hidden=scores.hidden if needs.distributions or needs.hidden_states else None,
    )


def _nothing() -> Any:
    """None, typed to pass as the teacher of an objective that does not need one."""
    return None


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise AssertionError(otherwise)


def _first_lines(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()][:4]
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return kind + " ".join(lines)
