"""The byte view of any fast tokenizer: bytes of its ids (`ByteVocab`), byte spans of its tokens."""

from crosstok.tokenizers.byte_tokenizer import (
    BYTES,
    byte_tokenizer,
    is_byte_tokenizer,
    load_target_tokenizer,
)
from crosstok.tokenizers.byte_vocab import ByteVocab
from crosstok.tokenizers.loading import load_tokenizer
from crosstok.tokenizers.shared_view import shared_texts
from crosstok.tokenizers.spans import TEMPLATE, Spans, TextEncoder

__all__ = [
    "BYTES",
    "TEMPLATE",
    "ByteVocab",
    "Spans",
    "TextEncoder",
    "byte_tokenizer",
    "is_byte_tokenizer",
    "load_target_tokenizer",
    "load_tokenizer",
    "shared_texts",
]
