"""Read rows of data files one at a time, with the faulty line in every error.

The readers of `datasets` infer a type for each column and block: a column of dates becomes
timestamps, a number in a later block becomes text, and another column that changes its type is an
error. We need a few columns and the number of skipped rows, so rows are read here and passed on to
`datasets`.
"""

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from crosstok.choices import TextUnit
from crosstok.corpora.columns import parts_of, suggest, value_of
from crosstok.corpora.files import data_suffix
from crosstok.corpora.lines import SHOWN, numbered_lines

_ROWS_LOOKED_AT = 64  # for the fields that rows have
_BATCH = 256  # rows of Parquet and Arrow files read at once


def file_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[object]:
    """Yield the rows of a data file of any kind but plain text.

    Args:
        path: of the file.
        columns: those that are needed, if they are known; of JSON rows all are read.

    Raises:
        ValueError: it cannot be read (the message gives the line), or it is plain text.
    """
    match data_suffix(path):
        case ".parquet":
            yield from _parquet_rows(path, columns)
        case ".arrow":
            yield from _arrow_rows(path, columns)
        case ".csv" | ".tsv":
            yield from _csv_rows(path)
        case ".txt":
            raise ValueError(
                f"{path} is plain text among files of chat data. Name files of one kind only."
            )
        case _:
            yield from json_rows(path)


def file_fields(path: Path) -> tuple[list[str], Mapping[str, Any]]:
    """Return the fields of the first rows of a file, and its first row; none where it is empty.

    Raises:
        ValueError: it cannot be read.
    """
    if data_suffix(path) == ".txt":
        return [], {}
    rows = [r for r in islice(file_rows(path), _ROWS_LOOKED_AT) if isinstance(r, Mapping)]
    fields = list(dict.fromkeys(chain.from_iterable(rows)))
    return fields, rows[0] if rows else {}


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a file with a header; separated by commas or, where it has none, ``;`` or tabs."""
    csv.field_size_limit(sys.maxsize)
    numbers = [0]

    def lines() -> Iterator[str]:
        for number, line in numbered_lines(path):
            numbers[0] = number
            yield line

    read = lines()
    first = next((line for line in read if line.strip()), None)
    if first is None:
        return
    reader = csv.reader(chain([first], read), delimiter=_delimiter(path, first), strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        _check_header(path, header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) > len(header):
                raise ValueError(
                    f"{path}, line {numbers[0]}: the row has {len(cells)} cells, and the header "
                    f"has {len(header)} ({', '.join(header)}). Put a cell that holds the "
                    "separator between double quotes."
                )
            yield dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {numbers[0]}: broken {path.suffix.lstrip('.')} ({error}). A cell that "
            'holds a quote is written between quotes, with the quote doubled: "a ""b""".'
        ) from None


def _delimiter(path: Path, header: str) -> str:
    if data_suffix(path) == ".tsv":
        return "\t"
    return next((mark for mark in ",;\t" if mark in header), ",")


def _check_header(path: Path, header: Sequence[str]) -> None:
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ValueError(
            f"{path}: its first line must name the columns, and {twice!r} is there twice. "
            "Rename one of them."
        )


def _json_line(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        fault = f"{error.msg} at column {error.colno}"
    except RecursionError:
        fault = "too many nested brackets"
    is_array = line.lstrip().startswith("[")
    advice = " A file that is one array is named .json: rename it." if is_array else ""
    raise ValueError(
        f"{path}, line {number}: broken JSON ({fault}); the line starts {line.strip()[:SHOWN]!r}. "
        f"Every line must hold one whole JSON object: correct or remove this line.{advice}"
    )


def _json_array(path: Path, text: str) -> list[object]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        lines = text.splitlines() or [""]
        shown = lines[min(error.lineno, len(lines)) - 1].strip()[:SHOWN]
        raise ValueError(
            f"{path}, line {error.lineno}: broken JSON ({error.msg} at column {error.colno}); the "
            f"line starts {shown!r}. The file starts with '[', so it must be one JSON array: "
            "correct this line."
        ) from None
    return list(rows)


def _json_object(text: str) -> list[object] | None:
    """The rows of a file that is one object: the only list in it, or else the object itself."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(whole, dict):
        return None
    lists = [value for value in whole.values() if isinstance(value, list)]
    are_rows = len(lists) == 1 and all(isinstance(entry, dict) for entry in lists[0])
    return lists[0] if are_rows and not {"messages", "conversations"} & whole.keys() else [whole]


def json_rows(path: Path) -> Iterator[object]:
    """Yield the rows of a JSON Lines file; blank lines are skipped.

    A ``.json`` file may also be one array, or one object with a single list of rows
    (``{"data": [...]}``).

    Raises:
        ValueError: the JSON is broken or the text is not UTF-8 (the message gives the line), or a
            compressed file is damaged.
    """
    lines = numbered_lines(path)
    is_json = data_suffix(path) == ".json"
    is_first = True
    for number, line in lines:
        if not line.strip():
            continue
        if is_json and line.lstrip().startswith("["):
            text = "\n" * (number - 1) + line + "".join(rest for _, rest in lines)
            yield from _json_array(path, text)
            return
        if is_json and is_first and (rows := _whole_object(path, line)) is not None:
            yield from rows
            return
        row = _json_line(path, number, line)
        if is_first and isinstance(row, list) and all(isinstance(one, dict) for one in row):
            raise ValueError(
                f"{path}, line {number} is a whole array of rows, and every line of this file must "
                "hold one row. A file that is one array is named .json: rename it."
            )
        is_first = False
        yield row


def _whole_object(path: Path, line: str) -> list[object] | None:
    """The rows of a ``.json`` file that is one object, by its first line; None for lines."""
    try:
        first = json.loads(line)
    except json.JSONDecodeError:
        return _json_object("".join(rest for _, rest in numbered_lines(path)))
    rows = _json_object(line)
    return rows if rows is not None and rows != [first] else None


def _schema_names(path: Path) -> list[str]:
    """The columns of a Parquet or Arrow file; none for other files, which have no schema."""
    match data_suffix(path):
        case ".parquet":
            with _reading(path, "Parquet"), pq.ParquetFile(path) as file:
                return list(file.schema_arrow.names)
        case ".arrow":
            with _reading(path, "Arrow"), pa.memory_map(str(path)) as source:
                return list(_arrow_reader(source).schema.names)
        case _:
            return []


def _parquet_rows(path: Path, columns: Sequence[str] | None) -> Iterator[object]:
    with _reading(path, "Parquet"), pq.ParquetFile(path) as file:
        names = [n for n in file.schema_arrow.names if columns is None or n in columns]
        for batch in file.iter_batches(batch_size=_BATCH, columns=names):
            yield from map(without_none, batch.to_pylist())


def _arrow_rows(path: Path, columns: Sequence[str] | None) -> Iterator[object]:
    with _reading(path, "Arrow"), pa.memory_map(str(path)) as source:
        reader = _arrow_reader(source)
        names = [n for n in reader.schema.names if columns is None or n in columns]
        is_stream = isinstance(reader, pa.RecordBatchStreamReader)
        batches = reader if is_stream else map(reader.get_batch, range(reader.num_record_batches))
        for batch in batches:
            for start in range(0, batch.num_rows, _BATCH):
                rows = batch.select(names).slice(start, _BATCH).to_pylist()
                yield from map(without_none, rows)


def _arrow_reader(source: Any) -> Any:
    """A reader of the stream that `datasets` saves, or of a file with random access."""
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source)


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{path} is not a readable {kind} file: {error}. Check that it is complete and of "
            "this format."
        ) from error


def without_none(value: Any) -> Any:
    """Drop fields that are None: Arrow gives every row the fields of all rows."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_none(item) for item in value]
    return value


def _field_texts(path: Path, text_field: str) -> Iterator[object]:
    fields: dict[str, None] = dict.fromkeys(_schema_names(path))
    wanted = parts_of(text_field, fields) if fields else None
    first: Mapping[str, Any] = {}
    num_rows, num_found = 0, sum(name in fields for name in wanted or ())
    if wanted is not None and not num_found:
        raise missing_field(str(path), text_field, *file_fields(path))
    for row in file_rows(path, wanted):
        num_rows += 1
        if isinstance(row, Mapping):
            fields.update(dict.fromkeys(row))
            first = first or row
            num_found += any(part in row for part in parts_of(text_field, row))
            yield value_of(row, text_field, str(path))
        else:
            yield None
    if num_rows and not num_found:
        raise missing_field(str(path), text_field, list(fields), first)


def _plain_texts(path: Path, text_unit: TextUnit) -> Iterator[str]:
    if text_unit == "document":
        document = "".join(line for _, line in numbered_lines(path))
        if document:
            yield document
    elif text_unit == "line":
        for _, line in numbered_lines(path):
            yield line.rstrip("\r\n")
    else:
        block: list[str] = []
        for _, line in numbered_lines(path):
            if line.strip():
                block.append(line)
            elif block:
                yield "".join(block).rstrip("\r\n")
                block = []
        if block:
            yield "".join(block).rstrip("\r\n")


class MissingFieldError(ValueError):
    """No row has the field that should hold the text."""


def missing_field(
    source: str, text_field: str, fields: list[str], row: Mapping[str, Any] | None = None
) -> MissingFieldError:
    """Make the error for rows without the text field; it lists their fields, and what to do."""
    there = ", ".join(repr(field) for field in fields) or "none (no row is a JSON object)"
    advice = suggest(fields, row)
    hint = f"Give {advice}" if advice else "Name the field that holds the text: --columns text=NAME"
    return MissingFieldError(
        f"{source} has no field {text_field!r}. Its fields are: {there}. {hint}."
    )


def usable(value: object) -> str | None:
    """Return the value if it is valid text with more than white space in it, else None."""
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return value


def file_texts(path: Path, text_field: str, text_unit: TextUnit) -> Iterator[str | None]:
    """Yield the text of every row of one data file; None for a row without text.

    Raises:
        ValueError: the file has no rows, no row has `text_field`, or it cannot be read (the message
            gives the line).
    """
    is_plain = data_suffix(path) == ".txt"
    values: Iterator[object] = (
        _plain_texts(path, text_unit) if is_plain else _field_texts(path, text_field)
    )
    empty = True
    for value in values:
        empty = False
        yield usable(value)
    if empty:
        raise ValueError(
            f"{path} is empty: it has no rows. Check the path, and that the file was written "
            "completely."
        )
