import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstok.byteview import EXACT, ByteModel
from tests.byteview.brute_bytes import Brute
from tests.byteview.toy_tokenizers import ALPHABETS, TOYS, toy_tokenizer
from tests.tiny_models import tiny_model

TARGETS = ("all", "canonical", "canonical_renormalized")
each_toy = pytest.mark.parametrize("toy", TOYS)
each_target = pytest.mark.parametrize("target", TARGETS)
_MADE = {}


def made(toy, target, kind=ByteModel):
    """A random model in float64 with its exact byte view, and the twin by definition."""
    if (toy, target) not in _MADE:
        tokenizer = toy_tokenizer(toy)
        model = tiny_model("llama", len(tokenizer), seed=3, max_position_embeddings=64).double()
        fast = ByteModel(model, tokenizer, target=target, pruning=EXACT)
        _MADE[toy, target] = fast, Brute(model, tokenizer, target)
    return _MADE[toy, target]


def strings(toy, size=5):
    return st.text(st.sampled_from(ALPHABETS[toy]), max_size=size).map(str.encode)


@each_target
@each_toy
def test_next_bytes_equal_the_sum_over_all_token_sequences(toy, target):
    fast, brute = made(toy, target)

    @settings(max_examples=12, deadline=None)
    @given(strings(toy, 4), st.integers(0, 2))
    def holds(content, cut):
        content = content[: len(content) - cut] if cut else content
        if not brute.prefix(content):
            return
        alphabet = {byte for c in brute.vocab.token_bytes if c for byte in c}
        wanted = brute.next_bytes(content, alphabet)
        found = np.exp(fast.prefill(content).next_byte_logprobs())
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-15)
        assert found.sum() == pytest.approx(1, abs=1e-12)

    holds()


@each_target
@each_toy
def test_the_probability_of_a_text_equals_the_sum_over_its_covers(toy, target):
    fast, brute = made(toy, target)

    @settings(max_examples=12, deadline=None)
    @given(st.lists(strings(toy, 5), min_size=1, max_size=3))
    def holds(contents):
        contents = [content for content in contents if brute.prefix(content) > 0]
        scores = fast.score(contents)
        for content, score in zip(contents, scores, strict=True):
            wanted = math.log(brute.prefix(content)) if content else 0.0
            assert score.logprob == pytest.approx(wanted, rel=1e-9, abs=1e-12)
            assert score.lower_bound == score.logprob
            assert fast.prefill(content).logprob == pytest.approx(wanted, rel=1e-9, abs=1e-9)

    holds()


@pytest.mark.parametrize("target", ["all", "canonical_renormalized"])
@each_toy
def test_chain_rule(toy, target):
    fast, _ = made(toy, target)
    content = (ALPHABETS[toy] * 3).encode()[:7]
    if toy in ("bpe_words", "unigram_words"):
        content = b"ab a bb"
    stream = fast.prefill()
    total = 0.0
    for byte in content:
        total += stream.next_byte_logprobs()[byte]
        stream.advance(byte)
    assert total == pytest.approx(fast.score([content])[0].logprob, rel=1e-9)
