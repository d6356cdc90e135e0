"""`load_examples`: conversations, prompts with completions, or plain texts, by the data's columns.

Arrow requires one type for a column, and the arguments of tool calls have no fixed type, so a chat
example is stored as JSON. Every row is read and checked first, so that an error in the last row
does not end a long training run.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import datasets

from crosstok.chats import parse_example
from crosstok.choices import TextUnit
from crosstok.corpora.load import (
    Corpus,
    Skipped,
    file_stats,
    find_files,
    hub_name,
    load_corpus,
    open_hub,
    root_cause,
)
from crosstok.corpora.read import MissingFieldError, data_suffix, json_rows, open_parquet, usable

_READER = "1"  # in the cache key: change it when the reader yields other rows for the same file
CHAT_FEATURES = datasets.Features(
    {"example": datasets.Value("large_string"), "where": datasets.Value("string")}
)
_FIELDS = ("messages", "conversations", "prompt", "completion", "tools")


@dataclass(frozen=True)
class Examples(Corpus):
    """A corpus of texts, or of chat examples.

    Attributes:
        kind: "text": one column ``text``, as in `Corpus`. "chat": the columns ``example``, the JSON
            of a row, and ``where``, its file and row, for `crosstok.chats.parse_example`.
    """

    kind: Literal["text", "chat"] = "text"


def load_examples(
    source: str,
    *,
    text_field: str = "text",
    text_unit: TextUnit = "line",
    split: str = "train",
    streaming: bool = False,
) -> Examples:
    """Load conversations, prompts with completions, or texts.

    The columns decide: ``messages`` (or ShareGPT's ``conversations``), else ``prompt`` with
    ``completion``, else the text field. A text field other than "text" takes precedence over all
    of these if the data has it. Arguments and errors are otherwise the same as for `load_corpus`.

    Raises:
        ValueError: a row is not such an example (an unknown role, no assistant turn, a message
            without content); the message names file and row. For a streaming data set it is raised
            while the data is read.
    """
    named = find_files(source, split)
    if named is None:
        rows = open_hub(source, split, streaming)
        columns = rows.column_names or list(next(iter(rows), {}))
        if holds_chats(columns, text_field):
            return chats_of_rows(source, rows, list(columns))
    elif holds_chats(_fields(named[1]), text_field):
        return _from_files(named[0], source, named[1], streaming)
    try:
        corpus = load_corpus(
            source, text_field=text_field, text_unit=text_unit, split=split, streaming=streaming
        )
    except MissingFieldError as error:
        raise MissingFieldError(
            f"{error} Chats need 'messages' or 'conversations', or 'prompt' with 'completion'."
        ) from None
    return Examples(corpus.name, corpus.dataset, corpus._skipped)


def holds_chats(fields: Collection[str], text_field: str = "text") -> bool:
    """Return whether rows with these fields are chats, or prompts with completions."""
    if text_field != "text" and text_field in fields:
        return False
    is_pair = "prompt" in fields and "completion" in fields
    return "messages" in fields or "conversations" in fields or is_pair


def _fields(files: list[Path]) -> list[str]:
    """Return the fields of the first row; none for an empty file, which `load_corpus` reports."""
    if data_suffix(files[0]) == ".txt":
        return []
    if data_suffix(files[0]) == ".parquet":
        with open_parquet(files[0]) as file:
            return list(file.schema_arrow.names)
    first = next(_file_rows(files[0]), {})
    return list(first) if isinstance(first, Mapping) else []


def _file_rows(path: Path) -> Iterator[object]:
    match data_suffix(path):
        case ".parquet":
            with open_parquet(path) as file:
                columns = [name for name in file.schema_arrow.names if name in _FIELDS]
                for batch in file.iter_batches(batch_size=256, columns=columns):
                    yield from map(without_none, batch.to_pylist())
        case ".txt":
            raise ValueError(
                f"{path} is plain text among files of chat data. Name files of one kind only."
            )
        case _:
            yield from json_rows(path)


def without_none(value: Any) -> Any:
    """Drop fields that are None: Arrow gives every row the fields of all rows."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_none(item) for item in value]
    return value


def checked_row(row: object, where: str) -> dict[str, str]:
    """Check a row of chat data and return its JSON, with the place that errors name.

    Raises:
        ValueError: it is not an example.
    """
    kept = {key: row[key] for key in _FIELDS if key in row} if isinstance(row, Mapping) else row
    # For a row that has only fields of another kind, the error lists all of its fields.
    parse_example(kept if kept else row, where)  # type: ignore[arg-type]
    # ASCII if the tool calls hold half of a character, which Arrow's strings cannot hold.
    text = json.dumps(kept, ensure_ascii=False, default=str)
    if not text.isascii() and usable(text) is None:
        text = json.dumps(kept, default=str)
    return {"example": text, "where": where}


def _chat_rows(files: list[tuple[str, int, int]], reader: str) -> Iterator[dict[str, str]]:
    """Yield the rows of all files; sizes, times of change and `reader` are for the cache key."""
    for path, _, _ in files:
        for number, row in enumerate(_file_rows(Path(path)), start=1):
            yield checked_row(row, f"{Path(path).name}, row {number}")


def _from_files(name: str, source: str, files: list[Path], streaming: bool) -> Examples:
    kwargs = {"files": file_stats(files), "reader": _READER}
    if streaming:
        rows = datasets.IterableDataset.from_generator(
            _chat_rows, features=CHAT_FEATURES, gen_kwargs=kwargs
        )
        next(iter(rows))  # so that an error in the first row comes early
        return Examples(name, rows, Skipped(source), "chat")
    try:
        table = datasets.Dataset.from_generator(
            _chat_rows, features=CHAT_FEATURES, gen_kwargs=kwargs
        )
    except datasets.exceptions.DatasetGenerationError as error:
        raise root_cause(error) from error
    return Examples(name, table, Skipped(source), "chat")


def chats_of_rows(
    source: str, rows: datasets.Dataset | datasets.IterableDataset, columns: list[str]
) -> Examples:
    """Read the chats in the columns of a data set; a stream is read while it is iterated.

    Raises:
        ValueError: a row is not an example; the message names the row. For a stream it is raised
            while the stream is read.
    """

    def checked(row: dict[str, Any], index: int) -> dict[str, str]:
        return checked_row(without_none(row), f"{source}, row {index + 1}")

    mapped = rows.map(checked, with_indices=True, remove_columns=columns, features=CHAT_FEATURES)
    if isinstance(mapped, datasets.IterableDataset):
        next(iter(mapped))
    return Examples(hub_name(source), mapped, Skipped(source), "chat")
