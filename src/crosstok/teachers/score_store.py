"""Rows of numbers on disk, found by a digest: plain arrays that any numpy reads.

Every process writes a pair of files of its own, so that ranks and runs never meet in one:

    KEY-WRITER.scores   [tokens, 2] float32, little-endian: 8 bytes a token
    KEY-WRITER.index    one `ENTRY` a row: 32 bytes

Scores are appended first, then the entry that speaks of them. A process that is killed leaves at
most scores without an entry, or a part of an entry: neither is ever read, and nothing is written
behind them. An entry carries the checksum of its scores; those that do not match count as missing.
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
"""Digest of a row's ids; its first token and its number of tokens in the scores file; CRC-32."""

SCORES, INDEX = ".scores", ".index"
_BYTES_PER_TOKEN = 8

Place = tuple[Path, int, int, int]
"""Scores file, first token, tokens, checksum."""


class ScoreStore:
    """What is in a folder under one key.

    Args:
        folder: made when the first row is added.
        key: of the files that are read and written; those of other keys are passed over.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self._places: dict[bytes, Place] = {}
        self._new_writer()
        # Of a row that is there twice the newer counts: it may stand in for a damaged one.
        for index in sorted(folder.glob(f"{key}-*{INDEX}"), key=lambda file: file.stat().st_mtime):
            self._read(index)

    def __len__(self) -> int:
        """Rows."""
        return len(self._places)

    def get(self, digest: bytes) -> Float[np.ndarray, "T 2"] | None:
        """The scores of a row; None where there are none, or none that are whole."""
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
            log.warning("%s is damaged: rows that cannot be read are asked again", file)
            del self._places[digest]
            return None
        return scores.reshape(length, 2)

    def add(self, rows: Mapping[bytes, Float[np.ndarray, "T 2"]]) -> None:
        """Append rows; those that are there already stay as they are.

        Raises:
            OSError: the folder cannot be written; says what stands.
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
            self._new_writer()  # the half-written tail stays where it is, and is not read
            raise OSError(
                f"could not write to the teacher cache {self.folder}: {error}. What it held before "
                "stands. Make room, or run without teacher_cache; resume goes on from the last "
                "checkpoint."
            ) from error
        self._take(self._file(SCORES), entries)

    def _new_writer(self) -> None:
        self._writer, self._written = uuid.uuid4().hex[:12], 0

    def _file(self, suffix: str) -> Path:
        return self.folder / f"{self.key}-{self._writer}{suffix}"

    def _read(self, index: Path) -> None:
        """Take in another process's entries, as many as are whole."""
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
