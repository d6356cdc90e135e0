"""Options without effect are refused; files are checked before anything is computed."""

import json
import os

import pytest

import crosstok.jobs.evaluate as job
from crosstok.evaluation import EvaluationError, EvaluationOptions
from crosstok.recipes import (
    EvaluateRecipe,
    InspectTokenizersRecipe,
    RecipeError,
)

PAIR = {"source": "a", "target": "b", "text": "x"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "d", "num_fewshot": 2}, "num_fewshot would have no effect without task"),
        ({"data": "d", "apply_chat_template": True}, "apply_chat_template would have no effect"),
        ({"data": "d", "task_folder": "tasks"}, "task_folder would have no effect without task"),
        ({"data": "d", "limit": 3}, "limit would have no effect without exam or task"),
        ({"exam": "e", "teacher": "t"}, "teacher would have no effect without data"),
        ({"exam": "e", "max_texts": 3, "split": "test"}, "max_texts, split would have no effect"),
        ({"task": "t", "text_field": "body"}, "text_field would have no effect without data"),
        (
            {"data": "d", "window_bytes": 64, "start_every_window": False},
            "window_bytes is 64, and every window of bytes has the start token",
        ),
    ],
)
def test_an_evaluation_refuses_options_without_effect(options, message):
    with pytest.raises(RecipeError, match=message):
        EvaluateRecipe(model=["m"], **options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (InspectTokenizersRecipe, {**PAIR, "max_texts": 3}, "max_texts would have no effect"),
        (InspectTokenizersRecipe, {**PAIR, "split": "test"}, "split would have no effect"),
        (InspectTokenizersRecipe, {**PAIR, "text_unit": "document"}, "text_unit would have no eff"),
    ],
)
def test_an_inspection_refuses_options_without_effect(kind, options, message):
    with pytest.raises(RecipeError, match=message):
        kind(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 0}, "max_length is 0; it must be at least 1"),
        ({"window_bytes": -1}, "window_bytes is -1; it must be at least 1"),
        ({"overlap": -1}, "overlap is -1; it must be at least 0"),
        ({"num_fewshot": -1}, "num_fewshot is -1; it must be at least 0"),
        ({"text_unit": "page"}, "text_unit is 'page'; it must be one of line"),
    ],
)
def test_options_of_an_evaluation_have_the_ranges_of_its_recipe(options, message):
    with pytest.raises(ValueError, match=message):
        EvaluationOptions(**options)


@pytest.mark.parametrize("command", ["evaluate", "inspect", "inspect models"])
@pytest.mark.parametrize("place", ["folder", "below a file", "read-only"])
def test_a_file_that_cannot_be_written_is_found_before_anything_is_loaded(
    crosstok, tmp_path, command, place, monkeypatch
):
    (tmp_path / "a file").write_text("x")
    target = {"folder": tmp_path, "below a file": tmp_path / "a file" / "x.json"}.get(
        place, tmp_path / "x.json"
    )
    if place == "read-only":
        real = os.access
        monkeypatch.setattr(os, "access", lambda p, mode: mode != os.W_OK and real(p, mode))
    given = {
        "evaluate": ["evaluate", "--model", "no/such", "--data", "none"],
        "inspect": ["inspect", "--source", "no/such", "--target", "no/other", "--text", "x"],
        "inspect models": [
            "inspect", "--teacher", "no/such", "--student", "no/other", "--data", "none",
        ],
    }[command]  # fmt: skip
    status, _, err = crosstok(*given, "--json", target)
    assert status == 2
    why = "is a folder; give the path of a file" if place == "folder" else "cannot be written"
    assert f"json {target} {why}" in err


def test_a_write_that_fails_loses_no_figures_and_hides_no_error(
    crosstok, model_folder, texts_file, tmp_path, monkeypatch
):
    def full(file, values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job, "write_json", full)
    asked = {"model": str(model_folder), "data": str(texts_file), "max_texts": 2}
    with pytest.raises(EvaluationError, match=r"could not be written.*No space") as error:
        job.evaluate(**asked, json=tmp_path / "x.json")
    assert error.value.result["models"][0]["data"]["texts"]["bits_per_byte"] > 0
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model_folder.glob("*.json"):
        (broken / file.name).write_bytes(file.read_bytes())
    with pytest.raises(EvaluationError, match=r"broken, loading: .*could not be written"):
        job.evaluate(**{**asked, "model": str(broken)}, json=tmp_path / "x.json")


def test_what_can_be_written_is(crosstok, model_folder, texts_file, tmp_path):
    file = tmp_path / "new" / "folder" / "x.json"
    given = ["--model", model_folder, "--data", texts_file, "--max-texts", 2]
    status, _, err = crosstok("evaluate", *given, "--json", file)
    assert status == 0, err
    assert json.loads(file.read_text())["models"]
