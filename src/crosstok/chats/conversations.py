"""A conversation, or a prompt with its completion: what a row of chat data holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

ROLES = ("system", "developer", "user", "assistant", "tool")
THOUGHT = "reasoning_content"  # the key of an assistant's thoughts, however the data spell it

Message: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Text:
    """A text of a conversation that all tokenizers share.

    Attributes:
        message: number of its message, from 0.
        kind: the thoughts before the content, the content, or a string of the calls after it.
        string: the text.
    """

    message: int
    kind: Literal["thought", "content", "call"]
    string: str = field(default="", compare=False)


@dataclass(frozen=True)
class Conversation:
    """The messages of one conversation.

    Attributes:
        messages: each with a ``role`` of `ROLES`, a ``content`` that is a string or None, and the
            other fields of the row (``tool_calls``, ``name``, ...). Thoughts are in
            ``reasoning_content``, the arguments of calls are mappings.
        tools: descriptions of the tools that the assistant may call, or None.
        num_prompt_messages: number of messages in the prompt; the loss never covers their turns.
        where: file and row, for error messages.
        options: variables that the row passes to the template (``chat_template_kwargs``,
            ``documents``).
        untrained: messages that the row excludes from the loss (``weight: 0``, ``train: false``).
        shared_thoughts: messages whose thoughts all templates write, so that they are part of
            `text`. The loss covers other thoughts too, where a template writes them.
        shared_calls: (message, number) of the strings of calls that all templates write.
    """

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] | None = None
    num_prompt_messages: int = 0
    where: str = field(default="a conversation", compare=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    untrained: frozenset[int] = frozenset()
    shared_thoughts: frozenset[int] = frozenset()
    shared_calls: frozenset[tuple[int, int]] = frozenset()

    @property
    def contents(self) -> tuple[str, ...]:
        """The content of every message; an empty string for None."""
        return tuple(message.get("content") or "" for message in self.messages)

    @property
    def thoughts(self) -> dict[int, str]:
        """The thoughts, by the number of their message; those that are empty are left out."""
        return {
            index: message[THOUGHT]
            for index, message in enumerate(self.messages)
            if message.get(THOUGHT)
        }

    @property
    def texts(self) -> tuple[Text, ...]:
        """The texts that all tokenizers share, in order: shared thoughts, contents, shared calls.

        There is one content for every message.
        """
        texts = []
        for index, content in enumerate(self.contents):
            if index in self.shared_thoughts:
                texts.append(Text(index, "thought", self.messages[index][THOUGHT]))
            texts.append(Text(index, "content", content))
            calls = strings_of_calls(self.messages[index]) if self.shared_calls else ()
            texts += [
                Text(index, "call", call)
                for number, call in enumerate(calls)
                if (index, number) in self.shared_calls
            ]
        return tuple(texts)

    @property
    def text(self) -> str:
        """The shared texts joined in order, nothing between them: the text that is aligned."""
        return "".join(text.string for text in self.texts)

    def with_texts(self, strings: Sequence[str]) -> Conversation:
        """Return the same conversation with other strings in `texts`.

        A content of None stays None, and calls stay as they are.
        """
        messages = [dict(message) for message in self.messages]
        for text, string in zip(self.texts, strings, strict=True):
            message = messages[text.message]
            if text.kind == "thought":
                message[THOUGHT] = string
            elif text.kind == "content" and message.get("content") is not None:
                message["content"] = string
        return replace(self, messages=tuple(messages))


@dataclass(frozen=True)
class PromptCompletion:
    """A prompt and the text that follows it, both plain; no template is applied."""

    prompt: str
    completion: str
    where: str = field(default="a prompt with its completion", compare=False)

    @property
    def text(self) -> str:
        """Prompt and completion joined: the text that all tokenizers share."""
        return self.prompt + self.completion


def strings_of_calls(message: Message) -> list[str]:
    """Return the strings of a message's calls that templates write alike: names and arguments."""
    strings = []
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping) and function.get("name"):
            arguments = function.get("arguments", {})
            strings += [str(function["name"]), json.dumps(arguments, ensure_ascii=False)]
    return strings
