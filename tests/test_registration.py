"""An objective that is added is named everywhere it must be; what is missing is listed."""

from importlib import import_module
from typing import get_args, get_type_hints

import pytest

from crosstok.objectives import FixedWeights, GradientMagnitude
from crosstok.objectives.example_pairs import random_pair
from crosstok.recipes import OBJECTIVES, TrainingRecipe
from tests.laws.objectives import OBJECTIVES as UNDER_LAWS
from tests.laws.objectives import name_of
from tests.registration import missing_of_combining_rule, missing_of_objective

COMBINING = {"fixed": FixedWeights, "gradient_magnitude": GradientMagnitude}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_named_everywhere(name):
    assert missing_of_objective(name, OBJECTIVES[name]) == []


def test_what_a_new_objective_lacks_is_listed():
    missing = missing_of_objective("brand_new", "crosstok.objectives.brand_new:BrandNew")
    assert len(missing) == 7
    assert "its page, docs/methods/brand_new.md" in missing


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_row_of_the_table_leads_to_the_class_of_that_name(name):
    module, _, cls = OBJECTIVES[name].partition(":")
    assert getattr(import_module(module), cls).name == name


def test_every_way_to_combine_objectives_is_named_everywhere():
    assert set(get_args(get_type_hints(TrainingRecipe)["weighting"])) == set(COMBINING)
    for name, cls in COMBINING.items():
        assert missing_of_combining_rule(name, cls.__name__) == []


@pytest.mark.parametrize("objective", UNDER_LAWS, ids=name_of)
def test_every_figure_of_an_objective_has_a_label(objective):
    pair = random_pair(3)
    figures = pair.loss(pair.bind(objective)).metrics
    assert {"loss", *figures} <= objective.metrics.keys()
    for metric in objective.metrics.values():
        assert metric.form.format(0.5)
