import math

import numpy as np
import pytest

from crosstok.corpora import read_rows
from crosstok.evaluation import Scorer, bits_per_byte
from crosstok.models import load_model
from crosstok.tokenizers import load_tokenizer
from tests.tiny import KINDS, LOSSLESS_KINDS, SENTENCES

TEXTS = [*SENTENCES, " ".join(SENTENCES), "x", ""]


def naive_bits(scorer, text, naive_logprobs, overlap):
    """Bits and bytes of one text, window by window, from full logits."""
    (spans,) = scorer.encode([text])
    start = [] if scorer.start is None else [scorer.start]
    room = scorer.max_length - len(start)
    bits, num_bytes, done = 0.0, 0, 0
    while done < len(spans.ids):
        begin = max(0, done - overlap)
        end = min(begin + room, len(spans.ids))
        ids = [*start, *spans.ids[begin:end]]
        table = naive_logprobs(scorer, ids) if len(ids) > 1 else []
        for token in range(done, end):
            place = token - begin + len(start)
            if place > 0:
                bits -= table[place - 1][ids[place]] / math.log(2)
                num_bytes += spans.ends[token] - spans.starts[token]
        done = end
    return bits, num_bytes


@pytest.mark.parametrize("overlap", [0, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_it_equals_full_logits_window_by_window(make_scorer, naive_logprobs, kind, overlap):
    scorer = make_scorer(kind, max_length=24)
    result = bits_per_byte(scorer, TEXTS, overlap=overlap)
    sums = np.sum([naive_bits(scorer, text, naive_logprobs, overlap) for text in TEXTS], axis=0)
    assert result.bits == pytest.approx(sums[0], rel=1e-5)
    assert result.num_bytes == sums[1]
    assert result.num_bytes + result.num_unscored_bytes == sum(len(x.encode()) for x in TEXTS)
    assert result.as_json()["bits_per_byte"] == pytest.approx(sums[0] / sums[1], rel=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_batch_size_changes_nothing(make_scorer, architecture):
    results = [
        bits_per_byte(
            make_scorer(architecture=architecture, max_length=32, tokens_per_batch=size), TEXTS
        )
        for size in (1, 100, 8192)
    ]
    assert [result.bits for result in results] == pytest.approx([results[0].bits] * 3, rel=1e-5)
    assert len({(result.num_bytes, result.num_tokens) for result in results}) == 1


@pytest.mark.parametrize("kind", LOSSLESS_KINDS)
def test_all_bytes_of_lossless_tokenizers_are_exact_and_scored(make_scorer, kind):
    result = bits_per_byte(make_scorer(kind), TEXTS)
    assert result.as_json()["exact_share"] == 1.0
    assert result.num_unscored_bytes == 0


def test_what_a_normaliser_changed_is_counted_by_original_bytes(make_scorer):
    result = bits_per_byte(make_scorer("wordpiece"), ["Das Café IST offen, der Hund schläft"])
    assert 0 < result.as_json()["exact_share"] < 1


def test_overlap_gives_more_context(make_scorer, naive_logprobs):
    scorer = make_scorer(max_length=16)
    whole = make_scorer(max_length=512)
    text = SENTENCES[0]
    (spans,) = whole.encode([text])
    assert 15 < len(spans.ids) < 500
    most = bits_per_byte(scorer, [text], overlap=14)
    assert most.num_tokens == len(spans.ids)
    assert bits_per_byte(scorer, [text]).bits != pytest.approx(most.bits, rel=1e-6)


def test_the_start_may_stand_in_front_of_the_text_only(make_scorer, naive_logprobs):
    scorer = make_scorer(max_length=16)
    text = " ".join(SENTENCES)
    (spans,) = scorer.encode([text])
    row = [scorer.start, *spans.ids]
    bits = 0.0
    for begin in range(0, len(row) - 1, 15):  # 16 tokens predict 15; the last one is repeated
        ids = row[begin : begin + 16]
        logprobs = naive_logprobs(scorer, ids)[np.arange(len(ids) - 1), ids[1:]]
        bits -= logprobs.sum() / math.log(2)
    result = bits_per_byte(scorer, [text], start_every_window=False)
    assert result.bits == pytest.approx(bits, rel=1e-5)
    assert result.num_bytes == len(text.encode())


@pytest.mark.slow
def test_the_pretrained_model_has_the_figure_of_its_card(shared):
    folder = str(shared / "models" / "llama-6m-bpe4k")
    books = shared / "data" / "corpora" / "public_domain_books" / "validation.jsonl.xz"
    texts = [row["text"][:60_000] for row in read_rows(str(books))]
    scorer = Scorer(load_model(folder, dtype="float32"), load_tokenizer(folder), max_length=257)
    result = bits_per_byte(scorer, texts, start_every_window=False)
    assert round(result.bits_per_byte, 3) == 1.846


def test_wrong_arguments_name_the_rule(make_scorer):
    with pytest.raises(ValueError, match="overlap is 15; it must be from 0 to 14"):
        bits_per_byte(make_scorer(max_length=16), ["a"], overlap=15)
    with pytest.raises(ValueError, match="1 texts hold no byte that bytelevel_bpe-0 can score"):
        bits_per_byte(make_scorer(), [""])
    with pytest.raises(
        ValueError, match="max_length is 513, but bytelevel_bpe-0 has 512 positions"
    ):
        make_scorer(max_length=513)
    with pytest.raises(ValueError, match="max_length is 1; a window needs at least 2"):
        make_scorer(max_length=1)
