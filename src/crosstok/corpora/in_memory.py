"""`as_examples`: data in memory, as the corpus that `load_examples` would read from a file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import datasets

from crosstok.corpora.columns import mapped
from crosstok.corpora.examples import (
    CHAT_FEATURES,
    Examples,
    checked_row,
    choose_form,
    examples_of_rows,
)
from crosstok.corpora.load import IN_MEMORY_NAME, Skipped, texts_in_memory
from crosstok.corpora.read import MissingFieldError
from crosstok.corpora.unread import name_unread

_ROWS_LOOKED_AT = 64  # for the fields that rows have

Rows: TypeAlias = datasets.Dataset | datasets.IterableDataset | Sequence[Any]
"""A data set of ``datasets``, or a list of texts, of rows, or of conversations."""


def as_examples(
    rows: Rows,
    source: str = "the data",
    *,
    columns: Mapping[str, str] | None = None,
    text_field: str = "text",
    may_lack_columns: bool = False,
) -> Examples:
    """Make a corpus of texts, conversations, or prompts with completions, as `load_examples` does.

    Args:
        rows: rows with the columns ``messages`` (or ``conversations``), ``prompt`` and
            ``completion``, or ``text``; a list may also hold plain strings, or lists of messages. A
            stream is read while it is iterated.
        source: name of the data in error messages.
        columns: see `load_examples`.
        text_field: see `load_corpus`.
        may_lack_columns: see `load_examples`.

    Raises:
        ValueError: the data is empty, has none of these columns, or has a row that is not such an
            example (the message names the row). For a stream it is raised while the stream is read.
    """
    if not isinstance(rows, datasets.Dataset | datasets.IterableDataset):
        return _from_list(rows, source, columns, text_field, may_lack_columns)
    try:
        found = examples_of_rows(source, rows, columns, text_field, may_lack_columns)
    except MissingFieldError as error:
        raise _no_column(error) from None
    return replace(found, name=IN_MEMORY_NAME)


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


def _from_list(
    items: Sequence[Any],
    source: str,
    columns: Mapping[str, str] | None,
    text_field: str,
    may_lack_columns: bool,
) -> Examples:
    if isinstance(items, str | Mapping) or not isinstance(items, Sequence):
        raise ValueError(
            f"{source} is a {type(items).__name__}; it must be a Dataset or IterableDataset of the "
            "package datasets, or a list of texts or rows."
        )
    if not items:
        raise ValueError(f"{source} is empty; give it at least one text or row.")
    rows = [as_row(item, f"{source}, row {i + 1}") for i, item in enumerate(items)]
    there = list(dict.fromkeys(key for row in rows[:_ROWS_LOOKED_AT] for key in row))
    form = choose_form(source, there, columns, text_field, may_lack_columns)
    if form.is_chat:
        checked = []
        for i, row in enumerate(rows):
            where = f"{source}, row {i + 1}"
            given = mapped(row, form.columns, where) if form.columns else row
            checked.append(checked_row(given, where))
        table = datasets.Dataset.from_list(checked, features=CHAT_FEATURES)
        name_unread(source, table)
        return Examples(IN_MEMORY_NAME, table, Skipped(source), "chat")
    try:
        corpus = texts_in_memory(rows, form.text_field, source)
    except MissingFieldError as error:
        raise _no_column(error) from None
    return Examples(corpus.name, corpus.dataset, corpus._skipped)


def _no_column(error: MissingFieldError) -> MissingFieldError:
    return MissingFieldError(
        f"{error} Chats need 'messages' or 'conversations', or 'prompt' with 'completion'. Columns "
        "may also be renamed: dataset.rename_column(OLD, 'text')."
    )
