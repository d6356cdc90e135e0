"""The 256 bytes with another tokenizer's specials: ids, texts, chats, files, alignment."""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from transformers import AutoTokenizer

from crosstok.alignment import align
from crosstok.chats import ExampleEncoder
from crosstok.tokenizers import (
    ByteVocab,
    TextEncoder,
    byte_tokenizer,
    is_byte_tokenizer,
    load_target_tokenizer,
    load_tokenizer,
)
from tests.chats.chat_pairs import (
    aligned,
    conversations,
    covered_of_assistant,
    unmatched_ends,
)
from tests.chats.chat_shapes import REAL, SHAPES, real_encoder, shape_encoder
from tests.texts import SAMPLE, texts
from tests.tiny import KINDS, tiny_tokenizer, with_chat_template

REAL_NAMES = (
    "bert-base-uncased", "cl100k_base", "gpt2", "mistral-7b-instruct-v0.2", "qwen2.5", "t5",
    "small-spm-bpe-bytefallback-8k", "small-unigram-bytefallback-8k",
    "tinyllama",
)  # fmt: skip
NAMES = (*(f"tiny/{kind}" for kind in KINDS), *REAL_NAMES)
MESSAGES = [
    {"role": "user", "content": "the user asked\n\nthe assistant 猫"},
    {"role": "assistant", "content": "the system answered"},
]


@cache
def original_of(name: str):
    if name.startswith("tiny/"):
        return tiny_tokenizer(name.removeprefix("tiny/"))
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared")
    return load_tokenizer(str(folder))


@cache
def bytes_of(name: str):
    return byte_tokenizer(original_of(name))


@cache
def encoders_of(name: str) -> tuple[TextEncoder, TextEncoder]:
    return TextEncoder(original_of(name)), TextEncoder(bytes_of(name))


@cache
def byte_side(name: str, shared) -> tuple[ExampleEncoder, ExampleEncoder]:
    """A chat tokenizer and the bytes with its template, as encoders of examples."""
    own = real_encoder(shared, name) if name in REAL else shape_encoder(name)
    return own, ExampleEncoder(TextEncoder(byte_tokenizer(own.encoder.tokenizer)))


def has_special(name: str, text: str) -> bool:
    return any(special in text for special in bytes_of(name).get_added_vocab())


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_bytes_and_from_256_the_specials_of_the_original(name):
    old, vocab = (encoder.byte_vocab for encoder in encoders_of(name))
    assert is_byte_tokenizer(vocab)
    assert vocab.token_bytes[:256] == tuple(bytes([byte]) for byte in range(256))
    assert vocab.special_ids == frozenset(range(256, len(vocab)))
    assert list(vocab.special_tokens.values()) == list(old.special_tokens.values())
    boundaries = {*b" \n\t", *vocab.special_ids}
    assert set(np.flatnonzero(vocab.boundary_mask()).tolist()) == boundaries
    assert not vocab.shadowed_ids


@pytest.mark.parametrize("name", NAMES)
def test_a_special_plays_the_role_that_it_played(name):
    old, vocab = (encoder.byte_vocab for encoder in encoders_of(name))
    assert vocab.roles.keys() == old.roles.keys()

    def named(vocabulary, role):
        ids = [i for i in vocabulary.roles[role] if i in vocabulary.special_ids]
        return [vocabulary.special_tokens[i] for i in ids]

    assert all(named(vocab, role) == named(old, role) for role in vocab.roles)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(text=texts)
def test_any_text_is_its_bytes_and_comes_back(name, text):
    tokenizer = bytes_of(name)
    if not has_special(name, text):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == list(text.encode())
        assert tokenizer.decode(ids) == text
    # For the encoder what looks like a special is text.
    (spans,) = encoders_of(name)[1]([text], add_start=False, add_end=False)
    assert spans.ids.tolist() == list(text.encode())
    assert (spans.ends - spans.starts == 1).all()
    assert spans.exact.all()


@pytest.mark.parametrize("name", ["tiny/spm_bpe", "tiny/bytelevel_bpe", "qwen2.5"])
def test_the_text_of_a_special_is_that_special_as_with_the_original(name):
    for tokenizer in (original_of(name), bytes_of(name)):
        special = tokenizer.eos_token
        ids = tokenizer(f"a{special}b", add_special_tokens=False)["input_ids"]
        assert tokenizer.eos_token_id in ids
        split = tokenizer(f"a{special}b", add_special_tokens=False, split_special_tokens=True)
        assert tokenizer.eos_token_id not in split["input_ids"]


@pytest.mark.parametrize("name", NAMES)
def test_around_texts_stand_the_specials_that_the_original_puts_there(name):
    original, tokenizer = original_of(name), bytes_of(name)

    def around(one, *given):
        encoding = one(*given)
        specials = set(one.all_special_tokens) | set(one.get_added_vocab())
        tokens = one.convert_ids_to_tokens(encoding["input_ids"])
        return [token if token in specials else "." for token in tokens]

    for given_texts in (("A",), ("A", "A")):
        mine = around(tokenizer, *given_texts)
        theirs = [t for t in around(original, *given_texts) if t != "."]
        assert [token for token in mine if token != "."] == theirs
        assert mine.count(".") == len(given_texts)


@pytest.mark.parametrize("name", NAMES)
def test_half_a_character_decodes_to_a_replacement(name):
    tokenizer = bytes_of(name)
    whole = "né".encode()
    assert tokenizer.decode(list(whole)) == "né"
    assert tokenizer.decode(list(whole[:-1])) == "n\ufffd"
    assert tokenizer.decode([0xFF]) == "\ufffd"


@pytest.mark.parametrize("name", NAMES)
def test_files_load_as_a_plain_tokenizer(name, tmp_path):
    tokenizer = bytes_of(name)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded(SAMPLE)["input_ids"] == tokenizer(SAMPLE)["input_ids"]
    assert loaded.special_tokens_map == tokenizer.special_tokens_map
    assert loaded.chat_template == original_of(name).chat_template
    assert ByteVocab.from_tokenizer(loaded) == ByteVocab.from_tokenizer(tokenizer)


@pytest.mark.parametrize("name", [*SHAPES, *REAL])
def test_a_chat_is_the_same_text_and_only_specials_are_more_than_a_byte(name, shared):
    own, side = byte_side(name, shared)
    tokenizer, original = side.encoder.tokenizer, own.encoder.tokenizer
    rendered = tokenizer.apply_chat_template(MESSAGES, tokenize=False)
    assert rendered == original.apply_chat_template(MESSAGES, tokenize=False)
    specials = {token: i for i, token in side.encoder.byte_vocab.special_tokens.items()}
    expected: list[int] = []
    after_special = False
    for part in re.split("(" + "|".join(map(re.escape, specials)) + ")", rendered):
        if after_special and name == "phi3":  # whose specials take the white space behind them
            part = part.lstrip()
        expected += [specials[part]] if part in specials else list(part.encode())
        after_special = part in specials
    assert tokenizer.apply_chat_template(MESSAGES)["input_ids"] == expected


@pytest.mark.parametrize("name", [*SHAPES, *REAL])
def test_chats_are_covered_and_their_ends_matched(name, shared):
    examples, one, two, found = aligned(*byte_side(name, shared), conversations())
    counts = [covered_of_assistant(e, a) for e, a in zip(examples, found, strict=True)]
    num_covered, num_bytes = map(sum, zip(*counts, strict=True))
    assert num_covered >= 0.999 * num_bytes
    for a, b, alignment in zip(one, two, found, strict=True):
        assert unmatched_ends(a, alignment.source_chunk_ids) == 0
        assert unmatched_ends(b, alignment.target_chunk_ids) == 0


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(text=texts)
def test_every_exact_token_of_a_teacher_is_a_chunk(name, text):
    teacher, student = encoders_of(name)
    (theirs,), (ours,) = teacher([text]), student([text])
    found = align(theirs, ours, teacher.byte_vocab, student.byte_vocab)
    if theirs.exact.all():  # else a normaliser or an unknown character is in the way
        ends = found.chunk_ends[~found.chunk_is_special]
        assert ends.tolist() == theirs.ends[theirs.ends > theirs.starts].tolist()


def test_a_byte_tokenizer_of_a_byte_tokenizer_is_the_same():
    once = bytes_of("tiny/spm_bpe")
    assert ByteVocab.from_tokenizer(byte_tokenizer(once)) == ByteVocab.from_tokenizer(once)


def test_the_original_stays_as_it_is():
    original = with_chat_template("spm_bpe", "{{ messages }}", special_tokens=("<|x|>",))
    original.backend_tokenizer.enable_truncation(1)
    before = original.backend_tokenizer.to_str()
    tokenizer = byte_tokenizer(original)
    assert original.backend_tokenizer.to_str() == before
    assert len(tokenizer("abc", add_special_tokens=False)["input_ids"]) == 3
    assert tokenizer.name_or_path == f"{original.name_or_path} (bytes)".lstrip()


def test_a_special_that_is_a_byte_is_refused():
    with pytest.raises(ValueError, match=r"special token '#' .* Rename it"):
        byte_tokenizer(with_chat_template("spm_bpe", None, special_tokens=("#",)))


def test_the_name_bytes_means_bytes_and_a_folder_of_that_name_is_spelt_out(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    for folder in ("model", "bytes"):
        tiny_tokenizer("spm_bpe").save_pretrained(tmp_path / folder)
    with caplog.at_level(logging.WARNING):
        assert len(load_target_tokenizer("bytes", "model")) == 259
    assert "pass './bytes'" in caplog.text
    assert len(load_target_tokenizer("./bytes", "model")) == 600
    assert len(load_target_tokenizer("model", "bytes")) == 600
