"""What every objective must satisfy; a new one joins by one line."""

import pytest
import torch

from crosstok.models import Scores
from crosstok.objectives import ALM, CrossEntropy
from tests.objectives.batches import random_batch, random_scores, rows_of, scores_of

DIVERGENCES = [
    ALM(),
    ALM(temperature=100.0, max_slope=None),
    ALM(temperature=float("inf")),
    ALM(divergence="total_variation"),
    ALM(divergence="total_variation", temperature=float("inf"), keep_open_tail=True),
    ALM(debias=False, min_boundary_mass=0.0),
]
OBJECTIVES = [*DIVERGENCES, CrossEntropy()]
each = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: repr(o)[:60])


@pytest.mark.parametrize("objective", DIVERGENCES, ids=lambda o: repr(o)[:60])
def test_a_divergence_is_zero_where_student_equals_teacher(objective):
    batch = random_batch(3)
    ids = batch.teacher_chunk_ids
    batch = type(batch)(**{**vars(batch), "student_chunk_ids": ids})
    teacher = random_scores(1, ids)
    student = random_scores(1, ids, grad=True)
    loss = objective(batch, student, teacher)
    loss.total.backward()
    assert float(loss.total) == pytest.approx(0.0, abs=1e-12)
    assert float(student.token_logprobs.grad.abs().max()) < 1e-12


@each
def test_two_half_batches_sum_to_the_batch(objective):
    batch = random_batch(5, rows=4)
    student = random_scores(1, batch.student_chunk_ids)
    teacher = random_scores(2, batch.teacher_chunk_ids)
    whole = objective(batch, student, teacher)
    halves = [
        objective(rows_of(batch, half), scores_of(student, half), scores_of(teacher, half))
        for half in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(whole.total, halves[0].total + halves[1].total)
    assert whole.count == halves[0].count + halves[1].count
    for name, (total, count) in whole.metrics.items():
        torch.testing.assert_close(total, sum(half.metrics[name][0] for half in halves))
        torch.testing.assert_close(count, sum(half.metrics[name][1] for half in halves))


@each
def test_the_order_of_the_batch_changes_nothing(objective):
    batch = random_batch(5, rows=4)
    student = random_scores(1, batch.student_chunk_ids)
    teacher = random_scores(2, batch.teacher_chunk_ids)
    order = [2, 0, 3, 1]
    one = objective(batch, student, teacher)
    other = objective(rows_of(batch, order), scores_of(student, order), scores_of(teacher, order))
    torch.testing.assert_close(one.total, other.total)


@each
def test_padding_adds_nothing(objective):
    batch = random_batch(8)
    student = random_scores(1, batch.student_chunk_ids)
    teacher = random_scores(2, batch.teacher_chunk_ids)
    padded = {}
    for name, value in vars(batch).items():
        if value.ndim == 2:
            fill = -1 if name.endswith("chunk_ids") else 0
            value = torch.nn.functional.pad(value, (0, 5), value=fill)
        padded[name] = value

    def pad(scores: Scores) -> Scores:
        return Scores(
            torch.nn.functional.pad(scores.token_logprobs, (0, 5), value=-7.0),
            torch.nn.functional.pad(scores.boundary_logprobs, (0, 5), value=-7.0),
        )

    one = objective(batch, student, teacher)
    other = objective(type(batch)(**padded), pad(student), pad(teacher))
    torch.testing.assert_close(one.total, other.total)
    assert one.count == other.count


@each
def test_single_precision_agrees_with_double(objective):
    batch = random_batch(9)
    student = random_scores(1, batch.student_chunk_ids)
    teacher = random_scores(2, batch.teacher_chunk_ids)
    narrow = [
        Scores(s.token_logprobs.float(), s.boundary_logprobs.float()) for s in (student, teacher)
    ]
    torch.testing.assert_close(
        objective(batch, *narrow).total.double(),
        objective(batch, student, teacher).total,
        rtol=1e-5,
        atol=1e-6,
    )


@each
def test_the_count_is_known_without_the_student(objective):
    batch = random_batch(9)
    student = random_scores(1, batch.student_chunk_ids)
    teacher = random_scores(2, batch.teacher_chunk_ids)
    assert objective.count(batch, teacher) == objective(batch, student, teacher).count
