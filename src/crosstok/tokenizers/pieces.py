"""The bytes that the strings of a vocabulary stand for, read from the tokenizer's description.

A vocabulary stores display strings, not text: ``Ġhello``, ``▁hello``, ``<0x0A>``, ``##ing``. The
parts of the tokenizer (model, normaliser, pre-tokenizer, decoder) state which of these conventions
holds, so it is read there and never guessed from a class or model name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_CHILDREN = ("normalizers", "pretokenizers", "decoders", "processors")


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


def components(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a tokenizer part and, where it is a sequence, the parts inside it, in order."""
    if not isinstance(node, Mapping):
        return
    yield node
    for key in _CHILDREN:
        for child in node.get(key) or ():
            yield from components(child)


@dataclass(frozen=True)
class PieceFormat:
    """How the strings of one vocabulary spell bytes.

    Attributes:
        byte_level: every character stands for one byte (`BYTE_ALPHABET`).
        space_markers: characters that stand for a space (SentencePiece: ``▁``).
        byte_fallback: ``<0xNN>`` stands for one byte.
        subword_prefix: marks a piece that continues a word (WordPiece: ``##``); a piece without
            it begins a word, and its bytes begin with a space. Empty if there is no such mark.
        word_suffix: marks a piece that ends a word (``</w>``); it stands for no bytes.
    """

    byte_level: bool
    space_markers: tuple[str, ...]
    byte_fallback: bool
    subword_prefix: str
    word_suffix: str

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> PieceFormat:
        """Read the format from a parsed ``tokenizer.json``."""
        model = description["model"]
        parts = {
            name: list(components(description.get(name)))
            for name in ("normalizer", "pre_tokenizer", "decoder")
        }
        every = [part for found in parts.values() for part in found]
        types = {part.get("type") for part in every}
        markers = [part["replacement"] for part in every if part.get("type") == "Metaspace"]
        for part in every:
            if part.get("type") == "Replace":
                pattern, content = part["pattern"].get("String"), part["content"]
                if pattern == " " and part in parts["normalizer"]:
                    markers.append(content)
                elif content == " " and part in parts["decoder"]:
                    markers.append(pattern)
        word_piece = model.get("type") == "WordPiece"
        return cls(
            byte_level="ByteLevel" in types,
            space_markers=tuple(dict.fromkeys(m for m in markers if m and m != " ")),
            byte_fallback=bool(model.get("byte_fallback")) or "ByteFallback" in types,
            subword_prefix=model.get("continuing_subword_prefix") or ("##" if word_piece else ""),
            word_suffix=model.get("end_of_word_suffix") or "",
        )

    def is_byte_piece(self, piece: str) -> bool:
        """Return whether the piece is a single byte written ``<0xNN>``."""
        return self.byte_fallback and _BYTE_PIECE.fullmatch(piece) is not None

    def to_bytes(self, piece: str) -> bytes:
        """Return the bytes that a piece of the model's vocabulary stands for."""
        if self.byte_fallback and (found := _BYTE_PIECE.fullmatch(piece)):
            return bytes([int(found[1], 16)])
        if self.word_suffix and piece != self.word_suffix:
            piece = piece.removesuffix(self.word_suffix)
        if self.byte_level:
            try:
                return piece.translate(_TO_LATIN1).encode("latin-1")
            except UnicodeEncodeError:
                return piece.encode()
        for marker in self.space_markers:
            piece = piece.replace(marker, " ")
        if self.subword_prefix:
            if piece.startswith(self.subword_prefix) and piece != self.subword_prefix:
                return piece.removeprefix(self.subword_prefix).encode()
            return b" " + piece.encode()
        return piece.encode()


@dataclass(frozen=True)
class VocabularyTable:
    """The vocabulary of a tokenizer as its description lists it.

    Attributes:
        model_pieces: id -> string, for the ids of the model.
        added_pieces: id -> string, for added tokens that are ordinary text.
        special_pieces: id -> string, for tokens declared special.
        unknown_id: the id of the model's unknown token, if it has one.
        format: how the model's strings spell bytes.
    """

    model_pieces: Mapping[int, str]
    added_pieces: Mapping[int, str]
    special_pieces: Mapping[int, str]
    unknown_id: int | None
    format: PieceFormat

    @classmethod
    def from_json(cls, text: str) -> VocabularyTable:
        """Read the table from the text of a ``tokenizer.json``."""
        description = json.loads(text)
        model, added = description["model"], description.get("added_tokens") or ()
        vocab = model["vocab"]
        if isinstance(vocab, Mapping):
            pieces = {index: piece for piece, index in vocab.items()}
            unknown_id = vocab.get(model.get("unk_token"))
        else:
            pieces = {index: entry[0] for index, entry in enumerate(vocab)}
            unknown_id = model.get("unk_id")
        return cls(
            model_pieces=pieces,
            added_pieces={token["id"]: token["content"] for token in added if not token["special"]},
            special_pieces={token["id"]: token["content"] for token in added if token["special"]},
            unknown_id=unknown_id,
            format=PieceFormat.from_description(description),
        )

    def added_bytes(self, index: int) -> bytes:
        """Return the bytes of an added token that is ordinary text.

        They are the UTF-8 of its content, which the encoder looks for in a text. If the same string
        is also a piece of a SentencePiece-like model (Gemma's ``▁▁``), it is read as that piece, as
        in decoding.
        """
        content = self.added_pieces[index]
        if self.model_pieces.get(index) == content and not self.format.byte_level:
            return self.format.to_bytes(content)
        return content.encode()
