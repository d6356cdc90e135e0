"""Fast Vocabulary Transfer (arXiv 2402.09977, the default of the ALM paper, arXiv 2503.20083).

The row of a token is the mean of the rows of its pieces under the source tokenizer. One deviation:
bytes that are not text (half a character), which a tokenizer cannot encode, are split by longest
match over the source vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from crosstok.tokenizers import ByteVocab, TextEncoder
from crosstok.transplants.base import MethodInputs, MethodNeeds, MethodRows, SourceRows

_CONTEXTS = ("", "\n", "a")
"""Tried in turn before a token, so that a dummy prefix space is added to them, not to the token."""


@dataclass(frozen=True)
class FVT:
    """Every missing token gets the mean of the rows of its pieces."""

    needs: ClassVar[MethodNeeds] = MethodNeeds()
    row_label: ClassVar[str] = "composed from pieces"

    def __call__(self, inputs: MethodInputs) -> MethodRows:
        """Find the pieces of each token; a token without any gets the mean of all rows."""
        return MethodRows([SourceRows(ids) for ids in source_pieces(inputs.tokens, inputs.source)])


def source_pieces(tokens: Sequence[bytes], encoder: TextEncoder) -> list[tuple[int, ...]]:
    """Split each byte string into tokens of the source vocabulary, as its tokenizer would.

    The tokenizer itself splits bytes that are text, if it can do so without adding a prefix space.
    Other bytes (half a character, for example) are split by greedy longest match over the bytes of
    the vocabulary. An empty tuple means that the source vocabulary cannot spell the bytes.
    """
    pieces: list[tuple[int, ...]] = [()] * len(tokens)
    texts = {i: text for i, token in enumerate(tokens) if (text := _as_text(token)) is not None}
    for context in _CONTEXTS:
        open_tokens = [i for i in texts if not pieces[i]]
        encodable = encoder.can_encode([context + texts[i] for i in open_tokens])
        open_tokens = [i for i, can in zip(open_tokens, encodable, strict=True) if can]
        spans = encoder([context + texts[i] for i in open_tokens], add_start=False, add_end=False)
        for i, span in zip(open_tokens, spans, strict=True):
            ids = span.ids.tolist()
            first = int(np.searchsorted(span.starts, len(context)))
            in_context = encoder.byte_vocab.in_context(ids)[first:]
            alone = [encoder.byte_vocab.token_bytes[id_] for id_ in ids[first:]]
            if tokens[i] in (_joined(in_context), _joined(alone)):
                pieces[i] = tuple(ids[first:])
    longest = max((len(t) for t in encoder.byte_vocab.token_bytes if t), default=0)
    for i, token in enumerate(tokens):
        if not pieces[i]:
            pieces[i] = _greedy_pieces(token, encoder.byte_vocab, longest)
    return pieces


def _as_text(token: bytes) -> str | None:
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _joined(parts: Sequence[bytes | None]) -> bytes | None:
    return None if None in parts or not parts else b"".join(part for part in parts if part)


def _greedy_pieces(token: bytes, vocab: ByteVocab, longest: int) -> tuple[int, ...]:
    ids: list[int] = []
    start = 0
    while start < len(token):
        for end in range(min(len(token), start + longest), start, -1):
            found = vocab.ids_of(token[start:end])
            if found:
                ids.append(found[0])
                start = end
                break
        else:
            return ()
    return tuple(ids)
