"""Text to ids with byte spans into the original text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerFast

from crosstok.tokenizers.byte_vocab import ByteVocab
from crosstok.tokenizers.encoding import encode_each, probe_ids, without_sampling
from crosstok.tokenizers.inexact_spans import cut_by_offsets

# Ends of the spans of a text's tokens, and which of them are exact (True: all).
_Cut = tuple[Int64[np.ndarray, " T"], bool | Bool[np.ndarray, " T"]]

# The role of tokens that one chat template writes and that are never matched with another's.
TEMPLATE = "template"

# A tokenizer that keeps these bytes keeps nearly every text: case, runs of white space, line
# breaks, punctuation next to a word, an accent, a ligature.
_PROBE = "A  b\n\nCaf\u00c9, \ufb01\tx "


@dataclass(frozen=True, eq=False)
class Spans:
    """One text under one tokenizer: ids with half-open byte spans.

    The spans refer to the **original** text, `text.encode()`, even if a normaliser (NFC, NFKC,
    lower-casing, accent stripping) changed it before it was cut; `exact` marks the tokens whose
    bytes are the bytes of their span. Text tokens cover `[0, num_bytes)` without gap or overlap:
    each starts where the token before it ends. White space that the tokenizer drops belongs to the
    token after it (at the end of the text, to the last token), a dropped or composed accent to the
    token before it. A dummy prefix space, which the tokenizer adds to the text, takes no bytes. If
    several tokens share characters and their bytes do not show where to cut, the first token gets
    all of these characters and the others are empty. A text that the tokenizer drops entirely has
    no text tokens.

    Attributes:
        ids: token ids, specials included.
        starts: first byte of every token. A special token is zero-width, at its place in the text.
        ends: one past the last byte of every token; non-decreasing.
        exact: whether the token's bytes, less a dummy prefix space, are `text.encode()[start:end]`.
            True for the specials that we placed. False for tokens of text that a normaliser
            changed, for the unknown token, and for spans that contain dropped white space.
        specials: (token index, role) of the specials that we placed, ascending. Text that only this
            tokenizer's chat template writes has the role `TEMPLATE` and is never matched.
        num_bytes: length of the text in bytes.
        loss_mask: tokens that the loss covers; None: all tokens.
    """

    ids: Int64[np.ndarray, " T"]
    starts: Int64[np.ndarray, " T"]
    ends: Int64[np.ndarray, " T"]
    exact: Bool[np.ndarray, " T"]
    specials: tuple[tuple[int, str], ...]
    num_bytes: int
    loss_mask: Bool[np.ndarray, " T"] | None = None

    def __len__(self) -> int:
        return len(self.ids)


class TextEncoder:
    """Encodes plain text: a string that looks like a special token is encoded as text.

    Works on a copy of the tokenizer's backend without truncation and padding; the tokenizer itself
    is not changed. Can be pickled, and used in the workers of a data loader.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.byte_vocab = ByteVocab.from_tokenizer(tokenizer)
        self._prepare()

    def _prepare(self) -> None:
        vocab = self.byte_vocab
        self._backend = text_backend(self.tokenizer.backend_tokenizer, vocab)
        self._num_bytes_of = np.array([len(piece or b"") for piece in vocab.token_bytes], np.int64)
        self._added = np.zeros(len(vocab), dtype=np.bool_)
        added = set(self.tokenizer.backend_tokenizer.get_added_tokens_decoder())
        self._added[list(added - vocab.special_ids)] = True
        payload = _PROBE.encode()
        ids = probe_ids(self._backend, _PROBE)
        self._mostly_exact = (
            ids is not None and self._cut_exactly(ids, np.array(ids), payload) is not None
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer, "byte_vocab": self.byte_vocab}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def __call__(
        self, texts: Sequence[str], *, add_start: bool = True, add_end: bool = True
    ) -> list[Spans]:
        """Encode a batch of texts.

        Args:
            texts: any number of texts; an empty text gives no text tokens.
            add_start: begin with `ByteVocab.document_start` if there is one, in the role "bos".
            add_end: end with `ByteVocab.document_end` if there is one, in the role "eos".

        Raises:
            TypeError: `texts` is one string, or holds something that is not a string.
            ValueError: a text has a lone surrogate, which has no bytes in any encoding, or holds
                characters that the tokenizer cannot encode.
        """
        if isinstance(texts, str):
            raise TypeError("TextEncoder takes a list of texts, not one text; pass [text].")
        texts = list(texts)
        payloads = [_utf8(text, row) for row, text in enumerate(texts)]
        encodings = self._encode(texts, offsets=not self._mostly_exact)
        ids = [encoding.ids for encoding in encodings]
        arrays = [np.array(row, dtype=np.int64) for row in ids]
        cuts: list[_Cut | None] = [
            self._cut_exactly(row, array, payload)
            for row, array, payload in zip(ids, arrays, payloads, strict=True)
        ]
        changed = [row for row, cut in enumerate(cuts) if cut is None]
        if changed and self._mostly_exact:
            again = self._encode([texts[row] for row in changed], offsets=True)
            for row, encoding in zip(changed, again, strict=True):
                encodings[row] = encoding
        for row in changed:
            cuts[row] = self._cut_by_offsets(encodings[row], texts[row])
        start = self.byte_vocab.document_start if add_start else None
        end = self.byte_vocab.document_end if add_end else None
        return [
            _with_specials(row, *cut, len(payload), start, end)
            for row, cut, payload in zip(arrays, cuts, payloads, strict=True)
            if cut is not None
        ]

    def _encode(self, texts: list[str], *, offsets: bool = False) -> list[Encoding]:
        return encode_all(self._backend, texts, offsets=offsets)

    def can_encode(self, texts: Sequence[str]) -> list[bool]:
        """Return for each text whether the tokenizer has ids for it.

        It has for every text, unless its model has no unknown token and lacks a character.
        """
        return [not isinstance(found, Exception) for found in encode_each(self._backend, texts)]

    def _cut_exactly(
        self, ids: list[int], array: Int64[np.ndarray, " T"], payload: bytes
    ) -> _Cut | None:
        """Return the ends of the spans if the tokens' bytes join to the text's, else None."""
        token_bytes = self.byte_vocab.in_context(ids)
        try:
            joined = b"".join(token_bytes)  # type: ignore[arg-type]
        except TypeError:  # the unknown token
            return None
        extra = len(joined) - len(payload)
        if extra == 0:
            if joined != payload:
                return None
        elif extra != 1 or joined[:1] != b" " or not joined.endswith(payload):
            return None
        if self.byte_vocab.word_ends:
            ends = np.cumsum([len(piece or b"") for piece in token_bytes], dtype=np.int64)
        else:
            ends = np.cumsum(self._num_bytes_of[array])
        if extra:
            ends -= 1
        return ends, True

    def _cut_by_offsets(self, encoding: Encoding, text: str) -> _Cut:
        ids = encoding.ids
        if not ids:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
        may_drop_space = np.ones(len(ids), dtype=np.bool_)
        if not (self.byte_vocab.begins_words_with_space or self.byte_vocab.word_ends):
            may_drop_space[1:] = self._added[ids[:-1]]
        token_bytes = self.byte_vocab.in_context(ids)
        return cut_by_offsets(token_bytes, encoding.offsets, text, may_drop_space)


def encode_all(
    backend: Tokenizer, texts: Sequence[str], *, offsets: bool = False
) -> list[Encoding]:
    """Encode texts of the user's without special tokens.

    Raises:
        ValueError: a text holds a character that the tokenizer cannot encode; names it.
    """
    found = []
    for row, encoding in enumerate(encode_each(backend, texts, offsets=offsets)):
        if isinstance(encoding, Exception):
            text = texts[row]
            missing = next((c for c in text if probe_ids(backend, c) is None), text[:40])
            raise ValueError(
                f"text {row} holds {missing!r}, for which the tokenizer has neither a token nor an "
                f"unknown token ({encoding}). Leave the text out, or use a tokenizer that can "
                "encode it."
            ) from encoding
        found.append(encoding)
    return found


def _with_specials(
    ids: Int64[np.ndarray, " T"],
    ends: Int64[np.ndarray, " T"],
    exact: bool | Bool[np.ndarray, " T"],
    num_bytes: int,
    start: int | None,
    end: int | None,
) -> Spans:
    before, after = int(start is not None), int(end is not None)
    size = before + len(ids) + after
    text = slice(before, before + len(ids))
    all_ids, all_ends = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    all_starts, all_exact = np.empty(size, dtype=np.int64), np.ones(size, dtype=np.bool_)
    all_ids[text], all_ends[text], all_exact[text] = ids, ends, exact
    specials: list[tuple[int, str]] = []
    if start is not None:
        all_ids[0], all_ends[0] = start, 0
        specials.append((0, "bos"))
    if end is not None:
        all_ids[-1], all_ends[-1] = end, num_bytes
        specials.append((size - 1, "eos"))
    all_starts[:1] = 0
    all_starts[1:] = all_ends[:-1]
    if end is not None:
        all_starts[-1] = num_bytes
    return Spans(all_ids, all_starts, all_ends, all_exact, tuple(specials), num_bytes)


def _utf8(text: str, row: int) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text {row} holds the lone surrogate U+{ord(text[error.start]):04X} at character "
            f"{error.start}, which is half of a character and has no bytes; repair the text, "
            "for example with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from None
    except AttributeError:
        raise TypeError(
            f"text {row} is {type(text).__name__}, not a string; leave out rows without text."
        ) from None


def text_backend(backend: Tokenizer, vocab: ByteVocab) -> Tokenizer:
    """Make a tokenizer with the ids of `backend` that encodes every string as text.

    Dropout and sampling are off. It shares the model, which makes it cheap, except for Unigram:
    there the model itself finds its special pieces in a text, so a copy renames them to strings
    that no text contains.
    """
    backend = without_sampling(backend)
    if type(backend.model).__name__ == "Unigram":
        return _unigram_text_backend(backend, vocab)
    copy = copy_backend(backend)
    copy.encode_special_tokens = True
    return copy


def copy_backend(backend: Tokenizer) -> Tokenizer:
    """Copy a tokenizer with the same ids, without truncation, padding and post-processor.

    The copy shares the model if the ids are then the same, which makes it cheap.
    """
    backend = without_sampling(backend)
    copy = Tokenizer(backend.model)
    if backend.normalizer is not None:
        copy.normalizer = backend.normalizer
    if backend.pre_tokenizer is not None:
        copy.pre_tokenizer = backend.pre_tokenizer
    added = backend.get_added_tokens_decoder()
    for index in sorted(added):
        (copy.add_special_tokens if added[index].special else copy.add_tokens)([added[index]])
    found = {index: token.content for index, token in copy.get_added_tokens_decoder().items()}
    if found != {index: token.content for index, token in added.items()}:
        description = json.loads(backend.to_str())
        description.update(truncation=None, padding=None, post_processor=None)
        copy = Tokenizer.from_str(json.dumps(description))
    return copy


def _unigram_text_backend(backend: Tokenizer, vocab: ByteVocab) -> Tokenizer:
    description = json.loads(backend.to_str())
    description.update(truncation=None, padding=None, post_processor=None)
    pieces = description["model"]["vocab"]
    for index in vocab.special_ids:
        if index < len(pieces):
            pieces[index][0] = f"\uffff{index}\uffff"
    description["added_tokens"] = [
        token for token in description["added_tokens"] if token["id"] not in vocab.special_ids
    ]
    copy = Tokenizer.from_str(json.dumps(description))
    copy.encode_special_tokens = True
    return copy
