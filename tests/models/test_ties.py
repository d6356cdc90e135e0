"""Where config.json and the files contradict each other, every job keeps what the files hold."""

import json
import logging
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from crosstok.jobs.distil import build_student
from crosstok.jobs.transplant import transplant
from crosstok.models import load_model
from crosstok.models.saved_dtypes import save_weights
from crosstok.models.ties import is_tied, untie_embeddings
from crosstok.recipes import DistilRecipe, TransplantRecipe
from crosstok.tokenizers import TextEncoder
from crosstok.training.outputs import save_outputs
from tests.folders import save_model, weights
from tests.tiny import tiny_tokenizer
from tests.tiny_models import CORE_ARCHITECTURES, tiny_model

HEAD = {"gpt_neox": "embed_out.weight"}


def rewrite(folder: Path, says_tied: bool, change) -> Path:
    """Let the configuration say it, and change the weights of the file."""
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = says_tied
    (folder / "config.json").write_text(json.dumps(config))
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def contradiction(folder: Path, kind: str, architecture: str = "llama") -> Path:
    """A folder whose configuration says one thing, and whose file holds another."""
    head = HEAD.get(architecture, "lm_head.weight")
    held_tied = kind != "own head"
    save_model(folder, architecture, tie_word_embeddings=held_tied)

    def repeat(state):
        matrix = next(value for name, value in state.items() if name.endswith(INPUTS))
        state[head] = matrix.clone()

    change = repeat if kind == "same twice" else lambda state: None
    return rewrite(folder, not held_tied, change)


INPUTS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
KINDS = {"own head": False, "no head": True, "same twice": True}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", CORE_ARCHITECTURES)
def test_what_the_files_hold_is_loaded(tmp_path, caplog, kind, architecture):
    folder = contradiction(tmp_path / "m", kind, architecture)
    state = load_file(folder / "model.safetensors")
    with caplog.at_level(logging.WARNING, logger="crosstok"):
        model = load_model(str(folder))
    assert [record for record in caplog.records if "What the files hold is kept" in record.message]
    assert is_tied(model) == KINDS[kind] == model.config.tie_word_embeddings
    head = HEAD.get(architecture, "lm_head.weight")
    rows = state.get(head)
    if rows is None:
        rows = model.get_input_embeddings().weight
    assert torch.equal(model.get_output_embeddings().weight, rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_transplant_keeps_it_and_its_configuration_says_it(tmp_path, kind):
    folder = contradiction(tmp_path / "m", kind)
    tiny_tokenizer("spm_bpe").save_pretrained(tmp_path / "spm")
    recipe = TransplantRecipe(
        model=str(folder), tokenizer=str(tmp_path / "spm"), output=str(tmp_path / "out")
    )
    assert transplant(recipe).report.tied == KINDS[kind]
    saved, before = weights(tmp_path / "out"), load_file(folder / "model.safetensors")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["tie_word_embeddings"] == KINDS[kind] == ("lm_head.weight" not in saved)
    if kind == "own head":
        old, new = (
            kinds.get_vocab() for kinds in map(tiny_tokenizer, ("bytelevel_bpe", "spm_bpe"))
        )
        head = "lm_head.weight"
        assert torch.equal(saved[head][new["▁the"]], before[head][old["Ġthe"]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_keeps_it(tmp_path, kind):
    folder = contradiction(tmp_path / "m", kind)
    recipe = DistilRecipe(
        student=str(folder), teacher=[str(folder)], data="x", output=str(tmp_path / "out")
    )
    encoder = TextEncoder(tiny_tokenizer("bytelevel_bpe"))
    student, dtypes = build_student(recipe, encoder)
    assert is_tied(student.model) == KINDS[kind]
    write = partial(save_weights, model=student.export(), dtypes=dtypes)
    save_outputs(tmp_path / "out", write, encoder.tokenizer, {})
    before, after = load_model(str(folder)), load_model(str(tmp_path / "out"))
    ids = torch.arange(8)[None]
    assert torch.equal(before(input_ids=ids).logits, after(input_ids=ids).logits)
    assert is_tied(after) == KINDS[kind]


def test_a_model_without_input_and_output_matrices_is_incomplete(tmp_path):
    def drop(state):
        for name in list(state):
            if name.endswith(INPUTS):
                del state[name]

    folder = rewrite(save_model(tmp_path / "m", tie_word_embeddings=True), False, drop)
    with pytest.raises(ValueError, match="is incomplete"):
        load_model(str(folder))


@pytest.mark.parametrize("architecture", CORE_ARCHITECTURES)
def test_untied_matrices_stay_apart_when_the_model_is_resized_or_saved(tmp_path, architecture):
    model = tiny_model(architecture, 100, tie_word_embeddings=True)
    untie_embeddings(model)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(2)
    model.resize_token_embeddings(101)
    assert not is_tied(model)
    model.save_pretrained(tmp_path)
    assert not is_tied(load_model(str(tmp_path)))
