"""Input expansion in a transfer to bytes, from the recipe to the folder it leaves."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from crosstok.chats import ExampleEncoder
from crosstok.jobs.transfer import build_models, transfer
from crosstok.jobs.transplant import transplant
from crosstok.models import extra_inputs, load_model, new_model
from crosstok.objectives import Needs
from crosstok.recipes import TransplantRecipe
from crosstok.tokenizers import TextEncoder, load_tokenizer
from crosstok.tokenizers.byte_tokenizer import byte_tokenizer
from crosstok.training import AlignedCollator
from crosstok.training.checkpoints import last_checkpoint
from crosstok.training.collator import extra_of
from tests.folders import save_model, weights
from tests.tiny import tiny_tokenizer

SOURCE = TextEncoder(tiny_tokenizer("bytelevel_bpe"))
TARGET = TextEncoder(byte_tokenizer(tiny_tokenizer("bytelevel_bpe")))


@pytest.fixture
def to_bytes(recipe):
    """The recipe, to bytes with input expansion."""

    def make(**changes):
        asked = {"tokenizer": "bytes", "input_expansion": True, "max_length": 96}
        return recipe(**{**asked, **changes})

    return make


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "qwen2"])
def test_a_transfer_leaves_an_expanded_model(to_bytes, tmp_path, architecture, lora):
    source = save_model(tmp_path / "source", architecture)
    result = transfer(to_bytes(model=str(source), lora=lora, max_steps=2))
    original, student = (load_file(f / "model.safetensors") for f in (source, result.folder))
    matrix = next(original[name] for name in original if "embed_tokens" in name)
    assert torch.equal(student["subwords"], matrix)
    assert not [name for name in student if "lora" in name]
    model = load_model(str(result.folder))
    tokenizer = load_tokenizer(str(result.folder))
    made = model.generate(**tokenizer("Hello", return_tensors="pt"), max_new_tokens=3)
    assert made.shape[1] > 3
    card = (result.folder / "README.md").read_text()
    assert "16,384 frozen numbers (512 subwords of width 32)" in card
    assert 'folder", trust_remote_code=True)' in card


def test_the_model_that_was_trained_is_the_model_that_loads(to_bytes, monkeypatch):
    import crosstok.jobs.run as module

    trained = []
    plain = module.save_weights

    def save(folder, model, dtypes):
        trained.append(model)
        return plain(folder, model, dtypes)

    monkeypatch.setattr(module, "save_weights", save)
    result = transfer(to_bytes(max_steps=2))
    ids = torch.tensor([list(b"the quick brown fox")])
    with torch.no_grad():
        loaded = load_model(str(result.folder))(input_ids=ids).logits
        assert torch.equal(loaded, trained[0].eval()(input_ids=ids).logits)


def test_workers_find_the_subwords_and_the_training_step_finds_none(to_bytes, monkeypatch):
    import crosstok.models.modeling_byte_expanded as module

    student, _, _ = build_models(to_bytes(), SOURCE, TARGET)
    lookup = extra_inputs(student.model)
    collator = AlignedCollator(
        ExampleEncoder(TARGET), (ExampleEncoder(SOURCE),), 60, 60, "all", lookup
    )
    rows = [{"text": text, "row": row} for row, text in enumerate(("Hello world, é", "one"))]
    batch = collator([{**row, "is_start": True, "is_end": True} for row in rows])
    found = lookup(batch["student_ids"], batch["student_attention_mask"])["expansion_ids"]
    assert torch.equal(extra_of(batch)["expansion_ids"], found)
    inputs = {"input_ids": batch["student_ids"], "attention_mask": batch["student_attention_mask"]}
    given = student.model(**inputs, expansion_ids=found).logits
    torch.testing.assert_close(given, student.model(**inputs).logits)

    in_model = []
    plain = module.ByteExpandedForCausalLM._check_whole_text
    monkeypatch.setattr(
        module.ByteExpandedForCausalLM,
        "_check_whole_text",
        lambda *args: (in_model.append(args[0].training), plain(*args)),
    )
    transfer(to_bytes(max_steps=3))
    assert in_model  # probes and the page of the report
    assert not any(in_model)


def test_training_is_the_same_whoever_finds_the_subwords(to_bytes, monkeypatch, tmp_path):
    import crosstok.jobs.run as module

    one = transfer(to_bytes(output=str(tmp_path / "workers")))
    monkeypatch.setattr(module, "extra_inputs", lambda model: None)
    other = transfer(to_bytes(output=str(tmp_path / "model")))
    ours, theirs = weights(one.folder), weights(other.folder)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_shared_teacher_of_lora_sees_no_subwords(to_bytes):
    _, [alone], _ = build_models(to_bytes(), SOURCE, TARGET)
    student, [shared], _ = build_models(to_bytes(lora=True), SOURCE, TARGET)
    trained = {name for name, p in student.model.named_parameters() if p.requires_grad}
    assert all("lora" in n or "embed" in n or "lm_head" in n for n in trained)
    with torch.no_grad():
        for name, parameter in student.model.named_parameters():
            if name in trained:
                parameter.add_(torch.randn_like(parameter))
    ids = torch.tensor([SOURCE(["Hello world, the quick brown fox."])[0].ids.tolist()])
    ours, theirs = (
        t.scores(ids, torch.ones_like(ids), Needs(boundary_mass=True)) for t in (shared, alone)
    )
    assert shared.name == alone.name
    torch.testing.assert_close(ours.token_logprobs, theirs.token_logprobs)


def test_a_stopped_run_resumes_to_the_same_weights(to_bytes, tmp_path, monkeypatch):
    from crosstok.objectives import ALM

    plain, calls = ALM.__call__, []

    def stops(self, *args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return plain(self, *args)

    left_alone = to_bytes(output=str(tmp_path / "alone"))
    transfer(left_alone)
    stopped = replace(left_alone, output=str(tmp_path / "stopped"))
    monkeypatch.setattr(ALM, "__call__", stops)
    with pytest.raises(KeyboardInterrupt):
        transfer(stopped)
    monkeypatch.undo()
    assert last_checkpoint(tmp_path / "stopped" / "checkpoints").name == "checkpoint-2"
    transfer(replace(stopped, resume=True))
    one, other = weights(tmp_path / "alone"), weights(tmp_path / "stopped")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_original_rows_are_kept_in_the_dtype_of_their_files(to_bytes, tmp_path):
    source = save_model(tmp_path / "source", "gemma2", dtype="bfloat16")
    load_model(str(source)).bfloat16().save_pretrained(source)
    student, _, _ = build_models(to_bytes(model=str(source)), SOURCE, TARGET)
    assert student.model.subwords.dtype == torch.bfloat16
    assert student.head.weight.dtype == torch.float32
    transfer(to_bytes(model=str(source), precision="bf16", gradient_checkpointing=True))


def test_other_targets_than_bytes_are_refused_before_anything_is_loaded(recipe, tmp_path):
    with pytest.raises(ValueError, match="Use the tokenizer `bytes`, or leave input expansion out"):
        transfer(recipe(input_expansion=True))
    with pytest.raises(ValueError, match="is for models over bytes"):
        transplant(
            TransplantRecipe(
                model=recipe().model, tokenizer=recipe().tokenizer,
                output=str(tmp_path / "only"), input_expansion=True,
            )
        )  # fmt: skip


def test_a_transplant_alone_expands_too(recipe, tmp_path):
    asked = TransplantRecipe(
        model=recipe().model, tokenizer="bytes", output=str(tmp_path / "only"), input_expansion=True
    )
    folder = transplant(asked).folder
    batch = load_tokenizer(str(folder))("Hello  wörld", return_tensors="pt")
    model = load_model(str(folder))
    assert model.generate(**batch, max_new_tokens=3).shape[1] > 12
    assert "subwords of width 32" in (folder / "README.md").read_text()


def test_what_is_made_is_no_start_for_another_vocabulary_or_random_weights(recipe, tmp_path):
    asked = TransplantRecipe(
        model=recipe().model, tokenizer="bytes", output=str(tmp_path / "only"), input_expansion=True
    )
    folder = str(transplant(asked).folder)
    with pytest.raises(ValueError, match="keeps its vocabulary of bytes"):
        transplant(
            TransplantRecipe(
                model=folder, tokenizer=recipe().tokenizer, output=str(tmp_path / "more")
            )
        )
    with pytest.raises(ValueError, match="which needs the weights of its subwords"):
        new_model(folder)
