"""`load_examples`: conversations, prompts with completions, or plain texts, by the data's columns.

Arrow wants one type for a column, and the arguments of tool calls have none, so a chat example is
kept as its JSON. Every row is read and checked before anything else happens, as an error in the
last row of a long training run would be dear.
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
            of a row, and ``where``, its file and row, for
            `crosstok.tokenizers.parse_example`.
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

    The columns say which: ``messages`` (or ShareGPT's ``conversations``), else ``prompt`` with
    ``completion``, else the text field. A text field other than "text" that is there is taken
    before all of these. Args and errors are otherwise those of `load_corpus`.

    Raises:
        ValueError: a row that is no such example (with file and row): an unknown role, no turn of
            the assistant, a message without content. Of a streaming data set while it is read.
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
            f"{error} Chats have 'messages' or 'conversations', or 'prompt' with 'completion'."
        ) from None
    return Examples(corpus.name, corpus.dataset, corpus._skipped)


def holds_chats(fields: Collection[str], text_field: str = "text") -> bool:
    """Whether rows with these fields are chats, or prompts with completions."""
    if text_field != "text" and text_field in fields:
        return False
    is_pair = "prompt" in fields and "completion" in fields
    return "messages" in fields or "conversations" in fields or is_pair


def _fields(files: list[Path]) -> list[str]:
    """Fields of the first row; of an empty file none, which the loader of texts tells."""
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
            raise ValueError(f"{path} is plain text among files of chat data. Name one kind only.")
        case _:
            yield from json_rows(path)


def without_none(value: Any) -> Any:
    """Arrow gives every row the fields of all rows; those that are not there are None."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_none(item) for item in value]
    return value


def checked_row(row: object, where: str) -> dict[str, str]:
    """A row of chat data as its JSON, with the place that errors name.

    Raises:
        ValueError: it is no example.
    """
    kept = {key: row[key] for key in _FIELDS if key in row} if isinstance(row, Mapping) else row
    # A row that has the fields of another kind, empty, is told with all of its fields.
    parse_example(kept if kept else row, where)  # type: ignore[arg-type]
    # ASCII where the tool calls hold half of a character, which Arrow's strings cannot.
    text = json.dumps(kept, ensure_ascii=False, default=str)
    if not text.isascii() and usable(text) is None:
        text = json.dumps(kept, default=str)
    return {"example": text, "where": where}


def _chat_rows(files: list[tuple[str, int, int]], reader: str) -> Iterator[dict[str, str]]:
    """Rows of all files; size and time of change of each, and `reader`, are for the cache key."""
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
    """The chats in the columns of a data set; a stream is read while it is iterated.

    Raises:
        ValueError: a row that is no example; names it. Of a stream, while it is read.
    """

    def checked(row: dict[str, Any], index: int) -> dict[str, str]:
        return checked_row(without_none(row), f"{source}, row {index + 1}")

    mapped = rows.map(checked, with_indices=True, remove_columns=columns, features=CHAT_FEATURES)
    if isinstance(mapped, datasets.IterableDataset):
        next(iter(mapped))
    return Examples(hub_name(source), mapped, Skipped(source), "chat")
