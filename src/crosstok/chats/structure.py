"""Encode a rendered conversation, so that only the template's special tokens become special ids.

A rendered conversation is encoded in one go, as `apply_chat_template` does, so that the flags of
special tokens and merges across the edges of contents have the same effect. If a content holds the
string of a special token, the tokenizer could not distinguish it from the template's. Then the
template's special tokens are respelt, in the string and in a copy of the tokenizer, in characters
that no text contains, and everything else is text.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from tokenizers import Tokenizer

from crosstok.tokenizers.byte_vocab import ByteVocab
from crosstok.tokenizers.encoding import probe_ids, without_sampling
from crosstok.tokenizers.inexact_spans import cut_by_offsets
from crosstok.tokenizers.spans import TextEncoder, copy_backend, encode_all

_PRIVATE = 0xE000  # first of Unicode's private-use characters
_GUARDS = ("\n", "A", ".")
_SPACES = frozenset(bytes([code]) for code in b" \n\t\r\v\f")
_PROBE = "A  b\n\nCaf\u00c9\tx "


@dataclass(frozen=True, eq=False)
class EncodedString:
    """One string under one tokenizer; token k covers bytes [ends[k - 1], ends[k])."""

    ids: Int64[np.ndarray, " T"]
    ends: Int64[np.ndarray, " T"]
    exact: Bool[np.ndarray, " T"]

    def then(self, other: EncodedString) -> EncodedString:
        """Join another string after this one."""
        shift = self.ends[-1] if len(self.ends) else 0
        return EncodedString(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.ends, other.ends + shift]),
            np.concatenate([self.exact, other.exact]),
        )


class SpecialText:
    """The strings of the special tokens, and two spellings of them that no text contains.

    One spelling carries the string of a special token, found in the data, through a template; the
    other stands for the special token itself in the encoded string.
    """

    def __init__(self, special_tokens: Sequence[str]) -> None:
        self.tokens = tuple(dict.fromkeys(token for token in special_tokens if token))
        key = [secrets.randbelow(0x1000) for _ in range(6)]
        # Six private characters, a number of fixed length, one more private character.
        self._mark = "".join(chr(_PRIVATE + 0x40 + place) for place in key)
        self._numbers = {token: index for index, token in enumerate(self.tokens)}
        by_length = sorted(self.tokens, key=len, reverse=True)
        self._find = re.compile("|".join(map(re.escape, by_length)) or r"(?!)")
        self._find_quoted = re.compile(f"\uf8f0{self._mark}(..)\uf8f1")

    def is_in(self, text: str) -> bool:
        """Return whether this text contains the string of a special token."""
        return self._find.search(text) is not None

    def quote(self, text: str) -> str:
        """Respell special tokens in data so that a template does not recognise them."""
        return self._find.sub(lambda found: self._spell(found[0], "\uf8f0"), text)

    def unquote(self, text: str) -> str:
        """Undo `quote`."""
        return self._find_quoted.sub(lambda found: self.tokens[_number(found[1])], text)

    def respell(self, text: str) -> str:
        """Respell special tokens as in the copy of the tokenizer."""
        return self._find.sub(lambda found: self.alias(found[0]), text)

    def alias(self, token: str) -> str:
        """Return the spelling of one special token in the copy of the tokenizer."""
        return self._spell(token, "\uf8f2")

    def _spell(self, token: str, opening: str) -> str:
        number = self._numbers[token]
        digits = chr(_PRIVATE + number // 0x1000) + chr(_PRIVATE + number % 0x1000)
        return f"{opening}{self._mark}{digits}\uf8f1"


def _number(digits: str) -> int:
    return (ord(digits[0]) - _PRIVATE) * 0x1000 + ord(digits[1]) - _PRIVATE


class StructureEncoder:
    """Encodes rendered conversations; their special tokens become special ids."""

    def __init__(self, encoder: TextEncoder) -> None:
        vocab = encoder.byte_vocab
        backend = encoder.tokenizer.backend_tokenizer
        self._original = backend
        self.special_text = SpecialText(tuple(vocab.special_tokens.values()))
        self._plain = _Backend(copy_backend(backend), vocab, vocab.special_tokens)
        self._respelt: _Backend | None = None
        self._special_tokens = vocab.special_tokens
        self._vocab = vocab

    def __call__(self, strings: Sequence[str], *, respelt: bool = False) -> list[EncodedString]:
        """Encode strings; with `respelt`, only respelt special tokens count as special."""
        return (self._respelt_backend() if respelt else self._plain).encode(strings)

    def encode_cut(
        self, string: str, cuts: Sequence[int], *, respelt: bool = False
    ) -> EncodedString:
        """Encode a string so that tokens end at these characters (ascending, inside the string)."""
        backend = self._respelt_backend() if respelt else self._plain
        edges = [0, *cuts, len(string)]
        parts = [string[begin:end] for begin, end in pairwise(edges)]
        whole = backend.encode(parts[:1])[0]
        for part in parts[1:]:
            whole = whole.then(backend.encode_continuation(part))
        return whole

    def _respelt_backend(self) -> _Backend:
        if self._respelt is None:
            aliases = {
                index: self.special_text.alias(token)
                for index, token in self._special_tokens.items()
            }
            copy = _respelt_copy(self._original, self._special_tokens, aliases)
            self._respelt = _Backend(copy, self._vocab, aliases)
        return self._respelt


class _Backend:
    def __init__(
        self,
        backend: Tokenizer,
        vocab: ByteVocab,
        special_tokens: dict[int, str] | Any,
    ) -> None:
        self._backend = backend
        self._bytes = list(vocab.token_bytes)
        for index, token in special_tokens.items():
            self._bytes[index] = token.encode()
        self._vocab = replace(vocab, token_bytes=tuple(self._bytes))
        self._lengths = np.array([len(piece or b"") for piece in self._bytes], np.int64)
        self._is_special = np.zeros(len(self._bytes), dtype=np.bool_)
        self._is_special[list(special_tokens)] = True
        self._swallows = np.zeros(len(self._bytes), dtype=np.bool_)
        for index, added in backend.get_added_tokens_decoder().items():
            self._swallows[index] = added.special and added.rstrip
        shown = next((t for t in special_tokens.values() if backend.token_to_id(t) is not None), "")
        probe = f"{shown}{_PROBE}{shown}{_PROBE}"
        ids = probe_ids(backend, probe)
        self._mostly_exact = ids is not None and self._cut_exactly(ids, probe) is not None
        alone = probe_ids(backend, "A")
        self._adds_prefix = (
            alone is None or b"".join(c or b"" for c in self._vocab.in_context(alone)) != b"A"
        )

    def encode(self, strings: Sequence[str]) -> list[EncodedString]:
        found: list[EncodedString | None] = [None] * len(strings)
        if self._mostly_exact:
            encodings = encode_all(self._backend, strings)
            found = [
                self._cut_exactly(encoding.ids, string)
                for encoding, string in zip(encodings, strings, strict=True)
            ]
        rest = [place for place, encoded in enumerate(found) if encoded is None]
        encodings = encode_all(self._backend, [strings[place] for place in rest], offsets=True)
        for place, encoding in zip(rest, encodings, strict=True):
            found[place] = self._cut_by_offsets(encoding.ids, encoding.offsets, strings[place])
        return [encoded for encoded in found if encoded is not None]

    def encode_continuation(self, string: str) -> EncodedString:
        """Encode a string that follows other text, so that it gets no dummy prefix space."""
        if not self._adds_prefix:
            return self.encode([string])[0]
        for guard in _GUARDS:
            if probe_ids(self._backend, guard) is None:
                continue
            before, both = self.encode([guard, guard + string])
            size = len(before.ids)
            if np.array_equal(both.ids[:size], before.ids) and both.ends[size - 1] == len(guard):
                return EncodedString(
                    both.ids[size:], both.ends[size:] - len(guard), both.exact[size:]
                )
        return self.encode([string])[0]

    def _cut_exactly(self, ids: list[int], string: str) -> EncodedString | None:
        token_bytes = self._vocab.in_context(ids)
        try:
            joined = b"".join(token_bytes)  # type: ignore[arg-type]
        except TypeError:  # an id without bytes
            return None
        array = np.array(ids, dtype=np.int64)
        lengths: Int64[np.ndarray, " T"] = self._lengths[array] if len(array) else array.copy()
        if self._vocab.word_ends:
            lengths = np.array([len(piece or b"") for piece in token_bytes], dtype=np.int64)
        payload = string.encode()
        if joined != payload and not self._fit_sections(array, lengths, joined, payload):
            return None
        return EncodedString(array, np.cumsum(lengths), np.ones(len(array), dtype=np.bool_))

    def _fit_sections(
        self,
        ids: Int64[np.ndarray, " T"],
        lengths: Int64[np.ndarray, " T"],
        joined: bytes,
        payload: bytes,
    ) -> bool:
        """Return whether the tokens spell the string, except for white space after specials.

        After a special token a tokenizer may add a dummy space, or take white space into the
        special token (``rstrip``). Changes `lengths` to the bytes that each token covers.
        """
        specials = np.flatnonzero(self._is_special[ids]) if len(ids) else ids
        firsts = np.concatenate([[0], specials + 1])
        begins = np.concatenate([[0], np.cumsum(lengths)])
        place = 0
        for first, last in zip(firsts.tolist(), [*specials.tolist(), len(ids)], strict=True):
            if first and self._swallows[ids[first - 1]]:
                stop = place
                while payload[stop : stop + 1] in _SPACES:
                    stop += 1
                lengths[first - 1] += stop - place
                place = stop
            section = joined[begins[first] : begins[last]]
            if section[:1] == b" " and not payload.startswith(section, place):
                section = section[1:]
                lengths[first] -= 1
            if not payload.startswith(section, place):
                return False
            place += len(section)
            if last < len(ids):
                token = self._bytes[ids[last]] or b""
                if not payload.startswith(token, place):
                    return False
                place += len(token)
        return place == len(payload)

    def _cut_by_offsets(
        self, ids: list[int], offsets: list[tuple[int, int]], string: str
    ) -> EncodedString:
        array = np.array(ids, dtype=np.int64)
        if not ids:
            return EncodedString(array, array, np.zeros(0, dtype=np.bool_))
        # Any token may carry a dummy space: one is added after every special token.
        may_drop_space = np.ones(len(ids), dtype=np.bool_)
        token_bytes = self._vocab.in_context(ids)
        ends, exact = cut_by_offsets(token_bytes, offsets, string, may_drop_space)
        return EncodedString(array, ends, exact)


def _respelt_copy(
    backend: Tokenizer, special_tokens: dict[int, str] | Any, aliases: dict[int, str]
) -> Tokenizer:
    """Copy a tokenizer with its special tokens respelt, in the model's vocabulary too."""
    description = json.loads(without_sampling(backend).to_str())
    description.update(truncation=None, padding=None, post_processor=None)
    model = description["model"]
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        for index, token in special_tokens.items():
            if vocab.get(token) == index:
                vocab[aliases[index]] = vocab.pop(token)
            if model.get("unk_token") == token:
                model["unk_token"] = aliases[index]
    else:
        for index in special_tokens:
            if index < len(vocab):
                vocab[index][0] = aliases[index]
    for token in description["added_tokens"]:
        if token["id"] in aliases:
            token["content"] = aliases[token["id"]]
    copy = Tokenizer.from_str(json.dumps(description))
    wrong = [index for index in aliases if copy.token_to_id(aliases[index]) != index]
    if wrong:
        raise ValueError(
            f"special token {special_tokens[wrong[0]]!r} (id {wrong[0]}) of this tokenizer cannot "
            "be distinguished from the same text in a message; remove that text from the data."
        )
    return copy
