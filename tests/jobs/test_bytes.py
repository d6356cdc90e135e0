"""Transfer to bytes: what is written, what is trained on, how long it may be."""

import json
import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from crosstok.evaluation import Scorer, bits_per_byte
from crosstok.jobs.byte_lengths import fit_lengths
from crosstok.jobs.data import load_data, load_encoder, make_rows
from crosstok.jobs.transfer import build_models, transfer
from crosstok.jobs.transplant import transplant
from crosstok.models import Scores, load_model
from crosstok.objectives import HiddenStates, hidden_states
from crosstok.recipes import TransplantRecipe
from crosstok.tokenizers import TextEncoder, byte_tokenizer, load_tokenizer
from crosstok.training import AlignedCollator, Sides, batch_of
from crosstok.transplants import plan_rows
from tests.folders import CHATML, CHATS, save_model
from tests.tiny import tiny_tokenizer, with_chat_template
from tests.tiny_models import tiny_model

TEXT = "A té 猫 of the <|endoftext|> kind\n"

LOAD_EVERYWHERE = """
import sys
sys.modules["crosstok"] = None  # importing it raises from here on
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
for folder in sys.argv[1:]:
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], (folder, info)
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight, folder
    assert model.config.tie_word_embeddings is False, folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) == 258, folder
    ids = tokenizer(TEXT, return_tensors="pt", split_special_tokens=True)["input_ids"]
    assert ids[0].tolist() == list(TEXT.encode()), folder
    options = dict(max_new_tokens=12, do_sample=False, eos_token_id=None)
    cached = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    again = ids
    for _ in range(12):
        logits = model(again, use_cache=False).logits
        again = torch.cat([again, logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(cached, again), folder
    print("loaded", folder)
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def sides_of(recipe) -> Sides:
    teacher = load_encoder(recipe.model, None)
    return Sides(load_encoder(recipe.tokenizer, None, bytes_of=recipe.model), (teacher,))


@pytest.fixture
def to_bytes(recipe):
    """A recipe of a few small steps to bytes."""

    def make(**changes):
        return recipe(**{"tokenizer": "bytes", "max_length": None, "batch_size": 2, **changes})

    return make


def test_outputs_load_where_crosstok_cannot_be_imported(tmp_path, to_bytes):
    folders = []
    for architecture in ("llama", "gemma3", "gpt2", "gpt_neox"):
        tied = {"tie_word_embeddings": True}
        model = save_model(tmp_path / f"source-{architecture}", architecture, **tied)
        output = str(tmp_path / architecture)
        transplant(TransplantRecipe(model=str(model), tokenizer="bytes", output=output))
        folders.append(output)
    trained = to_bytes(model=str(tmp_path / "source-llama"), lora=True, max_steps=1)
    folders.append(str(transfer(trained).folder))
    process = subprocess.run(
        [sys.executable, "-c", f"TEXT = {TEXT!r}\n{LOAD_EVERYWHERE}", *folders],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.count("loaded") == len(folders)


def test_every_byte_that_the_model_knew_keeps_its_row(tmp_path):
    model = save_model(tmp_path / "tied", tie_word_embeddings=True)
    recipe = TransplantRecipe(model=str(model), tokenizer="bytes", output=str(tmp_path / "out"))
    report = transplant(recipe).report
    assert (report.copied, report.mapped, report.composed, report.fallback) == (258, 0, 0, 0)
    assert not report.tied
    old, new = weights(model), weights(tmp_path / "out")
    vocab = TextEncoder(tiny_tokenizer("bytelevel_bpe")).byte_vocab
    rows = [vocab.ids_of(bytes([byte]))[0] for byte in range(256)]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(new[name][:256], old["model.embed_tokens.weight"][rows])


@pytest.mark.parametrize(("untie", "tied"), [(None, False), (False, True), (True, False)])
def test_tied_embeddings_are_untied_unless_told_otherwise(tmp_path, untie, tied):
    model = save_model(tmp_path / "tied", tie_word_embeddings=True)
    output = str(tmp_path / "out")
    plain = TransplantRecipe(model=str(model), tokenizer="bytes", output=output, untie=untie)
    result = transplant(plain)
    assert result.report.tied is tied
    assert ("lm_head.weight" in weights(result.folder)) is not tied


def test_untied_matrices_are_trained_apart(tmp_path, to_bytes):
    model = save_model(tmp_path / "tied", tie_word_embeddings=True)
    held = weights(transfer(to_bytes(model=str(model), max_steps=2)).folder)
    assert not torch.equal(held["lm_head.weight"], held["model.embed_tokens.weight"])


def test_other_tokenizers_stay_tied_unless_told_otherwise(tmp_path, tokenizer_folder):
    names = {
        "model": str(save_model(tmp_path / "tied", tie_word_embeddings=True)),
        "tokenizer": str(tokenizer_folder),
    }
    kept = TransplantRecipe(**names, output=str(tmp_path / "kept"))
    assert transplant(kept).report.tied
    untied = transplant(replace(kept, untie=True, output=str(tmp_path / "untied")))
    assert not untied.report.tied
    assert "lm_head.weight" in weights(untied.folder)


def test_a_run_that_stopped_resumes_to_the_same_weights(to_bytes, tmp_path):
    recipe = to_bytes(objective="alm+cross_entropy+hidden_states", output=str(tmp_path / "whole"))
    whole = transfer(recipe).folder
    halved = tmp_path / "halved"
    shutil.copytree(whole, halved)
    shutil.rmtree(halved / "checkpoints" / "checkpoint-4")
    (halved / "model.safetensors").unlink()
    transfer(replace(recipe, output=str(halved), resume=True))
    one, other = weights(whole), weights(halved)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_both_sides_read_the_same_bytes_within_their_lengths(to_bytes):
    recipe = to_bytes(max_length=150, teacher_max_length=60)
    sides = sides_of(recipe)
    own, other = sides.student, sides.first_teacher
    recipe = fit_lengths(recipe, load_data(recipe), sides)
    rows = make_rows(load_data(recipe), recipe, sides)
    collator = AlignedCollator(own, (other,), recipe.max_length, recipe.teacher_max_length)
    inputs = collator([rows[i] for i in range(12)])
    batch = batch_of(inputs)
    assert batch.student_ids.shape[1] <= 150
    assert batch.teacher_ids.shape[1] <= 60
    token_bytes = other.encoder.byte_vocab.token_bytes
    for row in range(12):
        mine = batch.student_ids[row][batch.student_attention_mask[row].bool()].tolist()
        theirs = batch.teacher_ids[row][batch.teacher_attention_mask[row].bool()].tolist()
        read = b"".join(token_bytes[i] or b"" for i in theirs)
        assert bytes(i for i in mine if i < 256) == read
        # Every token of the teacher ends a chunk but the first one, which nothing predicts.
        chunks = batch.teacher_chunk_ids[row].tolist()
        assert sorted(set(chunks) - {-1}) == [c for c in chunks if c >= 0]


@pytest.mark.parametrize(
    ("given", "student", "teacher"),
    [
        ({}, 2048, (700, 1500)),
        ({"max_length": 100}, 100, (35, 70)),
        ({"teacher_max_length": 100}, (150, 300), 100),
        ({"max_length": 100, "teacher_max_length": 7}, 100, 7),
    ],
)
def test_a_length_that_is_not_given_follows_from_the_other(
    to_bytes, tmp_path, given, student, teacher
):
    model = str(save_model(tmp_path / "long", max_position_embeddings=4096))
    recipe = to_bytes(model=model, **given)
    fitted = fit_lengths(recipe, load_data(recipe), sides_of(recipe))
    for found, wanted in ((fitted.max_length, student), (fitted.teacher_max_length, teacher)):
        low, high = wanted if isinstance(wanted, tuple) else (wanted, wanted)
        assert low <= found <= high
    assert replace(fitted, max_length=None, teacher_max_length=None) == replace(
        recipe, max_length=None, teacher_max_length=None
    )


def test_a_rotary_model_gets_the_positions_that_bytes_need(to_bytes, caplog):
    with caplog.at_level(logging.INFO):
        result = transfer(to_bytes(max_length=700, max_steps=1))
    assert "raised from 512 to 700" in caplog.text
    assert "raised from 512 tokens to 700 bytes" in (result.folder / "README.md").read_text()
    config = json.loads((result.folder / "config.json").read_text())
    assert config["max_position_embeddings"] == 700
    model = AutoModelForCausalLM.from_pretrained(result.folder)
    assert model(torch.zeros(1, 700, dtype=torch.long)).logits.isfinite().all()


def test_more_bytes_than_the_teacher_has_positions_for_is_told(to_bytes, caplog):
    recipe = to_bytes(max_length=3000)
    fitted = fit_lengths(recipe, load_data(recipe), sides_of(recipe))
    assert (fitted.max_length, fitted.teacher_max_length) == (3000, 512)
    assert "its 512 positions hold about" in caplog.text


def test_learned_positions_are_an_end_that_is_told(to_bytes, tmp_path):
    model = str(save_model(tmp_path / "gpt2", "gpt2", n_positions=90))
    with pytest.raises(ValueError, match=r"max_length is 100, .* At most 90 bytes fit"):
        transfer(to_bytes(model=model, max_length=100))
    with pytest.raises(ValueError, match=r"teacher_max_length is 91, .* At most 90 tokens fit"):
        transfer(to_bytes(model=model, teacher_max_length=91))
    recipe = to_bytes(model=model)
    fitted = fit_lengths(recipe, load_data(recipe), sides_of(recipe))
    assert fitted.max_length == 90
    assert fitted.teacher_max_length <= 90
    assert transfer(replace(recipe, max_steps=1)).metrics["coverage"] == 1.0


def test_stretched_rotary_positions_are_not_stretched_again(to_bytes, tmp_path):
    rope = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}
    rope["original_max_position_embeddings"] = 256
    model = str(save_model(tmp_path / "yarn", rope_parameters=rope))
    with pytest.raises(ValueError, match=r"type yarn, .* At most 512 bytes fit"):
        transfer(to_bytes(model=model, max_length=513))


def test_chats_are_learned_in_bytes(to_bytes, tmp_path):
    tokens = ("<|im_start|>", "<|im_end|>")
    tokenizer = with_chat_template("spm_bpe", CHATML, special_tokens=tokens)
    for part in (tokenizer, tiny_model("llama", len(tokenizer))):
        part.save_pretrained(tmp_path / "chat")
    data = tmp_path / "chats.jsonl"
    data.write_text("".join(json.dumps({"messages": m}) + "\n" for m in CHATS))
    recipe = to_bytes(model=str(tmp_path / "chat"), data=str(data), objective="alm+hidden_states")
    result = transfer(recipe)
    assert result.metrics["coverage"] == 1.0
    assert (result.report.copied, result.report.fallback) == (256 + len(tokens) + 3, 0)
    saved = AutoTokenizer.from_pretrained(result.folder)
    assert saved.chat_template == CHATML
    ends = AutoModelForCausalLM.from_pretrained(result.folder).generation_config.eos_token_id
    assert saved.convert_tokens_to_ids("<|im_end|>") in ends


def test_hidden_states_of_bytes_are_matched_as_in_the_paper(to_bytes, monkeypatch):
    """For one text, without the prior: the formula of the code, written out."""
    monkeypatch.setattr(hidden_states, "PRIOR", 0.0)
    recipe = to_bytes(max_length=120)
    sides = sides_of(recipe)
    own, other = sides.student, sides.first_teacher
    recipe = fit_lengths(recipe, load_data(recipe), sides)
    student, [teacher], _ = build_models(recipe, other.encoder, own.encoder)
    collator = AlignedCollator(own, (other,), recipe.max_length, recipe.teacher_max_length)
    batch = batch_of(collator([make_rows(load_data(recipe), recipe, sides)[0]]))
    cpu = torch.device("cpu")
    bound = HiddenStates().bind(student.view(cpu), teacher.view)
    assert not list(bound.parameters())  # one model: nothing to project
    ours = student.model.model(batch.student_ids).last_hidden_state[0]
    theirs = load_model(recipe.model).model(batch.teacher_ids).last_hidden_state[0]
    ends = [
        (int(np.flatnonzero(batch.student_chunk_ids[0] == chunk)[-1]),
         int(np.flatnonzero(batch.teacher_chunk_ids[0] == chunk)[-1]))
        for chunk in batch.chunk_mask[0].nonzero().flatten().tolist()
    ]  # fmt: skip
    h_s, h_t = ours[[s for s, _ in ends]], theirs[[t for _, t in ends]]
    wanted = ((h_s - h_t) ** 2 / ((h_t**2).mean(0) + 1e-8)).mean()
    loss = bound(batch, *(Scores(torch.zeros(1, len(x)), None, x[None]) for x in (ours, theirs)))
    torch.testing.assert_close((loss.total / loss.count).float(), wanted)


def test_figures_of_a_byte_model_are_those_of_its_logits(to_bytes):
    folder = transfer(to_bytes(max_length=200, max_steps=1)).folder
    model, tokenizer = load_model(str(folder)).float(), load_tokenizer(str(folder))
    texts = ["Größe: 猫 the end\n", "x" * 120]
    found = bits_per_byte(Scorer(model, tokenizer), texts)
    nats = num_bytes = 0.0
    for text in texts:
        ids = torch.tensor([[tokenizer.bos_token_id, *text.encode()]])
        logprobs = model(ids).logits[0, :-1].detach().log_softmax(-1)
        nats -= float(logprobs.gather(1, ids[0, 1:, None]).sum())
        num_bytes += len(text.encode())
    assert found.num_bytes == num_bytes
    assert found.bits_per_byte == pytest.approx(nats / num_bytes / np.log(2), rel=1e-4)
    assert Scorer(model, tokenizer).max_length == 512


def test_pieces_of_sentencepiece_come_before_its_byte_tokens():
    source = TextEncoder(tiny_tokenizer("spm_bpe"))
    plan = plan_rows(source, TextEncoder(byte_tokenizer(source.tokenizer)))
    names = [source.tokenizer.convert_ids_to_tokens(rows.ids[0]) for rows in plan.input_rows[:256]]
    assert (names[ord("a")], names[ord(" ")], names[0xE7]) == ("a", "▁", "<0xE7>")
    assert names[1] == "<0x01>"
