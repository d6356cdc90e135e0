"""Divergences of binary outcomes: the published values, the optimum, and the extremes."""

import math

import pytest
import torch

from crosstok.ops.divergences import binary_kl, binary_total_variation, log1mexp, surprisal_kl

# temperature, teacher, student, cross-entropy (KL + the teacher's entropy), temperature * gradient
BINARY_CROSS_ENTROPY = [
    (1, -1, -2, 0.827677, -0.2689),
    (1, -2, -1, 0.531935, 0.3679),
    (5, -1, -2, 0.528636, -0.4502),
    (5, -12, -9, 0.327583, 0.0894),
    (100, -1, -2, 0.058830, -0.4975),
    (100, -2, -1, 0.101093, 0.9900),
    (100, -0.1, -3, 0.033494, -0.9661),
    (100, -0.001, -0.1, 0.001077, -0.9890),
    (100, -1, -0.001, 0.113629, 903.66),
]
# teacher, student, value, gradient
SURPRISAL_KL = [
    (-1, -2, 0.306853, -0.5),
    (-2, -1, 0.386294, 1.0),
    (-0.1, -3, 2.55988, -0.9667),
    (-12, -9, 0.452186, 0.3333),
]


def entropy(logprob: float) -> float:
    p = math.exp(logprob)
    return -p * logprob - (1 - p) * math.log1p(-p)


def value_and_gradient(function, teacher, student, *args, dtype=torch.float64, **kwargs):
    student = torch.tensor(student, dtype=dtype, requires_grad=True)
    value = function(torch.tensor(teacher, dtype=dtype), student, *args, **kwargs)
    value.backward()
    return value.item(), student.grad.item()


@pytest.mark.parametrize(
    ("temperature", "teacher", "student", "value", "slope"), BINARY_CROSS_ENTROPY
)
def test_published_values_of_the_binary_kl(temperature, teacher, student, value, slope):
    """The vectors subtract 1e-6 behind the temperature; so do we here, to have their digits."""
    epsilon = 1e-6 * temperature
    ours, gradient = value_and_gradient(
        binary_kl, teacher - epsilon, student - epsilon, temperature
    )
    expected = value - entropy((teacher - epsilon) / temperature)
    assert ours / temperature == pytest.approx(expected, abs=2e-6)
    assert gradient == pytest.approx(slope, rel=2e-4, abs=5e-5)


@pytest.mark.parametrize(("teacher", "student", "value", "slope"), SURPRISAL_KL)
def test_published_values_of_the_temperature_limit(teacher, student, value, slope):
    ours, gradient = value_and_gradient(surprisal_kl, float(teacher), float(student))
    assert ours == pytest.approx(value, abs=1e-5)
    assert gradient == pytest.approx(slope, abs=1e-4)


def test_high_temperatures_approach_the_limit():
    teacher, student = torch.tensor([-1.0, -7.0]).double(), torch.tensor([-2.0, -3.0]).double()
    torch.testing.assert_close(
        binary_kl(teacher, student, 1e6), surprisal_kl(teacher, student), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(
        binary_total_variation(teacher, student, 1e6), (teacher - student).abs(), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("max_slope", [None, 10.0])
@pytest.mark.parametrize("function", [binary_kl, surprisal_kl])
def test_equal_likelihoods_have_no_loss_and_no_gradient(function, max_slope):
    logprobs = torch.tensor([-1e-9, 0.0, -1e-5, -0.5, -3.0, -80.0, -700.0])
    student = logprobs.clone().requires_grad_()
    loss = function(logprobs, student, max_slope=max_slope)
    loss.sum().backward()
    assert loss.abs().max() == 0
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("temperature", [1.0, 5.0, 100.0])
def test_the_bound_holds_and_leaves_the_rest_as_it_is(temperature):
    teacher = -torch.logspace(-5, 3, 60, dtype=torch.float64)[:, None]
    grid = -torch.logspace(-12, 3, 200, dtype=torch.float64)
    student = grid.expand(60, -1).clone().requires_grad_()
    bounded = binary_kl(teacher, student, temperature, 10.0)
    bounded.sum().backward()
    assert student.grad.max() <= 10.0 + 1e-6
    assert student.grad.min() >= -1.0 - 1e-6
    free_student = grid.expand(60, -1).clone().requires_grad_()
    free = binary_kl(teacher, free_student, temperature)
    free.sum().backward()
    inside = free_student.grad < 9.99
    torch.testing.assert_close(bounded[inside], free[inside])
    torch.testing.assert_close(student.grad[inside], free_student.grad[inside])
    over = free_student.grad > 10.01
    torch.testing.assert_close(student.grad[over], torch.full_like(student.grad[over], 10.0))
    assert (bounded >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [binary_kl, surprisal_kl])
def test_gradients_are_finite_at_the_extremes(function, dtype):
    values = torch.tensor([0.0, -1e-30, -1e-8, -1.0, -100.0, -1e5], dtype=dtype)
    teacher = values[:, None].expand(-1, len(values))
    student = values.expand(len(values), -1).clone().requires_grad_()
    loss = function(teacher, student, max_slope=10.0)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert student.grad.isfinite().all()


def test_an_over_confident_student_is_pulled_back_even_from_certainty():
    _, gradient = value_and_gradient(binary_kl, -1.0, 0.0, max_slope=10.0, dtype=torch.float32)
    assert gradient == pytest.approx(10.0)


def test_log1mexp_equals_the_plain_form_in_high_precision():
    x = -torch.logspace(-14, 2.5, 200, dtype=torch.float64)
    assert log1mexp(x).isfinite().all()
    wide = [math.log(-math.expm1(v)) for v in x.tolist()]
    torch.testing.assert_close(log1mexp(x), torch.tensor(wide, dtype=torch.float64))
