"""Laws of every tokenizer: a new one joins by a line in `LOSSLESS` or `LOSSY`."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from crosstok.tokenizers import Spans, TextEncoder, load_tokenizer
from tests.tiny import LOSSLESS_KINDS, tiny_tokenizer
from tests.tokenizers.odd_texts import texts

LOSSLESS = (
    *(f"tiny/{kind}" for kind in LOSSLESS_KINDS),
    "gpt2",
    "cl100k_base",
    "tinyllama",
    "mistral-7b-instruct-v0.2",
    "small-bytelevel-bpe-4k",
    "small-bytelevel-bpe-16k",
    "small-spm-bpe-bytefallback-8k",
    "small-unigram-bytefallback-8k",
)
LOSSY = ("tiny/wordpiece", "qwen2.5", "t5", "bert-base-uncased")
few = settings(max_examples=40, deadline=None)


@cache
def encoder_of(name: str) -> TextEncoder:
    if name.startswith("tiny/"):
        return TextEncoder(tiny_tokenizer(name.removeprefix("tiny/")))
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared")
    return TextEncoder(load_tokenizer(str(folder)))


@pytest.fixture(scope="module", params=LOSSLESS + LOSSY)
def encoder(request: pytest.FixtureRequest) -> TextEncoder:
    return encoder_of(request.param)


@pytest.fixture(scope="module", params=LOSSLESS)
def lossless(request: pytest.FixtureRequest) -> TextEncoder:
    return encoder_of(request.param)


def text_tokens(spans: Spans) -> Iterator[tuple[int, int, int, bool]]:
    placed = {index for index, _ in spans.specials}
    for index in range(len(spans)):
        if index not in placed:
            yield (
                int(spans.ids[index]),
                int(spans.starts[index]),
                int(spans.ends[index]),
                bool(spans.exact[index]),
            )


def test_every_id_has_bytes_or_is_special_or_is_a_gap(encoder: TextEncoder) -> None:
    vocab, backend = encoder.byte_vocab, encoder.tokenizer.backend_tokenizer
    used = set(backend.get_vocab(True).values())
    assert len(vocab) == max(used) + 1
    for index, content in enumerate(vocab.token_bytes):
        if content is None:
            assert (index in vocab.special_ids) == (index in used)
        else:
            assert content
            assert index in used
            assert index not in vocab.special_ids
            assert index in vocab.ids_of(content)
    assert set(vocab.special_tokens) == vocab.special_ids
    assert {index for ids in vocab.roles.values() for index in ids} <= used


def test_a_byte_string_is_emitted_by_its_first_id(encoder: TextEncoder) -> None:
    vocab = encoder.byte_vocab
    contents = {vocab.token_bytes[index] for index in vocab.shadowed_ids}
    assert all(len(vocab.ids_of(content)) > 1 for content in contents if content is not None)
    for content in contents:
        assert content is not None
        ids = vocab.ids_of(content)
        assert [index in vocab.shadowed_ids for index in ids] == [False] + [True] * (len(ids) - 1)
        if content.decode(errors="replace").isalnum():
            (spans,) = encoder([content.decode() * 2], add_start=False, add_end=False)
            assert not set(ids[1:]) & set(spans.ids.tolist())


@few
@given(text=texts())
def test_spans_cover_the_text_and_exact_tokens_are_its_bytes(
    encoder: TextEncoder, text: str
) -> None:
    payload, vocab = text.encode(), encoder.byte_vocab
    (spans,) = encoder([text])
    assert spans.num_bytes == len(payload)
    assert spans.ids.dtype == spans.starts.dtype == spans.ends.dtype == np.int64
    assert (np.diff(spans.ends) >= 0).all()
    tokens = list(text_tokens(spans))
    place = 0
    for rank, (index, start, end, exact) in enumerate(tokens):
        assert start == place
        assert end >= start
        place = end
        content, covered = vocab.token_bytes[index], payload[start:end]
        if exact:
            assert content in (covered, b" " + covered)
        else:
            assert content != covered or not covered
        if exact and content != covered and not encoder.byte_vocab.begins_words_with_space:
            assert rank == 0  # a space that is not in the text: only at its start
    assert place == len(payload) or not tokens
    if not text:
        assert not tokens
    for index, role in spans.specials:
        assert spans.starts[index] == spans.ends[index] == (0 if role == "bos" else len(payload))
        place = vocab.document_start if role == "bos" else vocab.document_end
        assert int(spans.ids[index]) == place
    assert not {index for index, *_ in tokens} & vocab.special_ids - {_unknown(encoder)}


def _unknown(encoder: TextEncoder) -> int:
    return encoder.byte_vocab.roles.get("unk", (-1,))[0]


def _keeps_every_byte(encoder: TextEncoder, text: str) -> bool:
    """Leave out what a SentencePiece-like tokenizer itself reads as something else."""
    marker = "▁" in text and encoder.byte_vocab.shadowed_ids
    return not marker and "<0x" not in text


@few
@given(text=texts())
def test_every_token_of_a_lossless_tokenizer_is_exact(lossless: TextEncoder, text: str) -> None:
    (spans,) = lossless([text])
    if _keeps_every_byte(lossless, text):
        assert spans.exact.all()
        joined = b"".join(lossless.byte_vocab.token_bytes[i] or b"" for i, *_ in text_tokens(spans))
        assert joined in (text.encode(), b" " + text.encode())


@few
@given(text=texts())
def test_qwen_is_exact_on_text_in_nfc(text: str) -> None:
    (spans,) = encoder_of("qwen2.5")([unicodedata.normalize("NFC", text)])
    assert spans.exact.all()


@few
@given(text=texts())
def test_both_ways_to_cut_agree(lossless: TextEncoder, text: str) -> None:
    if not text or not _keeps_every_byte(lossless, text):
        return
    (spans,) = lossless([text], add_start=False, add_end=False)
    (encoding,) = lossless._encode([text], offsets=True)
    assert encoding.ids == spans.ids.tolist()
    ends, exact = lossless._cut_by_offsets(encoding, text)
    assert ends.tolist() == spans.ends.tolist()
    assert np.asarray(exact).all()


@few
@given(text=texts())
def test_ids_are_those_of_the_tokenizer_where_no_mark_is_typed(
    encoder: TextEncoder, text: str
) -> None:
    if any(mark in text for mark in encoder.byte_vocab.special_tokens.values()):
        return
    ids = encoder.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    (spans,) = encoder([text], add_start=False, add_end=False)
    assert spans.ids.tolist() == ids


@few
@given(text=texts())
def test_a_batch_is_its_texts_one_by_one(encoder: TextEncoder, text: str) -> None:
    batch = ["", text, "The end.", text + " é"]
    for together, alone in zip(encoder(batch), [encoder([one])[0] for one in batch], strict=True):
        for field in ("ids", "starts", "ends", "exact"):
            assert getattr(together, field).tolist() == getattr(alone, field).tolist()
        assert together.specials == alone.specials
