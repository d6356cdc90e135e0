"""Several sources as one corpus: every row as often as it should come, in a fixed order."""

import json
import logging
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstok.corpora import load_mixture
from crosstok.corpora.mixture import _interleaved
from tests.folders import CHATS


def write(folder, name, number):
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps({"text": f"{name}{i}"}) + "\n" for i in range(number)))
    return str(file)


@pytest.fixture
def sources(tmp_path):
    return [write(tmp_path, "a", 6), write(tmp_path, "b", 4)]


@pytest.mark.parametrize("streaming", [False, True])
def test_every_row_of_every_source_comes_once(sources, streaming):
    texts = list(load_mixture(sources, streaming=streaming).texts())
    assert Counter(texts) == Counter([f"a{i}" for i in range(6)] + [f"b{i}" for i in range(4)])
    assert texts == list(load_mixture(sources, streaming=streaming).texts())
    assert {text[0] for text in texts[:3]} == {"a", "b"}


def test_weights_say_how_often_rows_come_and_are_logged(sources, caplog):
    with caplog.at_level(logging.INFO, logger="crosstok"):
        corpus = load_mixture(sources, [0.5, 2])
    assert Counter(corpus.texts()) == Counter(["a0", "a2", "a4"] + [f"b{i}" for i in range(4)] * 2)
    assert f"3 rows of {sources[0]} (6 with weight 0.5)" in caplog.text
    assert f"8 rows of {sources[1]} (4 with weight 2); 11 in one pass" in caplog.text


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0.05, 4)), min_size=1, max_size=4))
def test_counts_are_exact_and_proportions_even(parts):
    import datasets

    tables = [
        datasets.Dataset.from_dict({"text": [f"{k}:{i}" for i in range(size)]})
        for k, (size, _) in enumerate(parts)
    ]
    rows, counts = _interleaved(tables, [weight for _, weight in parts])
    assert counts == [max(1, round(size * weight)) for size, weight in parts]
    found = Counter(rows["text"])
    for k, ((size, _), count) in enumerate(zip(parts, counts, strict=True)):
        times = [found[f"{k}:{i}"] for i in range(size)]
        assert sum(times) == count
        assert max(times) - min(times) <= 1
    half = Counter(text.split(":")[0] for text in rows["text"][: len(rows) // 2])
    for k, count in enumerate(counts):
        assert abs(half[str(k)] - count / 2) <= len(parts)


def test_texts_and_chats_are_not_mixed(sources, tmp_path):
    chats = tmp_path / "chats.jsonl"
    chats.write_text(json.dumps({"messages": CHATS[0]}) + "\n")
    with pytest.raises(ValueError, match=r"texts \(.*a.jsonl\) and chats \(.*chats.jsonl\)"):
        load_mixture([sources[0], str(chats)])


def test_a_source_without_the_named_columns_is_read_by_its_own(sources, tmp_path, caplog):
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"body": "x"}) + "\n")
    with caplog.at_level(logging.INFO, logger="crosstok"):
        texts = list(load_mixture([sources[1], str(other)], columns={"text": "body"}).texts())
    assert sorted(texts) == ["b0", "b1", "b2", "b3", "x"]
    assert "b.jsonl has none of the columns" in caplog.text


@pytest.mark.parametrize(
    ("weights", "streaming", "message"),
    [
        ([1], False, "there must be one for each of the 2"),
        ([1, 0], False, "above 0. Leave a source out"),
        ([1, float("inf")], False, "above 0"),
        ([1, 2], True, "the data is streamed"),
    ],
)
def test_weights_that_do_not_fit_are_refused(sources, weights, streaming, message):
    with pytest.raises(ValueError, match=message):
        load_mixture(sources, weights, streaming=streaming)
