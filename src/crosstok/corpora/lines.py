"""Read lines of plain and compressed files, with the number of a faulty line in every error."""

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import zstandard

SHOWN = 80  # characters of a line shown in an error


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


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line numbers, from 1, and lines of a UTF-8 file, with their line ends.

    A byte order mark at the start is left out.

    Raises:
        ValueError: the text is not UTF-8 (the message gives the line), a compressed file is
            damaged, or the file may not be read.
    """
    number = 0
    try:
        with _open(path) as stream:
            for number, raw in enumerate(stream, start=1):
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, number, error) from None
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise ValueError(
            f"{path} cannot be decompressed after line {number}: {error}. The file is damaged or "
            f"truncated, or is not compressed as {path.suffix}: fetch it again, or decompress it "
            "yourself and pass the result."
        ) from error
    except PermissionError as error:
        raise ValueError(
            f"{path} may not be read ({error.strerror}). Give yourself the right to read it."
        ) from error


def _not_utf8(path: Path, number: int, error: UnicodeDecodeError) -> ValueError:
    shown = error.object[:SHOWN]
    encoding = "utf-16" if shown[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin1"
    return ValueError(
        f"{path}, line {number}: not UTF-8 ({error.reason} at byte {error.start}); the line "
        f"starts {shown!r}. Save the file as UTF-8: iconv -f {encoding} -t utf-8, if it is "
        f"{encoding}."
    )
