"""Chunks: the cases in which a walk over byte counts goes wrong, and what the numbers mean."""

import numpy as np
import pytest

from crosstok.alignment import align, align_batch, tokens_that_fit
from crosstok.tokenizers import TEMPLATE, ByteVocab, Spans, TextEncoder
from tests.tiny import KINDS, tiny_tokenizer


def spans(*tokens: bytes | tuple[str, int], exact: bool = True) -> tuple[Spans, ByteVocab]:
    """Spans of tokens given as bytes, or as (role, number of tokens) for a special."""
    ids, starts, ends, specials, pieces = [], [], [], [], []
    place = 0
    for token in tokens:
        count = token[1] if isinstance(token, tuple) else 1
        for _ in range(count):
            width = 0 if isinstance(token, tuple) else len(token)
            if isinstance(token, tuple):
                specials.append((len(ids), token[0]))
            pieces.append(None if isinstance(token, tuple) else token)
            ids.append(len(ids))
            starts.append(place)
            place += width
            ends.append(place)
    vocab = ByteVocab(
        token_bytes=tuple(pieces),
        special_ids=frozenset(i for i, piece in enumerate(pieces) if piece is None),
        roles={},
    )
    return (
        Spans(
            ids=np.array(ids, dtype=np.int64),
            starts=np.array(starts, dtype=np.int64),
            ends=np.array(ends, dtype=np.int64),
            exact=np.full(len(ids), exact),
            specials=tuple(specials),
            num_bytes=place,
        ),
        vocab,
    )


def chunk_ids(source, target):
    (a, vocab_a), (b, vocab_b) = source, target
    alignment = align(a, b, vocab_a, vocab_b)
    return alignment.source_chunk_ids.tolist(), alignment.target_chunk_ids.tolist()


def words(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


def test_a_chunk_ends_where_both_sides_have_a_token_end():
    assert chunk_ids(spans(*words("abc", "def", "gh")), spans(*words("ab", "cdef", "gh"))) == (
        [0, 0, 1],
        [0, 0, 1],
    )


def test_the_chat_example_of_the_paper_s_code_has_its_ten_chunks():
    gemma = spans(
        ("bos", 1), ("start_header", 1), ("user", 1), ("end_header", 1),
        *words("What", "'", "s", " ultra", "cre", "pid", "arian", "?"), ("end_of_turn", 2),
    )  # fmt: skip
    llama = spans(
        ("bos", 1), ("start_header", 1), ("user", 1), ("end_header", 2),
        *words("What", "'s", " ultr", "ac", "repid", "arian", "?"), ("end_of_turn", 1),
    )  # fmt: skip
    assert chunk_ids(gemma, llama) == (
        [0, 1, 2, 3, 4, 5, 5, 6, 6, 6, 7, 8, 9, 9],
        [0, 1, 2, 3, 3, 4, 5, 6, 6, 6, 7, 8, 9],
    )


def test_a_special_on_one_side_only_disturbs_nothing_behind_it():
    one = spans(*words("Hel", "lo"), ("think", 1), *words(" wor", "ld"), ("eos", 1))
    other = spans(*words("Hello", " world"), ("eos", 1))
    assert chunk_ids(one, other) == ([0, 0, -1, 1, 1, 2], [0, 1, 2])


def test_end_of_sequence_and_end_of_turn_at_the_same_place_stay_apart():
    one = spans(*words("Hi"), ("end_of_turn", 1), ("eos", 1))
    other = spans(*words("Hi"), ("eos", 1))
    assert chunk_ids(one, other) == ([0, -1, 1], [0, 1])


def test_what_a_template_writes_of_its_own_is_in_no_chunk():
    left = spans((TEMPLATE, 2), ("header_user", 1), b"hi", ("end_of_turn", 1), (TEMPLATE, 1))
    right = spans((TEMPLATE, 1), ("header_user", 2), b"hi", ("end_of_turn", 1), (TEMPLATE, 1))
    assert chunk_ids(left, right) == ([-1, -1, 0, 1, 2, -1], [-1, 0, 0, 1, 2, -1])


def test_bos_and_a_dummy_prefix_on_one_side_cost_nothing():
    (spm, vocab) = spans(("bos", 1), b"", *words("Hello", " there"))
    vocab = ByteVocab((None, b" ", *words("Hello", " there")), frozenset({0}), {})
    gpt = spans(*words("Hel", "lo", " there"))
    assert chunk_ids((spm, vocab), gpt) == ([-1, 0, 0, 1], [0, 0, 1])


def test_a_dummy_prefix_after_a_special_in_mid_sequence_joins_what_follows():
    (spm, _) = spans(*words("Hi"), ("end_of_turn", 1), b"", *words("you"))
    vocab = ByteVocab((b"Hi", None, b" ", b"you"), frozenset({1}), {})
    gpt = spans(*words("Hi"), ("end_of_turn", 1), *words("y", "ou"))
    assert chunk_ids((spm, vocab), gpt) == ([0, 1, 2, 2], [0, 1, 2, 2])


def test_a_side_that_is_only_bos_is_no_error():
    assert chunk_ids(spans(("bos", 1)), spans(("bos", 1))) == ([0], [0])
    assert chunk_ids(spans(("bos", 1)), spans()) == ([-1], [])


def test_text_that_spells_a_role_is_text():
    assert chunk_ids(spans(*words("user", "\n")), spans(*words("us", "er\n"))) == ([0, 0], [0, 0])


def test_tokens_behind_the_last_common_end_are_in_no_chunk():
    (source, vocab_a) = spans(*words("abc", "de"))
    (target, vocab_b) = spans(*words("abc", "d", "e"))
    cut = Spans(target.ids[:2], target.starts[:2], target.ends[:2], target.exact[:2], (), 5)
    assert align(source, cut, vocab_a, vocab_b).target_chunk_ids.tolist() == [0, -1]


def test_a_chunk_whose_sides_hold_other_bytes_is_dropped_and_the_rest_kept():
    source = spans(*words("The", " cat"))
    (target, _) = spans(*words("The", " cat"), exact=False)
    lower = ByteVocab((b"the", b" cat"), frozenset(), {})
    assert chunk_ids(source, (target, lower)) == ([-1, 0], [-1, 0])


def test_two_sides_that_changed_the_text_in_the_same_way_still_agree():
    (source, _), (target, _) = spans(b"The", b" Cat", exact=False), spans(b"The Cat", exact=False)
    lower = ByteVocab((b"the", b" cat"), frozenset(), {})
    joined = ByteVocab((b"the cat",), frozenset(), {})
    assert chunk_ids((source, lower), (target, joined)) == ([0, 0], [0])


def test_texts_of_a_batch_are_aligned_apart():
    encoders = [TextEncoder(tiny_tokenizer(kind)) for kind in ("bytelevel_bpe", "spm_bpe")]
    texts = ["Hello world", "", "猫はソファ\n", "a"]
    a, b = (encoder(texts) for encoder in encoders)
    together = align_batch(a, b, encoders[0].byte_vocab, encoders[1].byte_vocab)
    for i, alignment in enumerate(together):
        alone = align(a[i], b[i], encoders[0].byte_vocab, encoders[1].byte_vocab)
        np.testing.assert_array_equal(alignment.source_chunk_ids, alone.source_chunk_ids)
        np.testing.assert_array_equal(alignment.target_chunk_ids, alone.target_chunk_ids)
        np.testing.assert_array_equal(alignment.chunk_ends, alone.chunk_ends)
        assert alignment.coverage == 1.0


def test_an_empty_batch_aligns_to_nothing():
    vocab = ByteVocab((), frozenset(), {})
    assert align_batch([], [], vocab, vocab) == []


def test_spans_of_different_texts_are_refused():
    (a, vocab_a), (b, vocab_b) = spans(b"abc"), spans(b"ab")
    with pytest.raises(ValueError, match="3 bytes on the source side and 2"):
        align(a, b, vocab_a, vocab_b)


@pytest.mark.parametrize("limits", [(6, 6), (3, 30), (30, 4), (1, 1), (100, 100)])
def test_both_sides_are_cut_at_the_same_byte(limits):
    encoders = [TextEncoder(tiny_tokenizer(kind)) for kind in ("bytelevel_bpe", "unigram")]
    a, b = (encoder(["The quick brown fox wartet während 猫 naps."])[0] for encoder in encoders)
    alignment = align(a, b, encoders[0].byte_vocab, encoders[1].byte_vocab)
    num_a, num_b = tokens_that_fit(alignment, a, b, *limits)
    assert num_a <= limits[0]
    assert num_b <= limits[1]
    if num_a and num_b:
        assert a.ends[num_a - 1] == b.ends[num_b - 1]


@pytest.mark.parametrize("kind", KINDS)
def test_coverage_of_a_tokenizer_with_itself_is_one(kind):
    encoder = TextEncoder(tiny_tokenizer(kind))
    text = ["Hello world, the Quick brown fox."]
    one = encoder(text)[0]
    assert align(one, one, encoder.byte_vocab, encoder.byte_vocab).coverage == 1.0
