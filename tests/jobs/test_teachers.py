"""`--teacher-cache` in the jobs: the same run, with a teacher that is asked once."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from crosstok.jobs import distil as distil_job
from crosstok.jobs import transfer as transfer_job
from crosstok.jobs.distil import distil
from crosstok.jobs.transfer import transfer
from crosstok.recipes import DistilRecipe
from crosstok.teachers import local
from tests.folders import save_model, weights
from tests.jobs.launch import compare, run

SPEEDS = ("seconds", "tokens_per_second", "bytes_per_second", "teacher_cache_hits")


@pytest.fixture
def cache(tmp_path) -> str:
    return str(tmp_path / "cache")


@pytest.fixture
def loaded(monkeypatch) -> list[str]:
    """Names of the models that the jobs load, in their order."""
    names: list[str] = []
    places = (
        (transfer_job, "load_to_change"),
        (distil_job, "load_to_change"),
        (local, "load_model"),
    )
    for place, loader in places:
        load = getattr(place, loader)
        monkeypatch.setattr(
            place,
            loader,
            lambda name, load=load, **how: (names.append(name), load(name, **how))[1],
        )
    return names


@pytest.fixture
def taught(model_folder, tmp_path, texts_file):
    """A recipe to distil two teachers of the same name in different folders."""
    teachers = [
        str(save_model(tmp_path / place / "big", hidden_size=48, head_dim=12, rope_theta=theta))
        for place, theta in (("a", 1e4), ("b", 1e5))
    ]

    def make(**changes) -> DistilRecipe:
        values = {
            "teacher": teachers, "student": str(model_folder), "data": str(texts_file),
            "output": str(tmp_path / "taught"), "batch_size": 4, "max_length": 48, "max_steps": 3,
            "learning_rate": 1e-3, "num_workers": 0, "log_every": 1, "report_to": "none",
        }  # fmt: skip
        return DistilRecipe(**{**values, **changes})

    return make


def figures(result) -> dict[str, float]:
    return {k: v for k, v in result.metrics.items() if not k.startswith(SPEEDS)}


def assert_same_weights(*folders: str | Path) -> None:
    """To the bit."""
    first, *others = map(weights, folders)
    for other in others:
        for name, tensor in first.items():
            assert torch.equal(tensor, other[name]), name


def test_a_transfer_is_the_same_with_a_cache_and_loads_no_teacher_twice(
    recipe, cache, loaded, tmp_path
):
    results, loads = [], []
    for name, given in (("without", None), ("filling", cache), ("reading", cache)):
        loaded.clear()
        results.append(transfer(recipe(output=str(tmp_path / name), teacher_cache=given)))
        loads.append(len(loaded))
    assert loads == [2, 2, 1]  # the student's own model is always loaded
    assert figures(results[0]) == figures(results[1]) == figures(results[2])
    assert_same_weights(*(result.folder for result in results))
    assert "teacher_cache_hits" not in results[0].metrics
    assert results[1].metrics["teacher_cache_hits"] < 1
    shown = json.loads((results[2].folder / "training.json").read_text())
    assert shown["teacher_cache_hits"] == 1


def test_a_resumed_run_may_read_what_it_wrote_or_go_without(recipe, cache, tmp_path):
    whole = transfer(recipe(output=str(tmp_path / "whole"), teacher_cache=cache))
    for name, given in (("resumed", cache), ("without", None)):
        folder = tmp_path / name
        shutil.copytree(whole.folder / "checkpoints", folder / "checkpoints")
        shutil.copy(whole.folder / "recipe.yaml", folder / "recipe.yaml")
        shutil.rmtree(folder / "checkpoints" / "checkpoint-4")
        transfer(recipe(output=str(folder), teacher_cache=given, resume=True))
    assert_same_weights(whole.folder, tmp_path / "resumed", tmp_path / "without")


def test_a_run_cut_into_micro_batches_reads_the_same_rows(recipe, cache, tmp_path, loaded):
    whole = transfer(recipe(output=str(tmp_path / "whole"), teacher_cache=cache))
    loaded.clear()
    cut = {"batch_size": 1, "gradient_accumulation_steps": 4, "output": str(tmp_path / "cut")}
    parts = transfer(recipe(**cut, teacher_cache=cache))
    assert len(loaded) == 1
    assert parts.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-4)


def test_the_shared_teacher_of_lora_may_be_stored(recipe, cache, tmp_path):
    """In fp32 it is the model itself: a run without LoRA reads what it said."""
    plain, stored = (
        transfer(recipe(lora=True, output=str(tmp_path / str(c is None)), teacher_cache=c))
        for c in (None, cache)
    )
    assert figures(plain) == figures(stored)
    assert_same_weights(plain.folder, stored.folder)
    whole = transfer(recipe(output=str(tmp_path / "whole"), teacher_cache=cache))
    assert whole.metrics["teacher_cache_hits"] == 1


def test_the_shared_teacher_of_lora_in_half_precision_is_another(recipe, cache, tmp_path):
    mixed = {"precision": "bf16", "teacher_cache": cache, "max_steps": 1}
    transfer(recipe(**mixed, lora=True))
    with pytest.raises(ValueError, match="bfloat16 instead of bfloat16 from float32 weights"):
        transfer(recipe(**mixed, output=str(tmp_path / "whole")))


def test_each_of_several_teachers_has_its_folder(taught, cache, tmp_path, loaded):
    plain = distil(taught(output=str(tmp_path / "plain")))
    first = distil(taught(output=str(tmp_path / "first"), teacher_cache=cache))
    loaded.clear()
    second = distil(taught(output=str(tmp_path / "second"), teacher_cache=cache))
    assert len(loaded) == 1
    assert {path.name for path in Path(cache).iterdir()} == {"big", "big-2"}
    assert figures(plain) == figures(first) == figures(second)
    assert second.metrics["teacher_cache_hits@big"] == 1
    assert second.metrics["teacher_cache_hits@big-2"] == 1
    with pytest.raises(ValueError, match="another teacher than 'big'"):
        distil(taught(teacher=taught().teacher[::-1], teacher_cache=cache))


def test_a_machine_without_the_teacher_needs_its_tokenizer_and_the_cache(taught, cache, tmp_path):
    teacher = taught().teacher[:1]
    here = distil(taught(teacher=teacher, teacher_cache=cache))
    bare = tmp_path / "there" / "big"
    shutil.copytree(teacher[0], bare, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    recipe = taught(teacher=[str(bare)], output=str(tmp_path / "there/out"), teacher_cache=cache)
    there = distil(recipe)
    assert_same_weights(here.folder, there.folder)
    longer = taught(
        teacher=[str(bare)], output=str(tmp_path / "longer"), teacher_cache=cache, max_steps=20
    )
    with pytest.raises(ValueError, match=r"the row of \d+ tokens that begins .*copy the folder"):
        distil(longer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "gold"}, "leave out teacher_cache"),
        ({"teacher_cache": "inside"}, "give a folder outside it"),
        ({"teacher_cache": "file"}, "is a file"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(taught, tmp_path, changes, message):
    (tmp_path / "file").touch()
    places = {"inside": str(tmp_path / "taught/cache"), "file": str(tmp_path / "file")}
    given = changes.get("teacher_cache")
    changes = {"teacher_cache": str(tmp_path / "cache"), **changes}
    with pytest.raises(ValueError, match=message):
        distil(taught(**changes | ({"teacher_cache": places[given]} if given else {})))
    assert not (tmp_path / "taught").exists()


def test_a_cache_that_no_objective_reads_is_remarked_upon(recipe, cache, caplog):
    transfer(recipe(objective="cross_entropy", teacher_cache=cache, max_steps=1))
    assert "teacher_cache is not used" in caplog.text
    assert not Path(cache).exists()


def test_the_table_shows_the_share_of_stored_rows(crosstok, taught, cache, tmp_path):
    recipe = taught(teacher=taught().teacher[:1])
    command = (
        "distil", "--teacher", recipe.teacher[0], "--student", recipe.student, "--data",
        *recipe.data, "--max-steps", 2, "--batch-size", 4, "--max-length", 48, "--num-workers", 0,
        "--report-to", "none", "--teacher-cache", cache,
    )  # fmt: skip
    for name in ("first", "second"):
        status, out, err = crosstok(*command, "--output", tmp_path / name)
        assert status == 0, err
    assert "stored teacher" in out
    assert "100.0% of rows found" in out


@pytest.mark.slow
def test_two_ranks_share_a_folder(recipe, cache, tmp_path):
    """Filled by two processes, read by one: the same run, and every row is there."""
    kept = {"teacher_cache": cache, "max_steps": 3}
    two = run(tmp_path, recipe(**kept, output=str(tmp_path / "two"), batch_size=2), 2)
    one = run(tmp_path, recipe(**kept, output=str(tmp_path / "one")), 1)
    compare(one, two)
    metrics = json.loads((tmp_path / "one" / "training.json").read_text())
    assert metrics["teacher_cache_hits"] == 1
