"""Which tokens may follow a token sequence so that the whole stays canonical.

A sequence is canonical if the encoder writes it as the first tokens of some text. There are two
rules, by the kind of tokenizer:

- BPE that does not split texts by a pattern: a sequence is canonical if every adjacent pair is, and
  a pair is unless a merge across its boundary would have been done (`MergePairs`; Hayase et al.
  2025, arXiv 2506.14123). Only the last token matters.
- Everything else (Unigram, WordPiece, BPE with a pattern): the tokens since the last word start are
  decoded and encoded again, alone and, if they end in white space, also before another character,
  since patterns look ahead there and encoders drop white space at the end. Patterns that look ahead
  elsewhere (digits grouped from the right) are not supported: some canonical sequences are then
  left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Int64
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from crosstok.byteview.merge_pairs import MergePairs
from crosstok.tokenizers import ByteVocab
from crosstok.tokenizers.encoding import encode_each, probe_ids
from crosstok.tokenizers.pieces import components
from crosstok.tokenizers.spans import text_backend

Key = tuple[int, ...]
"""What a rule needs to remember of the tokens so far; empty at the start of a text."""

_MASKS_KEPT = 4096
_WORD_END = re.compile(r"\S ")
_START = -1
_SOMETHING = "\ue000"  # private use: neither a space nor a letter, and in no token


class Canonicality(Protocol):
    """Decides which token may come next, from a key of the tokens before."""

    def then(self, key: Key, token: int) -> Key:
        """The key after one more token."""

    def may_follow(self, key: Key, ids: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Which of these ids may come next."""

    def each(self, steps: Sequence[tuple[Key, int]]) -> Bool[np.ndarray, " n"]:
        """Whether each of these tokens may come after its key."""


def canonicality(tokenizer: PreTrainedTokenizerFast, vocab: ByteVocab) -> Canonicality:
    """The rule for a tokenizer."""
    backend = text_backend(tokenizer.backend_tokenizer, vocab)
    description = json.loads(backend.to_str())
    pairs = MergePairs.from_description(description, vocab)
    if pairs is None or _splits_texts(description) or adds_prefix_space(backend, vocab):
        return Reencoding(backend, vocab, pairs)
    return Pairs(pairs)


class Pairs:
    """Pairs of tokens, for BPE."""

    def __init__(self, pairs: MergePairs) -> None:
        self._pairs = pairs

    def then(self, key: Key, token: int) -> Key:
        """The last token."""
        return (token,)

    def may_follow(self, key: Key, ids: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Which of these ids form a canonical pair with the last token."""
        mask = self._pairs.reachable if not key else self._pairs.followers(key[0])
        return np.asarray(mask[ids])

    def each(self, steps: Sequence[tuple[Key, int]]) -> Bool[np.ndarray, " n"]:
        """Whether each of these tokens may come after its key."""
        found = [self.may_follow(key, np.array([token]))[0] for key, token in steps]
        return np.array(found, dtype=np.bool_)


class Reencoding:
    """The tokens since the last word start, encoded again."""

    def __init__(self, backend: Tokenizer, vocab: ByteVocab, pairs: MergePairs | None) -> None:
        self._backend, self._pairs = backend, pairs
        self._bytes = [content or b"" for content in vocab.token_bytes]
        # The space is added even before texts that begin with one (Llama), or only to others (T5).
        self._adds_space = adds_prefix_space(backend, vocab)
        probe = _prefix_probe(backend, vocab) or "a"
        self._adds_second = _joined(backend, vocab, f" {probe}") == f"  {probe}".encode()
        self._something = next(
            (s for s in (_SOMETHING, probe) if probe_ids(backend, s) is not None), _SOMETHING
        )
        # If a token has a space after another character, words cannot be encoded separately.
        self._cuts = not any(map(_WORD_END.search, map(_text, self._bytes)))
        self._masks: dict[Key, np.ndarray] = {}  # packed bits

    def then(self, key: Key, token: int) -> Key:
        """The tokens since the last word start, after `_START` if that is the start of the text."""
        if not key:
            return (_START, token)
        starts_word = self._bytes[token].startswith(b" ")
        if self._cuts and starts_word and not _text(self._bytes[key[-1]])[-1:].isspace():
            return (token,)
        return (*key, token)

    def may_follow(self, key: Key, ids: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Which of these ids may come next: with which the encoder finds the same tokens again."""
        packed = self._masks.get(key)
        if packed is None and len(ids) < len(self._bytes) // 4:
            return self.each([(key, token) for token in ids.tolist()])
        if packed is None:
            every = np.array([i for i, content in enumerate(self._bytes) if content])
            mask = np.zeros(len(self._bytes), dtype=np.bool_)
            mask[every] = self.each([(key, token) for token in every.tolist()])
            if len(self._masks) >= _MASKS_KEPT:
                self._masks.pop(next(iter(self._masks)))
            packed = self._masks[key] = np.packbits(mask)
        unpacked = np.unpackbits(packed, count=len(self._bytes)).astype(np.bool_)
        return np.asarray(unpacked[ids])

    def each(self, steps: Sequence[tuple[Key, int]]) -> Bool[np.ndarray, " n"]:
        """Whether each of these tokens may come after its key."""
        sequences = [[*key[key[:1] == (_START,) :], token] for key, token in steps]
        strips = [
            self._adds_space if key[:1] in ((), (_START,)) else self._adds_second
            for key, _ in steps
        ]
        wholes = list(map(self._complete, sequences, strips))
        allowed = np.zeros(len(steps), dtype=np.bool_)
        found = self._encode([text for text, _ in wholes])
        for place, (sequence, (_, count)) in enumerate(zip(sequences, wholes, strict=True)):
            is_whole = count < len(sequence) or len(found[place]) == count
            allowed[place] = is_whole and found[place][:count] == sequence[:count]
        ending = [
            place
            for place, (text, _) in enumerate(wholes)
            if not allowed[place] and (not text or text[-1].isspace())
        ]
        found = self._encode([wholes[place][0] + self._something for place in ending])
        for place, ids in zip(ending, found, strict=True):
            count = wholes[place][1]
            allowed[place] = ids[:count] == sequences[place][:count]
        if self._pairs is not None:
            for place, sequence in enumerate(sequences):
                if allowed[place] and len(sequence) > 1 and _is_cut(self._bytes[sequence[-2]]):
                    allowed[place] = self._pairs.followers(sequence[-2])[sequence[-1]]
        return allowed

    def _encode(self, texts: list[str]) -> list[list[int]]:
        found = encode_each(self._backend, texts)
        return [[] if isinstance(encoding, Exception) else encoding.ids for encoding in found]

    def _complete(self, sequence: Sequence[int], strips: bool) -> tuple[str, int]:
        """The text up to its last whole character, and the number of tokens that end in it."""
        whole = b"".join([self._bytes[token] for token in sequence])
        size = len(whole)
        try:
            whole.decode()
        except UnicodeDecodeError as error:
            size = error.start
        count, end = 0, 0
        while count < len(sequence) and end + len(self._bytes[sequence[count]]) <= size:
            end += len(self._bytes[sequence[count]])
            count += 1
        text = whole[:size].decode()
        return (text.removeprefix(" ") if strips else text), count


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


def _is_cut(content: bytes) -> bool:
    """Whether bytes end in the middle of a character."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def _joined(backend: Tokenizer, vocab: ByteVocab, text: str) -> bytes | None:
    ids = probe_ids(backend, text)
    return None if ids is None else b"".join([vocab.token_bytes[token] or b"" for token in ids])


def adds_prefix_space(backend: Tokenizer, vocab: ByteVocab) -> bool:
    """Whether the first token of a text has a space that the text does not have.

    Found by encoding letters and, for vocabularies without them, some tokens.
    """
    probe = _prefix_probe(backend, vocab)
    return probe is not None and _joined(backend, vocab, probe) == b" " + probe.encode()


def _prefix_probe(backend: Tokenizer, vocab: ByteVocab) -> str | None:
    """A text that the tokenizer keeps, but for a space before it; None if none is found."""
    probes = ["a", "x", "A", "0"]
    probes += [c.decode(errors="ignore").strip() for c in vocab.token_bytes[:512] if c]
    for probe in probes:
        if probe and not probe[0].isspace():
            joined = _joined(backend, vocab, probe)
            if joined in (probe.encode(), b" " + probe.encode()):
                return probe
    return None


def _splits_texts(description: dict[str, Any]) -> bool:
    """Whether a pre-tokenizer may end a token where the merges would not."""
    parts = list(components(description.get("pre_tokenizer")))
    return any(
        part.get("type") != "Sequence"
        and not (part.get("type") == "ByteLevel" and not part.get("use_regex", True))
        for part in parts
    )
