"""What the decoder of a tokenizer makes of one piece in the middle of a text.

The parts of a ``tokenizer.json``'s decoder are run here on single pieces, with the rules of the
``tokenizers`` library, so that 100,000 pieces take a fraction of a second. What the library does
differently at the start and at the end of a text is left out: a piece is read as if others came
before and after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tokenizers import Regex, decoders

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_CLEANED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


def _byte_alphabet() -> dict[int, str]:
    """Map each byte to the character that byte-level BPE shows for it (Radford et al. 2019).

    Printable Latin-1 bytes are shown as themselves; the others take the next free character from
    U+0100 on, in the order of the bytes.
    """
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in shown]
    alphabet = {byte: chr(byte) for byte in shown}
    alphabet.update({byte: chr(0x100 + rank) for rank, byte in enumerate(hidden)})
    return alphabet


BYTE_ALPHABET: Mapping[int, str] = _byte_alphabet()
# Latin-1 characters outside the alphabet must not be read as bytes, so they map to a character
# that Latin-1 cannot hold.
_TO_LATIN1 = {code: "\uffff" for code in range(256) if chr(code) not in BYTE_ALPHABET.values()} | {
    ord(character): chr(byte) for byte, character in BYTE_ALPHABET.items()
}

_Step = Callable[[bytes], bytes]


@dataclass(frozen=True)
class PieceDecoder:
    """A decoder as steps on the UTF-8 of one piece.

    Attributes:
        steps: what is done to a piece, in order.
        begins_words_with_space: pieces are joined with a space, apart from those with the mark of
            a continued word (WordPiece).
        kinds: the kinds of the decoder's parts.
    """

    steps: tuple[_Step, ...]
    begins_words_with_space: bool
    kinds: frozenset[str]

    @classmethod
    def of_parts(cls, parts: Iterator[Mapping[str, Any]]) -> PieceDecoder:
        """Read the decoder's parts, in order."""
        steps: list[_Step] = []
        kinds: set[str] = set()
        is_joined = begins = False
        for part in parts:
            kind = part["type"]
            begins = begins or (kind == "WordPiece" and not is_joined)
            steps += _steps_of(part, is_joined=is_joined)
            is_joined = is_joined or kind in ("Fuse", "ByteLevel")
            kinds.add(kind)
        return cls(tuple(steps), begins, frozenset(kinds))

    def __call__(self, piece: str) -> bytes:
        """Return the bytes of a piece between two others."""
        content = piece.encode()
        for step in self.steps:
            content = step(content)
        return content


def byte_of_piece(piece: str) -> bytes | None:
    """Return the byte that ``<0xNN>`` names, or None for another piece."""
    found = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(found[1], 16)]) if found else None


def bytes_of_characters(piece: str) -> bytes:
    """Read every character as one byte, or the whole piece as UTF-8 if one is not in the table."""
    try:
        return piece.translate(_TO_LATIN1).encode("latin-1")
    except UnicodeEncodeError:
        return piece.encode()


def _steps_of(part: Mapping[str, Any], *, is_joined: bool) -> list[_Step]:
    """The steps of one part; `is_joined`: an earlier one has made one string of all pieces."""
    kind = part["type"]
    if kind == "ByteLevel":
        return [_on_text(bytes_of_characters)]
    if kind == "ByteFallback":
        return [] if is_joined else [_on_text(lambda piece: byte_of_piece(piece) or piece.encode())]
    if kind == "Metaspace":
        return [_replacing(part["replacement"], " ")]
    if kind == "Replace":
        return [_replace(part)]
    if kind == "Strip" and not is_joined:
        return [partial(_strip, part["content"].encode(), part["start"], part["stop"])]
    if kind == "BPEDecoder":
        return [_replacing(part["suffix"], "" if is_joined else " ")]
    if kind == "WordPiece":
        joining = [] if is_joined else [partial(_begin_word, part["prefix"].encode())]
        return [*joining, *(_cleaning() if part["cleanup"] else [])]
    if kind == "CTC":
        cleaning = [*_cleaning(), _replacing(part["word_delimiter_token"], " ")]
        return [_replacing(part["pad_token"], ""), *(cleaning if part["cleanup"] else [])]
    return []


def _on_text(read: Callable[[str], bytes]) -> _Step:
    """A step on whole characters; bytes that are not text stay as they are."""

    def step(content: bytes) -> bytes:
        try:
            return read(content.decode())
        except UnicodeDecodeError:
            return content

    return step


def _replacing(old: str, new: str) -> _Step:
    before, after = old.encode(), new.encode()
    return (lambda content: content.replace(before, after)) if old else (lambda content: content)


def _replace(part: Mapping[str, Any]) -> _Step:
    pattern = part["pattern"]
    if "String" in pattern:
        return _replacing(pattern["String"], part["content"])
    decoder = decoders.Replace(Regex(pattern["Regex"]), part["content"])
    return _on_text(lambda piece: str(decoder.decode([piece])).encode())


def _strip(mark: bytes, start: int, stop: int, content: bytes) -> bytes:
    while start and content.startswith(mark):
        content, start = content[len(mark) :], start - 1
    while stop and content.endswith(mark):
        content, stop = content[: -len(mark)], stop - 1
    return content


def _begin_word(prefix: bytes, content: bytes) -> bytes:
    return content.removeprefix(prefix) if content.startswith(prefix) else b" " + content


def _cleaning() -> list[_Step]:
    return [_replacing(old, new) for old, new in _CLEANED]
