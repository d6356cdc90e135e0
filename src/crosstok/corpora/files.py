"""Find the data files that a name stands for: a file, a folder, a saved data set, or a glob."""

import glob
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from datasets.data_files import DataFilesDict, EmptyDatasetError, get_data_patterns

log = logging.getLogger(__name__)

DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt")
PACKED_SUFFIXES = (".xz", ".gz", ".zst")
_NEVER_PACKED = (".parquet", ".arrow")
_SAVED, _SAVED_SPLITS = "state.json", "dataset_dict.json"  # of `datasets`: one split, several
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(:[\w.-]+)?")


def data_suffix(path: Path) -> str | None:
    """Return the kind of a data file, one of `DATA_SUFFIXES`, or None.

    A compressed file has the kind of its content.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in PACKED_SUFFIXES and suffixes[-2] not in _NEVER_PACKED:
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


def find_files(source: str, split: str) -> tuple[str, list[Path]] | None:
    """Return the plain name and the files of a file, folder or glob; None for a hub data set.

    What is there is taken literally: a folder ``gl[ab]`` is that folder. Only a name at which there
    is nothing is a glob, if it holds ``*``, ``?`` or ``[``.

    Raises:
        ValueError: there is nothing at `source`, or nothing that can be read.
    """
    path = Path(source).expanduser()
    if path.is_file():
        if data_suffix(path) is None:
            raise ValueError(f"{source} is not a data file that can be read. {_endings()}")
        return plain_name(path), [path]
    if path.is_dir():
        return path.resolve().name, files_of(path, split)
    if glob.has_magic(source):
        return plain_name(path), _matching(source)
    if data_suffix(path) is not None or not _HUB_NAME.fullmatch(source):
        raise nothing_at(source)
    return None


def _matching(pattern: str) -> list[Path]:
    """The data files that a glob matches, in the order of their names."""
    found = sorted(map(Path, glob.glob(os.path.expanduser(pattern), recursive=True)))
    files = [path for path in found if path.is_file()]
    taken = [path for path in files if data_suffix(path) is not None]
    if not taken:
        held = f"only {_kinds(files)}" if files else "no file"
        raise ValueError(f"the glob {pattern!r} matches {held} in {Path.cwd()}. {_endings()}")
    _say_what_is_read(pattern, taken, _kinds(path for path in files if path not in taken))
    return taken


def nothing_at(path: str) -> ValueError:
    """Make the error for a path at which there is nothing."""
    return ValueError(f"There is no file or folder {path!r}. Check the path (from {Path.cwd()}).")


def _endings() -> str:
    packed = ", ".join(PACKED_SUFFIXES)
    return (
        f"Data files end in {', '.join(DATA_SUFFIXES)}; all but {' and '.join(_NEVER_PACKED)} may "
        f"be compressed ({packed})."
    )


def files_of(folder: Path, split: str) -> list[Path]:
    """List the data files of a split of a folder, chosen by their names as in `datasets`.

    A folder that ``save_to_disk`` of `datasets` wrote has the splits that it was saved with; a
    single data set saved in this way has no splits, as a file has none.

    Raises:
        ValueError: it has no data files, or none of this split; lists the splits.
    """
    if (folder / _SAVED).is_file():
        return _saved_files(folder)
    if (folder / _SAVED_SPLITS).is_file():
        splits = json.loads((folder / _SAVED_SPLITS).read_text(encoding="utf-8"))["splits"]
        if split not in splits:
            raise _no_split(folder, split, splits)
        return _saved_files(folder / split)
    by_split = _by_split(folder)
    if not by_split:
        raise ValueError(f"The folder {folder} has no data files. {_endings()}")
    if split not in by_split:
        raise _no_split(folder, split, by_split)
    taken = by_split[split]
    _say_what_is_read(f"{folder}, split {split}", taken, _left_out(folder, split, by_split))
    return taken


def is_saved(source: str) -> bool:
    """Whether a name is that of a folder that ``save_to_disk`` of `datasets` wrote."""
    folder = Path(source).expanduser()
    return any((folder / name).is_file() for name in (_SAVED, _SAVED_SPLITS))


def _no_split(folder: Path, split: str, splits: Iterable[str]) -> ValueError:
    return ValueError(
        f"The folder {folder} has no files of split {split!r}; its splits are: "
        f"{', '.join(splits)}. Choose one of them, or name a file."
    )


def _saved_files(folder: Path) -> list[Path]:
    """The Arrow files of a data set that was saved by ``save_to_disk``."""
    try:
        listed = json.loads((folder / _SAVED).read_text(encoding="utf-8"))["_data_files"]
        files = [folder / entry["filename"] for entry in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"The saved data set {folder} cannot be read: its {_SAVED} is missing or damaged "
            f"({error}). Save it again with save_to_disk."
        ) from error
    if missing := [file.name for file in files if not file.is_file()]:
        raise ValueError(
            f"The saved data set {folder} lacks {', '.join(missing)}. Save it again with "
            "save_to_disk, or copy the whole folder."
        )
    return files


def _by_split(folder: Path) -> dict[str, list[Path]]:
    base = glob.escape(str(folder))
    try:
        patterns = get_data_patterns(base)
        found = DataFilesDict.from_patterns(patterns, base_path=base)
    except (EmptyDatasetError, FileNotFoundError):
        found = {}
    by_split = {
        str(name): sorted(file for file in map(Path, files) if data_suffix(file) is not None)
        for name, files in found.items()
    }
    by_split = {name: files for name, files in by_split.items() if files}
    if by_split:
        return by_split
    # Only other files have the name of a split (train.log): then there are no splits.
    files = [file for file in _all_files(folder) if data_suffix(file) is not None]
    return {"train": files} if files else {}


def _all_files(folder: Path) -> list[Path]:
    """Every file in a folder, hidden ones and those in hidden folders left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
    )


def _left_out(folder: Path, split: str, by_split: dict[str, list[Path]]) -> str:
    """What a folder holds beside the files of a split, in words; empty where there is nothing."""
    known = {file.resolve() for files in by_split.values() for file in files}
    others = [f"{len(files)} of split {name}" for name, files in by_split.items() if name != split]
    rest = _kinds(path for path in _all_files(folder) if path.resolve() not in known)
    return ", ".join([*others, *([rest] if rest else [])])


def _kinds(files: Iterable[Path]) -> str:
    """``"2 .jsonl, 1 .csv"``; a file without a suffix counts under its name."""
    counts = Counter(data_suffix(path) or path.suffix or path.name for path in files)
    return ", ".join(f"{number} {kind}" for kind, number in counts.items())


def _say_what_is_read(what: str, taken: Sequence[Path], left_out: str) -> None:
    """Log what is read where that is not everything, or files of several kinds."""
    kinds = {data_suffix(path) for path in taken}
    if left_out or len(kinds) > 1:
        rest = f"; left out: {left_out}" if left_out else ""
        files = "file" if len(taken) == 1 else "files"
        log.info("%s: %d %s read (%s)%s", what, len(taken), files, _kinds(taken), rest)
