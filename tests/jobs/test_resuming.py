"""What a finished run leaves to go on from, and how a run is made longer."""

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crosstok.jobs.transfer import transfer
from crosstok.jobs.transplant import transplant
from crosstok.recipes import RecipeError, TransplantRecipe
from crosstok.training import DistillationTrainer
from crosstok.training.checkpoints import SaveError, last_checkpoint
from crosstok.training.folder_lock import LOCK, lock_folder, unlock_folder
from tests.folders import weights


def same(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_checkpoints_are_removed_when_the_model_is_saved(recipe):
    folder = transfer(recipe(keep_checkpoints=False)).folder
    assert (folder / "model.safetensors").is_file()
    assert not (folder / "checkpoints").exists()
    assert not (folder / LOCK).exists()


def test_nothing_is_removed_that_the_run_did_not_write(recipe, tmp_path):
    asked = recipe(keep_checkpoints=False, max_steps=2)
    transfer(replace(asked, keep_checkpoints=True))
    checkpoints = Path(asked.output) / "checkpoints"
    (checkpoints / "notes.txt").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "data").mkdir(parents=True)
    (checkpoints / "checkpoint-99").symlink_to(elsewhere)
    (checkpoints / "checkpoint-best").mkdir()
    transfer(replace(asked, resume=True))
    left = {path.name for path in checkpoints.iterdir()}
    assert left == {"notes.txt", "checkpoint-99", "checkpoint-best"}
    assert (elsewhere / "data").is_dir()


def test_checkpoints_stand_where_the_model_could_not_be_saved(recipe, monkeypatch):
    from transformers import PreTrainedTokenizerBase

    plain = PreTrainedTokenizerBase.save_pretrained

    def full(self, folder, *args, **kwargs):
        if ".saving" in str(folder):
            raise OSError(28, "No space left on device")
        return plain(self, folder, *args, **kwargs)

    monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", full)
    with pytest.raises(SaveError):
        transfer(recipe(keep_checkpoints=False))
    assert last_checkpoint(Path(recipe().output) / "checkpoints").name == "checkpoint-4"
    assert not (Path(recipe().output) / LOCK).exists()


def test_a_run_that_is_done_is_not_trained_again_by_resume(recipe, monkeypatch):
    asked = recipe(keep_checkpoints=False, max_steps=2)
    transfer(asked)
    monkeypatch.setattr(DistillationTrainer, "train", None)  # not called
    for more in (2, 4):
        with pytest.raises(RecipeError, match=r"is done \(2 steps\).*Use keep_checkpoints.*extend"):
            transfer(replace(asked, max_steps=more, resume=True))
        with pytest.raises(RecipeError, match="to train anew, use overwrite without resume"):
            transfer(replace(asked, max_steps=more, resume=True, overwrite=True))
    assert (Path(asked.output) / "model.safetensors").is_file()


CONSTANT = {"lr_scheduler": "constant", "warmup_steps": None, "save_every": 2}


@pytest.mark.parametrize("changes", [{}, {"objective": "alm+cross_entropy", "lora": True}])
def test_a_longer_run_at_a_constant_rate_is_that_of_one_go(recipe, tmp_path, caplog, changes):
    asked = recipe(max_steps=3, output=str(tmp_path / "longer"), **CONSTANT, **changes)
    transfer(asked)
    result = transfer(replace(asked, max_steps=6, resume=True))
    transfer(replace(asked, max_steps=6, output=str(tmp_path / "at-once")))
    assert result.metrics["steps"] == 6
    assert same(tmp_path / "longer", tmp_path / "at-once")
    assert "depend on the length" not in caplog.text


def test_epochs_may_grow_too(recipe, tmp_path):
    asked = recipe(max_steps=None, epochs=1, output=str(tmp_path / "longer"), **CONSTANT)
    first = transfer(asked).metrics["steps"]
    assert transfer(replace(asked, epochs=2, resume=True)).metrics["steps"] == 2 * first
    transfer(replace(asked, epochs=2, output=str(tmp_path / "at-once")))
    assert same(tmp_path / "longer", tmp_path / "at-once")


def rates(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["learning_rate"] for line in lines if "learning_rate" in line]


def test_schedules_of_a_longer_run_are_its_own_from_where_it_goes_on(recipe, tmp_path, caplog):
    asked = recipe(max_steps=3, output=str(tmp_path / "longer"))
    transfer(asked)
    transfer(replace(asked, max_steps=6, resume=True))
    assert "max_steps was 3, is 6: lr_scheduler linear, which depend on the length" in caplog.text
    transfer(replace(asked, max_steps=6, output=str(tmp_path / "at-once")))
    longer, at_once = rates(tmp_path / "longer"), rates(tmp_path / "at-once")
    assert longer[:3] != at_once[:3]
    assert longer[3:] == at_once[3:]
    assert not same(tmp_path / "longer", tmp_path / "at-once")


def test_a_run_does_not_become_shorter(recipe):
    asked = recipe(max_steps=3)
    transfer(asked)
    with pytest.raises(RecipeError, match=r"max_steps was 3, is 2.*may grow"):
        transfer(replace(asked, max_steps=2, resume=True))


def test_a_second_run_into_one_folder_is_refused(recipe, tmp_path):
    asked = recipe(keep_checkpoints=False, max_steps=1)
    folder = Path(asked.output)
    lock_folder(folder)  # as a run that goes on
    said = rf"output .*out is in use: process {os.getpid()} on .*Choose another folder"
    for change in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(ValueError, match=said):
            transfer(replace(asked, **change))
    with pytest.raises(ValueError, match=said):
        transplant(
            TransplantRecipe(
                model=asked.model, tokenizer=asked.tokenizer, output=asked.output, overwrite=True
            )
        )
    assert [path.name for path in folder.iterdir()] == [LOCK]
    unlock_folder(folder)
    transfer(asked)


def test_of_two_runs_that_find_a_folder_empty_one_gets_it(recipe, monkeypatch):
    """The other comes while this one loads its models."""
    from crosstok.jobs import transfer as job

    load = job.build_models

    def slow(*args, **kwargs):
        lock_folder(Path(recipe().output))
        return load(*args, **kwargs)

    monkeypatch.setattr(job, "build_models", slow)
    with pytest.raises(ValueError, match="is in use"):
        transfer(recipe())
    assert (Path(recipe().output) / LOCK).is_file()
    assert not (Path(recipe().output) / "recipe.yaml").exists()


def test_the_lock_of_a_killed_process_is_replaced(tmp_path, caplog):
    other = multiprocessing.get_context("spawn").Process(target=lock_folder, args=(tmp_path,))
    other.start()
    other.join()
    assert (tmp_path / LOCK).is_file()
    lock_folder(tmp_path)
    unlock_folder(tmp_path)
    assert not (tmp_path / LOCK).exists()


def test_the_lock_of_another_machine_is_explained(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps({"host": "far", "process": 7, "started": 1.0}))
    with pytest.raises(
        ValueError, match=r"process 7 on far writes there.*was killed, delete .*lock"
    ):
        lock_folder(tmp_path)
    unlock_folder(tmp_path)
    assert (tmp_path / LOCK).is_file()


def test_a_run_that_fails_leaves_no_lock(recipe, monkeypatch):
    def broken(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(DistillationTrainer, "training_step", broken)
    with pytest.raises(KeyboardInterrupt):
        transfer(recipe())
    assert not (Path(recipe().output) / LOCK).exists()


@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True, "lora": True}])
def test_settings_of_training_are_not_saved(recipe, changes):
    result = transfer(recipe(max_steps=1, **changes))
    source = json.loads((Path(recipe().model) / "config.json").read_text())
    saved = json.loads((result.folder / "config.json").read_text())
    assert saved.get("use_cache", True) == source.get("use_cache", True)
    only = TransplantRecipe(
        model=recipe().model, tokenizer=recipe().tokenizer, output=recipe().output + "-only"
    )
    folder = transplant(only).folder
    for name in ("config.json", "generation_config.json"):
        expected = json.loads((folder / name).read_text())
        assert json.loads((result.folder / name).read_text()) == expected
