"""The parts of the byte view: the trie, and the rules of what an encoder would write."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from crosstok.byteview.canonical import Pairs, Reencoding, canonicality
from crosstok.byteview.merge_pairs import MergePairs
from crosstok.byteview.trie import ByteTrie, child_masses
from crosstok.tokenizers import ByteVocab, TextEncoder
from tests.texts import texts
from tests.tiny import KINDS, SENTENCES, tiny_tokenizer

vocabularies = st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=4)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(vocabularies, st.binary(max_size=5))
def test_a_node_holds_the_tokens_that_begin_with_its_bytes(token_bytes, content):
    trie = ByteTrie(token_bytes)
    nodes = list(trie.walk(content))
    for depth in range(1, len(content) + 1):
        wanted = {
            i for i, c in enumerate(token_bytes) if c is not None and c.startswith(content[:depth])
        }
        if depth > len(nodes):
            assert not wanted
            continue
        node = nodes[depth - 1]
        assert set(trie.ids[node.first : node.last].tolist()) == wanted
        assert set(trie.ids_at(node)) == {i for i in wanted if token_bytes[i] == content[:depth]}


@settings(max_examples=30, deadline=None)
@given(vocabularies)
def test_the_masses_of_the_children_are_sums_over_their_tokens(token_bytes):
    trie = ByteTrie(token_bytes)
    masses = np.random.default_rng(0).random(len(trie.ids))
    found = dict(zip(trie.root.next_bytes.tolist(), child_masses(trie.root, masses), strict=True))
    wanted = {}
    for index, mass in zip(trie.ids.tolist(), masses, strict=True):
        wanted[token_bytes[index][0]] = wanted.get(token_bytes[index][0], 0) + mass
    assert found == pytest.approx(wanted)


def without_pattern():
    """The byte-level BPE of the tests, without the pattern that splits texts."""
    description = json.loads(tiny_tokenizer("bytelevel_bpe").backend_tokenizer.to_str())
    description["pre_tokenizer"]["use_regex"] = False
    backend = Tokenizer.from_str(json.dumps(description))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")


def test_pairs_by_merges_are_pairs_by_encoding():
    tokenizer = without_pattern()
    vocab = ByteVocab.from_tokenizer(tokenizer)
    rule = canonicality(tokenizer, vocab)
    assert isinstance(rule, Pairs)
    model, pieces = tokenizer.backend_tokenizer.model, tokenizer.convert_ids_to_tokens(range(512))
    ids = np.array([i for i, content in enumerate(vocab.token_bytes) if content])
    reachable = [i for i in ids.tolist() if [t.id for t in model.tokenize(pieces[i])] == [i]]
    assert ids[rule.may_follow((), ids)].tolist() == reachable
    for left in reachable[::25]:
        found = rule.may_follow((left,), ids)
        wanted = [
            [t.id for t in model.tokenize(pieces[left] + pieces[right])] == [left, right]
            for right in ids.tolist()
        ]
        assert found.tolist() == wanted, pieces[left]


def test_merges_that_come_before_their_parts_are_left_to_the_encoder():
    tokenizer = without_pattern()
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    description["model"]["merges"].reverse()
    assert MergePairs.from_description(description, ByteVocab.from_tokenizer(tokenizer)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_encoder_writes_is_canonical(kind):
    tokenizer = tiny_tokenizer(kind)
    encoder = TextEncoder(tokenizer)
    rule = canonicality(tokenizer, encoder.byte_vocab)
    assert isinstance(rule, Reencoding)

    def check(text):
        [spans] = encoder([text], add_start=False, add_end=False)
        content = [encoder.byte_vocab.token_bytes[i] for i in spans.ids.tolist()]
        if None in content or not spans.exact.all():
            return  # an unknown token, or another text than this one
        key, steps = (), []
        for token in spans.ids.tolist():
            steps.append((key, token))
            key = rule.then(key, token)
        allowed = rule.each(steps)
        assert allowed.all(), (text, np.flatnonzero(~allowed))

    for sentence in SENTENCES:
        check(sentence)
    settings(max_examples=40, deadline=None)(given(texts)(check))()


def test_what_the_encoder_would_not_write_is_not_canonical():
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    vocab = ByteVocab.from_tokenizer(tokenizer)
    rule = canonicality(tokenizer, vocab)
    [the], [t], [he] = (vocab.ids_of(piece) for piece in (b" the", b" t", b"he"))
    assert rule.may_follow((), np.array([the, t])).all()
    assert not rule.may_follow(rule.then((), t), np.array([he]))[0]
