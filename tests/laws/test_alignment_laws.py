"""What every alignment must satisfy, over texts in many scripts and every kind of tokenizer."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings

from crosstok.alignment import Alignment, align
from crosstok.tokenizers import ByteVocab, Spans, TextEncoder
from tests.texts import SAMPLE, texts
from tests.tiny import KINDS, LOSSLESS_KINDS, tiny_tokenizer

ENCODERS = {kind: TextEncoder(tiny_tokenizer(kind)) for kind in KINDS}


def spelled(spans: Spans, chunk_ids: np.ndarray, chunk: int, vocab: ByteVocab) -> bytes:
    """The bytes of a chunk on one side, less a dummy prefix space (slow and plain)."""
    out = b""
    for token in np.flatnonzero(chunk_ids == chunk):
        piece = vocab.token_bytes[spans.ids[token]]
        assert piece is not None
        width = spans.ends[token] - spans.starts[token]
        out += piece[len(piece) - width :] if spans.exact[token] else piece
    return out


def brute_force(source: Spans, target: Spans) -> list[tuple[list[int], list[int]]]:
    """Greedy two-pointer walk over text tokens with positive width, both sides exact."""
    groups, a, b = [], [], []
    left = [i for i in range(len(source.ids)) if source.ends[i] > source.starts[i]]
    right = [i for i in range(len(target.ids)) if target.ends[i] > target.starts[i]]
    while left and right:
        end_left, end_right = source.ends[left[0]], target.ends[right[0]]
        if end_left <= end_right:
            a.append(left.pop(0))
        if end_right <= end_left:
            b.append(right.pop(0))
        if end_left == end_right:
            groups.append((a, b))
            a, b = [], []
    return groups


def aligned(one: str, other: str, text: str) -> tuple[Spans, Spans, Alignment]:
    source, target = ENCODERS[one]([text])[0], ENCODERS[other]([text])[0]
    return (
        source,
        target,
        align(source, target, ENCODERS[one].byte_vocab, ENCODERS[other].byte_vocab),
    )


@pytest.mark.parametrize(("one", "other"), list(product(KINDS, KINDS)))
@settings(max_examples=25, deadline=None)
@given(text=texts)
def test_both_sides_of_a_chunk_hold_the_same_bytes(one, other, text):
    source, target, alignment = aligned(one, other, text)
    for chunk in range(alignment.num_chunks):
        on_source = alignment.source_chunk_ids == chunk
        on_target = alignment.target_chunk_ids == chunk
        assert on_source.any()
        assert on_target.any()
        if alignment.chunk_is_special[chunk]:
            continue
        left = spelled(source, alignment.source_chunk_ids, chunk, ENCODERS[one].byte_vocab)
        right = spelled(target, alignment.target_chunk_ids, chunk, ENCODERS[other].byte_vocab)
        assert left == right
        span = slice(alignment.chunk_starts[chunk], alignment.chunk_ends[chunk])
        if source.exact[on_source].all():
            assert left == text.encode()[span]


@pytest.mark.parametrize(("one", "other"), list(permutations(LOSSLESS_KINDS, 2)))
@settings(max_examples=25, deadline=None)
@given(text=texts)
def test_lossless_tokenizers_are_covered_wholly_and_as_by_brute_force(one, other, text):
    source, target, alignment = aligned(one, other, text)
    if "▁" not in text and "<0x" not in text:  # SentencePiece reads these as something else
        assert alignment.coverage == 1.0
        groups = brute_force(source, target)
        text_chunks = np.flatnonzero(~alignment.chunk_is_special)
        assert len(groups) == len(text_chunks)
        for (left, right), chunk in zip(groups, text_chunks, strict=True):
            assert set(left) <= set(np.flatnonzero(alignment.source_chunk_ids == chunk))
            assert set(right) <= set(np.flatnonzero(alignment.target_chunk_ids == chunk))


@pytest.mark.parametrize(("one", "other"), list(permutations(KINDS, 2)))
@settings(max_examples=10, deadline=None)
@given(text=texts)
def test_swapping_the_sides_swaps_the_ids(one, other, text):
    _, _, there = aligned(one, other, text)
    _, _, back = aligned(other, one, text)
    np.testing.assert_array_equal(there.source_chunk_ids, back.target_chunk_ids)
    np.testing.assert_array_equal(there.target_chunk_ids, back.source_chunk_ids)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(text=texts)
def test_the_same_tokenizer_gives_one_token_a_chunk(kind, text):
    spans, _, alignment = aligned(kind, kind, text)
    widths = spans.ends - spans.starts
    visible = (widths > 0) & (alignment.source_chunk_ids >= 0)
    _, counts = np.unique(alignment.source_chunk_ids[visible], return_counts=True)
    assert (counts == 1).all()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(text=texts)
def test_chunk_ids_rise_along_the_text(kind, text):
    _, _, alignment = aligned("bytelevel_bpe", kind, text)
    for ids in (alignment.source_chunk_ids, alignment.target_chunk_ids):
        assert (np.diff(ids[ids >= 0]) >= 0).all()


@pytest.mark.parametrize(("one", "other"), list(product(KINDS, KINDS)))
def test_specials_on_one_side_never_disturb_the_rest(one, other):
    encoders = ENCODERS[one], ENCODERS[other]
    plain = [e([SAMPLE], add_start=False, add_end=False)[0] for e in encoders]
    vocabs = [e.byte_vocab for e in encoders]
    bare = align(*plain, *vocabs)
    with_specials = encoders[0]([SAMPLE])[0]
    mixed = align(with_specials, plain[1], *vocabs)
    np.testing.assert_array_equal(mixed.target_chunk_ids, bare.target_chunk_ids)
