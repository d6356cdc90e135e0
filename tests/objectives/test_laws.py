"""The checks of laws that outsiders run: they pass what is right and name what is wrong."""

import pytest
import torch

from crosstok.objectives import CrossEntropy
from crosstok.objectives.laws import check_objective
from tests.objectives import outside


def test_an_objective_from_outside_passes():
    check_objective(outside.SquaredGap(), is_divergence=True)


def test_what_is_no_divergence_passes_without_those_laws():
    check_objective(CrossEntropy())
    with pytest.raises(AssertionError, match="are 0 where student equals teacher"):
        check_objective(CrossEntropy(), is_divergence=True)


@pytest.mark.parametrize(
    ("objective", "broken"),
    [
        (outside.Averaged(), "the losses of two half-batches sum to that of the batch"),
        (outside.ReadsPadding(), "padding adds nothing"),
        (
            outside.CountsInSingle(),
            "known without the student: count is torch.float32",
        ),
        (outside.Overflows(), "values and gradients are finite at extremes: the total is inf"),
        (outside.Lopsided(), "value and gradient are 0 where student equals teacher: the total is"),
        (outside.NeedsTooLittle(), "needs ask for all that is read: AttributeError: 'NoneType'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_law_is_named(objective, broken):
    with pytest.raises(AssertionError) as error:
        check_objective(objective, is_divergence=True)
    assert broken in str(error.value)
    assert str(error.value).startswith(f"{objective!r} breaks ")


def test_the_checks_leave_the_callers_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    check_objective(outside.SquaredGap())
    assert torch.equal(torch.rand(3), expected)
