"""Weights of several objectives."""

import pytest
import torch
from torch import nn

from crosstok.objectives import FixedWeights, GradientMagnitude
from crosstok.objectives.weighting import gradient, last_layer_parameters


def test_gradient_magnitude_gives_every_objective_the_same_pull():
    norms = {"alm": 0.5, "cross_entropy": 4.0}
    weights = GradientMagnitude()(norms)
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["alm"] * 0.5 == pytest.approx(weights["cross_entropy"] * 4.0)


def test_an_objective_without_gradient_does_not_make_nan():
    weights = GradientMagnitude()({"alm": 0.0, "cross_entropy": 1.0})
    assert weights["alm"] == pytest.approx(1.0)


def test_fixed_weights_default_to_one():
    assert FixedWeights(weights={"alm": 2.0})({"alm": 9.0, "cross_entropy": 9.0}) == {
        "alm": 2.0,
        "cross_entropy": 1.0,
    }


def test_a_weight_for_an_objective_that_is_not_trained_is_refused():
    with pytest.raises(ValueError, match=r"\['uld'\]"):
        FixedWeights(weights={"uld": 1.0})({"alm": 1.0})


def test_the_last_layer_is_the_last_of_the_longest_stack():
    model = nn.Module()
    model.heads = nn.ModuleList([nn.Linear(2, 2)])
    model.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(4)])
    assert [p.shape for p in last_layer_parameters(model)] == [(3, 3), (3,)]
    assert last_layer_parameters(model)[0] is model.layers[-1].weight


def test_a_model_frozen_in_its_last_layer_is_refused():
    model = nn.ModuleList([nn.Linear(2, 2)]).requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"):
        last_layer_parameters(model)


def test_gradients_leave_the_graph_for_the_backward_pass():
    layer = nn.Linear(2, 1)
    loss = layer(torch.ones(1, 2)).sum()
    part = gradient(loss, list(layer.parameters()))
    loss.backward()
    assert part.tolist() == [1.0, 1.0, 1.0]
    assert layer.weight.grad is not None
