"""Rows of a data set to tokens: windows of text, conversations, prompts with completions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import datasets

from crosstok.chats import ExampleEncoder, parse_example, shared_examples
from crosstok.choices import LossOn
from crosstok.corpora import Corpus
from crosstok.tokenizers import Spans, TextEncoder, shared_texts


def encode_rows(
    rows: Sequence[Mapping[str, Any]], sides: Sequence[ExampleEncoder], loss_on: LossOn
) -> list[list[Spans]]:
    """Each side's spans of every row; all sides read the same text.

    Args:
        rows: windows of text, as :func:`crosstok.training.windows.text_windows` makes them
            (``text``, ``row``, ``is_end``), or examples (``example`` as JSON, ``where``, ``row``).
        sides: encoders.
        loss_on: which part of a conversation is trained; windows of text are trained whole.
    """
    if "text" in rows[0]:
        encoders = [side.encoder for side in sides]
        texts = shared_texts([row["text"] for row in rows], *encoders)
        return [_encode_windows(encoder, rows, texts) for encoder in encoders]
    given = [parse_example(row["example"], row["where"]) for row in rows]
    examples = shared_examples(given, *sides)
    return [side(examples, loss_on=loss_on) for side in sides]


def chat_rows(examples: Corpus, sides: Sequence[ExampleEncoder]) -> Any:
    """Examples as rows for the collator, after every side has rendered one of every shape.

    A template fails on a shape (an order of roles, tools), not on a text, so that what cannot be
    rendered is known before anything is trained. A stream is checked while it is read.

    Raises:
        ValueError: a template cannot render a conversation; names the row.
    """
    # With its features, as a stream would no longer know the columns that it has.
    features = datasets.Features(examples.dataset.features | {"row": datasets.Value("int64")})
    rows = examples.dataset.map(_numbered, with_indices=True, features=features)
    if isinstance(rows, datasets.Dataset):
        for side in sides:
            side.check(parse_example(row["example"], row["where"]) for row in rows)
    return rows


def _numbered(row: dict[str, Any], index: int) -> dict[str, Any]:
    return {"row": index}


def first_tokens(spans: Spans, number: int) -> Spans:
    """The spans cut after ``number`` tokens."""
    if number == len(spans):
        return spans
    return replace(
        spans,
        ids=spans.ids[:number],
        starts=spans.starts[:number],
        ends=spans.ends[:number],
        exact=spans.exact[:number],
        specials=tuple(special for special in spans.specials if special[0] < number),
        loss_mask=None if spans.loss_mask is None else spans.loss_mask[:number],
    )


def _encode_windows(
    encoder: TextEncoder, rows: Sequence[Mapping[str, Any]], texts: Sequence[str]
) -> list[Spans]:
    """Spans of each window; the document end is left off where the text goes on."""
    return [
        spans if row["is_end"] else _without_end(spans)
        for row, spans in zip(rows, encoder(texts), strict=True)
    ]


def _without_end(spans: Spans) -> Spans:
    if not spans.specials or spans.specials[-1][1] != "eos":
        return spans
    return first_tokens(spans, len(spans) - 1)
