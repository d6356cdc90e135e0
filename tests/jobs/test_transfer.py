"""The main job end to end on tiny models: what it writes, resumes, and refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from crosstok.jobs.transfer import build_models, transfer
from crosstok.jobs.transplant import transplant
from crosstok.objectives import Needs
from crosstok.recipes import recipe_yaml
from crosstok.tokenizers import TextEncoder, load_tokenizer
from crosstok.training import DistillationTrainer, NonFiniteLossError
from crosstok.training.checkpoints import SaveError, last_checkpoint
from tests.folders import save_model, weights
from tests.tiny import tiny_tokenizer
from tests.tiny_models import ARCHITECTURES

LOAD_EVERYWHERE = """
import sys
sys.modules["crosstok"] = None  # importing it raises from here on
from transformers import AutoModelForCausalLM, AutoTokenizer
for folder in sys.argv[1:]:
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], (folder, info)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer), folder
    assert tokenizer.tokenize("Hello  world\\n") == TOKENS, folder
    trusting = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    assert trusting.tokenize("Hello  world\\n") == TOKENS, folder
    output = model.generate(**tokenizer("Hello world", return_tensors="pt"), max_new_tokens=3)
    assert output.shape[1] > 3
    print("loaded", folder)
"""


def test_outputs_load_where_crosstok_cannot_be_imported(tmp_path, recipe):
    folders = []
    tokens = tiny_tokenizer("spm_bpe").tokenize("Hello  world\n")
    for architecture in ARCHITECTURES:
        for lora in (False, True):
            name = f"{architecture}{'-lora' if lora else ''}"
            model = save_model(tmp_path / f"source-{name}", architecture)
            output = str(tmp_path / name)
            transfer(recipe(model=str(model), output=output, lora=lora, max_steps=1))
            folders.append(output)
    process = subprocess.run(
        [sys.executable, "-c", f"TOKENS = {tokens!r}\n{LOAD_EVERYWHERE}", *folders],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.count("loaded") == 2 * len(ARCHITECTURES)


def test_a_run_leaves_model_recipe_card_and_figures(recipe):
    result = transfer(recipe(objective="alm+cross_entropy", report_to="tensorboard"))
    held = {path.name for path in result.folder.iterdir()}
    assert held >= {
        "model.safetensors", "config.json", "tokenizer.json", "README.md", "recipe.yaml",
        "transplant.json", "training.json", "checkpoints",
    }  # fmt: skip
    assert not [name for name in held if name.startswith(".saving")]
    assert list(result.folder.rglob("events.out.tfevents*"))
    saved = yaml.safe_load((result.folder / "recipe.yaml").read_text())
    assert saved == yaml.safe_load(
        recipe_yaml(recipe(objective="alm+cross_entropy", report_to="tensorboard"))
    )
    figures = json.loads((result.folder / "training.json").read_text())
    assert figures["coverage"] == 1.0
    assert figures["steps"] == 4


def test_training_brings_the_student_nearer_to_its_teacher(recipe):
    """On a teacher that knows something: one that was trained on these texts before."""
    first = transfer(
        recipe(objective="cross_entropy", max_steps=60, output="/".join([recipe().output, "a"]))
    )
    back = recipe(
        model=str(first.folder), tokenizer=recipe().model, max_steps=80, learning_rate=3e-3,
        output="/".join([recipe().output, "b"]),
    )  # fmt: skip
    result = transfer(back)
    history = json.loads(
        (last_checkpoint(result.folder / "checkpoints") / "trainer_state.json").read_text()
    )["log_history"]
    gaps = [entry["chunk_gap_nats"] for entry in history if "chunk_gap_nats" in entry]
    assert sum(gaps[-5:]) < 0.7 * sum(gaps[:5])


def test_the_shared_teacher_of_lora_is_the_model_as_it_was(recipe, model_folder):
    source = TextEncoder(load_tokenizer(str(model_folder)))
    target = TextEncoder(tiny_tokenizer("spm_bpe"))
    _, [alone], _ = build_models(recipe(), source, target)
    student, [shared], _ = build_models(recipe(lora=True), source, target)
    with torch.no_grad():
        for name, parameter in student.model.named_parameters():
            if "lora_B" in name or "embed" in name or "lm_head" in name:
                parameter.add_(torch.randn_like(parameter))
    ids = torch.tensor([source(["Hello world, the quick brown fox."])[0].ids.tolist()])
    ours, theirs = (
        t.scores(ids, torch.ones_like(ids), Needs(boundary_mass=True)) for t in (shared, alone)
    )
    torch.testing.assert_close(ours.token_logprobs, theirs.token_logprobs)
    torch.testing.assert_close(ours.boundary_logprobs, theirs.boundary_logprobs)


def test_the_shared_teacher_of_lora_is_where_the_model_will_be(recipe, monkeypatch):
    meta = torch.device("meta")  # stands for an accelerator
    monkeypatch.setattr("crosstok.jobs.transfer.training_device", lambda _: meta)
    source, target = (TextEncoder(tiny_tokenizer(k)) for k in ("bytelevel_bpe", "spm_bpe"))
    _, [shared], _ = build_models(recipe(lora=True), source, target)
    assert {p.device for p in shared.input_embeddings.parameters()} == {meta}
    assert {shared.head.weight.device, shared.boundary_mask.device} == {meta}


def test_lora_trains_adapters_and_embeddings_only(recipe):
    source, target = (TextEncoder(tiny_tokenizer(k)) for k in ("bytelevel_bpe", "spm_bpe"))
    student, _, _ = build_models(recipe(lora=True), source, target)
    trained = {n for n, p in student.model.named_parameters() if p.requires_grad}
    assert any("lora_A" in name for name in trained)
    assert all("lora" in n or "embed" in n or "lm_head" in n for n in trained)
    assert any("embed" in name for name in trained)


RUN = """
import sys
from crosstok.recipes import TransferRecipe, load_recipe
from crosstok.jobs.transfer import transfer
transfer(load_recipe(TransferRecipe, sys.argv[1], {}))
"""


@pytest.mark.parametrize("changes", [{}, {"lora": True}, {"objective": "alm+cross_entropy"}])
def test_a_killed_run_resumes_to_the_same_weights(recipe, tmp_path, changes):
    changes = {**changes, "max_steps": 24, "save_every": 3, "num_workers": 1}
    left_alone = recipe(**changes, output=str(tmp_path / "alone"))
    transfer(left_alone)
    killed = replace(left_alone, output=str(tmp_path / "killed"))
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe_yaml(killed))
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(file)], stderr=subprocess.DEVNULL, start_new_session=True
    )
    checkpoints = tmp_path / "killed" / "checkpoints"
    while last_checkpoint(checkpoints) is None:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    transfer(replace(killed, resume=True))
    one, other = weights(tmp_path / "alone"), weights(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_half_written_checkpoint_is_passed_over(tmp_path):
    for step, whole in ((2, True), (4, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if whole:
            (folder / "complete").touch()
    assert last_checkpoint(tmp_path).name == "checkpoint-2"


def test_resuming_before_the_first_checkpoint_starts_at_the_beginning(recipe):
    assert transfer(recipe(resume=True)).metrics["steps"] == 4


def test_resuming_with_another_recipe_is_refused(recipe):
    transfer(recipe())
    with pytest.raises(ValueError, match=r"learning_rate was 0\.001, is 0\.1"):
        transfer(recipe(resume=True, learning_rate=0.1))


def test_a_finished_run_is_not_overwritten_unless_told_so(recipe):
    transfer(recipe(max_steps=1))
    with pytest.raises(ValueError, match=r"already holds .*overwrite.*resume"):
        transfer(recipe(max_steps=1))
    before = weights(recipe().output)
    with pytest.raises(ValueError, match="no file or folder"):
        transfer(recipe(data="missing.jsonl", overwrite=True))
    assert all(torch.equal(before[n], w) for n, w in weights(recipe().output).items())
    transfer(recipe(max_steps=2, overwrite=True))


def test_a_nan_loss_stops_and_the_last_checkpoint_stands(recipe, monkeypatch):
    from crosstok.objectives import ALM

    plain, calls = ALM.__call__, []

    def broken(self, batch, student, teacher):
        calls.append(1)
        loss = plain(self, batch, student, teacher)
        return replace(loss, total=loss.total * float("nan")) if len(calls) == 4 else loss

    monkeypatch.setattr(ALM, "__call__", broken)
    with pytest.raises(NonFiniteLossError, match=r"nan at step 4, on the data rows \d+, "):
        transfer(recipe(max_steps=6, save_every=2))
    assert last_checkpoint(Path(recipe().output) / "checkpoints").name == "checkpoint-2"


def test_a_full_disk_keeps_the_checkpoint_before(recipe, monkeypatch):
    from transformers import Trainer

    save = Trainer._save_optimizer_and_scheduler

    def full(self, output_dir):
        if output_dir.endswith("-4"):
            raise OSError(28, "No space left on device")
        save(self, output_dir)

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(SaveError, match=r"No space left.*checkpoint-2 stands.*resume"):
        transfer(recipe())
    monkeypatch.undo()
    checkpoints = Path(recipe().output) / "checkpoints"
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-2"]
    assert transfer(recipe(resume=True)).metrics["steps"] == 4


def test_a_disk_that_fills_at_the_very_end_costs_no_training(recipe, monkeypatch):
    from transformers import PreTrainedTokenizerBase

    def full(self, folder, *args, **kwargs):
        if ".saving" in str(folder):
            raise OSError(28, "No space left on device")
        return plain(self, folder, *args, **kwargs)

    plain = PreTrainedTokenizerBase.save_pretrained
    monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", full)
    with pytest.raises(SaveError, match=r"checkpoint-4 stands: resume"):
        transfer(recipe())
    monkeypatch.undo()
    folder = Path(recipe().output)
    assert not (folder / "model.safetensors").exists()
    assert not list(folder.glob(".saving*"))
    monkeypatch.setattr(DistillationTrainer, "training_step", None)  # not called
    result = transfer(recipe(resume=True))
    assert result.metrics["steps"] == 4
    assert result.metrics["coverage"] == 1.0
    saved = load_file(folder / "model.safetensors")
    trained = load_file(folder / "checkpoints" / "checkpoint-4" / "model.safetensors")
    assert all(torch.equal(saved[name], trained[name]) for name in saved)
    assert (folder / "report.html").is_file()


def test_streaming_data_trains_the_same_way(recipe):
    assert transfer(recipe(streaming=True)).metrics["coverage"] == 1.0


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_mixed_precision_and_recomputed_activations(recipe, precision):
    result = transfer(recipe(precision=precision, gradient_checkpointing=True))
    assert result.metrics["steps"] == 4


def test_a_run_shorter_than_the_log_interval_has_its_figures(recipe):
    assert transfer(recipe(max_steps=3, log_every=50)).metrics["coverage"] == 1.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do it")
def test_half_precision_without_a_gpu_is_refused(recipe):
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        transfer(recipe(precision="fp16"))


def test_transplant_only_writes_a_model_without_training(recipe, tmp_path):
    from crosstok.recipes import TransplantRecipe

    plain = TransplantRecipe(
        model=recipe().model, tokenizer=recipe().tokenizer, output=str(tmp_path / "only")
    )
    result = transplant(plain)
    counts = json.loads((result.folder / "transplant.json").read_text())
    assert counts["copied"] + counts["mapped"] + counts["composed"] + counts["fallback"] == 600
    assert {"model.safetensors", "README.md", "recipe.yaml"} <= {
        p.name for p in result.folder.iterdir()
    }


def test_resuming_a_run_that_was_started_with_overwrite_loses_nothing(recipe):
    asked = recipe(max_steps=4, save_every=2, overwrite=True)
    transfer(asked)
    folder = Path(asked.output)
    saved = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert (saved["overwrite"], saved["resume"]) == (False, False)  # said anew each time
    checkpoint = last_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    again = transfer(replace(asked, resume=True))
    assert last_checkpoint(folder / "checkpoints") == checkpoint
    assert again.metrics["steps"] == 4
    assert "seconds" in again.metrics
    assert again.metrics["seconds"] == 0.0  # nothing was trained again
