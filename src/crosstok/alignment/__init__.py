"""Align two tokenizations of a text in chunks with the same bytes; numpy only, no torch."""

from crosstok.alignment.chunks import Alignment, align, align_batch, tokens_that_fit
from crosstok.alignment.edit_distance import NearestTokens, nearest_tokens
from crosstok.alignment.vocab_map import (
    ENDS_OF_CHATS,
    ENDS_OF_TEXTS,
    VocabOverlap,
    overlapping_tokens,
)

__all__ = [
    "ENDS_OF_CHATS",
    "ENDS_OF_TEXTS",
    "Alignment",
    "NearestTokens",
    "VocabOverlap",
    "align",
    "align_batch",
    "nearest_tokens",
    "overlapping_tokens",
    "tokens_that_fit",
]
