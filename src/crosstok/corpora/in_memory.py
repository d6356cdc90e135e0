"""`as_examples`: data in memory, as the corpus that `load_examples` would read from a file."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import datasets

from crosstok.corpora.examples import (
    CHAT_FEATURES,
    Examples,
    chats_of_rows,
    checked_row,
    holds_chats,
)
from crosstok.corpora.load import Skipped, texts_of_rows
from crosstok.corpora.unread import name_unread

Rows: TypeAlias = datasets.Dataset | datasets.IterableDataset | Sequence[Any]
"""A data set of ``datasets``, or a list of texts, of rows, or of conversations."""


def as_examples(rows: Rows, source: str = "the data") -> Examples:
    """Make a corpus of texts, conversations, or prompts with completions, as `load_examples` does.

    Args:
        rows: rows with the columns ``messages`` (or ``conversations``), ``prompt`` and
            ``completion``, or ``text``; a list may also hold plain strings, or lists of messages. A
            stream is read while it is iterated.
        source: name of the data in error messages.

    Raises:
        ValueError: the data is empty, has none of these columns, or has a row that is not such an
            example (the message names the row). For a stream it is raised while the stream is read.
    """
    if not isinstance(rows, datasets.Dataset | datasets.IterableDataset):
        return _from_list(rows, source)
    columns = list(rows.column_names or next(iter(rows), {}))
    if holds_chats(columns):
        return chats_of_rows(source, rows, columns)
    if "text" not in columns:
        raise _no_column(source, columns)
    corpus = texts_of_rows(source, rows)
    return Examples(corpus.name, corpus.dataset, corpus._skipped)


def as_row(item: object, place: str) -> Mapping[str, Any]:
    """Return a text, a conversation or a row as a row.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, Mapping):
        return item
    if isinstance(item, Sequence) and not isinstance(item, bytes):
        return {"messages": item}
    raise ValueError(
        f"{place} is a {type(item).__name__}; it must be a text, a list of messages, or a row such "
        'as {"text": ...} or {"messages": [...]}.'
    )


def _from_list(items: Sequence[Any], source: str) -> Examples:
    if isinstance(items, str | Mapping) or not isinstance(items, Sequence):
        raise ValueError(
            f"{source} is a {type(items).__name__}; it must be a Dataset or IterableDataset of the "
            "package datasets, or a list of texts or rows."
        )
    if not items:
        raise ValueError(f"{source} is empty; give it at least one text or row.")
    rows = [as_row(item, f"{source}, row {i + 1}") for i, item in enumerate(items)]
    if holds_chats(rows[0].keys()):
        checked = [checked_row(row, f"{source}, row {i + 1}") for i, row in enumerate(rows)]
        table = datasets.Dataset.from_list(checked, features=CHAT_FEATURES)
        name_unread(source, table)
        return Examples(source, table, Skipped(source), "chat")
    if "text" not in rows[0]:
        raise _no_column(source, list(rows[0]))
    features = datasets.Features({"text": datasets.Value("large_string")})
    texts = [{"text": row.get("text")} for row in rows]
    corpus = texts_of_rows(source, datasets.Dataset.from_list(texts, features=features))
    return Examples(corpus.name, corpus.dataset, corpus._skipped)


def _no_column(source: str, columns: Sequence[str]) -> ValueError:
    there = ", ".join(map(repr, columns)) or "none"
    return ValueError(
        f"the columns of {source} are {there}; it needs 'text', 'messages' (or 'conversations'), "
        "or 'prompt' with 'completion'. Rename one: dataset.rename_column(OLD, 'text')."
    )
