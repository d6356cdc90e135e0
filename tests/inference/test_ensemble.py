"""Which models answer, and how: the rules, wherever they are asked for."""

import subprocess
import sys
from typing import get_args

import pytest
import torch

from crosstok.choices import Combine
from crosstok.evaluation import EvaluationOptions
from crosstok.evaluation.contenders import contenders
from crosstok.inference import RULES, Ensemble, Member, TokenModel, load_language_model
from crosstok.recipes import EvaluateRecipe, GenerateRecipe, RecipeError
from tests.tiny import tiny_tokenizer
from tests.tiny_models import tiny_model

# Names, options, and what is said of them.
REFUSED = [
    ([], {}, "there is no model; give at least one"),
    (["a", "b"], {}, "there are 2 models and nothing says how they answer as one"),
    (["a", "b"], {"combine": "prob"}, "combine is 'prob'; .* Did you mean 'probs'"),
    (["a"], {"combine": "probs"}, "combine is 'probs', which is for several models"),
    (["a", "b"], {"combine": "proxy"}, "takes three models .base, expert, anti-expert."),
    (["a", "b"], {"combine": "mined", "bytes_view": True}, "leave bytes_view out, or use"),
    (["a"], {"weights": [1.0]}, "a single model takes no weights"),
    (["a", "b", "c"], {"combine": "proxy", "weights": [1, 1, 1]}, "alpha instead of weights"),
    (["a", "b"], {"combine": "probs", "weights": [1]}, "one for each of the 2 models"),
    (["a", "b"], {"combine": "probs", "weights": [1, 0]}, "in their order, above 0"),
    (["a", "b"], {"combine": "probs", "weights": [1, float("nan")]}, "in their order, above 0"),
    (["a", "b"], {"combine": "probs", "alpha": 2.0}, "only combine proxy takes one"),
    (["a"], {"alpha": float("inf")}, "alpha is inf; it must be a number"),
    (["a"], {"target": "canonical"}, "add bytes_view, or leave target out"),
    (["a", "b"], {"combine": "probs", "target": "canonical"}, "leave target out"),
    (["a"], {"bytes_view": True, "target": "some"}, "target is 'some'; it must be one of all"),
    (["bytes:a", "b"], {"combine": "bytes-mixture"}, "'bytes:a' is the byte view of a single"),
    (["a.yaml", "b"], {"combine": "probs"}, "a.yaml defines an ensemble, and there are other"),
    (["a.yaml"], {"bytes_view": True, "weights": [1]}, "leave bytes_view, weights out"),
    (["a.yaml"], {}, "ensemble file 'a.yaml' is not there"),
    (["a", "b"], {"combine": "probs", "chat_templates": ["plain"]}, "has 1 entries for 2 models"),
]  # fmt: skip


@pytest.mark.parametrize(("models", "options", "message"), REFUSED)
def test_what_cannot_be_is_said_in_the_same_words_wherever_it_is_asked_for(
    models, options, message
):
    with pytest.raises(ValueError, match=message) as first:
        Ensemble.of(models, **options)
    with pytest.raises(ValueError, match=message) as second:
        load_language_model(models, **options)
    assert str(first.value) == str(second.value)
    are_one = len(models) == 1 or "combine" in options
    if are_one and "chat_templates" not in options:
        with pytest.raises(ValueError, match=message):
            contenders(models, EvaluationOptions(**options))


@pytest.mark.parametrize("recipe_type", [GenerateRecipe, EvaluateRecipe])
def test_recipes_use_their_own_names_for_the_options(recipe_type):
    more = {"prompt": "a"} if recipe_type is GenerateRecipe else {}
    check = GenerateRecipe.check if recipe_type is GenerateRecipe else EvaluateRecipe.options
    for values, message in [
        ({"model": ["a"], "weight": [1.0]}, "a single model takes no weight; leave weight out"),
        ({"model": ["a", "b"], "combine": "mined", "bytes": True}, "leave bytes out, or use"),
        ({"model": ["a"], "target": "canonical"}, "add bytes, or leave target out"),
    ]:
        with pytest.raises(RecipeError, match=message):
            check(recipe_type(**values, **more))


def test_a_plain_model_a_byte_view_and_several_are_one_noun():
    assert Ensemble.of(["a"]) == Ensemble([Member("a")])
    assert Ensemble.of(["a"]).is_plain
    view = Ensemble.of(["bytes:a"], target="canonical")
    assert (view.unit, view.bytes_view, view.members) == ("byte", True, (Member("a"),))
    both = Ensemble.of(["a", "b"], combine="bytes-bayes", weights=[3, 1], bytes_view=True)
    assert both.unit == "byte"
    assert both.shares.tolist() == [0.75, 0.25]
    assert Ensemble.of(["a", "b"], combine="probs").shares.tolist() == [0.5, 0.5]


def test_the_rules_are_those_of_the_command_line_and_have_engines():
    assert tuple(RULES) == get_args(Combine)
    assert all(isinstance(rule.load_engine(), type) for rule in RULES.values())


def test_mistakes_are_found_without_torch():
    code = (
        "import sys; from crosstok.recipes import GenerateRecipe; "
        "GenerateRecipe(model=['a', 'b'], combine='probs', weight=[1, 2], prompt='c').check(); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


class First(TokenModel):
    """An engine from outside: the first model, whatever the others say."""

    def __init__(self, members, combine, *, weights):
        super().__init__(members[0].model, members[0].tokenizer, name=f"{combine} {weights}")


def test_a_rule_from_outside_enters_by_the_same_table(tmp_path, monkeypatch):
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    model = tiny_model("llama", len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    rule = type(RULES["probs"])("token", f"{__name__}:First")
    monkeypatch.setitem(RULES, "first", rule)
    found = load_language_model([str(tmp_path)] * 2, combine="first", weights=[2, 1])
    assert found.name == "first (2, 1)"
    assert torch.equal(found.model.lm_head.weight, model.lm_head.weight)
    declared = Ensemble.of([str(tmp_path)] * 2, combine="first", weights=[2, 1])
    assert load_language_model(declared).name == found.name
    with pytest.raises(ValueError, match=r"an Ensemble itself says .* leave weights out"):
        load_language_model(declared, weights=[1, 1])
