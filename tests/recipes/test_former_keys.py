"""Keys that recipes once had: read from files as they were meant, answered where they are flags."""

import logging

import pytest
import yaml

from crosstok.objectives import ALM
from crosstok.recipes import RecipeError, TransferRecipe, load_recipe, saved_values

REQUIRED = {"model": "m", "tokenizer": "t", "output": "o", "data": "d"}
# As a run wrote them before they were options.
OLD_DEFAULTS = {
    "temperature": 100.0,
    "divergence": "kl",
    "min_boundary_mass": 0.1,
    "debias": True,
    "max_slope": 10.0,
}


@pytest.fixture
def read(tmp_path):
    def load(**values) -> TransferRecipe:
        (tmp_path / "r.yaml").write_text(yaml.safe_dump({**REQUIRED, **values}))
        return load_recipe(TransferRecipe, tmp_path / "r.yaml", {})

    return load


def test_former_defaults_in_a_file_are_left_out(read):
    assert read(**OLD_DEFAULTS) == read()
    assert read(**OLD_DEFAULTS, objective="strict").options is None


def test_other_values_become_options_of_alm_with_one_line_that_says_so(read, caplog):
    with caplog.at_level(logging.INFO, "crosstok"):
        recipe = read(**{**OLD_DEFAULTS, "temperature": 5, "max_slope": float("inf")})
    assert recipe.options == {"alm": {"temperature": 5, "max_slope": None}}
    assert recipe.objectives() == [ALM(temperature=5.0, max_slope=None)]
    [line] = caplog.messages
    assert "--options alm.temperature=5" in line
    assert "--options alm.max_slope=null" in line
    assert "debias" not in line  # it was the default


def test_what_options_say_already_stays(read):
    recipe = read(temperature=5, debias=False, options={"alm": {"temperature": 7}})
    assert recipe.options == {"alm": {"temperature": 7, "debias": False}}


def test_an_option_of_alm_without_alm_is_refused(read):
    with pytest.raises(RecipeError, match=r"options are given for \['alm'\]"):
        read(objective="strict", temperature=5).objectives()


@pytest.mark.parametrize(
    ("flags", "spelled"),
    [
        (
            {"temperature": "5"},
            "temperature: an option of an objective now; give --options alm.temperature=5.",
        ),
        ({"debias": False}, "give --options alm.debias=false"),
        ({"max_slope": "inf"}, "give --options alm.max_slope=null"),
        (
            {"divergence": "kl", "min_boundary_mass": 0},
            "--options alm.divergence=kl --options alm.min_boundary_mass=0",
        ),
    ],
)
def test_a_former_flag_is_answered_with_the_new_spelling(flags, spelled):
    with pytest.raises(RecipeError, match=spelled):
        load_recipe(TransferRecipe, None, {**REQUIRED, **flags})


def test_what_an_old_run_saved_is_read_with_the_keys_of_today(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({**REQUIRED, **OLD_DEFAULTS, "max_steps": 7, "debias": False}))
    values = saved_values(TransferRecipe, file)
    assert values["options"] == {"alm": {"debias": False}}
    assert (values["max_steps"], values["epochs"]) == (7, None)
    assert not OLD_DEFAULTS.keys() & values.keys()
