"""Bytes of any fast tokenizer: of its ids (`ByteVocab`) and of texts under it (`TextEncoder`)."""

from crosstok.tokenizers.byte_vocab import ByteVocab
from crosstok.tokenizers.loading import load_tokenizer
from crosstok.tokenizers.shared_view import shared_texts
from crosstok.tokenizers.spans import Spans, TextEncoder

__all__ = ["ByteVocab", "Spans", "TextEncoder", "load_tokenizer", "shared_texts"]
