"""Conversations under chat templates: each tokenizer uses its own, over the same bytes."""

from crosstok.chats.conversations import Conversation, PromptCompletion
from crosstok.chats.description import (
    ChatDescription,
    PieceMatch,
    compare_templates,
    describe_template,
)
from crosstok.chats.encoder import Example, ExampleEncoder
from crosstok.chats.prompts import ChatPrompts
from crosstok.chats.rows import parse_example
from crosstok.chats.shared import shared_examples
from crosstok.chats.templates import resolve_chat_template

__all__ = [
    "ChatDescription",
    "ChatPrompts",
    "Conversation",
    "Example",
    "ExampleEncoder",
    "PieceMatch",
    "PromptCompletion",
    "compare_templates",
    "describe_template",
    "parse_example",
    "resolve_chat_template",
    "shared_examples",
]
