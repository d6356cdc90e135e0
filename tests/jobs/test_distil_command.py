"""`crosstok distil` as typed, and from a recipe file."""

import json
from pathlib import Path

import pytest
import yaml

FEW_STEPS = ("--max-steps", "2", "--batch-size", "4", "--max-length", "96", "--num-workers", "0",
             "--log-every", "1", "--report-to", "none")  # fmt: skip


def test_distil_as_typed(crosstok, models, chats, tmp_path):
    output = tmp_path / "out"
    status, out, err = crosstok(
        "distil", "--teacher", models["teacher"], "--student", models["student"], "--data", chats,
        "--output", output, "--objective", "alm+strict", "--loss-on", "last",
        "--options", "strict.top_k=8", "--options", "strict.divergence=forward_kl",
        "--weighting", "fixed", "--weights", "alm=[0, 1]", *FEW_STEPS,
    )  # fmt: skip
    assert status == 0, err
    assert "Strict loss" in out
    assert f"saved to {output}" in out
    recipe = yaml.safe_load((output / "recipe.yaml").read_text())
    assert recipe["options"] == {"strict": {"top_k": 8, "divergence": "forward_kl"}}
    assert recipe["weights"] == {"alm": [0, 1]}
    assert recipe["loss_on"] == "last"


def test_distil_from_a_recipe(crosstok, models, chats, tmp_path):
    file = tmp_path / "recipe.yaml"
    values = {
        "teacher": models["teacher"],  # one teacher needs no list
        "student": models["student"],
        "data": chats,
        "objective": "gold",
        "options": {"gold": {"beta": 0.0}},
        "max_steps": 1,
        "max_length": 96,
        "num_workers": 0,
        "report_to": "none",
    }
    file.write_text(yaml.safe_dump(values))
    status, _, err = crosstok("distil", "--recipe", file, "--output", tmp_path / "out")
    assert status == 0, err
    assert json.loads((tmp_path / "out" / "training.json").read_text())["steps"] == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--options", "strict.top_k"), "KEY=VALUE"),
        (("--objective", "strict", "--options", "strict.top_k=1"), "top_k must be at least 2"),
        (("--objective", "golt"), "did you mean 'gold'?"),
        (("--loss-on", "users"), "users"),
        (("--objective", "gold", "--temperature", "2"), "give --options alm.temperature=2"),
        (
            ("--teacher-chat-template", "own", "--teacher-chat-template", "plain"),
            "2 templates for 1 teachers",
        ),
        (("--objective", "strict", "--options", "top_k=3"), "--options strict.top_k=3"),
        (("--weighting", "fixed", "--weights", "aml=1"), "did you mean 'alm'?"),
        (("--objective", "alm+uld", "--weights", "alm=1"), "weighting fixed"),
    ],
)
def test_what_cannot_be_ends_in_one_message(crosstok, models, chats, tmp_path, flags, message):
    status, _, err = crosstok(
        "distil", "--teacher", models["teacher"], "--student", models["student"], "--data", chats,
        "--output", tmp_path / "out", *flags,
    )  # fmt: skip
    assert status == 2
    assert message in " ".join(err.split())
    assert "max_steps:" not in err or "templates for" in err  # the recipe is not in the way
    assert not Path(tmp_path / "out").exists()


def test_a_max_length_that_leaves_nothing_to_learn_is_refused(crosstok, models, chats, tmp_path):
    status, _, err = crosstok(
        "distil", "--teacher", models["teacher"], "--student", models["student"], "--data", chats,
        "--output", tmp_path / "out", "--max-length", 4, "--num-workers", 0,
    )  # fmt: skip
    assert status == 1
    assert "leaves nothing to learn" in " ".join(err.split())
    assert not Path(tmp_path / "out").exists()


def test_a_template_that_replaces_another_is_told(crosstok, models, chats, tmp_path):
    status, _, err = crosstok(
        "distill", "--teacher", models["teacher"], "--student", models["student"], "--data", chats,
        "--output", tmp_path / "out", "--chat-template", "plain", "--max-steps", 1,
        "--num-workers", 0, "--report-to", "none",
    )  # fmt: skip
    assert status == 0
    assert "its own chat template is replaced by 'plain'" in " ".join(err.split())
