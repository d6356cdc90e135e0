"""Recipes as files and values. For the command line see test_cli.py."""

from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml

from crosstok.objectives import ALM, CrossEntropy, FixedWeights, GradientMagnitude
from crosstok.plugins import nearest
from crosstok.recipes import (
    DistilRecipe,
    EvaluateRecipe,
    GenerateRecipe,
    InspectModelsRecipe,
    InspectTokenizersRecipe,
    RecipeError,
    TransferRecipe,
    TransplantRecipe,
    load_recipe,
    recipe_yaml,
    save_recipe,
)

REQUIRED = {"model": "m", "tokenizer": "t", "output": "o", "data": "d"}
ALL = (
    TransferRecipe,
    DistilRecipe,
    TransplantRecipe,
    EvaluateRecipe,
    InspectModelsRecipe,
    InspectTokenizersRecipe,
    GenerateRecipe,
)


def recipe(**values) -> TransferRecipe:
    return load_recipe(TransferRecipe, None, {**REQUIRED, **values})


def test_objectives_have_the_names_that_recipes_call_them():
    assert recipe(objective="alm+cross_entropy").objectives() == [ALM(), CrossEntropy()]


def test_the_defaults_of_a_recipe_are_those_of_the_objective():
    assert recipe().objectives() == [ALM()]


def test_a_saved_recipe_loads_as_the_same(tmp_path):
    first = recipe(
        options={"alm": {"temperature": float("inf")}}, learning_rate=1e-5, data="ünïcode"
    )
    save_recipe(first, tmp_path / "r.yaml")
    assert load_recipe(TransferRecipe, tmp_path / "r.yaml", {}) == first
    assert yaml.safe_load(recipe_yaml(first)).keys() == asdict(first).keys()


@pytest.mark.parametrize("recipe_type", ALL)
def test_every_field_has_a_help_text_of_one_sentence(recipe_type):
    assert recipe_type.__doc__
    for field in fields(recipe_type):
        assert field.metadata["help"].endswith("."), field.name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_steps": "x"}, "max_steps = 'x'"),
        ({"method": "fvd"}, "method = 'fvd'"),
        ({"lora": "perhaps"}, "lora = 'perhaps'"),
        ({"weights": {"alm": "a"}}, "weights.alm.float = 'a'"),
    ],
)
def test_a_value_that_does_not_fit_is_named(values, message):
    with pytest.raises(RecipeError, match=message):
        recipe(**values)


def test_several_objectives_are_combined_by_gradient_magnitude_or_fixed_weights():
    both = "cross_entropy + alm"
    assert [o.name for o in recipe(objective=both).objectives()] == ["cross_entropy", "alm"]
    assert isinstance(recipe(objective=both).combination(), GradientMagnitude)
    weights = {"alm": 2.0, "cross_entropy": 1.0}
    fixed = recipe(objective=both, weighting="fixed", weights=weights)
    assert fixed.combination() == FixedWeights(weights=weights)
    assert recipe().combination() == FixedWeights()
    with pytest.raises(RecipeError, match="Add weighting fixed, or leave weights out"):
        recipe(objective=both, weights=weights).combination()


def test_one_value_in_a_file_is_a_list_of_one(tmp_path):
    (tmp_path / "e.yaml").write_text("model: one\ndata: [two, three]\n")
    loaded = load_recipe(EvaluateRecipe, tmp_path / "e.yaml", {})
    assert (loaded.model, loaded.data, loaded.exam) == (["one"], ["two", "three"], None)


def test_the_nearest_key_is_suggested_only_where_one_is_near():
    assert nearest("learning_rat", ["learning_rate", "lora"]) == ": did you mean 'learning_rate'?"
    assert nearest("xyz", ["learning_rate", "lora"]) == "."
    with pytest.raises(RecipeError, match=r"'tokeniser' in the options: did you mean 'tokenizer'"):
        recipe(tokeniser="t")


@pytest.mark.parametrize(
    ("recipe_type", "values", "message"),
    [
        (GenerateRecipe, {"temperature": "warm"}, "temperature = 'warm'"),
        (GenerateRecipe, {"top_p": 0}, "top_p is 0.0; it must be above 0. Use 1.0"),
        (GenerateRecipe, {"num_return_sequences": 0}, "num_return_sequences is 0; it must be at l"),
        (EvaluateRecipe, {"combine": "sum"}, "combine = 'sum'"),
        (EvaluateRecipe, {"limit": 0}, "limit is 0; it must be at least 1"),
    ],
)
def test_values_are_checked_in_python_too(recipe_type, values, message):
    with pytest.raises(RecipeError, match=message):
        recipe_type(model="m", **values)


def test_values_are_converted_in_python_too():
    made = GenerateRecipe(model=Path("m"), prompt="a", weight=2, stop="b", max_new_tokens="3")
    assert (made.model, made.prompt, made.stop) == (["m"], ["a"], ["b"])
    assert (made.weight, made.max_new_tokens) == ([2.0], 3)
    assert EvaluateRecipe(model="m", task=("a", "b")).task == ["a", "b"]


def test_evaluation_options_carry_over():
    given = {"model": ["m"], "data": ["d"], "exam": ["e"], "limit": 3, "start_every_window": False}
    options = load_recipe(EvaluateRecipe, None, given).options()
    assert (options.limit, options.start_every_window) == (3, False)


def test_what_has_no_effect_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="lora_rank is 8, and without lora it has no effect"):
        recipe(lora_rank=8).check()
    recipe(lora=True, lora_rank=8).check()


def test_a_home_folder_is_expanded_in_what_is_written(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    made = recipe(output="~/out", teacher_cache="~/cache")
    assert (made.output, made.teacher_cache) == ("/somewhere/out", "/somewhere/cache")


def test_numbers_in_scientific_notation_are_numbers():
    assert recipe(trainer={"adam_epsilon": "1e-6"}).trainer_arguments()["adam_epsilon"] == 1e-6
