"""Lengths beyond a model's positions: refused where each position has weights, else warned of."""

from pathlib import Path

import pytest

from crosstok.evaluation import EvaluationOptions, evaluate
from crosstok.jobs.distil import distil
from crosstok.jobs.inspect_models import inspect_models
from crosstok.jobs.transfer import transfer
from crosstok.recipes import DistilRecipe, InspectModelsRecipe
from tests.folders import save_model

LEARNED, ROTARY = "gpt2", "llama"


@pytest.fixture
def model(tmp_path):
    """A model of an architecture with 64 positions."""

    def make(architecture: str) -> str:
        name = "n_positions" if architecture == "gpt2" else "max_position_embeddings"
        folder = tmp_path / architecture
        return str(folder if folder.exists() else save_model(folder, architecture, **{name: 64}))

    return make


def distillation(teacher: str, student: str, data: str, output: Path, **changes) -> DistilRecipe:
    values = {"max_steps": 1, "batch_size": 2, "num_workers": 0, "report_to": "none"}
    return DistilRecipe(
        teacher=teacher, student=student, data=data, output=str(output), **{**values, **changes}
    )


def test_learned_positions_are_refused_by_every_job_with_one_sentence(
    model, model_folder, recipe, texts_file, tmp_path
):
    learned, other, data = model(LEARNED), str(model_folder), str(texts_file)
    said = f"is 65, but {learned} has 64 positions; give at most that."
    pair = {"data": data, "output": tmp_path / "pair"}
    asked = [
        lambda: transfer(recipe(model=learned, max_length=65)),
        lambda: transfer(recipe(model=learned, max_length=32, teacher_max_length=65)),
        lambda: distil(distillation(learned, other, **pair, max_length=65)),
        lambda: distil(distillation(other, learned, **pair, max_length=65)),
        lambda: distil(distillation(learned, other, **pair, max_length=32, teacher_max_length=65)),
        lambda: inspect_models(
            InspectModelsRecipe(teacher=learned, student=other, data=data, max_length=65)
        ),
        lambda: evaluate(
            [learned], [data], options=EvaluationOptions(max_length=65), show_progress=False
        ),
    ]
    for job in asked:
        with pytest.raises((ValueError, RuntimeError)) as error:
            job()
        assert said in str(error.value)
        assert "max_length is 65" in str(error.value)
    assert not (tmp_path / "pair").exists()


def test_rotary_positions_are_warned_of(model, model_folder, recipe, texts_file, tmp_path, caplog):
    rotary = model(ROTARY)
    said = f"max_length is 65, and {rotary} was made for 64 positions"
    transfer(recipe(model=rotary, max_length=65, max_steps=1))
    assert said in caplog.text
    caplog.clear()
    asked = distillation(
        rotary, str(model_folder), str(texts_file), tmp_path / "pair", teacher_max_length=65,
        max_length=48,
    )  # fmt: skip
    distil(asked)
    assert f"teacher_{said}" in caplog.text


def test_a_length_that_fits_is_not_mentioned(model, recipe, caplog):
    transfer(recipe(model=model(ROTARY), max_length=64, max_steps=1))
    assert "positions" not in caplog.text


def test_the_default_length_is_checked_too(model, recipe):
    with pytest.raises(ValueError, match=r"max_length is 512, but .* has 64 positions"):
        transfer(recipe(model=model(LEARNED), max_length=None))
