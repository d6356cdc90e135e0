"""Every field of every recipe: values that make no sense are refused, by the field's name."""

import math
import types
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import yaml

from crosstok.recipes import (
    DistilRecipe,
    EvaluateRecipe,
    GenerateRecipe,
    InspectModelsRecipe,
    InspectTokenizersRecipe,
    RecipeError,
    TrainingRecipe,
    TransferRecipe,
    TransplantRecipe,
    load_recipe,
)

REQUIRED: dict[type, dict[str, Any]] = {
    TransferRecipe: {"model": "m", "tokenizer": "t", "output": "o", "data": "d"},
    DistilRecipe: {"teacher": "t", "student": "s", "output": "o", "data": "d"},
    TransplantRecipe: {"model": "m", "tokenizer": "t", "output": "o"},
    EvaluateRecipe: {"model": "m", "data": "d", "exam": "e", "task": "t"},
    GenerateRecipe: {"model": "m", "prompt": "p"},
    InspectModelsRecipe: {"teacher": "t", "student": "s", "data": "d"},
    InspectTokenizersRecipe: {"source": "s", "target": "t", "data": "d"},
}

# Where 0 means something.
ZERO = {
    "num_workers": "batches are prepared by the process itself",
    "learning_rate": "nothing moves: a baseline",
    "warmup_steps": "no warmup",
    "weight_decay": "none",
    "max_grad_norm": "no clipping",
    "seed": "a seed like any other",
    "num_fewshot": "no examples",
    "temperature": "the most likely token",
    "top_k": "all tokens",
    "min_p": "all tokens",
    "alpha": "the base model alone",
    "weights": "an objective that is only measured",
}
NEGATIVE = {"alpha": "away from the expert"}
EMPTY_LIST = {"teacher": "objectives without a teacher, such as cross_entropy"}
# Texts of which every one is a value.
FREE_TEXT = {
    "prompt": "also the empty one",
    "system": "also the empty one",
    "stop": "its entries are checked with the other options of sampling",
    "text": "also the empty one",
}


def kinds_of(hint: Any) -> set[Any]:
    """`{int, NoneType}` of `int | None`; mappings and lists by their origin."""
    if get_origin(hint) in (types.UnionType, Union):
        return set().union(*map(kinds_of, get_args(hint)))
    return {get_origin(hint) or hint}


def senseless(field: Field[Any], hint: Any) -> list[Any]:
    """Values that this field must refuse."""
    kinds = kinds_of(hint)
    is_number = bool(kinds & {int, float}) or "float" in str(hint)
    values: list[Any] = [object]
    if is_number and dict not in kinds:
        values += ["many", math.nan, math.inf, -math.inf, "nan", True, 10**400]
        values += [] if field.name in NEGATIVE else [-1, "-1", -0.5]
        values += [] if field.name in ZERO else [0, "0"]
        values += [[], [[1]]]
    if int in kinds:
        values += [1.5, 10**30]
    if bool in kinds:
        values += ["perhaps", 2, math.nan, []]
    if str in kinds and field.name not in FREE_TEXT:
        values += ["", "  ", "a\0b", 5, True, {"a": 1}]
    if list in kinds and not is_number and field.name not in FREE_TEXT:
        values += ["", [""], [5], "a\0b", {"a": 1}]
        values += [] if field.name in EMPTY_LIST else [[]]
    if dict in kinds:
        values += ["text", [1], 5, {1: 2}]
    if Literal in kinds:
        values += ["mena", "", 3, True]
    return values


CASES = [
    (kind, field, value)
    for kind in REQUIRED
    for field in fields(kind)
    for value in senseless(field, get_type_hints(kind)[field.name])
]


def test_every_field_is_tried():
    tried = {(kind, field.name) for kind, field, _ in CASES}
    assert tried == {(kind, field.name) for kind in REQUIRED for field in fields(kind)}
    assert len(CASES) > 1000


def test_values_that_make_no_sense_are_refused_by_the_name_of_their_field():
    escaped = []
    for kind, field, value in CASES:
        try:
            kind(**{**REQUIRED[kind], field.name: value})
        except RecipeError as error:
            message = str(error)
            if field.name not in message or "\n" in message or not message.endswith("."):
                escaped.append(f"{kind.__name__}.{field.name} = {value!r:.60}: {message}")
        else:
            escaped.append(f"{kind.__name__}.{field.name} = {value!r:.60} was taken")
    assert not escaped, "\n".join(escaped)


@pytest.mark.parametrize("kind", REQUIRED)
def test_a_required_field_cannot_be_none(kind):
    for field in fields(kind):
        if field.default is MISSING:
            with pytest.raises(RecipeError, match=field.name):
                kind(**{**REQUIRED[kind], field.name: None})


@pytest.mark.parametrize("kind", REQUIRED)
def test_the_defaults_and_the_exceptions_are_values(kind):
    made = kind(**REQUIRED[kind])
    for field in fields(kind):
        if field.name in ZERO and field.name != "weights":
            kind(**{**REQUIRED[kind], field.name: 0})
    assert made == kind(**REQUIRED[kind])


NAMES = {"precision": ("bfloat16", "bf16"), "method": ("mena", "mean"), "loss_on": ("al", "all")}


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_name_is_refused_in_python_yaml_and_flags_alike(name, tmp_path):
    wrong, near = NAMES[name]
    given = {**REQUIRED[TransferRecipe], name: wrong}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(given))
    said = []
    for make in (
        lambda: TransferRecipe(**given),
        lambda: load_recipe(TransferRecipe, tmp_path / "r.yaml", {}),
        lambda: load_recipe(TransferRecipe, None, given),
    ):
        with pytest.raises(
            RecipeError, match=f"{name} = {wrong!r}.*did you mean '{near}'"
        ) as error:
            make()
        said.append(str(error.value))
    assert len(set(said)) == 1


ABSURD = "no such \N{CAT FACE} thing"
# Fields of text that only transformers, the objectives or the methods can judge: `check` asks them.
JUDGED_BY_CHECK = ("objective", "lr_scheduler", "optimizer")


@pytest.mark.parametrize("name", JUDGED_BY_CHECK)
@pytest.mark.parametrize("kind", [TransferRecipe, DistilRecipe])
def test_names_of_other_libraries_are_refused_before_anything_is_loaded(kind, name):
    recipe = kind(**{**REQUIRED[kind], name: ABSURD})
    with pytest.raises(RecipeError, match=f"{name}.*no such"):
        recipe.check()


# Fields of text of which nobody but the file system, the hub or the data can say whether it exists.
JUDGED_BY_WHAT_THERE_IS = {
    *("model", "tokenizer", "teacher", "student", "source", "target", "donor"),
    *("data", "text_field", "split", "eval_data", "eval_split", "exam", "task", "task_folder"),
    *("output", "teacher_cache", "json", "html", "prompt_file", "log_samples", "push_to_hub"),
    "eval_exam",
    *("chat_template", "teacher_chat_template"),
    "report_to",  # see tests/jobs/test_metric_sinks.py
}


def test_every_other_field_of_text_is_judged_when_the_recipe_is_made():
    open_to_all = set()
    for kind, required in REQUIRED.items():
        for field in fields(kind):
            if kinds_of(get_type_hints(kind)[field.name]) & {str, list}:
                try:
                    kind(**{**required, field.name: ABSURD})
                except RecipeError:
                    continue
                open_to_all.add(field.name)
    assert open_to_all <= JUDGED_BY_WHAT_THERE_IS | FREE_TEXT.keys() | {*JUDGED_BY_CHECK}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"adam_beta2": 1.5}, "trainer.adam_beta2 is 1.5; it must be from 0 to below 1"),
        ({"adam_beta1": "many"}, "trainer.adam_beta1 is 'many'; it must be a valid number"),
        ({"adam_epsilon": -1e-8}, "trainer.adam_epsilon is -1e-08; it must be at least 0"),
        ({"adam_epsilon": math.nan}, "trainer.adam_epsilon is nan; it must be a finite number"),
        ({"torch_compile": "perhaps"}, "trainer.torch_compile is 'perhaps'; it must be a valid b"),
    ],
)
def test_values_for_the_trainer_are_refused_before_anything_is_loaded(values, said):
    recipe: TrainingRecipe = TransferRecipe(**REQUIRED[TransferRecipe], trainer=values)
    with pytest.raises(RecipeError, match=said):
        recipe.check()


@pytest.mark.parametrize("value", [math.nan, -1, 0, "warm", True, [1]])
def test_options_of_objectives_are_refused_before_anything_is_loaded(value):
    options = {"alm": {"temperature": value}}
    recipe = TransferRecipe(**REQUIRED[TransferRecipe], options=options)
    with pytest.raises(RecipeError, match="temperature"):
        recipe.check()
