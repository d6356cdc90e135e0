"""What every objective must satisfy; a new one joins by one line in `objectives.py`."""

import pytest
import torch

from crosstok.objectives.example_pairs import random_pair
from crosstok.objectives.laws import LAWS, LAWS_OF_DIVERGENCES
from crosstok.ops import blockwise
from tests.laws.objectives import DIVERGENCES, OBJECTIVES, name_of

each = pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
each_divergence = pytest.mark.parametrize("objective", DIVERGENCES, ids=name_of)


@each
@pytest.mark.parametrize("law", LAWS)
def test_every_objective_keeps_the_law(objective, law):
    LAWS[law](objective)


@each_divergence
@pytest.mark.parametrize("law", LAWS_OF_DIVERGENCES)
def test_every_divergence_keeps_the_law(objective, law):
    LAWS_OF_DIVERGENCES[law](objective)


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
