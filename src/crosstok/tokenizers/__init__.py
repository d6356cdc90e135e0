"""Bytes of any fast tokenizer: of its ids (`ByteVocab`), of texts and of chats under it."""

from crosstok.tokenizers.byte_tokenizer import (
    BYTES,
    byte_tokenizer,
    is_byte_tokenizer,
    load_target_tokenizer,
)
from crosstok.tokenizers.byte_vocab import ByteVocab
from crosstok.tokenizers.chat import Example, ExampleEncoder, LossOn, shared_examples
from crosstok.tokenizers.chat_description import (
    ChatDescription,
    PieceMatch,
    compare_templates,
    describe_template,
)
from crosstok.tokenizers.chat_template import resolve_chat_template
from crosstok.tokenizers.conversations import Conversation, PromptCompletion, parse_example
from crosstok.tokenizers.loading import load_tokenizer
from crosstok.tokenizers.shared_view import shared_texts
from crosstok.tokenizers.spans import TEMPLATE, Spans, TextEncoder

__all__ = [
    "BYTES",
    "TEMPLATE",
    "ByteVocab",
    "ChatDescription",
    "Conversation",
    "Example",
    "ExampleEncoder",
    "LossOn",
    "PieceMatch",
    "PromptCompletion",
    "Spans",
    "TextEncoder",
    "byte_tokenizer",
    "compare_templates",
    "describe_template",
    "is_byte_tokenizer",
    "load_target_tokenizer",
    "load_tokenizer",
    "parse_example",
    "resolve_chat_template",
    "shared_examples",
    "shared_texts",
]
