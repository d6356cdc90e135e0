"""The tokenizer that the demo builds for itself."""

from __future__ import annotations

import argparse
import dataclasses
import email.message
import enum
import inspect
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from crosstok.demo.corpus import docstrings, strip_code
from crosstok.demo.target_tokenizer import BYTE_TOKENS, SPECIAL_TOKENS, build_target_tokenizer
from crosstok.tokenizers import ByteVocab, TextEncoder

MODULES = (argparse, dataclasses, email.message, enum, inspect, typing)
SOURCES = [inspect.getsource(module) for module in MODULES]
TEXTS = [text for source in SOURCES for text in (strip_code(source), *docstrings(source))]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_target_tokenizer(TEXTS, num_tokens=1000)


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return ids


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(
        st.one_of(
            st.text(max_size=8),
            st.text(alphabet=" \t\n\r", max_size=8),
            st.sampled_from(["def f(self):", "<0x41>", "<s>", "<unk>", "é", "e\u0301", "🤖", "猫"]),
        )
    ).map("".join)
)
def test_every_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids) == text.replace("▁", " ")
    assert not set(ids) & set(tokenizer.all_special_ids)


def test_a_space_look_alike_comes_back_as_a_space(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.decode(encode(tokenizer, "a▁b")) == "a b"


def test_equal_texts_give_equal_tokenizers(tokenizer: PreTrainedTokenizerFast) -> None:
    again = build_target_tokenizer(TEXTS, num_tokens=1000)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_the_vocabulary_has_the_size_asked_for_and_all_bytes(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert len(tokenizer) == 1000
    assert tokenizer.convert_ids_to_tokens(list(range(260))) == [*SPECIAL_TOKENS, *BYTE_TOKENS]
    assert tokenizer("a").input_ids[0] == tokenizer.bos_token_id


def test_indentation_is_one_token_and_a_word_may_hold_its_punctuation(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokens = tokenizer.convert_ids_to_tokens(encode(tokenizer, "a\n    the end.\n"))
    assert tokens[1:4] == ["\n", "▁▁▁", "▁the"]
    assert any(token[-1] in ".,)" and token[-2:-1].isalpha() for token in tokenizer.get_vocab())


def test_a_table_of_byte_names_does_not_teach_bytes() -> None:
    tokenizer = build_target_tokenizer(["<0x41> " * 500, *TEXTS[:300]], num_tokens=800)
    assert tokenizer.decode(encode(tokenizer, "<0x41>")) == "<0x41>"


def test_crosstok_knows_its_bytes(tokenizer: PreTrainedTokenizerFast) -> None:
    vocab = ByteVocab.from_tokenizer(tokenizer)
    assert vocab.token_bytes[4 + 0x41] == b"A"
    assert vocab.document_start == tokenizer.bos_token_id
    assert vocab.document_end == tokenizer.eos_token_id
    text = "  def f(x):\n\treturn 'é'\n"
    (spans,) = TextEncoder(tokenizer)([text])
    assert b"".join(vocab.token_bytes[i] or b"" for i in spans.ids) == text.encode()
    assert spans.exact.all()


def test_too_small_a_vocabulary_and_no_text_are_errors() -> None:
    with pytest.raises(ValueError, match="num_tokens is 300"):
        build_target_tokenizer(TEXTS, num_tokens=300)
    with pytest.raises(ValueError, match="no text at all"):
        build_target_tokenizer(["", ""])
