"""ALM: merging, debiasing, and equality with the method written out chunk by chunk."""

import itertools
import math

import pytest
import torch

from crosstok.models import Scores
from crosstok.objectives import ALM
from crosstok.objectives.alm import merge_chunks
from crosstok.ops.divergences import binary_kl
from tests.objectives.batches import batch_of, random_batch, random_scores


def slow_alm(batch, student, teacher, *, temperature, gamma, debias, keep_open_tail=False):
    """The method as a loop over texts and chunks, in plain Python; returns (total, count)."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row in range(len(batch.chunk_mask)):
        groups, group = [], []
        for chunk in range(batch.chunk_mask.shape[1]):
            if not batch.chunk_mask[row, chunk]:
                continue
            group.append(chunk)
            last = (batch.teacher_chunk_ids[row] == chunk).nonzero().max()
            mass = teacher.boundary_logprobs[row, last].exp()
            if batch.chunk_is_special[row, chunk] or mass > gamma:
                groups.append(group)
                group = []
        if group and keep_open_tail:
            groups.append(group)
        for group in groups:
            sides = []
            for ids, scores in (
                (batch.teacher_chunk_ids[row], teacher),
                (batch.student_chunk_ids[row], student),
            ):
                tokens = torch.isin(ids, torch.tensor(group))
                logprob = scores.token_logprobs[row][tokens].sum()
                if debias and not batch.chunk_is_special[row, group[-1]]:
                    last = (ids == group[-1]).nonzero().max()
                    logprob = logprob + scores.boundary_logprobs[row, last]
                sides.append(logprob)
            total = total + binary_kl(*sides, temperature, 10.0)
            count += 1
    return total, count


@pytest.mark.parametrize(
    ("temperature", "gamma", "debias", "keep"),
    list(itertools.product([1.0, 5.0, 100.0], [0.0, 0.1, 0.5], [True, False], [True, False])),
)
def test_equals_the_method_written_out(temperature, gamma, debias, keep):
    batch = random_batch(seed=7)
    teacher = random_scores(1, batch.teacher_chunk_ids)
    fast, slow = (random_scores(2, batch.student_chunk_ids, grad=True) for _ in range(2))
    alm = ALM(temperature=temperature, min_boundary_mass=gamma, debias=debias, keep_open_tail=keep)
    loss = alm(batch, fast, teacher)
    total, count = slow_alm(
        batch, slow, teacher,
        temperature=temperature, gamma=gamma, debias=debias, keep_open_tail=keep,
    )  # fmt: skip
    torch.testing.assert_close(loss.total, total)
    assert float(loss.count) == count == float(alm.count(batch, teacher))
    loss.total.backward()
    total.backward()
    torch.testing.assert_close(fast.token_logprobs.grad, slow.token_logprobs.grad)
    if debias:
        torch.testing.assert_close(fast.boundary_logprobs.grad, slow.boundary_logprobs.grad)


def test_the_published_merging_example():
    """Boundary masses .05 .3 .02 .02 .4 .05 at gamma .1: groups 0 0 1 1 1 and an open tail."""
    mass = torch.tensor([[0.05, 0.3, 0.02, 0.02, 0.4, 0.05]])
    mask = torch.ones_like(mass, dtype=torch.bool)
    closed = merge_chunks(mask, mass > 0.1, keep_open_tail=False)
    assert closed.group.tolist() == [[0, 0, 1, 1, 1, -1]]
    assert mass[closed.is_end].tolist() == pytest.approx([0.3, 0.4])
    kept = merge_chunks(mask, mass > 0.1, keep_open_tail=True)
    assert kept.group.tolist() == [[0, 0, 1, 1, 1, 2]]
    assert mass[kept.is_end].tolist() == pytest.approx([0.3, 0.4, 0.05])


def test_the_divisor_counts_each_merged_chunk_once():
    """The reference code counts merged groups again after merging, which inflates the loss."""
    batch = batch_of([[-1, 0, 1, 2, 3]], [[-1, 0, 1, 2, 3]], 4)
    teacher = Scores(
        torch.zeros(1, 5), torch.tensor([[0.0, 0.01, 0.5, 0.01, 0.5]]).clamp(min=1e-9).log()
    )
    assert float(ALM().count(batch, teacher)) == 2


def test_a_special_ends_a_chunk_whatever_follows_it():
    batch = batch_of([[-1, 0, 1]], [[-1, 0, 1]], 2, special=(1,))
    nothing_follows = Scores(torch.full((1, 3), -1.0), torch.full((1, 3), -50.0))
    assert float(ALM().count(batch, nothing_follows)) == 1


def test_padding_chunks_stay_finite_at_any_score():
    """Fills of -3e38 times 0 would be NaN; chunks that are not there must not matter at all."""
    batch = batch_of([[-1, 0, -1, -1]], [[-1, 0, -1, -1]], 1)
    extreme = torch.tensor([[0.0, -1.0, -1e30, -math.inf]])
    teacher = Scores(extreme, torch.zeros(1, 4))
    student_tokens = torch.tensor([[0.0, -2.0, -5.0, -5.0]], requires_grad=True)
    for temperature in (5.0, math.inf):
        alm = ALM(temperature=temperature)
        loss = alm(batch, Scores(student_tokens, torch.zeros(1, 4)), teacher)
        loss.total.backward()
        assert loss.total.isfinite()
        assert student_tokens.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [100.0, math.inf])
def test_an_infinite_bound_on_the_slope_is_no_bound(temperature):
    batch = random_batch(seed=7)
    teacher = random_scores(1, batch.teacher_chunk_ids)
    losses, slopes = [], []
    for max_slope in (math.inf, None):
        student = random_scores(2, batch.student_chunk_ids, grad=True)
        loss = ALM(temperature=temperature, max_slope=max_slope)(batch, student, teacher).total
        loss.backward()
        losses.append(loss.item())
        slopes.append(student.token_logprobs.grad)
    assert math.isfinite(losses[0])
    assert losses[0] == losses[1]
    assert torch.equal(*slopes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"min_boundary_mass": 1.5}, "min_boundary_mass is a probability"),
        ({"max_slope": -1.0}, "max_slope must be above 0"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ALM(**arguments)
