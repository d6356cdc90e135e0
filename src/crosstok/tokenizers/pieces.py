"""The bytes that the strings of a vocabulary stand for, read from the tokenizer's description.

A vocabulary stores display strings, not text: ``Ġhello``, ``▁hello``, ``<0x0A>``, ``##ing``. The
parts of the tokenizer (model, normaliser, pre-tokenizer, decoder) state which of these conventions
holds, so it is read there and never guessed from a class or model name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from crosstok.tokenizers.decoders import PieceDecoder, byte_of_piece, bytes_of_characters

_CHILDREN = ("normalizers", "pretokenizers", "decoders", "processors")


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

    The decoder decides. A tokenizer without one is read by the marks that its other parts write.
    Two marks of the model are read even if the decoder leaves them in the text: ``<0xNN>`` of byte
    fallback, and the mark of a word's end.

    Attributes:
        decoder: what the decoder makes of a piece in the middle of a text.
        byte_level: there is no decoder, and every character stands for one byte (`BYTE_ALPHABET`).
        space_markers: without a decoder: what is written for a space (SentencePiece: ``▁``).
        byte_fallback: ``<0xNN>`` stands for one byte.
        subword_prefix: without a decoder: marks a piece that continues a word (WordPiece: ``##``).
            Empty if there is no such mark.
        begins_words_with_space: pieces are joined with a space: each of them begins with one,
            apart from those that continue a word.
        word_suffix: marks a piece that ends a word (``</w>``): a space comes after it, unless the
            text ends. Empty if there is no such mark.
    """

    decoder: PieceDecoder
    byte_level: bool
    space_markers: tuple[str, ...]
    byte_fallback: bool
    subword_prefix: str
    begins_words_with_space: bool
    word_suffix: str

    @classmethod
    def from_description(cls, description: Mapping[str, Any], *, drops_spaces: bool) -> PieceFormat:
        """Read the format from a parsed ``tokenizer.json``.

        Args:
            description: the parsed file.
            drops_spaces: whether the pre-tokenizer removes the spaces at which it splits.
        """
        model = description["model"]
        decoder = PieceDecoder.of_parts(components(description.get("decoder")))
        suffix = model.get("end_of_word_suffix") or ""
        suffix = suffix if _separates(decoder, suffix) else ""
        byte_fallback = bool(model.get("byte_fallback")) or "ByteFallback" in decoder.kinds
        if description.get("decoder") is not None:
            begins = decoder.begins_words_with_space
            return cls(decoder, False, (), byte_fallback, "", begins, suffix)
        written = [
            part
            for name in ("normalizer", "pre_tokenizer")
            for part in components(description.get(name))
        ]
        byte_level = any(part.get("type") == "ByteLevel" for part in written)
        markers = () if byte_level else _space_markers(written)
        word_piece = "##" if model.get("type") == "WordPiece" else ""
        prefix = model.get("continuing_subword_prefix") or word_piece
        # Without a mark for it, the only spaces are those with which the library joins pieces.
        joins = bool(prefix) or drops_spaces
        joins = joins and not (byte_level or markers or suffix)
        return cls(decoder, byte_level, markers, byte_fallback, prefix, joins, suffix)

    def is_byte_piece(self, piece: str) -> bool:
        """Return whether the piece is a single byte written ``<0xNN>``."""
        return self.byte_fallback and byte_of_piece(piece) is not None

    @property
    def is_byte_level(self) -> bool:
        """Whether a decoder or another part shows bytes as characters."""
        return self.byte_level or "ByteLevel" in self.decoder.kinds

    def ends_word(self, piece: str) -> bool:
        """Return whether the piece has the mark of the end of a word."""
        return bool(self.word_suffix) and piece.endswith(self.word_suffix)

    def to_bytes(self, piece: str) -> bytes:
        """Return the bytes that a piece stands for in the middle of a text."""
        if self.byte_fallback and (byte := byte_of_piece(piece)) is not None:
            return byte
        if self.ends_word(piece):
            return self._read(piece.removesuffix(self.word_suffix)) + b" "
        return self._read(piece)

    def _read(self, piece: str) -> bytes:
        continues = bool(self.subword_prefix) and piece.startswith(self.subword_prefix)
        if continues and piece != self.subword_prefix:
            piece = piece.removeprefix(self.subword_prefix)
        if self.byte_level:
            return bytes_of_characters(piece)
        for marker in self.space_markers:
            piece = piece.replace(marker, " ")
        joined = self.begins_words_with_space and not self.decoder.begins_words_with_space
        return b" " * (joined and not continues) + self.decoder(piece)


def _separates(decoder: PieceDecoder, suffix: str) -> bool:
    """Return whether the mark of the end of a word is read as a space, or left as it is."""
    read = decoder(f"a{suffix}a").strip()
    return read == b"a a" or suffix.encode() in read


def _space_markers(parts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Find what a normaliser or pre-tokenizer writes for a space."""
    found = [part["replacement"] for part in parts if part.get("type") == "Metaspace"]
    found += [
        part["content"]
        for part in parts
        if part.get("type") == "Replace" and part["pattern"].get("String") == " "
    ]
    return tuple(marker for marker in dict.fromkeys(found) if marker and marker != " ")


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
    def from_backend(cls, backend: Tokenizer) -> VocabularyTable:
        """Read the table from the description of a tokenizer."""
        description = json.loads(backend.to_str())
        before = backend.pre_tokenizer
        words = [] if before is None else [word for word, _ in before.pre_tokenize_str("a b")]
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
            format=PieceFormat.from_description(description, drops_spaces=words == ["a", "b"]),
        )
