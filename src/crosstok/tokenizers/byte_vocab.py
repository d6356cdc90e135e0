"""The bytes of every token id, the form in which any two vocabularies can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from crosstok.tokenizers.encoding import probe_ids
from crosstok.tokenizers.pieces import VocabularyTable
from crosstok.tokenizers.roles import find_roles

_BOUNDARY_BYTES = b" \n\t"


@dataclass(frozen=True)
class ByteVocab:
    """The bytes and the special ids of one tokenizer.

    Attributes:
        token_bytes: the bytes of every id, indexed by id; the length is the highest id plus one.
            ``None`` for a special id and for an id that no token has (a gap). They are what the
            tokenizer's decoder makes of the id in the middle of a text: for SentencePiece and
            WordPiece, a piece that begins a word begins with a space; a piece that ends a word
            with a mark (``</w>``) ends with one.
        special_ids: ids that stand for no text: declared special, or the unknown token.
        roles: role -> the ids that spell it. ``bos``, ``eos``, ``pad``, ``unk``, ``sep``, ``cls``,
            ``mask`` if the tokenizer names them; ``end_of_turn``, ``start_header``,
            ``end_header`` and the role names ``system``, ``user``, ``assistant`` if the chat
            template writes them (see `crosstok.tokenizers.roles`).
        special_tokens: special id -> its display string.
        shadowed_ids: ids that the encoder does not emit for their bytes because another id has the
            same bytes (``<0x61>`` beside ``a``).
        word_ends: ids whose last byte, a space, separates them from the next token (``the</w>``).
            At the end of a text it is not written; see `in_context`.
        begins_words_with_space: tokens are joined with spaces (WordPiece): the space at the start
            of a token's bytes may be missing in the text.
    """

    token_bytes: tuple[bytes | None, ...]
    special_ids: frozenset[int]
    roles: Mapping[str, tuple[int, ...]]
    special_tokens: Mapping[int, str] = field(default_factory=dict)
    shadowed_ids: frozenset[int] = frozenset()
    word_ends: frozenset[int] = frozenset()
    begins_words_with_space: bool = False

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerFast) -> ByteVocab:
        """Read the bytes of every id from a fast tokenizer.

        Raises:
            ValueError: the tokenizer has no fast backend.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError(
                f"tokenizer {type(tokenizer).__name__} has no fast backend, and the bytes of its "
                "ids can only be read from one; load it with crosstok.tokenizers.load_tokenizer."
            )
        table = VocabularyTable.from_backend(backend)
        special = _special_tokens(tokenizer, table)
        size = 1 + max((*table.model_pieces, *table.added_pieces, *special), default=-1)
        token_bytes: list[bytes | None] = [None] * size
        to_bytes = table.format.to_bytes
        for index, piece in table.model_pieces.items():
            token_bytes[index] = to_bytes(piece)
        for index in table.added_pieces:
            token_bytes[index] = _added_bytes(backend, table, index)
        for index in special:
            token_bytes[index] = None
        return cls(
            token_bytes=tuple(token_bytes),
            special_ids=frozenset(special),
            roles=find_roles(tokenizer),
            special_tokens=special,
            shadowed_ids=_shadowed(token_bytes, table),
            word_ends=frozenset(
                index
                for index, piece in table.model_pieces.items()
                if table.format.ends_word(piece) and token_bytes[index] is not None
            ),
            begins_words_with_space=table.format.begins_words_with_space,
        )

    def __len__(self) -> int:
        return len(self.token_bytes)

    @cached_property
    def _ids_by_bytes(self) -> dict[bytes, tuple[int, ...]]:
        found: dict[bytes, tuple[int, ...]] = {}
        for index, content in enumerate(self.token_bytes):
            if content is not None:
                found[content] = (*found.get(content, ()), index)
        for content, ids in found.items():
            if len(ids) > 1:
                found[content] = tuple(sorted(ids, key=lambda i: (i in self.shadowed_ids, i)))
        return found

    def ids_of(self, token_bytes: bytes) -> tuple[int, ...]:
        """Return the ids with exactly these bytes; the one that the encoder emits comes first."""
        return self._ids_by_bytes.get(token_bytes, ())

    def in_context(self, ids: Sequence[int], before: int | None = None) -> list[bytes | None]:
        """Return the bytes of tokens of one text, joined from left to right as a decoder does.

        They are those of `token_bytes`, with one difference: the space that separates a token with
        the mark of a word's end from the next token is written with the next one, since the end of
        the text has none. ``the</w> dog</w>`` are ``the`` and `` dog``.

        Args:
            ids: tokens that follow each other.
            before: the token before them; None at the start of a text.
        """
        found = [self.token_bytes[index] for index in ids]
        if not self.word_ends:
            return found
        is_owed = before in self.word_ends
        for place, index in enumerate(ids):
            content = found[place]
            if content is not None:
                found[place] = b" " * is_owed + content[: len(content) - (index in self.word_ends)]
            is_owed = index in self.word_ends
        return found

    def boundary_mask(self, size: int | None = None) -> Bool[np.ndarray, " V"]:
        """Mark the ids [V] that may follow a word boundary.

        They begin with a space, newline or tab, or are special. Outcome-chunk debiasing
        (Minixhofer et al. 2025, arXiv 2503.20083) uses this set.

        Args:
            size: length of the mask, for an output matrix with more rows than the tokenizer has
                ids; the rows past the last id are False. Default: the number of ids.

        Raises:
            ValueError: `size` is smaller than `num_rows_needed`.
        """
        mask = self._no_rows(len(self) if size is None else size, "boundary_mask")
        for index, content in enumerate(self.token_bytes[: len(mask)]):
            mask[index] = bool(content) and content[0] in _BOUNDARY_BYTES  # type: ignore[index]
        mask[[index for index in self.special_ids if index < len(mask)]] = True
        return mask

    def token_mask(self, size: int | None = None) -> Bool[np.ndarray, " V"]:
        """Mark the ids [V] that stand for a token: for bytes, or for a special token.

        The others are gaps in the ids and padding rows of the output matrix; a model should never
        predict them.

        Args:
            size: length of the mask, for an output matrix with more rows than the tokenizer has
                ids; the rows past the last id are False. Default: the number of ids.

        Raises:
            ValueError: `size` is smaller than `num_rows_needed`.
        """
        mask = self._no_rows(len(self) if size is None else size, "token_mask")
        for index, content in enumerate(self.token_bytes[: len(mask)]):
            mask[index] = content is not None
        mask[[index for index in self.special_ids if index < len(mask)]] = True
        return mask

    def _no_rows(self, size: int, asked: str) -> Bool[np.ndarray, " V"]:
        """Make a mask that is False everywhere, after checking that it has room for the ids."""
        if size < self.num_rows_needed:
            needed = self.num_rows_needed
            raise ValueError(
                f"{asked} got size {size}, but the tokenizer has ids up to {needed - 1}; "
                f"pass at least {needed}, or resize the model's embeddings to hold every id."
            )
        return np.zeros(size, dtype=np.bool_)

    @cached_property
    def num_rows_needed(self) -> int:
        """Rows that a model needs: for all ids of text, and for start and end of a document.

        Other special ids may be without a row (Code Llama 34B has four); only a text that holds
        one of them then cannot be read.
        """
        ends = [i for i in (self.document_start, self.document_end) if i is not None]
        text = [i for i, content in enumerate(self.token_bytes) if content is not None]
        return 1 + max((*text[-1:], *ends), default=-1)

    def with_rows(self, num_rows: int) -> ByteVocab:
        """The vocabulary without the special ids for which a matrix of `num_rows` has no row."""
        if num_rows >= len(self):
            return self
        return replace(
            self,
            token_bytes=self.token_bytes[:num_rows],
            special_ids=frozenset(i for i in self.special_ids if i < num_rows),
            roles={role: ids for role, ids in self.roles.items() if max(ids) < num_rows},
            special_tokens={i: s for i, s in self.special_tokens.items() if i < num_rows},
            shadowed_ids=frozenset(i for i in self.shadowed_ids if i < num_rows),
            word_ends=frozenset(i for i in self.word_ends if i < num_rows),
        )

    def same_as(self, other: ByteVocab) -> bool:
        """Return whether every id has the same bytes and special tokens in both vocabularies.

        Roles are not compared: a base model and its chat version may name different ids as eos.
        """
        return (
            self.token_bytes == other.token_bytes
            and self.special_ids == other.special_ids
            and self.special_tokens == other.special_tokens
        )

    @property
    def document_start(self) -> int | None:
        """The id that begins a document: bos, else the document separator, else None."""
        return self._single("bos") if "bos" in self.roles else self.document_end

    @property
    def document_end(self) -> int | None:
        """The id that ends a document: eos, or None.

        A chat tokenizer without bos whose eos ends a *turn* (Qwen's ``<|im_end|>``) separates
        documents with its pad (``<|endoftext|>``), as its base model did.
        """
        end, pad = self._single("eos"), self._single("pad")
        ends_turns = end in self.roles.get("end_of_turn", ())
        if ends_turns and pad is not None and "bos" not in self.roles:
            return pad
        return end

    def _single(self, role: str) -> int | None:
        ids = self.roles.get(role)
        return ids[0] if ids else None


def _special_tokens(tokenizer: PreTrainedTokenizerFast, table: VocabularyTable) -> dict[int, str]:
    """Map special ids to strings: declared special in the backend, named by the tokenizer, unk."""
    special = dict(table.special_pieces)
    named = list(tokenizer.all_special_ids)
    if table.unknown_id is not None:
        named.append(table.unknown_id)
    for index in named:
        piece = table.added_pieces.get(index, table.model_pieces.get(index))
        if piece is not None:
            special.setdefault(index, piece)
    return dict(sorted(special.items()))


def _added_bytes(backend: Tokenizer, table: VocabularyTable, index: int) -> bytes:
    """Return the bytes of an added token that is ordinary text.

    They are what the decoder makes of it, as it is spelt by the normaliser if that changes it: with
    lower-casing, ``Tool`` is found as ``tool`` and decoded so. A byte-level decoder misreads
    letters outside ASCII; where the encoder finds the token in its own characters only, it stands
    for these.
    """
    piece = backend.id_to_token(index) or table.added_pieces[index]
    decoded = table.format.to_bytes(piece)
    is_plain = not table.format.is_byte_level or decoded == piece.encode()
    if is_plain or index in table.model_pieces:
        return decoded
    try:
        ids = probe_ids(backend, decoded.decode())
    except UnicodeDecodeError:
        return piece.encode()
    return decoded if index in (ids or ()) else piece.encode()


def _shadowed(token_bytes: list[bytes | None], table: VocabularyTable) -> frozenset[int]:
    """Find the ids with the same bytes as another id that the encoder prefers.

    The encoder looks for added tokens first, then for pieces of the model, and spells the rest with
    single bytes.
    """

    def rank(index: int) -> tuple[int, int]:
        if index in table.added_pieces:
            return 0, index
        return 1 + table.format.is_byte_piece(table.model_pieces[index]), index

    best: dict[bytes, int] = {}
    shadowed: set[int] = set()
    for index, content in enumerate(token_bytes):
        if content is None:
            continue
        holder = best.setdefault(content, index)
        if holder != index:
            first, second = sorted((holder, index), key=rank)
            best[content] = first
            shadowed.add(second)
    return frozenset(shadowed)
