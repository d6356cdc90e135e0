"""Recipe files that are not what they should be, and the line that says so."""

import pytest

from crosstok.recipes import RecipeError, TransferRecipe, load_recipe
from crosstok.recipes.yaml_text import read_yaml, write_yaml

BROKEN = {
    "a: [": "line 1, column 5: expected the node content",
    "seed: 1\nseed: 2\n": "line 2, column 1: the key 'seed' occurs twice; leave one out.",
    "model: &x m\ntokenizer: *x\n": "line 2, column 12: an alias",
    "options: " + "{a: " * 30 + "1" + "}" * 30: "values nested more than 20 deep",
    "a:\tb": "line 1, column 3: found character",
    "model: m\n  tokenizer: t\n": "line 2, column 12: mapping values are not allowed here.",
    "!!python/object:os.system x\n": "could not determine a constructor for the tag",
    "- model\n": "must hold `key: value` lines, nothing else.",
    "": "must hold `key: value` lines, nothing else.",
    "just words\n": "must hold `key: value` lines, nothing else.",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_recipe_is_named_in_one_line_with_the_place(tmp_path, text):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as error:
        load_recipe(TransferRecipe, file, {})
    message = str(error.value)
    assert str(file) in message
    assert BROKEN[text] in message
    assert "\n" not in message


def test_a_recipe_that_is_not_text_is_named(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00bin")
    with pytest.raises(RecipeError, match=r"r\.yaml' is not YAML: it is not text in UTF-8\."):
        load_recipe(TransferRecipe, tmp_path / "r.yaml", {})


def test_values_that_are_one_object_are_written_twice_and_read_again():
    shared = [1, 2]
    assert read_yaml(write_yaml({"b": shared, "a": {"c": shared}})) == {
        "b": [1, 2],
        "a": {"c": [1, 2]},
    }
