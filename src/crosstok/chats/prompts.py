"""Chat prompts: conversations rendered up to the place where the model's answer begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crosstok.chats.conversations import ROLES, Conversation
from crosstok.chats.encoder import holds_special, map_strings
from crosstok.chats.messages import read_messages
from crosstok.chats.renderer import ChatRenderer
from crosstok.chats.structure import EncodedString, StructureEncoder
from crosstok.chats.templates import TemplateFailure
from crosstok.tokenizers.spans import TextEncoder

_WHERE = "a chat prompt"


class ChatPrompts:
    """Encodes chat prompts with the tokenizer's own chat template and its generation prompt.

    The ids equal ``apply_chat_template(messages, add_generation_prompt=True)``, except that the
    string of a special token in a message is encoded as text.
    """

    def __init__(self, encoder: TextEncoder, chat_template: str | None = None) -> None:
        """Read the template.

        Args:
            encoder: the tokenizer's encoder of plain text.
            chat_template: text of a template to use instead of the tokenizer's own.

        Raises:
            ValueError: the tokenizer has no template and none was passed.
        """
        self._renderer = ChatRenderer(encoder.tokenizer, chat_template)
        self._structure = StructureEncoder(encoder)

    def __call__(
        self, messages: Sequence[Mapping[str, Any]], answer: str = ""
    ) -> tuple[EncodedString, EncodedString]:
        """Encode the prompt, and an answer, which begins with a new token.

        Raises:
            ValueError: a message has no known role or no content, or the template cannot render
                the messages.
        """
        special = self._structure.special_text
        conversation = _conversation(messages)
        respelt = holds_special(conversation, special) or special.is_in(answer)
        if respelt:
            conversation = map_strings(conversation, special.quote)
        prompt = self._render(conversation)
        if respelt:
            prompt = special.unquote(special.respell(prompt))
        if not answer:
            [encoded] = self._structure([prompt], respelt=respelt)
            return encoded, _part(encoded, slice(0, 0), 0)
        encoded = self._structure.encode_cut(prompt + answer, [len(prompt)], respelt=respelt)
        size = len(prompt.encode())
        count = int(np.searchsorted(encoded.ends, size, "right"))
        return _part(encoded, slice(count), 0), _part(encoded, slice(count, None), size)

    def _render(self, conversation: Conversation) -> str:
        variant = self._renderer.skeleton(conversation).variant
        try:
            return self._renderer.render(conversation, variant, {"add_generation_prompt": True})
        except TemplateFailure as failure:
            raise ValueError(
                f"{_WHERE}: the chat template cannot begin an answer to these messages "
                f"({failure}). Change their order, or pass another template."
            ) from failure


def _part(whole: EncodedString, tokens: slice, start: int) -> EncodedString:
    return EncodedString(whole.ids[tokens], whole.ends[tokens] - start, whole.exact[tokens])


def _conversation(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    if not messages:
        raise ValueError(f"{_WHERE} has no messages; give at least one user message.")
    for number, message in enumerate(messages, 1):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ROLES or not isinstance(message.get("content"), str | None):
            raise ValueError(
                f"{_WHERE}: message {number} is {message!r:.80}; it must have a role "
                f"({', '.join(ROLES)}) and a content that is a string."
            )
    read = read_messages(messages, _WHERE, "messages")
    return Conversation(tuple(one.message for one in read), where=_WHERE)
