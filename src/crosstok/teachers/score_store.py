"""Rows of scores on disk, found by a digest: plain arrays that numpy can read.

Every process writes its own pair of files, so that ranks and runs never share one:

    KEY-WRITER.scores   [tokens, 2] float32, little-endian: 8 bytes per token
    KEY-WRITER.index    one `ENTRY` per row: 32 bytes

Scores are appended first, then the entry for them. A process that is killed leaves at most scores
without an entry, or part of an entry: neither is ever read, and nothing is written after it. An
entry contains the checksum of its scores; rows with a wrong checksum count as missing.
"""

import logging
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

log = logging.getLogger("crosstok")

ENTRY = np.dtype([("digest", "V16"), ("start", "<u8"), ("length", "<u4"), ("checksum", "<u4")])
"""Digest of a row's ids; its first token and number of tokens in the scores file; CRC-32."""

SCORES, INDEX = ".scores", ".index"
_BYTES_PER_TOKEN = 8

Place = tuple[Path, int, int, int]
"""Scores file, first token, tokens, checksum."""


class ScoreStore:
    """The rows that a folder stores under one key.

    Args:
        folder: created when the first row is added.
        key: key of the files to read and write; files with other keys are ignored.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self._places: dict[bytes, Place] = {}
        self._new_writer()
        # Of two entries for a row the newer counts: it may replace a damaged one.
        for index in sorted(folder.glob(f"{key}-*{INDEX}"), key=lambda file: file.stat().st_mtime):
            self._read(index)

    def __len__(self) -> int:
        """Number of stored rows."""
        return len(self._places)

    def get(self, digest: bytes) -> Float[np.ndarray, "T 2"] | None:
        """Return the scores of a row; None if it is not stored, or damaged."""
        place = self._places.get(digest)
        if place is None:
            return None
        file, start, length, checksum = place
        try:
            offset = start * _BYTES_PER_TOKEN
            scores = np.fromfile(file, "<f4", count=2 * length, offset=offset)
        except (OSError, ValueError):  # gone, or shorter than its index says
            scores = np.empty(0, "<f4")
        if len(scores) != 2 * length or zlib.crc32(scores.tobytes()) != checksum:
            log.warning("%s is damaged: rows that cannot be read are scored again", file)
            del self._places[digest]
            return None
        return scores.reshape(length, 2)

    def add(self, rows: Mapping[bytes, Float[np.ndarray, "T 2"]]) -> None:
        """Append rows; rows that are already stored are not changed.

        Raises:
            OSError: the folder cannot be written; rows stored before are kept.
        """
        new = {digest: row for digest, row in rows.items() if digest not in self._places}
        if not new:
            return
        entries = np.empty(len(new), ENTRY)
        blocks = []
        for i, (digest, row) in enumerate(new.items()):
            blocks.append(np.ascontiguousarray(row, "<f4").tobytes())
            entries[i] = (np.void(digest), self._written, len(row), zlib.crc32(blocks[-1]))
            self._written += len(row)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _append(self._file(SCORES), b"".join(blocks))
            _append(self._file(INDEX), entries.tobytes())
        except OSError as error:
            self._new_writer()  # a partly written row stays in the file, and is not read
            raise OSError(
                f"could not write to the teacher cache {self.folder}: {error}. Rows stored before "
                "are kept. Make room, or run without teacher_cache; resume continues from the last "
                "checkpoint."
            ) from error
        self._take(self._file(SCORES), entries)

    def _new_writer(self) -> None:
        self._writer, self._written = uuid.uuid4().hex[:12], 0

    def _file(self, suffix: str) -> Path:
        return self.folder / f"{self.key}-{self._writer}{suffix}"

    def _read(self, index: Path) -> None:
        """Read another process's entries, as far as they are complete."""
        content = index.read_bytes()
        entries = np.frombuffer(content, ENTRY, count=len(content) // ENTRY.itemsize)
        self._take(index.with_suffix(SCORES), entries)

    def _take(self, file: Path, entries: np.ndarray) -> None:
        for entry in entries:
            start, length, checksum = (int(entry[n]) for n in ("start", "length", "checksum"))
            self._places[entry["digest"].tobytes()] = (file, start, length, checksum)


def _append(file: Path, content: bytes) -> None:
    with file.open("ab") as out:
        out.write(content)
