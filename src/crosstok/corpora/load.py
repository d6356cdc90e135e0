"""`load_corpus`: load a file, folder or hub data set as a data set with one column `text`."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets

from crosstok.choices import TextUnit
from crosstok.corpora.columns import parts_of, value_of
from crosstok.corpora.files import data_suffix, find_files, is_saved, nothing_at, plain_name
from crosstok.corpora.read import file_texts, json_rows, missing_field, usable
from crosstok.corpora.rows import Rows, rows_in_memory
from crosstok.loaded import Loaded

IN_MEMORY_NAME = "data"
"""Name of a corpus whose rows a caller had in memory."""

log = logging.getLogger(__name__)

_READER = "2"  # in the cache key: change it when the reader yields other rows for the same file
_FEATURES = datasets.Features({"text": datasets.Value("large_string")})


@dataclass
class Skipped:
    """Counts the rows left out. `filter` calls it on every text of a streaming data set."""

    source: str
    count: int = 0

    def __call__(self, text: str | None) -> bool:
        """Return whether the row holds a text; count it if not."""
        if text is not None:
            return True
        self.count += 1
        if str(self.count).strip("0") == "1":  # the 1st, 10th, 100th, ...: the end is not known
            self.report("so far")
        return False

    def report(self, when: str) -> None:
        """Log the number of rows left out."""
        rows = "row" if self.count == 1 else "rows"
        log.warning("%s: %d %s without text skipped %s", self.source, self.count, rows, when)


@dataclass(frozen=True)
class Corpus:
    """A named set of texts.

    Attributes:
        name: the file or data set name without folders and suffixes.
        dataset: one column `text`, every row a string with more than white space in it.
    """

    name: str
    dataset: datasets.Dataset | datasets.IterableDataset
    _skipped: Skipped = field(repr=False)

    @property
    def num_skipped(self) -> int:
        """Number of rows left out because they are empty or not text.

        For a streaming data set it counts the rows read so far in this process, over all passes.
        """
        return self._skipped.count

    def texts(self, limit: int | None = None) -> Iterator[str]:
        """Iterate over the texts in order, at most `limit` of them."""
        for index, row in enumerate(self.dataset):
            if limit is not None and index >= limit:
                return
            yield row["text"]


def load_corpus(
    source: str,
    *,
    text_field: str = "text",
    text_unit: TextUnit = "line",
    split: str = "train",
    streaming: bool = False,
) -> Corpus:
    """Load texts from a file, a folder of files, or a data set of the Hugging Face hub.

    Files are `.jsonl`, `.json` (lines, one array, or one object with a list of rows), `.csv`,
    `.tsv` and `.txt`, each also compressed as `.xz`, `.gz` or `.zst`, and `.parquet` and `.arrow`.
    In a folder, the files of `split` are chosen as in `datasets`: by `train`, `validation` or
    `test` in their names, or all files if no name contains a split. A folder may also be one that
    `save_to_disk` of `datasets` wrote. A name at which there is nothing and that holds `*`, `?` or
    `[` is a glob. A hub name may include a configuration: `Salesforce/wikitext:wikitext-2-raw-v1`.
    Files are read once and kept in the cache of `datasets` (by path, size and time of change, so a
    changed file is read again); with `streaming` they are read while the data set is iterated.

    Args:
        source: hub name, file, folder or glob; or `Loaded` data.
        text_field: the field of rows that holds the text; of ``title+body``, both fields joined by
            a blank line. Plain text has no fields.
        text_unit: the unit of a `.txt` file that becomes one row: a line, a block between blank
            lines, or the whole file.
        split: the split of a folder or hub data set; a single file has no splits.
        streaming: make an `IterableDataset`, which reads while it is iterated.

    Raises:
        ValueError: there is nothing at `source`, a file is empty, damaged or has broken JSON (the
            message gives the line), no row has the field (the message lists the fields), or no row
            has text.
    """
    if isinstance(source, Loaded):
        return texts_in_memory(rows_in_memory(source, split), text_field)
    named = find_files(source, split)
    if named is None:
        return texts_of_rows(source, open_hub(source, split, streaming), text_field)
    return texts_of_files(named[0], source, named[1], text_field, text_unit, streaming)


def load_corpora(
    source: str,
    *,
    text_field: str = "text",
    text_unit: TextUnit = "line",
    split: str = "train",
) -> list[Corpus]:
    """Load a folder or glob as one corpus for each file; anything else gives one corpus.

    Arguments and errors are the same as for `load_corpus`. Two files with the same plain name
    (`a.txt` and `a.jsonl`) keep their suffixes.

    Returns:
        One corpus for each data file of the split, in the order of their names.
    """
    named = None if isinstance(source, Loaded) else find_files(source, split)
    if named is None or Path(source).expanduser().is_file() or is_saved(source):
        return [load_corpus(source, text_field=text_field, text_unit=text_unit, split=split)]
    files = named[1]
    plain = Counter(map(plain_name, files))
    names = [plain_name(file) if plain[plain_name(file)] == 1 else file.name for file in files]
    return [
        texts_of_files(name, str(file), [file], text_field, text_unit, streaming=False)
        for name, file in zip(names, files, strict=True)
    ]


def read_rows(path: str) -> list[dict[str, Any]]:
    """Read all rows of a `.jsonl` or `.json` file (possibly compressed), with all fields.

    Raises:
        ValueError: there is no such file, it is of another kind, it has no rows, a row is not a
            JSON object, or its JSON is broken (the message gives the line).
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise nothing_at(path)
    if data_suffix(file) not in (".jsonl", ".json"):
        raise ValueError(
            f"{path} is not a .jsonl or .json file (possibly compressed as .xz, .gz or .zst). "
            "Convert it to one of these."
        )
    rows = []
    for index, row in enumerate(json_rows(file)):
        if not isinstance(row, dict):
            raise ValueError(
                f"{path}, row {index + 1} is {row!r:.80}: every row must be a JSON object."
            )
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} is empty: it has no rows. Check the path.")
    return rows


def _rows(
    files: list[tuple[str, int, int]], text_field: str, text_unit: TextUnit, reader: str
) -> Iterator[dict[str, str | None]]:
    """Yield the rows of all files; sizes, times of change and `reader` are for the cache key."""
    for path, _, _ in files:
        for text in file_texts(Path(path), text_field, text_unit):
            yield {"text": text}


def texts_of_files(
    name: str, source: str, files: list[Path], text_field: str, text_unit: TextUnit, streaming: bool
) -> Corpus:
    """Make a corpus of the texts in files.

    Raises:
        ValueError: as for `load_corpus`.
    """
    kwargs = {
        "files": file_stats(files),
        "text_field": text_field,
        "text_unit": text_unit,
        "reader": _READER,
    }
    if streaming:
        rows = datasets.IterableDataset.from_generator(_rows, features=_FEATURES, gen_kwargs=kwargs)
        return _streamed(name, source, rows)
    try:
        table = datasets.Dataset.from_generator(_rows, features=_FEATURES, gen_kwargs=kwargs)
    except datasets.exceptions.DatasetGenerationError as error:
        raise root_cause(error) from error
    return _loaded(name, source, table)


def file_stats(files: list[Path]) -> list[tuple[str, int, int]]:
    """Return path, size and time of change of files: the key under which their rows are cached."""
    return [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def root_cause(error: BaseException) -> BaseException:
    """Return the first error, without the errors in which `datasets` wraps it."""
    while isinstance(error, datasets.exceptions.DatasetGenerationError) and error.__cause__:
        error = error.__cause__
    return error


def _loaded(name: str, source: str, rows: datasets.Dataset) -> Corpus:
    """Leave out the rows without text, and count them."""
    kept = rows.filter(_has_text, input_columns="text") if rows.data["text"].null_count else rows
    if not len(kept):
        raise _no_text(source, len(rows))
    skipped = Skipped(source, len(rows) - len(kept))
    if skipped.count:
        skipped.report(f"of {len(rows)}")
    return Corpus(name, kept, skipped)


def _streamed(name: str, source: str, rows: datasets.IterableDataset) -> Corpus:
    """Do the same while reading; the first text is read at once, so that errors come early."""
    if next((row for row in rows if row["text"] is not None), None) is None:
        raise _no_text(source, sum(1 for _ in rows))
    skipped = Skipped(source)
    return Corpus(name, rows.filter(skipped, input_columns="text"), skipped)


def _has_text(text: str | None) -> bool:
    return text is not None


def _no_text(source: str, num_rows: int) -> ValueError:
    return ValueError(
        f"{source}: none of its {num_rows} rows holds text (they are empty or not strings). "
        "Check the file, or name the field that holds the text: --columns text=NAME."
    )


def open_hub(
    source: str, split: str, streaming: bool
) -> datasets.Dataset | datasets.IterableDataset:
    """Open a data set of the hub, `name` or `name:configuration`.

    Raises:
        ValueError: there is no such data set, split or configuration, or no network.
    """
    name, _, config = source.partition(":")
    try:
        return datasets.load_dataset(name, config or None, split=split, streaming=streaming)
    except datasets.exceptions.DatasetGenerationError as error:
        raise ValueError(
            f"The data set {source!r} could not be read: {root_cause(error)}"
        ) from error
    except (ConnectionError, FileNotFoundError) as error:
        raise ValueError(
            f"There is no file or folder {source!r}, and no data set of that name could be "
            f"fetched from the Hugging Face hub: {error}. Check the spelling; "
            "without network, name a file or a folder."
        ) from error
    except ValueError as error:  # an unknown split or configuration: the message lists known ones
        hint = "" if config else f" Name a configuration as {name}:CONFIGURATION."
        raise ValueError(f"The data set {source!r}, split {split!r}: {error}{hint}") from error


def hub_name(source: str) -> str:
    """Return the name of a hub data set without owner and configuration."""
    return source.partition(":")[0].split("/")[-1]


def texts_of_rows(
    source: str, rows: datasets.Dataset | datasets.IterableDataset, text_field: str = "text"
) -> Corpus:
    """Make a corpus of a column of a data set; a stream is read while it is iterated.

    Raises:
        MissingFieldError: it has no such column.
        ValueError: no row holds text.
    """
    is_stream = isinstance(rows, datasets.IterableDataset)
    columns, short = rows.column_names, hub_name(source)
    if columns is not None and not set(parts_of(text_field, columns)) & set(columns):
        raise missing_field(source, text_field, list(columns), next(iter(rows), None))
    rows = rows.map(
        _text_of_row,
        remove_columns=columns,
        features=_FEATURES,
        fn_kwargs={"text_field": text_field, "source": source},
    )
    return _streamed(short, source, rows) if is_stream else _loaded(short, source, rows)


def texts_in_memory(rows: Rows, text_field: str = "text", source: str = "the data") -> Corpus:
    """Make a corpus of the texts of rows in memory; an item of a list may also be a text.

    Raises:
        ValueError: as for `texts_of_rows`; or it is empty.
    """
    if not isinstance(rows, list):
        return replace(texts_of_rows(source, rows, text_field), name=IN_MEMORY_NAME)
    if not rows:
        raise ValueError(f"{source} is empty; give it at least one text or row.")
    given = [{text_field: row} if isinstance(row, str) else row for row in rows]
    there = list(dict.fromkeys(key for row in given if isinstance(row, Mapping) for key in row))
    if not set(parts_of(text_field, there)) & set(there):
        first = given[0] if isinstance(given[0], Mapping) else None
        raise missing_field(source, text_field, there, first)
    texts = [
        {"text": usable(value_of(row, text_field, source)) if isinstance(row, Mapping) else None}
        for row in given
    ]
    table = datasets.Dataset.from_list(texts, features=_FEATURES)
    return _loaded(IN_MEMORY_NAME, source, table)


def _text_of_row(row: dict[str, Any], text_field: str, source: str) -> dict[str, str | None]:
    return {"text": usable(value_of(row, text_field, source))}
