"""Log-probabilities of rows of tokens: which outcomes count, and that equal rows are equal."""

import numpy as np
import pytest
import torch

from crosstok.inference import Scorer
from crosstok.models import output_head, token_scores, vocabulary_masks
from tests.tiny import SENTENCES, tiny_tokenizer
from tests.tiny_models import tiny_model


def scorer(kind="bytelevel_bpe", num_padding=0, **options):
    tokenizer = tiny_tokenizer(kind)
    size = max(tokenizer.get_vocab().values()) + 1 + num_padding
    return Scorer(tiny_model("llama", size), tokenizer, **options)


def rows_of(one, texts):
    return [one.row(spans.ids) for spans in one.encode(texts)]


def trained_on(one, ids, *, masked=True):
    """What training computes of the same ids."""
    head = output_head(one.model)
    _, valid = vocabulary_masks(one.byte_vocab, head)
    batch = torch.from_numpy(np.array(ids))[None]
    with torch.no_grad():
        scores = token_scores(
            one.model, head, batch, torch.ones_like(batch), valid_ids=valid if masked else None
        )
    return scores.token_logprobs[0, 1:].double().numpy()


@pytest.mark.parametrize(("kind", "num_padding"), [("bytelevel_bpe", 24), ("gapped", 0)])
def test_rows_that_stand_for_no_token_count_no_more_than_in_training(kind, num_padding):
    one = scorer(kind, num_padding)
    rows = rows_of(one, SENTENCES[:4])
    for row, score in zip(rows, one.score(rows), strict=True):
        assert score.logprobs == pytest.approx(trained_on(one, row.ids), abs=1e-5)
        assert (score.logprobs > trained_on(one, row.ids, masked=False)).all()


def test_a_model_without_such_rows_has_the_figures_of_all_its_rows():
    one = scorer()
    assert one.valid_ids is None
    [row] = rows_of(one, SENTENCES[:1])
    with torch.no_grad():
        logprobs = one.model(torch.from_numpy(row.ids)[None]).logits[0, :-1].log_softmax(-1)
    expected = logprobs.gather(1, torch.tensor(row.ids[1:])[:, None])[:, 0]
    [score] = one.score([row])
    assert score.logprobs == pytest.approx(expected.numpy(), abs=1e-5)


def test_padding_is_never_the_likeliest():
    one = scorer(num_padding=8)
    with torch.no_grad():
        one.model.get_output_embeddings().weight[-8:] *= 50
    rows = rows_of(one, SENTENCES[:1])
    with torch.no_grad():
        logits = one.model(torch.from_numpy(rows[0].ids)[None]).logits[0, :-1, :-8]
    expected = logits.argmax(-1).numpy() == rows[0].ids[1:]
    assert one.score(rows, greedy=True)[0].is_greedy.tolist() == expected.tolist()


def test_equal_rows_have_equal_figures_to_the_last_digit():
    one, counts = scorer(tokens_per_batch=100), []
    texts = [SENTENCES[0], SENTENCES[1], SENTENCES[0], SENTENCES[0], SENTENCES[2]]
    rows = rows_of(one, texts)
    scores = one.score(rows, greedy=True, on_progress=counts.append)
    assert sum(counts) == len(rows)
    assert np.array_equal(scores[0].logprobs, scores[2].logprobs)
    assert np.array_equal(scores[0].logprobs, scores[3].logprobs)
    alone = [one.score([row])[0].logprobs for row in rows]
    for score, expected in zip(scores, alone, strict=True):
        assert score.logprobs == pytest.approx(expected, abs=1e-5)


def test_other_windows_are_those_of_the_same_model():
    one = scorer()
    short = one.with_window(16, 64)
    assert (short.max_length, short.tokens_per_batch, one.max_length) == (16, 64, 512)
    assert short.model is one.model
    with pytest.raises(ValueError, match="has 512 positions; give at most that"):
        one.with_window(513)
