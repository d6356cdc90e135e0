"""Read rows of data files one at a time, with the faulty line in every error.

The JSON reader of `datasets` infers a type for each column and block: a column of dates becomes
timestamps, a number in a later block becomes text, and another column that changes its type is an
error. We need one column and the number of skipped rows, so lines are parsed here and the rows are
passed on to `datasets`.
"""

import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import zstandard

from crosstok.choices import TextUnit

DATA_SUFFIXES = (".jsonl", ".json", ".parquet", ".txt")
PACKED_SUFFIXES = (".xz", ".gz", ".zst")
_SHOWN = 80  # characters of a line shown in an error


def data_suffix(path: Path) -> str | None:
    """Return the kind of a data file (`.jsonl`, `.json`, `.parquet`, `.txt`), or None.

    A compressed file has the kind of its content.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in PACKED_SUFFIXES and suffixes[-2] != ".parquet":
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in DATA_SUFFIXES else None


def plain_name(path: Path) -> str:
    """Return the file name without its suffixes: `valid` for `valid.jsonl.xz`."""
    name = path.name
    for suffix in (*PACKED_SUFFIXES, *DATA_SUFFIXES):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
    return name


def distinct_names(names: Sequence[str]) -> list[str]:
    """Make names distinct by adding ``-2``, ``-3``, ... to repeated ones."""
    distinct: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in distinct:
            number += 1
            candidate = f"{name}-{number}"
        distinct.append(candidate)
    return distinct


class _ZstdReader(io.RawIOBase):
    """Reads all frames of a Zstandard file; unlike zstandard's reader it detects truncation."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = b""
        self._inside_frame = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._inside_frame = False
            packed = packed or self._file.read(1 << 20)
            if not packed:
                if self._inside_frame:
                    raise EOFError("the compressed file ends before the end of its data")
                return 0
            self._inside_frame = True
            self._ready = self._frame.decompress(packed)
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _open(path: Path) -> IO[bytes]:
    match path.suffix.lower():
        case ".xz":
            return lzma.open(path, "rb")
        case ".gz":
            return gzip.open(path, "rb")  # type: ignore[return-value]
        case ".zst":
            return io.BufferedReader(_ZstdReader(path), 1 << 20)
        case _:
            return path.open("rb")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line numbers, from 1, and lines of a UTF-8 file, with their line ends."""
    number = 0
    try:
        with _open(path) as stream:
            for number, raw in enumerate(stream, start=1):
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        shown = error.object[:_SHOWN]
        raise ValueError(
            f"{path}, line {number}: not UTF-8 ({error.reason} at byte {error.start}); the line "
            f"starts {shown!r}. Save the file as UTF-8 (iconv -t utf-8) and try again."
        ) from None
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise ValueError(
            f"{path} cannot be decompressed after line {number}: {error}. The file is damaged or "
            "truncated: fetch it again, or decompress it yourself and pass the result."
        ) from error


def _json_line(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        shown = line.strip()[:_SHOWN]
        raise ValueError(
            f"{path}, line {number}: broken JSON ({error.msg} at column {error.colno}); the line "
            f"starts {shown!r}. Every line must hold one whole JSON object: "
            "correct or remove this line."
        ) from None


def _json_array(path: Path, text: str) -> list[object]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        lines = text.splitlines() or [""]
        shown = lines[min(error.lineno, len(lines)) - 1].strip()[:_SHOWN]
        raise ValueError(
            f"{path}, line {error.lineno}: broken JSON ({error.msg} at column {error.colno}); the "
            f"line starts {shown!r}. The file starts with '[', so it must be one JSON array: "
            "correct this line."
        ) from None
    return list(rows)


def json_rows(path: Path) -> Iterator[object]:
    """Yield the rows of a JSON Lines file, or of a JSON array; blank lines are skipped.

    Raises:
        ValueError: the JSON is broken or the text is not UTF-8 (the message gives the line), or a
            compressed file is damaged.
    """
    lines = _lines(path)
    for number, line in lines:
        if not line.strip():
            continue
        if data_suffix(path) == ".json" and line.lstrip().startswith("["):
            yield from _json_array(path, "\n" * (number - 1) + line + "".join(x for _, x in lines))
            return
        yield _json_line(path, number, line)


def _json_texts(path: Path, text_field: str) -> Iterator[object]:
    fields: dict[str, None] = {}
    num_rows = num_found = 0
    for row in json_rows(path):
        num_rows += 1
        if isinstance(row, dict):
            fields.update(dict.fromkeys(row))
            num_found += text_field in row
            yield row.get(text_field)
        else:
            yield None
    if num_rows and not num_found:
        raise missing_field(str(path), text_field, list(fields))


def open_parquet(path: Path) -> Any:
    """Open a Parquet file.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{path} is not a readable Parquet file: {error}. Check that it is complete and of "
            "this format."
        ) from error


def _parquet_texts(path: Path, text_field: str) -> Iterator[object]:
    with open_parquet(path) as file:
        if text_field not in file.schema_arrow.names:
            raise missing_field(str(path), text_field, list(file.schema_arrow.names))
        for batch in file.iter_batches(batch_size=1024, columns=[text_field]):
            yield from batch.column(0).to_pylist()


def _plain_texts(path: Path, text_unit: TextUnit) -> Iterator[str]:
    if text_unit == "document":
        document = "".join(line for _, line in _lines(path))
        if document:
            yield document
    elif text_unit == "line":
        for _, line in _lines(path):
            yield line.rstrip("\r\n")
    else:
        block: list[str] = []
        for _, line in _lines(path):
            if line.strip():
                block.append(line)
            elif block:
                yield "".join(block).rstrip("\r\n")
                block = []
        if block:
            yield "".join(block).rstrip("\r\n")


class MissingFieldError(ValueError):
    """No row has the field that should hold the text."""


def missing_field(source: str, text_field: str, fields: list[str]) -> MissingFieldError:
    """Make the error for rows without the text field; it lists the fields of the rows."""
    there = ", ".join(repr(field) for field in fields) or "none (no row is a JSON object)"
    hint = f"text_field={fields[0]!r}" if len(fields) == 1 else "option text_field"
    return MissingFieldError(
        f"{source} has no field {text_field!r}. Its fields are: {there}. Name the field that holds "
        f"the text ({hint})."
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
    kind = data_suffix(path)
    if kind == ".txt":
        values: Iterator[object] = _plain_texts(path, text_unit)
    elif kind == ".parquet":
        values = _parquet_texts(path, text_field)
    else:
        values = _json_texts(path, text_field)
    empty = True
    for value in values:
        empty = False
        yield usable(value)
    if empty:
        raise ValueError(
            f"{path} is empty: it has no rows. Check the path, and that the file was written "
            "completely."
        )
