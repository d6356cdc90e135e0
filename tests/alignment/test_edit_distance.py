"""MinED's map of one vocabulary to another."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosstok.alignment import ENDS_OF_CHATS, nearest_tokens, overlapping_tokens
from crosstok.tokenizers import ByteVocab, load_tokenizer
from tests.tiny import KINDS, tiny_tokenizer


def vocab_of(*tokens, roles=None, specials=None):
    """A vocabulary of these tokens (None: a special or a gap)."""
    specials = specials or {}
    return ByteVocab(
        token_bytes=tuple(t and t.encode("utf-8", "surrogateescape") for t in tokens),
        special_ids=frozenset(specials),
        roles=roles or {},
        special_tokens=specials,
    )


def slow_levenshtein(one, other):
    """The textbook table."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above, row = row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)))
    return row[-1]


def test_the_textbook_distance():
    assert slow_levenshtein("kitten", "sitting") == 3
    # At distance 3 "sitting" is nearer than "k" (5) and than "mittens and gloves" (13).
    found = nearest_tokens(vocab_of("kitten"), vocab_of("k", "mittens and gloves", "sitting"))
    assert found.ids.tolist() == [2]
    assert not found.is_exact.any()


words = st.lists(
    st.one_of(
        st.text("ab ", min_size=1, max_size=6),
        st.text(min_size=1, max_size=4).filter(lambda t: t.isprintable()),
    ),
    min_size=1,
    max_size=12,
    unique=True,
)


@given(words, words)
def test_equals_the_search_written_out(source, target):
    found = nearest_tokens(vocab_of(*source), vocab_of(*target))
    for token, index, is_exact in zip(source, found.ids, found.is_exact, strict=True):
        distances = [slow_levenshtein(token, other) for other in target]
        assert index == distances.index(min(distances))
        assert is_exact == (token in target)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_maps_to_itself(kind):
    vocab = ByteVocab.from_tokenizer(tiny_tokenizer(kind))
    found = nearest_tokens(vocab, vocab)
    is_token = np.array(
        [t is not None or i in vocab.special_ids for i, t in enumerate(vocab.token_bytes)]
    )
    assert (found.ids[is_token] == np.flatnonzero(is_token)).all()
    assert (found.ids[~is_token] == -1).all()
    assert found.is_exact[is_token].all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_permuted_copy_gives_the_permutation(kind):
    vocab = ByteVocab.from_tokenizer(tiny_tokenizer(kind))
    order = list(range(len(vocab)))
    random.Random(0).shuffle(order)  # new id of each old one
    tokens = dict(zip(order, vocab.token_bytes, strict=True))
    copy = ByteVocab(
        token_bytes=tuple(tokens[i] for i in range(len(vocab))),
        special_ids=frozenset(order[i] for i in vocab.special_ids),
        roles={role: tuple(order[i] for i in ids) for role, ids in vocab.roles.items()},
        special_tokens={order[i]: name for i, name in vocab.special_tokens.items()},
        shadowed_ids=frozenset(order[i] for i in vocab.shadowed_ids),
    )
    found = nearest_tokens(vocab, copy)
    # An id that the encoder never emits goes where the emitted id of its bytes goes.
    for index, token in enumerate(vocab.token_bytes):
        if token is not None:
            assert found.ids[index] == order[vocab.ids_of(token)[0]]
        elif index in vocab.special_ids:
            assert found.ids[index] == order[index]


def test_of_several_nearest_tokens_the_lowest_id_is_taken():
    target = vocab_of("xxxx", "bat", "hat", "ca")
    assert nearest_tokens(vocab_of("cat"), target).ids.tolist() == [1]
    assert nearest_tokens(vocab_of("a", "cat"), vocab_of("ca", "bat")).ids.tolist() == [0, 0]


def test_a_space_is_a_character():
    assert nearest_tokens(vocab_of(" cats"), vocab_of("cats.", " cat")).ids.tolist() == [1]


def test_bytes_that_are_no_text_compare_as_bytes():
    source = vocab_of("\udce4\udcba")  # the first two bytes of a Chinese character
    target = vocab_of("xy", "\udce4\udcbb", "\udcba")
    assert nearest_tokens(source, target).ids.tolist() == [1]


def test_ends_map_by_role_and_specials_of_no_role_to_text():
    source = vocab_of(
        None, None, None, "a", roles={"eos": (0,), "bos": (1,)},
        specials={0: "<|endoftext|>", 1: "<s>", 2: "[tool]"},
    )  # fmt: skip
    target = vocab_of(
        "tool", None, None, "a", roles={"eos": (1,), "bos": (2,)}, specials={1: "</s>", 2: "<bos>"}
    )
    found = nearest_tokens(source, target)
    assert found.ids.tolist() == [1, 2, 0, 3]
    assert found.is_exact.tolist() == [True, True, False, True]


def test_no_text_ever_becomes_a_special():
    target = vocab_of(None, "zzzzzzzz", specials={0: "</s>"}, roles={"eos": (0,)})
    assert nearest_tokens(vocab_of("</s>", "s"), target).ids.tolist() == [1, 1]


def test_tokens_of_any_length_are_compared():
    long = "-" * 300
    found = nearest_tokens(vocab_of(long + "a", "-"), vocab_of("-" * 200, long, "="))
    assert found.ids.tolist() == [1, 2]


def test_a_target_without_text_is_refused():
    with pytest.raises(ValueError, match="no token with bytes"):
        nearest_tokens(vocab_of("a"), vocab_of(None, specials={0: "</s>"}))


def test_real_vocabularies_map_whole(shared):
    folder = shared / "data" / "tokenizers"
    source, target = (
        ByteVocab.from_tokenizer(load_tokenizer(str(folder / name)))
        for name in ("small-bytelevel-bpe-16k", "small-unigram-bytefallback-8k")
    )
    found = nearest_tokens(source, target)
    assert (found.ids >= 0).all()
    assert 0.3 < found.is_exact.mean() < 0.6


def test_the_end_of_an_answer_is_what_a_model_writes_not_what_its_template_makes_of_it_later():
    ends = {"eos": (0,), "end_of_turn": (1,), "end_of_chat": (2,)}
    source = vocab_of(None, None, None, "a", roles=ends)
    target = vocab_of("a", None, roles={"end_of_turn": (1,), "eos": (1,)})
    pairs = overlapping_tokens(source, target, roles=ENDS_OF_CHATS)
    assert (pairs.source_ids.tolist(), pairs.target_ids.tolist()) == ([3, 2], [0, 1])
