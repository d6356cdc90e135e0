"""`load_examples`: conversations, prompts with completions, or plain texts, by the data's columns.

Arrow requires one type for a column, and the arguments of tool calls have no fixed type, so a chat
example is stored as JSON, with the names of the fields of its row that were not read. Every row is
read and checked first, so that an error in the last row does not end a long training run.
"""

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import datasets

from crosstok.chats.messages import MESSAGES_SHAPE
from crosstok.chats.rows import is_chat, read_example
from crosstok.choices import TextUnit
from crosstok.corpora.columns import check_columns, check_there, fields_after, mapped
from crosstok.corpora.files import find_files
from crosstok.corpora.load import (
    Corpus,
    Skipped,
    file_stats,
    hub_name,
    open_hub,
    root_cause,
    texts_of_files,
    texts_of_rows,
)
from crosstok.corpora.read import MissingFieldError, file_fields, file_rows, usable, without_none
from crosstok.corpora.unread import name_unread, naming_unread

log = logging.getLogger(__name__)

_READER = "3"  # in the cache key: change it when the reader yields other rows for the same file
CHAT_FEATURES = datasets.Features(
    {
        "example": datasets.Value("large_string"),
        "where": datasets.Value("string"),
        "unread": datasets.Value("string"),
    }
)


@dataclass(frozen=True)
class Examples(Corpus):
    """A corpus of texts, or of chat examples.

    Attributes:
        kind: "text": one column ``text``, as in `Corpus`. "chat": the columns ``example``, the JSON
            of a row, and ``where``, its file and row, for `crosstok.chats.parse_example`; and
            ``unread``, a JSON list of the fields of that row that were not read.
    """

    kind: Literal["text", "chat"] = "text"


def load_examples(
    source: str,
    *,
    columns: Mapping[str, str] | None = None,
    text_field: str = "text",
    text_unit: TextUnit = "line",
    split: str = "train",
    streaming: bool = False,
    may_lack_columns: bool = False,
) -> Examples:
    """Load conversations, prompts with completions, or texts.

    The columns decide: ``messages`` (or ShareGPT's ``conversations``), else ``prompt`` with
    ``completion``, else the text field. A text field other than "text" takes precedence over all
    of these if the data has it, and so does a column that `columns` gives for the text. Fields of
    chats that were not read are logged, with the number of rows that have them. Arguments and
    errors are otherwise the same as for `load_corpus`.

    Args:
        source: see `load_corpus`.
        columns: the data's own names by field: ``{"prompt": "question", "completion": "answer"}``.
            Of ``instruction+input``, both columns, joined by a blank line.
        text_field: see `load_corpus`.
        text_unit: see `load_corpus`.
        split: see `load_corpus`.
        streaming: see `load_corpus`.
        may_lack_columns: whether data that has none of these columns is read by its own names.

    Raises:
        ValueError: a row is not such an example (an unknown role, no assistant turn, a message
            without content); the message names file and row. For a streaming data set it is raised
            while the data is read. Or the data lacks a column that `columns` names.
    """
    named = find_files(source, split)
    try:
        if named is None:
            rows = open_hub(source, split, streaming)
            return examples_of_rows(source, rows, columns, text_field, may_lack_columns)
        there, _ = file_fields(named[1][0])
        form = choose_form(source, there, columns, text_field, may_lack_columns)
        if form.is_chat:
            return _from_files(named[0], source, named[1], streaming, form.columns)
        corpus = texts_of_files(named[0], source, named[1], form.text_field, text_unit, streaming)
    except MissingFieldError as error:
        raise MissingFieldError(
            f"{error} Chats need 'messages' or 'conversations', or 'prompt' with 'completion'."
        ) from None
    return Examples(corpus.name, corpus.dataset, corpus._skipped)


def examples_of_rows(
    source: str,
    rows: datasets.Dataset | datasets.IterableDataset,
    columns: Mapping[str, str] | None = None,
    text_field: str = "text",
    may_lack_columns: bool = False,
) -> Examples:
    """Make a corpus of texts or chats of a data set; see `load_examples`.

    Raises:
        MissingFieldError: it has none of the columns that texts and chats have.
        ValueError: see `load_examples`.
    """
    there = list(rows.column_names or next(iter(rows), {}))
    form = choose_form(source, there, columns, text_field, may_lack_columns)
    if form.is_chat:
        return chats_of_rows(source, rows, there, form.columns)
    corpus = texts_of_rows(source, rows, form.text_field)
    return Examples(corpus.name, corpus.dataset, corpus._skipped)


@dataclass(frozen=True)
class Form:
    """How rows are read: as chats, or as texts; and under which names."""

    is_chat: bool
    columns: Mapping[str, str]
    text_field: str


def choose_form(
    source: str,
    there: list[str],
    columns: Mapping[str, str] | None,
    text_field: str = "text",
    may_lack_columns: bool = False,
) -> Form:
    """Choose how rows with these fields are read.

    Raises:
        ValueError: a column is missing, or is given for what is not a field.
    """
    columns = columns or {}
    check_columns(columns)
    if columns and there and not check_there(columns, there, source, may_lack=may_lack_columns):
        log.info("%s has none of the columns that columns names; it is read by its own", source)
        columns = {}
    if "text" in columns:
        return Form(False, {}, columns["text"])
    return Form(holds_chats(fields_after(there, columns), text_field), columns, text_field)


def holds_chats(fields: Collection[str], text_field: str = "text") -> bool:
    """Return whether rows with these fields are chats, or prompts with completions."""
    if text_field != "text" and text_field in fields:
        return False
    return is_chat(fields)


def checked_row(row: object, where: str) -> dict[str, str]:
    """Check a row of chat data and return its JSON, with the place that errors name.

    Raises:
        ValueError: it is not an example.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"{where}: {row!r:.80} is not a JSON object; {MESSAGES_SHAPE}.")
    _, unread = read_example(row, where)
    kept = {key: value for key, value in row.items() if key not in unread}
    # ASCII if the tool calls hold half of a character, which Arrow's strings cannot hold.
    text = json.dumps(kept, ensure_ascii=False, default=str)
    if not text.isascii() and usable(text) is None:
        text = json.dumps(kept, default=str)
    return {"example": text, "where": where, "unread": json.dumps(unread)}


def _chat_rows(
    files: list[tuple[str, int, int]], columns: dict[str, str], reader: str
) -> Iterator[dict[str, str]]:
    """Yield the rows of all files; sizes, times of change and `reader` are for the cache key."""
    for path, _, _ in files:
        for number, row in enumerate(file_rows(Path(path)), start=1):
            where = f"{Path(path).name}, row {number}"
            yield checked_row(mapped(row, columns, where) if columns else row, where)


def _from_files(
    name: str, source: str, files: list[Path], streaming: bool, columns: Mapping[str, str]
) -> Examples:
    kwargs = {"files": file_stats(files), "columns": dict(columns), "reader": _READER}
    if streaming:
        rows = datasets.IterableDataset.from_generator(
            _chat_rows, features=CHAT_FEATURES, gen_kwargs=kwargs
        )
        next(iter(rows))  # so that an error in the first row comes early
        return Examples(name, naming_unread(source, rows), Skipped(source), "chat")
    try:
        table = datasets.Dataset.from_generator(
            _chat_rows, features=CHAT_FEATURES, gen_kwargs=kwargs
        )
    except datasets.exceptions.DatasetGenerationError as error:
        raise root_cause(error) from error
    name_unread(source, table)
    return Examples(name, table, Skipped(source), "chat")


def chats_of_rows(
    source: str,
    rows: datasets.Dataset | datasets.IterableDataset,
    there: list[str],
    columns: Mapping[str, str] | None = None,
) -> Examples:
    """Read the chats in the columns of a data set; a stream is read while it is iterated.

    Args:
        source: name of the data in error messages.
        rows: of the data set.
        there: its columns.
        columns: the data's own names by field; see `load_examples`.

    Raises:
        ValueError: a row is not an example; the message names the row. For a stream it is raised
            while the stream is read.
    """

    def checked(row: dict[str, Any], index: int) -> dict[str, str]:
        where = f"{source}, row {index + 1}"
        given = without_none(row)
        return checked_row(mapped(given, columns, where) if columns else given, where)

    options = {"remove_columns": there, "features": CHAT_FEATURES}
    mapped_rows = rows.map(checked, with_indices=True, **options)
    if isinstance(mapped_rows, datasets.IterableDataset):
        next(iter(mapped_rows))
        mapped_rows = naming_unread(source, mapped_rows)
    else:
        name_unread(source, mapped_rows)
    return Examples(hub_name(source), mapped_rows, Skipped(source), "chat")
