"""Data of several sources, from the command line and in Python."""

import json
from pathlib import Path

import pytest
import torch
import yaml

import crosstok as front
from crosstok.jobs.run import check_same_recipe
from crosstok.recipes import RecipeError, TransferRecipe, recipe_yaml
from tests.folders import weights
from tests.tiny import SENTENCES


@pytest.fixture
def sources(tmp_path) -> list[str]:
    files = []
    for name, number in (("a", 12), ("b", 6)):
        file = tmp_path / f"{name}.jsonl"
        rows = [{"body": f"{SENTENCES[i % 14]} {name}{i}"} for i in range(number)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        files.append(str(file))
    return files


def test_repeated_data_is_all_read_and_counted(
    crosstok, sources, model_folder, tokenizer_folder, tmp_path
):
    status, _, err = crosstok(
        "transfer", "--model", model_folder, "--tokenizer", tokenizer_folder,
        "--data", sources[0], "--data", sources[1], "--data-weight", 1, "--data-weight", 2,
        "--columns", "text=body", "--output", tmp_path / "out", "--max-steps", 1,
        "--batch-size", 2, "--max-length", 48, "--num-workers", 0, "--report-to", "none",
    )  # fmt: skip
    assert status == 0, err
    assert f"12 rows of {sources[0]}" in err
    assert f"12 rows of {sources[1]} (6 with weight 2); 24 in one pass" in err
    saved = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert (saved["data"], saved["data_weight"]) == (sources, [1.0, 2.0])
    assert saved["columns"] == {"text": "body"}


def test_a_resumed_mixture_ends_as_an_uninterrupted_one(recipe, sources, tmp_path):
    options = {"data": sources, "data_weight": [0.5, 2], "columns": {"text": "body"}}
    options["keep_checkpoints"] = True
    front.transfer(recipe(output=str(tmp_path / "whole"), **options))
    asked = recipe(output=str(tmp_path / "cut"), **options)
    front.transfer(asked)
    for name in ("model.safetensors", "checkpoints/checkpoint-4"):
        path = tmp_path / "cut" / name
        path.rename(tmp_path / path.name)
    front.transfer(recipe(output=str(tmp_path / "cut"), resume=True, **options))
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": ["a", "b"], "data_weight": [1]}, "one for each of the 2 sources"),
        ({"data": ["a"], "data_weight": [-1]}, "above 0"),
        ({"data": ["a"], "data_weight": [1], "streaming": True}, "data_weight or streaming out"),
        ({"data": []}, "data is an empty list"),
        ({"columns": {"txt": "body"}}, "'txt', which is not a field"),
        ({"columns": {"text": "body"}, "text_field": "t"}, "give one of the two"),
    ],
)
def test_options_of_data_are_checked_when_a_recipe_is_made(options, message):
    with pytest.raises(RecipeError, match=message):
        TransferRecipe(**{"model": "m", "tokenizer": "t", "data": ["d"], "output": "o", **options})


def test_a_run_that_saved_one_name_of_data_resumes(recipe):
    asked = recipe(resume=True)
    values = yaml.safe_load(recipe_yaml(recipe()))
    Path(asked.output).mkdir()
    [values["data"]] = values["data"]
    del values["data_weight"], values["columns"]
    (Path(asked.output) / "recipe.yaml").write_text(yaml.safe_dump(values))
    check_same_recipe(asked, Path(asked.output))


def test_evaluate_and_inspect_read_every_source_by_its_own_column(
    crosstok, sources, model_folder, tokenizer_folder, tmp_path
):
    given = ["--data", sources[0], "--data", sources[1], "--columns", "text=body"]
    file = tmp_path / "out.json"
    status, _, err = crosstok("evaluate", "--model", model_folder, *given, "--json", file)
    assert status == 0, err
    assert list(json.loads(file.read_text())["models"][0]["data"]) == ["a", "b"]
    pair = ["--source", model_folder, "--target", tokenizer_folder]
    status, _, err = crosstok("inspect", *pair, *given, "--json", file)
    assert status == 0, err
    assert list(json.loads(file.read_text())["coverage_by_file"]) == ["a", "b"]
    status, _, err = crosstok("inspect", *pair, *given[:4], "--columns", "prompt=body")
    assert (status, "reads only text" in err) == (2, True)
