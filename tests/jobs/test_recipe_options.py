"""Options that reach transformers' trainer and loader, and runs of earlier versions."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from crosstok.jobs.arguments import training_arguments
from crosstok.jobs.distil import distil
from crosstok.jobs.run import check_same_recipe
from crosstok.jobs.transfer import transfer
from crosstok.models import load_model, load_to_change
from crosstok.recipes import DistilRecipe, recipe_yaml

FORMER = {
    "temperature": 100.0,
    "divergence": "kl",
    "min_boundary_mass": 0.1,
    "debias": True,
    "max_slope": 10.0,
}
NEW = ("epochs", "lr_scheduler", "optimizer", "trainer", "model_options", "teacher_options")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def save_as_before(recipe, **changes) -> None:
    """Write the recipe as runs did when ALM's options were keys of their own."""
    values = {**yaml.safe_load(recipe_yaml(recipe)), **FORMER, **changes}
    values = {name: value for name, value in values.items() if name not in NEW}
    Path(recipe.output).mkdir(exist_ok=True)
    (Path(recipe.output) / "recipe.yaml").write_text(yaml.safe_dump(values))


def test_a_run_of_an_earlier_version_resumes(recipe):
    save_as_before(recipe())
    check_same_recipe(recipe(resume=True), Path(recipe().output))
    save_as_before(recipe(), temperature=5.0)
    options = {"alm": {"temperature": 5}}
    check_same_recipe(recipe(resume=True, options=options), Path(recipe().output))
    with pytest.raises(
        ValueError, match=r"options was \{'alm': \{'temperature': 5\.0\}\}, is None"
    ):
        check_same_recipe(recipe(resume=True), Path(recipe().output))


def test_workers_may_change_on_resume_unless_they_decide_the_order(recipe):
    save_as_before(recipe())
    check_same_recipe(recipe(resume=True, num_workers=3, log_every=7), Path(recipe().output))
    save_as_before(recipe(streaming=True))
    with pytest.raises(ValueError, match="num_workers was 0, is 3"):
        check_same_recipe(recipe(resume=True, streaming=True, num_workers=3), Path(recipe().output))


def test_epochs_are_passes_over_all_rows(recipe, tmp_path):
    whole = {"max_steps": None, "warmup_steps": None, "learning_rate": 1e-3}
    once = transfer(recipe(**whole, epochs=1, output=str(tmp_path / "once")))
    twice = transfer(recipe(**whole, epochs=2, output=str(tmp_path / "twice")))
    assert twice.metrics["steps"] == 2 * once.metrics["steps"] > 10
    assert "2 epochs." in (twice.folder / "README.md").read_text()
    again = transfer(recipe(**whole, epochs=2, output=str(tmp_path / "twice"), resume=True))
    assert again.metrics["steps"] == twice.metrics["steps"]
    first, second = weights(twice.folder), weights(again.folder)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_killed_run_of_epochs_goes_on_where_it_stopped(recipe, tmp_path):
    asked = recipe(max_steps=None, epochs=0.5, output=str(tmp_path / "alone"))
    alone = transfer(asked)
    stopped = replace(asked, output=str(tmp_path / "stopped"))
    transfer(stopped)
    last = int(alone.metrics["steps"])
    assert last % 2 == 1 or last > 2
    for checkpoint in (tmp_path / "stopped" / "checkpoints").glob(f"checkpoint-{last}"):
        (checkpoint / "complete").unlink()
    again = transfer(replace(stopped, resume=True))
    first, second = weights(alone.folder), weights(again.folder)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_trainer_gets_what_was_asked_for(recipe, model_folder):
    asked = recipe(
        lr_scheduler="cosine",
        optimizer="adafactor",
        trainer={"adam_beta2": 0.99, "run_name": "mine", "save_total_limit": 5},
    )
    arguments = training_arguments(asked, load_model(str(model_folder)))
    assert (arguments.lr_scheduler_type, arguments.optim) == ("cosine", "adafactor")
    assert (arguments.adam_beta2, arguments.run_name) == (0.99, "mine")
    assert arguments.save_total_limit == 5
    assert transfer(asked).metrics["steps"] == 4


def test_options_reach_the_model_that_they_are_for(recipe, models, chats, tmp_path, monkeypatch):
    loaded = []

    def note(name, model):
        loaded.append((Path(name).name, model.config._attn_implementation, model.dtype))

    def teacher(name, **arguments):
        model = load_model(name, **arguments)
        note(name, model)
        return model

    def student(name, **arguments):
        model, dtypes = load_to_change(name, **arguments)
        note(name, model)
        return model, dtypes

    monkeypatch.setattr("crosstok.teachers.local.load_model", teacher)
    for job in ("transfer", "distil"):
        monkeypatch.setattr(f"crosstok.jobs.{job}.load_to_change", student)
    options = {
        "model_options": {"attn_implementation": "eager"},
        "teacher_options": {"dtype": "bfloat16"},
    }
    transfer(recipe(**options, max_steps=1))
    assert [entry[1:] for entry in loaded] == [("eager", torch.float32), ("sdpa", torch.bfloat16)]
    loaded.clear()
    asked = DistilRecipe(
        teacher=models["teacher"], student=models["student"], data=chats, max_length=96,
        output=str(tmp_path / "taught"), max_steps=1, num_workers=0, report_to="none", **options,
    )  # fmt: skip
    distil(asked)
    assert loaded == [("student", "eager", torch.float32), ("teacher", "sdpa", torch.bfloat16)]


def test_a_stored_teacher_is_another_one_where_it_is_loaded_in_another_way(recipe, tmp_path):
    kept = {"teacher_cache": str(tmp_path / "kept"), "max_steps": 1}
    assert transfer(recipe(**kept)).metrics["teacher_cache_hits"] < 1
    assert transfer(recipe(**kept, overwrite=True)).metrics["teacher_cache_hits"] == 1
    other = recipe(**kept, overwrite=True, teacher_options={"dtype": "bfloat16"})
    with pytest.raises(ValueError, match="bfloat16"):
        transfer(other)
