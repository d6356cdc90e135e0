"""What every objective must satisfy; a new one joins by one line."""

from dataclasses import replace

import pytest
import torch

from crosstok.ops import blockwise
from tests.laws.objectives import DIVERGENCES, OBJECTIVES, name_of
from tests.objectives.batches import Pair, random_pair, same_pair

each = pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
each_divergence = pytest.mark.parametrize("objective", DIVERGENCES, ids=name_of)


def assert_same_loss(one, other, **tolerance):
    """Totals, counts and metrics agree."""
    torch.testing.assert_close(one.total, other.total, **tolerance)
    assert one.count == other.count
    for name, (total, count) in one.metrics.items():
        torch.testing.assert_close(total, other.metrics[name][0], check_dtype=False, **tolerance)
        torch.testing.assert_close(count, other.metrics[name][1], check_dtype=False, **tolerance)


@each_divergence
def test_a_divergence_is_zero_where_student_equals_teacher(objective):
    pair = same_pair(3)
    bound = pair.bind(objective)
    assert float(pair.loss(bound).total.detach()) == pytest.approx(0.0, abs=1e-12)
    assert all(float(grad.abs().max()) < 1e-12 for grad in pair.gradients(bound))


@each_divergence
def test_a_divergence_is_above_zero_elsewhere_and_pulls(objective):
    pair = random_pair(3)
    bound = pair.bind(objective)
    assert float(pair.loss(bound).total) > 1e-3
    assert float(pair.gradients(bound)[0].abs().max()) > 1e-4


@each
def test_two_half_batches_sum_to_the_batch(objective):
    pair = random_pair(5, rows=4)
    bound = pair.bind(objective)
    whole = pair.loss(bound)
    halves = [pair.of_rows(half).loss(bound) for half in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(whole.total, halves[0].total + halves[1].total)
    assert whole.count == halves[0].count + halves[1].count
    for name, (total, count) in whole.metrics.items():
        torch.testing.assert_close(total, sum(half.metrics[name][0] for half in halves))
        torch.testing.assert_close(count, sum(half.metrics[name][1] for half in halves))


@each
def test_the_order_of_the_batch_changes_nothing(objective):
    pair = random_pair(5, rows=4)
    bound = pair.bind(objective)
    assert_same_loss(pair.loss(bound), pair.of_rows([2, 0, 3, 1]).loss(bound))


@each
def test_padding_adds_nothing(objective):
    pair = random_pair(8)
    bound, padded = pair.bind(objective), pair.padded(5)
    assert_same_loss(pair.loss(bound), padded.loss(bound))
    grad, weight_grad = pair.gradients(bound)
    padded_grad, padded_weight_grad = padded.gradients(bound)
    torch.testing.assert_close(padded_grad[:, : grad.shape[1]], grad)
    assert not padded_grad[:, grad.shape[1] :].any()
    torch.testing.assert_close(padded_weight_grad, weight_grad)


@each
def test_a_batch_without_anything_to_compare_is_no_error(objective):
    pair = random_pair(8)
    silent = {
        name: torch.full_like(value, -1 if name.endswith("chunk_ids") else False)
        for name, value in vars(pair.batch).items()
        if name.endswith(("chunk_ids", "loss_mask", "chunk_mask"))
    }
    empty = Pair(**{**vars(pair), "batch": replace(pair.batch, **silent)})
    loss = empty.loss(empty.bind(objective))
    assert float(loss.total) == 0
    assert loss.count == 0
    assert loss.total.ndim == 0


@each
def test_single_precision_agrees_with_double(objective):
    pair = random_pair(9)
    narrow = pair.in_single_precision()
    bound, narrow_bound = pair.bind(objective), narrow.bind(objective)
    one, other = pair.loss(bound), narrow.loss(narrow_bound)
    torch.testing.assert_close(other.total.double(), one.total, rtol=1e-4, atol=1e-5)
    for wide, grad in zip(pair.gradients(bound), narrow.gradients(narrow_bound), strict=True):
        torch.testing.assert_close(grad.double(), wide, rtol=1e-3, atol=1e-4)


@each
def test_the_count_is_known_without_the_student(objective):
    pair = random_pair(9)
    bound = pair.bind(objective)
    count = bound.count(pair.batch, pair.teacher_scores())
    assert count.dtype == torch.float64
    assert count == pair.loss(bound).count


@each
@pytest.mark.parametrize("scales", [(1e4, 1.0), (1.0, 1e4), (1e4, 1e4)], ids=str)
def test_values_and_gradients_are_finite_at_extremes(objective, scales):
    """Saturated distributions: probabilities of exactly 0 and 1 on one side or both."""
    pair = random_pair(4).in_single_precision().scaled(*scales)
    bound = pair.bind(objective)
    assert pair.loss(bound).total.isfinite()
    assert all(grad.isfinite().all() for grad in pair.gradients(bound))


@each
def test_gradients_taken_in_blocks_are_those_of_plain_autograd(objective, monkeypatch):
    pair = random_pair(6)
    bound = pair.bind(objective)
    value, grads = pair.loss(bound).total, pair.gradients(bound)

    def on_all_rows_at_once(function, step, num_rows, *tensors):
        return function(*tensors)

    monkeypatch.setattr(blockwise._BlockwiseSum, "apply", on_all_rows_at_once)
    torch.testing.assert_close(pair.loss(bound).total, value)
    for grad, plain in zip(grads, pair.gradients(bound), strict=True):
        torch.testing.assert_close(grad, plain)


@each_divergence
def test_gradients_are_the_slopes_of_the_loss(objective):
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
        torch.testing.assert_close(slope, (grad * direction).sum(), rtol=1e-5, atol=1e-6)
