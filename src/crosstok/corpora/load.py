"""`load_corpus`: load a file, folder or hub data set as a data set with one column `text`."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from datasets.data_files import DataFilesDict, EmptyDatasetError, get_data_patterns

from crosstok.choices import TextUnit
from crosstok.corpora.read import (
    DATA_SUFFIXES,
    PACKED_SUFFIXES,
    data_suffix,
    file_texts,
    json_rows,
    missing_field,
    plain_name,
    usable,
)

log = logging.getLogger(__name__)

_READER = "1"  # in the cache key: change it when the reader yields other rows for the same file
_FEATURES = datasets.Features({"text": datasets.Value("large_string")})
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(:[\w.-]+)?")


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

    Files are `.jsonl`, `.json` (lines, or one array) and `.txt`, each also compressed as `.xz`,
    `.gz` or `.zst`, and `.parquet`. In a folder, the files of `split` are chosen as in `datasets`:
    by `train`, `validation` or `test` in their names, or all files if no name contains a split. A
    hub name may include a configuration: `Salesforce/wikitext:wikitext-2-raw-v1`. Files are read
    once and kept in the cache of `datasets` (by path, size and time of change, so a changed file is
    read again); with `streaming` they are read while the data set is iterated.

    Args:
        source: hub name, file or folder.
        text_field: the field of JSON and Parquet rows (and hub data sets) that holds the text.
        text_unit: the unit of a `.txt` file that becomes one row: a line, a block between blank
            lines, or the whole file.
        split: the split of a folder or hub data set; a single file has no splits.
        streaming: make an `IterableDataset`, which reads while it is iterated.

    Raises:
        ValueError: there is nothing at `source`, a file is empty, damaged or has broken JSON (the
            message gives the line), no row has the field (the message lists the fields), or no row
            has text.
    """
    named = find_files(source, split)
    if named is None:
        return _from_hub(source, text_field, split, streaming)
    return _from_files(named[0], source, named[1], text_field, text_unit, streaming)


def find_files(source: str, split: str) -> tuple[str, list[Path]] | None:
    """Return the plain name and the files of a file or folder; None for a hub data set.

    Raises:
        ValueError: there is nothing at `source`, or nothing that can be read.
    """
    path = Path(source).expanduser()
    if path.is_file():
        if data_suffix(path) is None:
            raise ValueError(f"{source} is not a data file that can be read. {_endings()}")
        return plain_name(path), [path]
    if path.is_dir():
        _refuse_saved_to_disk(path)
        return path.resolve().name, files_of(path, split)
    if data_suffix(path) is not None or not _HUB_NAME.fullmatch(source):
        raise nothing_at(source)
    return None


def _refuse_saved_to_disk(folder: Path) -> None:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        raise ValueError(
            f"{folder} was written by save_to_disk of datasets, a format that is not supported. "
            "Save a split with to_parquet(FILE) instead, and give that file."
        )


def load_corpora(
    source: str,
    *,
    text_field: str = "text",
    text_unit: TextUnit = "line",
    split: str = "train",
) -> list[Corpus]:
    """Load a folder as one corpus for each file; a file or hub name gives one corpus.

    Arguments and errors are the same as for `load_corpus`. Two files with the same plain name
    (`a.txt` and `a.jsonl`) keep their suffixes.

    Returns:
        One corpus for each data file of the split, in the order of their names.
    """
    path = Path(source).expanduser()
    if not path.is_dir():
        return [load_corpus(source, text_field=text_field, text_unit=text_unit, split=split)]
    files = files_of(path, split)
    plain = Counter(map(plain_name, files))
    names = [plain_name(file) if plain[plain_name(file)] == 1 else file.name for file in files]
    return [
        _from_files(name, str(file), [file], text_field, text_unit, streaming=False)
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


def nothing_at(path: str) -> ValueError:
    """Make the error for a path at which there is nothing."""
    return ValueError(f"There is no file or folder {path!r}. Check the path (from {Path.cwd()}).")


def _endings() -> str:
    plain, packed = ", ".join(DATA_SUFFIXES), ", ".join(PACKED_SUFFIXES)
    return f"Data files end in {plain}; all but .parquet may be compressed ({packed})."


def files_of(folder: Path, split: str) -> list[Path]:
    """List the data files of a split of a folder, chosen by their names as in `datasets`."""
    try:
        patterns = get_data_patterns(str(folder))
        found = DataFilesDict.from_patterns(patterns, base_path=str(folder))
    except (EmptyDatasetError, FileNotFoundError):
        found = {}
    by_split = {
        str(name): sorted(file for file in map(Path, files) if data_suffix(file) is not None)
        for name, files in found.items()
    }
    by_split = {name: files for name, files in by_split.items() if files}
    if not by_split:
        raise ValueError(f"The folder {folder} has no data files. {_endings()}")
    if split not in by_split:
        raise ValueError(
            f"The folder {folder} has no files of split {split!r}; its splits are: "
            f"{', '.join(by_split)}. Choose one of them, or name a file."
        )
    return by_split[split]


def _rows(
    files: list[tuple[str, int, int]], text_field: str, text_unit: TextUnit, reader: str
) -> Iterator[dict[str, str | None]]:
    """Yield the rows of all files; sizes, times of change and `reader` are for the cache key."""
    for path, _, _ in files:
        for text in file_texts(Path(path), text_field, text_unit):
            yield {"text": text}


def _from_files(
    name: str, source: str, files: list[Path], text_field: str, text_unit: TextUnit, streaming: bool
) -> Corpus:
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
        "Check the file, or name the field that holds the text (option text_field)."
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


def _from_hub(source: str, text_field: str, split: str, streaming: bool) -> Corpus:
    rows = open_hub(source, split, streaming)
    columns = rows.column_names
    if columns is not None and text_field not in columns:
        raise missing_field(source, text_field, list(columns))
    return texts_of_rows(source, rows, text_field)


def texts_of_rows(
    source: str, rows: datasets.Dataset | datasets.IterableDataset, text_field: str = "text"
) -> Corpus:
    """Make a corpus of a column of a data set; a stream is read while it is iterated.

    Raises:
        ValueError: no row holds text.
    """
    is_stream = isinstance(rows, datasets.IterableDataset)
    columns, short = rows.column_names, hub_name(source)
    rows = rows.map(_hub_row, input_columns=text_field, remove_columns=columns, features=_FEATURES)
    return _streamed(short, source, rows) if is_stream else _loaded(short, source, rows)


def _hub_row(value: object) -> dict[str, str | None]:
    return {"text": usable(value)}
