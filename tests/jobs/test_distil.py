"""Distillation end to end on tiny models: chats and texts, every objective, several teachers."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from crosstok.corpora import distinct_names
from crosstok.jobs.distil import distil
from crosstok.objectives import FixedWeights
from crosstok.recipes import OBJECTIVES, DistilRecipe
from crosstok.tokenizers import load_tokenizer
from crosstok.training.terms import MODULES
from tests.folders import CHATML, CHATS, weights


@pytest.fixture
def recipe(models, chats, tmp_path):
    """A recipe of a few small steps; keyword arguments change it."""

    def make(**changes) -> DistilRecipe:
        values = {
            "teacher": [models["teacher"]],
            "student": models["student"],
            "data": chats,
            "output": str(tmp_path / "out"),
            "max_steps": 3,
            "batch_size": 4,
            "max_length": 96,
            "learning_rate": 1e-3,
            "warmup_steps": 0,
            "num_workers": 0,
            "log_every": 1,
            "save_every": 2,
            "keep_checkpoints": True,
            "report_to": "none",
        }
        return DistilRecipe(**{**values, **changes})

    return make


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_the_student_alone(recipe, models, objective):
    result = distil(recipe(objective=objective))
    assert math.isfinite(result.metrics["loss"])
    before, after = weights(models["student"]), weights(result.folder)
    assert before.keys() == after.keys()  # projectors are left behind
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_pure_distillation_brings_the_student_nearer_to_the_teacher(recipe, tmp_path):
    gaps = []
    for steps, folder in ((1, "first"), (80, "last")):
        result = distil(
            recipe(max_steps=steps, batch_size=8, save_every=99, output=str(tmp_path / folder))
        )
        gaps.append(result.metrics["chunk_gap_nats"])
    assert gaps[1] < 0.75 * gaps[0]


def test_the_student_may_start_from_random_weights(recipe, models, tmp_path):
    folders = [
        distil(recipe(random_init=True, seed=seed, max_steps=1, output=str(tmp_path / name))).folder
        for seed, name in ((5, "a"), (5, "b"), (6, "c"))
    ]
    one, again, other = map(weights, folders)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(one[name], again[name])
    assert not torch.equal(one[name], other[name])
    assert (one[name] - weights(models["student"])[name]).abs().max() > 0.01


def test_several_teachers_are_terms_of_one_loss(recipe, models):
    result = distil(recipe(teacher=[models["teacher"], models["other"]], objective="alm+strict"))
    for name in ("alm@teacher", "alm@other", "strict@teacher", "strict@other"):
        assert math.isfinite(result.metrics[f"loss_{name}"])
        assert 0 < result.metrics[f"weight_{name}"] < 1
        assert result.metrics[f"one_to_one_share@{name.partition('@')[2]}"] > 0
    assert result.metrics["coverage@teacher"] == result.metrics["coverage@other"] == 1.0


def test_one_teacher_needs_no_list(models):
    given = {"student": "s", "data": "d", "output": "o", "teacher_chat_template": "plain"}
    recipe = DistilRecipe(teacher="t", **given)
    assert recipe.teacher == ["t"]
    assert recipe.template_of_teacher(0) == "plain"


def test_two_equal_teachers_are_one(recipe, models, tmp_path):
    one = distil(recipe(output=str(tmp_path / "one"), weighting="fixed"))
    half = {"alm@teacher": 0.5, "alm@teacher-2": 0.5}
    two = distil(
        recipe(
            teacher=[models["teacher"]] * 2,
            output=str(tmp_path / "two"),
            weighting="fixed",
            weights=half,
        )
    )
    for name, weight in weights(one.folder).items():
        torch.testing.assert_close(weight, weights(two.folder)[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", ["alm+cross_entropy", "dskd", "hidden_states"])
def test_a_resumed_run_ends_at_the_same_weights(recipe, tmp_path, objective):
    options = {"objective": objective, "max_steps": 4}
    whole = distil(recipe(**options, output=str(tmp_path / "whole")))
    folder = str(tmp_path / "parts")
    distil(recipe(**options, output=folder))
    for entry in Path(folder).iterdir():
        if entry.name not in ("checkpoints", "recipe.yaml"):
            entry.unlink()
    for entry in (Path(folder) / "checkpoints").iterdir():
        if entry.name != "checkpoint-2":
            subprocess.run(["rm", "-r", str(entry)], check=True)
    resumed = distil(recipe(**options, output=folder, resume=True))
    for name, weight in weights(whole.folder).items():
        assert torch.equal(weight, weights(resumed.folder)[name]), name


@pytest.mark.parametrize("streaming", [False, True])
def test_generation_stops_at_the_end_of_a_turn(recipe, streaming):
    folder = distil(recipe(max_steps=1, streaming=streaming)).folder
    stops = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert load_tokenizer(str(folder)).convert_tokens_to_ids("</turn>") in stops


def test_the_output_loads_where_crosstok_cannot_be_imported(recipe):
    folder = distil(recipe(max_steps=1, objective="dskd+cross_entropy")).folder
    script = f"""
import sys
sys.modules["crosstok"] = None
from transformers import AutoModelForCausalLM, AutoTokenizer
model, info = AutoModelForCausalLM.from_pretrained({str(folder)!r}, output_loading_info=True)
assert not info["missing_keys"] and not info["unexpected_keys"], info
tokenizer = AutoTokenizer.from_pretrained({str(folder)!r})
chat = [{{"role": "user", "content": "Hello"}}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
model.generate(**ids, max_new_tokens=3)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_plain_text_and_lora_work_too(recipe, texts_file):
    result = distil(recipe(data=str(texts_file), lora=True, objective="strict+alm"))
    assert result.metrics["coverage"] == 1.0


def test_prompts_with_completions_need_no_template(recipe, tmp_path, models):
    for name in ("student", "teacher"):  # tokenizers without a template
        folder = tmp_path / name
        shutil.copytree(models[name], folder)
        (folder / "chat_template.jinja").unlink()
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{i} + 1 = ", "completion": f"{i + 1}"} for i in range(24)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folders = {"teacher": [str(tmp_path / "teacher")], "student": str(tmp_path / "student")}
    result = distil(recipe(data=str(file), objective="alm+strict", **folders))
    assert result.metrics["coverage"] == 1.0


def test_chats_need_a_template_and_the_error_names_the_option(recipe, tmp_path, models):
    shutil.copytree(models["teacher"], tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r"bare.*no chat template.*teacher_chat_template"):
        distil(recipe(teacher=[str(tmp_path / "bare")]))
    distil(recipe(teacher=[str(tmp_path / "bare")], teacher_chat_template="plain", max_steps=1))


def test_a_teacher_smaller_than_the_student_is_remarked_upon(recipe, models, caplog):
    with caplog.at_level("WARNING", logger="crosstok"):
        distil(recipe(teacher=[models["student"]], student=models["teacher"], max_steps=1))
    assert "were teacher and student swapped?" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "strikt"}, "unknown objective 'strikt': did you mean 'strict'?"),
        ({"objective": "alm+alm"}, "names 'alm' twice"),
        ({"objective": "strict", "options": {"strict": {"topk": 3}}}, "did you mean 'top_k'?"),
        ({"options": {"gold": {"beta": 1}}}, r"options are given for \['gold'\]"),
        ({"chat_template": "nowhere.jinja"}, "nowhere.jinja"),
        ({"weighting": "fixed", "weights": {"strict": 1.0}}, "weights has 'strict'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(recipe, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        distil(recipe(**changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"role": "robot", "content": "x"}]}, "unknown role 'robot'"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no assistant turn"),
        ({"messages": []}, "'messages' is empty"),
    ],
)
def test_bad_rows_are_named(recipe, tmp_path, row, message):
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps({"messages": CHATS[0]}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=f"row 2.*{message}"):
        distil(recipe(data=str(file)))


def test_a_conversation_that_a_template_refuses_is_named(recipe, tmp_path, models):
    refusing = CHATML.replace(
        "{% for m in messages %}",
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}"
        "{% endif %}",
    )
    template = tmp_path / "refusing.jinja"
    template.write_text(refusing)
    file = tmp_path / "tools.jsonl"
    chat = [
        *CHATS[0],
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": "So 42."},
    ]
    file.write_text("".join(json.dumps({"messages": c}) + "\n" for c in (CHATS[1], chat)))
    with pytest.raises(ValueError, match=r"row 2.*no tools"):
        distil(recipe(data=str(file), teacher_chat_template=str(template)))


def test_a_weight_may_be_a_schedule():
    weights = FixedWeights(weights={"alm": [0.0, 1.0, 1.0], "cross_entropy": 0.5})
    norms = {"alm@a": 1.0, "cross_entropy": 1.0}
    assert weights(norms, 0.0) == {"alm@a": 0.0, "cross_entropy": 0.5}
    assert weights(norms, 0.25)["alm@a"] == pytest.approx(0.5)
    assert weights(norms, 0.75)["alm@a"] == weights(norms, 1.0)["alm@a"] == 1.0


def test_teachers_of_one_name_are_told_apart():
    assert distinct_names(["a", "b", "a"]) == ["a", "b", "a-2"]
    assert distinct_names(["a", "a-2", "a", "a"]) == ["a", "a-2", "a-3", "a-4"]
    assert MODULES.isidentifier()


def test_the_card_of_a_student_without_teacher_names_none(recipe):
    folder = distil(recipe(objective="cross_entropy", max_steps=1)).folder
    assert "trained without a teacher by cross_entropy" in (folder / "README.md").read_text()
