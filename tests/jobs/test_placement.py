"""Where a job runs: the device that is named, checked before anything is loaded."""

import pytest
import torch

from crosstok.jobs.transfer import transfer
from crosstok.jobs.transplant import transplant
from crosstok.models import find_device
from crosstok.recipes import RecipeError, TransplantRecipe
from crosstok.training import DistillationTrainer
from crosstok.training.arguments import PlacedArguments
from tests.folders import weights
from tests.pretend_gpu import GPU, pretend_gpu

CPU = torch.device("cpu")


@pytest.fixture
def places(monkeypatch) -> set[torch.device]:
    """The devices of the parameters of all steps."""
    found: set[torch.device] = set()
    step = DistillationTrainer.training_step

    def training_step(self, model, *args):
        found.update(parameter.device for parameter in model.parameters())
        return step(self, model, *args)

    monkeypatch.setattr(DistillationTrainer, "training_step", training_step)
    return found


@pytest.mark.parametrize("named", ["cpu", "cuda:0", None])
def test_a_run_is_where_it_was_asked_to_be(recipe, places, named):
    with pretend_gpu():
        transfer(recipe(max_steps=1, batch_size=2, max_length=24, device=named))
    assert places == {CPU if named == "cpu" else GPU}


def test_the_cpu_of_a_machine_with_a_gpu_gives_the_numbers_of_one_without(recipe, tmp_path):
    transfer(recipe(max_steps=1, output=str(tmp_path / "without")))
    with pretend_gpu():
        transfer(recipe(max_steps=1, output=str(tmp_path / "with"), device="cpu"))
    one, other = weights(tmp_path / "without"), weights(tmp_path / "with")
    for name, matrix in one.items():  # the pretend machine has another kernel for attention
        torch.testing.assert_close(other[name], matrix, rtol=1e-3, atol=1e-4)


def test_embeddings_are_transplanted_on_a_gpu_as_on_the_cpu(recipe, tmp_path):
    def made(name: str, device: str | None) -> dict[str, torch.Tensor]:
        common = {"model": recipe().model, "tokenizer": recipe().tokenizer, "device": device}
        transplant(TransplantRecipe(output=str(tmp_path / name), **common))
        return weights(tmp_path / name)

    expected = made("cpu", None)
    with pretend_gpu():
        found = made("gpu", "cuda:0")
    for name, matrix in expected.items():
        torch.testing.assert_close(found[name], matrix)


def test_of_several_gpus_one_trains(tmp_path, monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.accelerator, "set_device_index", chosen.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pretend_gpu():
        first = PlacedArguments(output_dir=str(tmp_path), report_to=[])
        assert (first.device, first.n_gpu, chosen) == (GPU, 1, [])
        second = PlacedArguments(output_dir=str(tmp_path), report_to=[], device_index=1)
        assert (second.device, second.n_gpu) == (torch.device("cuda:1"), 1)
        assert second.distributed_state.device == second.device
    assert chosen == [1]


@pytest.mark.parametrize("name", ["cuda:7", "gpu", "meta", ""])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(ValueError, match=rf"device '{name}' .*this machine has only cpu\. Use cpu"):
        find_device(name)


def test_the_devices_of_a_machine_are_listed(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: GPU)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"'xpu' .* has cpu and cuda:0, cuda:1\. Use one of them"):
        find_device("xpu")


@pytest.mark.parametrize("command", ["transfer", "distil", "transplant", "evaluate", "generate"])
def test_a_wrong_device_ends_every_command_at_once(crosstok, recipe, tmp_path, command):
    model, data = recipe().model, recipe().data
    flags = {
        "transfer": ("--model", model, "--tokenizer", model, "--data", data),
        "distil": ("--student", model, "--teacher", model, "--data", data),
        "transplant": ("--model", model, "--tokenizer", model),
        "evaluate": ("--model", model, "--data", data),
        "generate": ("--model", model, "--prompt", "Hi"),
    }[command]
    if command in ("transfer", "distil", "transplant"):
        flags = (*flags, "--output", tmp_path / "out")
    code, _, err = crosstok(command, *flags, "--device", "cuda:7")
    assert code == 2
    assert "device 'cuda:7' cannot be used: this machine has only cpu" in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_recipes_are_checked_in_python_too(recipe):
    with pytest.raises(RecipeError, match="device 'cuda:7' cannot be used"):
        transfer(recipe(device="cuda:7", model="nowhere/at-all"))
