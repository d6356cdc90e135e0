"""What is saved of a run: the best step, or an adapter."""

import json
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from crosstok.jobs.distil import distil
from crosstok.jobs.held_out import HeldOut
from crosstok.jobs.transfer import transfer
from crosstok.recipes import DistilRecipe, RecipeError
from crosstok.training import Student
from tests.folders import weights

CURVE = {0: 0.5, 1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5}


@pytest.fixture
def curve(monkeypatch) -> None:
    """Held-out figures that are lowest at step 2, and lower still before training."""

    def measure(self, texts, reader):
        return dict.fromkeys(texts, CURVE[self._trainer.state.global_step])

    monkeypatch.setattr(HeldOut, "_measure", measure)


def test_the_model_of_the_best_step_is_saved(recipe, texts_file, tmp_path, curve):
    watched = {"eval_data": str(texts_file), "eval_every": 1, "save_every": 100}
    best = transfer(recipe(load_best=True, **watched))
    assert best.metrics["best_step"] == 2
    assert best.metrics["steps"] == 4
    assert best.metrics["eval_texts_bits_per_byte"] == 1.0
    checkpoints = best.folder / "checkpoints"
    assert {path.name for path in checkpoints.glob("checkpoint-*")} == {
        "checkpoint-2", "checkpoint-4",
    }  # fmt: skip
    saved, trained = weights(best.folder), weights(checkpoints / "checkpoint-2")
    assert all(torch.equal(saved[name], trained[name]) for name in saved)
    again = transfer(recipe(load_best=True, resume=True, **watched))  # it is done
    assert again.metrics["best_step"] == 2
    resaved = weights(again.folder)
    assert all(torch.equal(saved[name], resaved[name]) for name in saved)
    last = transfer(recipe(output=str(tmp_path / "last"), **watched))
    assert last.metrics["eval_texts_bits_per_byte"] == 2.5
    assert any(not torch.equal(saved[name], w) for name, w in weights(last.folder).items())


def test_the_best_step_is_kept_by_a_run_that_goes_on(recipe, texts_file, curve):
    watched = {"eval_data": str(texts_file), "eval_every": 1, "load_best": True}
    first = transfer(recipe(max_steps=3, lr_scheduler="constant", **watched))
    assert first.metrics["best_step"] == 2
    more = transfer(recipe(max_steps=4, lr_scheduler="constant", resume=True, **watched))
    assert (more.metrics["steps"], more.metrics["best_step"]) == (4, 2)


def test_what_cannot_be_chosen_or_saved_is_refused(recipe):
    with pytest.raises(RecipeError, match="load_best is given, and there is nothing to choose by"):
        recipe(load_best=True)
    with pytest.raises(RecipeError, match="lora_output is adapter, and without lora"):
        recipe(lora_output="adapter")


@pytest.fixture
def trained(monkeypatch) -> list[torch.Tensor]:
    """The logits of the trained model, in the order of runs, before it is saved."""
    found: list[torch.Tensor] = []
    settle = Student.settle

    def settled(self):
        found.append(logits(self.model))
        return settle(self)

    monkeypatch.setattr(Student, "settle", settled)
    return found


@torch.no_grad()
def logits(model) -> torch.Tensor:
    model.eval()
    return model(input_ids=torch.arange(5, 25)[None]).logits


LORA = {"lora": True, "lora_output": "adapter", "lora_rank": 4, "max_steps": 2}


def test_an_adapter_of_a_distillation_loads_on_the_student(models, chats, tmp_path, trained):
    asked = DistilRecipe(
        teacher=models["teacher"], student=models["student"], data=chats,
        output=str(tmp_path / "out"), batch_size=4, max_length=96, learning_rate=1e-2,
        warmup_steps=0, num_workers=0, report_to="none", **LORA,
    )  # fmt: skip
    folder = distil(asked).folder
    assert not (folder / "base").exists()
    assert not (folder / "model.safetensors").exists()
    base = AutoModelForCausalLM.from_pretrained(models["student"])
    assert not torch.allclose(logits(base), trained[0], atol=1e-3)
    loaded = peft.PeftModel.from_pretrained(base, folder)
    torch.testing.assert_close(logits(loaded), trained[0], rtol=1e-4, atol=1e-5)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == models["student"]
    assert AutoTokenizer.from_pretrained(folder).chat_template
    card = (folder / "README.md").read_text()
    assert "library_name: peft" in card
    assert 'PeftModel.from_pretrained(base, "path/to/this/folder")' in card


def test_an_adapter_of_a_transfer_loads_on_the_base_beside_it(recipe, trained):
    folder = transfer(recipe(**LORA)).folder
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    assert base.get_input_embeddings().weight.shape[0] == len(tokenizer)
    loaded = peft.PeftModel.from_pretrained(base, folder)
    torch.testing.assert_close(logits(loaded), trained[0], rtol=1e-4, atol=1e-5)
    by_name = peft.AutoPeftModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(logits(by_name), trained[0], rtol=1e-4, atol=1e-5)
    merged = transfer(
        recipe(**LORA | {"lora_output": "merged"}, output=str(Path(recipe().output)) + "-merged")
    ).folder
    plain = AutoModelForCausalLM.from_pretrained(merged)
    torch.testing.assert_close(logits(plain), trained[0], rtol=1e-4, atol=1e-5)
