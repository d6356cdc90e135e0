"""Options of the jobs that train: what is checked when a recipe is made, and what goes on."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from crosstok.recipes import (
    DistilRecipe,
    RecipeError,
    TransferRecipe,
    grouped_fields,
    load_recipe,
    pairs,
)
from crosstok.recipes.fields import GROUPS

TRANSFER = {"model": "m", "tokenizer": "t", "output": "o", "data": "d"}
DISTIL = {"teacher": "t", "student": "s", "output": "o", "data": "d"}


def test_values_in_python_are_converted_as_those_of_a_file_are(tmp_path):
    given = {**DISTIL, "learning_rate": "2e-3", "eval_data": "held.jsonl", "lora": "yes"}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(given))
    made = DistilRecipe(**given)
    assert made == load_recipe(DistilRecipe, tmp_path / "r.yaml", {})
    assert (made.teacher, made.eval_data) == (["t"], ["held.jsonl"])
    assert (made.learning_rate, made.lora) == (0.002, True)


def test_paths_are_taken_for_names():
    made = DistilRecipe(**{**DISTIL, "data": Path("a") / "b", "teacher": [Path("c")]})
    assert (made.data, made.teacher) == (["a/b"], ["c"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_steps": 0}, r"max_steps is 0; it must be at least 1\."),
        ({"batch_size": 0}, r"batch_size is 0; it must be at least 1\. Use 16 \(the default\)"),
        ({"epochs": 0}, "epochs is 0.0; it must be above 0"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"max_steps": 3, "epochs": 2}, "max_steps is 3 and epochs is 2; give only one"),
        ({"epochs": 1, "streaming": True}, "length of streamed data is not known"),
        ({"lr_scheduler": "constant", "warmup_steps": 5}, "constant_with_warmup"),
        ({"precision": "fp8"}, "precision = 'fp8'"),
        ({"max_steps": "many"}, "max_steps = 'many'"),
        ({"lora": True, "teacher_options": {"dtype": "bfloat16"}}, "with lora the teacher is"),
        ({"model_options": {"trust_remote_code": True}}, "give trust_remote_code"),
        ({"model_options": {"quantization_config": {}}}, "only teacher_options takes it"),
        (
            {"teacher_options": {"revision": "v1"}},
            "teacher_options does not take revision: the tokenizer",
        ),
    ],
)
def test_what_cannot_be_is_refused_when_the_recipe_is_made(values, said):
    with pytest.raises(RecipeError, match=said):
        TransferRecipe(**TRANSFER, **values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lr_scheduler": "cosin"}, "lr_scheduler is 'cosin'.*did you mean 'cosine'"),
        ({"optimizer": "adamw"}, "optimizer is 'adamw'.*did you mean"),
        ({"trainer": {"adam_beta_2": 0.9}}, "no argument 'adam_beta_2': did you mean 'adam_beta2'"),
        (
            {"trainer": {"learning_rate": 1}},
            "trainer does not take learning_rate: give learning_rate",
        ),
        ({"trainer": {"eval_strategy": "steps"}}, "measured with eval_data"),
        ({"trainer": {"remove_unused_columns": True}}, "the collator tokenizes them"),
        (
            {"objective": "cross_entropy", "teacher_options": {"dtype": "auto"}},
            "teacher_options are given, and objective cross_entropy uses no teacher",
        ),
        ({"objective": "strict", "options": {"alm": {}}}, "options are given for"),
    ],
)
def test_what_transformers_and_the_objectives_do_not_have_is_found_by_check(values, said):
    recipe = TransferRecipe(**TRANSFER, **values)
    with pytest.raises(RecipeError, match=said):
        recipe.check()


def test_arguments_go_on_to_the_trainer_and_win_over_defaults():
    plain = TransferRecipe(**TRANSFER)
    assert plain.trainer_arguments() == {"lr_scheduler_type": "linear", "adam_beta2": 0.95}
    asked = replace(
        plain,
        lr_scheduler="cosine",
        optimizer="sgd",
        trainer={"adam_beta2": 0.999, "torch_empty_cache_steps": 4},
    )
    assert asked.trainer_arguments() == {
        "lr_scheduler_type": "cosine",
        "optim": "sgd",
        "adam_beta2": 0.999,
        "torch_empty_cache_steps": 4,
    }


def test_steps_are_a_thousand_unless_steps_or_epochs_are_given():
    assert TransferRecipe(**TRANSFER).length == "1000 steps"
    assert TransferRecipe(**TRANSFER, epochs=1).length == "1 epoch"
    assert TransferRecipe(**TRANSFER, epochs=2.5).max_steps is None


def test_a_flag_for_epochs_puts_the_steps_of_a_file_aside_and_the_other_way_round(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump({**TRANSFER, "max_steps": 7}))
    recipe = load_recipe(TransferRecipe, file, {"epochs": 2})
    assert (recipe.max_steps, recipe.epochs) == (None, 2)
    file.write_text(yaml.safe_dump({**TRANSFER, "epochs": 7}))
    recipe = load_recipe(TransferRecipe, file, {"max_steps": 2})
    assert (recipe.max_steps, recipe.epochs) == (2, None)


def test_flags_win_over_a_file_key_by_key_where_an_option_is_a_mapping(tmp_path):
    file = tmp_path / "r.yaml"
    options = {"alm": {"temperature": 5, "debias": False}}
    file.write_text(yaml.safe_dump({**TRANSFER, "options": options}))
    recipe = load_recipe(TransferRecipe, file, {"options": {"alm": {"temperature": 7}}})
    assert recipe.options == {"alm": {"temperature": 7, "debias": False}}


def test_mappings_may_be_nested_to_any_depth():
    given = ["quantization_config.load_in_4bit=true", "attn_implementation=sdpa"]
    assert pairs(given, "teacher_options") == {
        "quantization_config": {"load_in_4bit": True},
        "attn_implementation": "sdpa",
    }
    with pytest.raises(RecipeError, match=r"for example, --trainer adam_beta2=0\.999"):
        pairs(["a=1", "a.b=2"], "trainer", "adam_beta2=0.999")


@pytest.mark.parametrize("kind", [TransferRecipe, DistilRecipe])
def test_fields_stand_under_known_headings_with_the_required_ones_first(kind):
    shown = grouped_fields(kind)
    assert {f.name for f in shown} == {f.name for f in fields(kind)}
    headings = list(dict.fromkeys(f.metadata["group"] for f in shown))
    assert headings == [group for group in GROUPS if group in headings]
    first = {"transfer": ["model", "tokenizer"], "distil": ["teacher", "student"]}
    assert [f.name for f in shown[:2]] == first[kind.__name__.removesuffix("Recipe").lower()]
