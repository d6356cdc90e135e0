"""Distances between rows of probabilities, against their definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import kl_div, pad

from crosstok.ops import distributions
from crosstok.ops.distributions import generalized_jsd, sorted_l1


def rows(num_rows, size, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rows, size, generator=generator, dtype=torch.float64).mul(2).softmax(-1)


def by_definition(student, teacher):
    size = max(student.shape[1], teacher.shape[1])
    one, other = (
        pad(side.sort(-1, descending=True).values, (0, size - side.shape[1]))
        for side in (student, teacher)
    )
    return (one - other).abs().sum(-1)


def test_the_worked_numbers_of_sorted_l1():
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.5, 0.4, 0.1, 0.0]])
    assert float(sorted_l1(p, q)) == pytest.approx(0.4)
    assert float(sorted_l1(q, p)) == pytest.approx(0.4)


@pytest.mark.parametrize("with_numpy", [True, False])
@settings(deadline=None, max_examples=40)
@given(
    num_rows=st.integers(1, 3),
    student_size=st.integers(1, 9),
    teacher_size=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_sorted_l1_is_its_definition(with_numpy, num_rows, student_size, teacher_size, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributions, "_numpy_is_faster", lambda rows: with_numpy)
        student = rows(num_rows, student_size, seed).requires_grad_()
        teacher = rows(num_rows, teacher_size, seed + 1000)
        kept = teacher.clone()
        distance, plain = sorted_l1(student, teacher), by_definition(student, teacher)
        torch.testing.assert_close(distance, plain)
        (grad,) = torch.autograd.grad((distance * distance).sum(), student)
        (expected,) = torch.autograd.grad((plain * plain).sum(), student)
        torch.testing.assert_close(grad, expected)
        assert (teacher == kept).all(), "an argument was sorted in place"
        assert bool((distance >= 0).all())
        assert bool((distance <= 2 + 1e-12).all())


def test_sorted_l1_knows_no_names_and_ignores_ids_of_probability_zero():
    p, q = rows(2, 7, 0), rows(2, 7, 1)
    shuffled = p[:, torch.randperm(7)]
    assert not sorted_l1(p, p).any()
    assert not sorted_l1(shuffled, p).any()
    torch.testing.assert_close(sorted_l1(p, pad(q, (0, 4))), sorted_l1(p, q))
    torch.testing.assert_close(sorted_l1(pad(p, (0, 4)), q), sorted_l1(p, q))


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_generalized_jsd_is_its_definition(beta):
    p, q = rows(3, 5, 0), rows(3, 5, 1)
    m = beta * p + (1 - beta) * q
    kl = lambda a, b: (a * (a / b).log()).sum(-1)  # noqa: E731
    expected = beta * kl(p, m) + (1 - beta) * kl(q, m)
    torch.testing.assert_close(generalized_jsd(p.log(), q.log(), beta), expected)


def test_the_ends_of_generalized_jsd_are_forward_and_reverse_kl():
    p, q = rows(3, 5, 0).log(), rows(3, 5, 1).log()
    forward = kl_div(q, p, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(generalized_jsd(p, q, 0.0), forward)
    torch.testing.assert_close(generalized_jsd(q, p, 1.0), forward)
    for near, end in ((1e-6, 0.0), (1 - 1e-6, 1.0)):
        limit = generalized_jsd(p, q, near) / min(near, 1 - near)
        torch.testing.assert_close(limit, generalized_jsd(p, q, end), rtol=1e-4, atol=0)


def test_generalized_jsd_of_certain_rows_is_finite_and_at_most_log_2():
    certain = torch.tensor([[0.0, -2e4], [-2e4, 0.0]], requires_grad=True)
    value = generalized_jsd(certain.detach().flip(0), certain, 0.5)
    torch.testing.assert_close(value, torch.full((2,), math.log(2)))
    (grad,) = torch.autograd.grad(value.sum(), certain)
    assert grad.isfinite().all()
