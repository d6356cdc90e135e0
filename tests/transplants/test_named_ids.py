"""Ids in generation_config.json and config.json: moved, respelled, or taken out."""

import json
import logging

import pytest
from transformers import GenerationConfig

from crosstok.jobs.transplant import transplant as transplant_job
from crosstok.recipes import TransplantRecipe
from crosstok.tokenizers import TextEncoder
from crosstok.transplants import transplant
from crosstok.transplants.named_ids import IdMoves
from tests.folders import save_model
from tests.tiny import tiny_tokenizer, with_chat_template
from tests.tiny_models import tiny_model

BPE, SPM = (TextEncoder(tiny_tokenizer(kind)) for kind in ("bytelevel_bpe", "spm_bpe"))
OLD, NEW = BPE.tokenizer.get_vocab(), SPM.tokenizer.get_vocab()
THE, AND = OLD["Ġthe"], OLD["Ġand"]
GONE = next(  # a token of the one that the other does not have
    i for i, b in enumerate(BPE.byte_vocab.token_bytes) if b and not SPM.byte_vocab.ids_of(b)
)


def moved(caplog, **fields):
    """The generation configuration after a transplant, and what was warned of."""
    model = tiny_model("llama", len(BPE.byte_vocab.token_bytes))
    model.generation_config = GenerationConfig(**fields)
    with caplog.at_level(logging.WARNING, logger="crosstok"):
        transplant(model, BPE, SPM)
    return model.generation_config, [record.getMessage() for record in caplog.records]


def test_ids_of_single_tokens_are_those_of_the_same_tokens(caplog):
    config, warned = moved(
        caplog,
        suppress_tokens=[THE, AND],
        begin_suppress_tokens=[THE],
        forced_eos_token_id=OLD["<|endoftext|>"],
        forced_bos_token_id=OLD["Ġto"],
        forced_decoder_ids=[[1, THE], [2, AND]],
    )
    assert config.suppress_tokens == [NEW["▁the"], NEW["▁and"]]
    assert config.begin_suppress_tokens == [NEW["▁the"]]
    assert config.forced_bos_token_id == NEW["▁to"]
    assert config.forced_eos_token_id == NEW["</s>"]
    assert config.forced_decoder_ids == [[1, NEW["▁the"]], [2, NEW["▁and"]]]
    assert not warned


def test_ids_without_an_equal_are_taken_out_and_named(caplog):
    config, warned = moved(
        caplog, suppress_tokens=[THE, GONE], begin_suppress_tokens=[GONE], forced_bos_token_id=9999
    )
    assert config.suppress_tokens == [NEW["▁the"]]
    assert config.begin_suppress_tokens is None
    assert config.forced_bos_token_id is None
    assert len(warned) == 3
    assert "generation_config.suppress_tokens names ids that have no equal" in warned[1]
    assert f"{GONE} (" in warned[1]
    assert "9999 (no token)" in warned[0]


def spelled(ids):
    return b"".join(SPM.byte_vocab.token_bytes[i] for i in ids)


def test_entries_of_several_ids_are_spelled_anew_as_exactly_the_same_text(caplog):
    text = BPE.byte_vocab.token_bytes[THE] + BPE.byte_vocab.token_bytes[GONE]
    config, warned = moved(
        caplog,
        bad_words_ids=[[THE, GONE], [AND]],
        force_words_ids=[[[THE], [AND]]],
        sequence_bias=[[[THE, GONE], -2.0], [[AND], 1.5]],
    )
    assert spelled(config.bad_words_ids[0]) == text
    assert config.bad_words_ids[1] == [NEW["▁and"]]
    assert config.force_words_ids == [[[NEW["▁the"]], [NEW["▁and"]]]]
    assert spelled(config.sequence_bias[0][0]) == text
    assert config.sequence_bias[1] == [[NEW["▁and"]], 1.5]
    assert not warned


def test_a_mapping_of_biases_stays_one(caplog):
    config, _ = moved(caplog, sequence_bias={(THE,): -1.0, (9999,): 2.0})
    assert config.sequence_bias == {(NEW["▁the"],): -1.0}


def test_an_entry_that_cannot_be_spelled_is_taken_out_whole(caplog):
    config, warned = moved(caplog, bad_words_ids=[[THE, 9999]])
    assert config.bad_words_ids is None
    assert "bad_words_ids" in warned[0]


def test_configurations_inside_the_configuration_are_read(caplog):
    model = tiny_model("llama", len(BPE.byte_vocab.token_bytes))
    model.config.image_token_id, model.config.decoder_start_token_id = THE, OLD["<|endoftext|>"]
    model.config.audio_token_index, model.config.suppress_tokens = 9999, [THE]
    model.config.sep_token_id = GONE
    with caplog.at_level(logging.WARNING, logger="crosstok"):
        transplant(model, BPE, SPM)
    assert model.config.image_token_id == NEW["▁the"]
    assert model.config.suppress_tokens == [NEW["▁the"]]
    assert model.config.decoder_start_token_id in (NEW["<s>"], NEW["</s>"])
    assert model.config.sep_token_id is None
    assert model.config.audio_token_index == -1  # which no text has
    assert {message.split()[0] for message in caplog.messages} == {
        "config.sep_token_id",
        "config.audio_token_index",
    }


@pytest.mark.parametrize("written", [0, [0], [0, THE]])
def test_ends_may_be_one_id_or_a_list(caplog, written):
    config, _ = moved(caplog, eos_token_id=written)
    wanted = [NEW["</s>"], NEW["▁the"]]
    assert config.eos_token_id == (wanted if written == [0, THE] else wanted[0])


def test_the_same_tokenizer_leaves_every_field_as_it_was():
    tokenizer = with_chat_template("bytelevel_bpe", None, special_tokens=("<image>",))
    encoder = TextEncoder(tokenizer)
    model = tiny_model("llama", len(tokenizer))
    ids = {"suppress_tokens": [THE, GONE], "bad_words_ids": [[GONE, THE]]}
    model.generation_config = GenerationConfig(**ids)
    model.config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    transplant(model, encoder, encoder)
    assert {name: getattr(model.generation_config, name) for name in ids} == ids
    assert model.config.image_token_id == tokenizer.convert_tokens_to_ids("<image>")


def test_a_special_token_is_found_by_its_name_then_by_its_role():
    moves = IdMoves(BPE, SPM)
    assert moves.move(OLD["<|endoftext|>"]) == NEW["</s>"]
    assert moves.move(OLD["<|pad|>"]) is None
    named = TextEncoder(with_chat_template("spm_bpe", None, special_tokens=("<|pad|>",)))
    assert IdMoves(BPE, named).move(OLD["<|pad|>"]) == named.tokenizer.get_vocab()["<|pad|>"]


def test_the_saved_folder_names_the_new_ids(tmp_path):
    folder = save_model(tmp_path / "m")
    generation = {"suppress_tokens": [THE], "bad_words_ids": [[THE]], "eos_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    SPM.tokenizer.save_pretrained(tmp_path / "spm")
    out = tmp_path / "out"
    transplant_job(
        TransplantRecipe(model=str(folder), tokenizer=str(tmp_path / "spm"), output=str(out))
    )
    kept = json.loads((out / "generation_config.json").read_text())
    assert kept["suppress_tokens"] == [NEW["▁the"]]
    assert kept["bad_words_ids"] == [[NEW["▁the"]]]
    assert kept["eos_token_id"] == NEW["</s>"]


def test_a_start_that_is_forbidden_does_not_forbid_the_end():
    """<s> only begins texts; <|endoftext|> of the other ends them, too."""
    moves = IdMoves(SPM, BPE)
    assert moves.move(NEW["<s>"]) == OLD["<|endoftext|>"]
    assert moves.move(NEW["<s>"], forbids=True) is None
