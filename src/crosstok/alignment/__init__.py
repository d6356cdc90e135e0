"""Chunks of two tokenizations that spell the same bytes. numpy only."""

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
