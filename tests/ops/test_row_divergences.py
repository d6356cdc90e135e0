"""Divergences between rows of logits."""

import math
from functools import partial

import pytest
import torch

from crosstok.ops.row_divergences import forward_kl_to, row_divergence

NAMES = ("forward_kl", "reverse_kl", "jensen_shannon")
forward_kl, reverse_kl, jensen_shannon = (partial(row_divergence, name) for name in NAMES)
each = pytest.mark.parametrize("divergence", [forward_kl, reverse_kl, jensen_shannon], ids=NAMES)


def logits(seed, rows=5, vocab=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocab, generator=generator, dtype=torch.float64) * 3


def test_worked_numbers():
    p = torch.tensor([[0.5, 0.5]]).double().log()
    q = torch.tensor([[0.9, 0.1]]).double().log()
    assert float(forward_kl(p, q)) == pytest.approx(0.5108256238)
    assert float(reverse_kl(p, q)) == pytest.approx(0.3680642071)
    m = 0.7 * math.log(0.7) + 0.3 * math.log(0.3)  # minus the entropy of the mixture
    own = (2 * 0.5 * math.log(0.5) + 0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / 2
    assert float(jensen_shannon(p, q)) == pytest.approx(own - m)


@each
def test_zero_with_zero_gradient_for_equal_rows(divergence):
    teacher = logits(1)
    student = teacher.clone().add_(2.5).requires_grad_()  # a shift of all logits changes nothing
    value = divergence(teacher, student)
    value.sum().backward()
    assert float(value.detach().abs().max()) < 1e-12
    assert float(student.grad.abs().max()) < 1e-12


@each
def test_ids_that_are_no_tokens_change_nothing(divergence):
    teacher, student = logits(1), logits(2)
    nothing = torch.full((5, 2), -torch.inf, dtype=torch.float64)
    padded = torch.cat([student, nothing], 1).requires_grad_()
    plain = student.clone().requires_grad_()
    one, other = divergence(teacher, plain), divergence(torch.cat([teacher, nothing], 1), padded)
    torch.testing.assert_close(one, other)
    one.sum().backward()
    other.sum().backward()
    torch.testing.assert_close(padded.grad[:, :7], plain.grad)
    assert not padded.grad[:, 7:].any()


@each
def test_gradients_are_slopes(divergence):
    student = logits(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: divergence(logits(1), z), student)


@each
def test_saturated_rows_stay_finite(divergence):
    student = (logits(2) * 1e4).float().requires_grad_()
    value = divergence((logits(1) * 1e4).float(), student)
    value.sum().backward()
    assert value.isfinite().all()
    assert student.grad.isfinite().all()


def test_given_probabilities_may_be_zero():
    probs = torch.tensor([[0.25, 0.75, 0.0]]).double()
    student = logits(3, 1, 3)
    student[0, 2] = -torch.inf
    expected = forward_kl(probs[:, :2].log(), student[:, :2])
    torch.testing.assert_close(forward_kl_to(probs, student), expected)
