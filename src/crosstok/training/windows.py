"""Long texts cut into windows of about ``max_length`` tokens, before any tokenization."""

from collections.abc import Sequence
from typing import Any

import datasets

from crosstok.corpora import Corpus
from crosstok.tokenizers import TextEncoder

_SAMPLE_TEXTS = 64
_SAMPLE_CHARACTERS = 20_000


def characters_per_token(corpus: Corpus, encoder: TextEncoder) -> float:
    """Mean characters a token on a sample of the corpus' first texts."""
    texts = [text[:_SAMPLE_CHARACTERS] for text in corpus.texts(limit=_SAMPLE_TEXTS)]
    num_tokens = sum(len(s.ids) for s in encoder(texts, add_start=False, add_end=False))
    return sum(map(len, texts)) / max(1, num_tokens)


def window_length(corpus: Corpus, sides: Sequence[tuple[TextEncoder, int]]) -> int:
    """Characters of a window that fill ``max_length`` tokens on the side that needs the most."""
    return max(
        1, int(min(limit * characters_per_token(corpus, encoder) for encoder, limit in sides))
    )


def text_windows(
    corpus: Corpus, num_characters: int
) -> datasets.Dataset | datasets.IterableDataset:
    """Cut every text into windows of at most ``num_characters``, before a space if there is one.

    Rows are ``{"text", "row", "is_end"}``; see `crosstok.training.rows.encode_rows`. Works on
    streams as well: windows are cut when they are read.
    """
    return corpus.dataset.map(
        _cut_rows,
        batched=True,
        with_indices=True,
        remove_columns=["text"],
        fn_kwargs={"num_characters": num_characters},
    )


def _cut_rows(
    rows: dict[str, list[Any]], indices: list[int], num_characters: int
) -> dict[str, list[Any]]:
    windows: dict[str, list[Any]] = {"text": [], "row": [], "is_end": []}
    for row, text in zip(indices, rows["text"], strict=True):
        starts = window_starts(text, num_characters)
        for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
            windows["text"].append(text[start:end])
            windows["row"].append(row)
            windows["is_end"].append(end == len(text))
    return windows


def window_starts(text: str, num_characters: int) -> list[int]:
    """Where windows start: before the last space or newline in the fifth before the limit."""
    starts = [0]
    while len(text) - starts[-1] > num_characters:
        limit = starts[-1] + num_characters
        earliest = starts[-1] + max(1, num_characters * 4 // 5)
        cut = max(text.rfind(" ", earliest, limit), text.rfind("\n", earliest, limit))
        starts.append(cut if cut > starts[-1] else limit)
    return starts
