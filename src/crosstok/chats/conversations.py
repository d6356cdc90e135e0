"""Read and check rows of chat data in the usual formats: conversations, prompts with completions.

Accepted rows are ``{"messages": [...]}`` (with ``"tools"``), ``{"prompt": ..., "completion": ...}``
(two strings or two lists of messages), and ShareGPT's ``{"conversations": [{"from", "value"}]}``.
A message's content is a string, None beside tool calls, or a list of ``{"type": "text"}`` parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

ROLES = ("system", "developer", "user", "assistant", "tool")
_SHAREGPT_ROLES = {
    "human": "user", "gpt": "assistant", "bot": "assistant",
    "observation": "tool",
}  # fmt: skip
_MESSAGES_SHAPE = (
    'a row is {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", ...}]}, or '
    '{"prompt": ..., "completion": ...}'
)

Message: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Conversation:
    """The messages of one conversation.

    Attributes:
        messages: each with a ``role`` of `ROLES`, a ``content`` that is a string or None, and the
            other fields of the row (``tool_calls``, ``name``, ...).
        tools: descriptions of the tools that the assistant may call, or None.
        num_prompt_messages: number of messages in the prompt; the loss never covers their turns.
        where: file and row, for error messages.
    """

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] | None = None
    num_prompt_messages: int = 0
    where: str = field(default="a conversation", compare=False)

    @property
    def contents(self) -> tuple[str, ...]:
        """The content of every message; an empty string for None."""
        return tuple(message.get("content") or "" for message in self.messages)

    @property
    def text(self) -> str:
        """The contents joined in order, nothing between them: the text that all tokenizers share.

        It is the text whose bytes are aligned.
        """
        return "".join(self.contents)

    def with_contents(self, contents: Sequence[str]) -> Conversation:
        """Return the same conversation with other contents; a content of None stays None."""
        messages = tuple(
            message if message.get("content") is None else {**message, "content": content}
            for message, content in zip(self.messages, contents, strict=True)
        )
        return replace(self, messages=messages)


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


def parse_example(row: str | Mapping[str, Any], where: str) -> Conversation | PromptCompletion:
    """Read and check one row.

    Args:
        row: the row, or its JSON.
        where: file and row, with which every error message begins.

    Raises:
        ValueError: the row has no messages, an unknown role, no assistant turn, a message with
            neither content nor tool calls, or a field of the wrong type.
    """
    given = json.loads(row) if isinstance(row, str) else row
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: {given!r:.80} is not a JSON object; {_MESSAGES_SHAPE}.")
    tools = _tools(given.get("tools"), where)
    if given.get("messages") is not None:
        return _conversation(given["messages"], tools, where)
    if given.get("conversations") is not None:
        return _conversation(_from_sharegpt(given["conversations"], where), tools, where)
    if given.get("prompt") is None or given.get("completion") is None:
        fields = ", ".join(map(repr, given)) or "none"
        raise ValueError(
            f"{where}: no 'messages', and no 'prompt' with 'completion'; its fields are {fields}; "
            f"{_MESSAGES_SHAPE}."
        )
    return _prompt_completion(given["prompt"], given["completion"], tools, where)


def _prompt_completion(
    prompt: object, completion: object, tools: tuple[Any, ...] | None, where: str
) -> Conversation | PromptCompletion:
    if isinstance(prompt, str) and isinstance(completion, str):
        if not completion:
            raise ValueError(f"{where}: the completion is empty, so there is nothing to learn.")
        _check_utf8(prompt + completion, where)
        return PromptCompletion(prompt, completion, where)
    if isinstance(prompt, str) or isinstance(completion, str):
        raise ValueError(
            f"{where}: 'prompt' is {_kind(prompt)} and 'completion' is {_kind(completion)}; both "
            "must be strings, or both lists of messages."
        )
    given = _messages(prompt, where, "prompt")
    answer = _messages(completion, where, "completion")
    if not any(message["role"] == "assistant" for message in answer):
        raise ValueError(
            f"{where}: the completion has no assistant message (its roles: {_roles(answer)}); only "
            "assistant messages can be trained on."
        )
    return Conversation(given + answer, tools, len(given), where)


def _conversation(messages: object, tools: tuple[Any, ...] | None, where: str) -> Conversation:
    read = _messages(messages, where, "messages")
    if not any(message["role"] == "assistant" for message in read):
        raise ValueError(
            f"{where}: no assistant turn (the roles are: {_roles(read)}), so there is nothing to "
            "learn. Remove the row, or add the answer as a message of role 'assistant'."
        )
    return Conversation(read, tools, 0, where)


def _roles(messages: Sequence[Message]) -> str:
    return ", ".join(message["role"] for message in messages)


def _kind(value: object) -> str:
    return {"str": "a string", "list": "a list"}.get(type(value).__name__, type(value).__name__)


def _messages(given: object, where: str, name: str) -> tuple[Message, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ValueError(f"{where}: {name!r} is {_kind(given)}; {_MESSAGES_SHAPE}.")
    if not given:
        raise ValueError(f"{where}: {name!r} is empty; {_MESSAGES_SHAPE}.")
    return tuple(_message(m, f"{where}, message {i + 1}") for i, m in enumerate(given))


def _message(given: object, where: str) -> Message:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: {given!r:.80} is not a JSON object; {_MESSAGES_SHAPE}.")
    role = given.get("role")
    if role not in ROLES:
        raise ValueError(f"{where}: unknown role {role!r}; known roles are {', '.join(ROLES)}.")
    # Arrow gives every row the fields of all rows; None means that this row has no such field.
    message = {key: value for key, value in given.items() if value is not None}
    message["content"] = _content(given.get("content"), where)
    if not message.get("tool_calls"):
        message.pop("tool_calls", None)
        if message["content"] is None:
            raise ValueError(
                f"{where} (role {role}): neither content nor tool_calls. Give it a content (it may "
                "be an empty string), or remove it."
            )
    return message


def _content(content: object, where: str) -> str | None:
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = "".join(_part(part, where) for part in content)
    if content is not None and not isinstance(content, str):
        raise ValueError(
            f"{where}: the content is {_kind(content)}; it must be a string, or a list of "
            '{"type": "text", "text": "..."}.'
        )
    if content is not None:
        _check_utf8(content, where)
    return content


def _part(part: object, where: str) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, Mapping) else None
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    if kind != "text" or not isinstance(text, str):
        raise ValueError(
            f"{where}: a part of the content is of type {kind!r}; only "
            '{"type": "text", "text": "..."} can be read: images and sounds have no text bytes.'
        )
    return text


def _check_utf8(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: the text holds the lone surrogate U+{ord(text[error.start]):04X}, which is "
            "half of a character and has no bytes; repair the text."
        ) from None


def _tools(given: object, where: str) -> tuple[Any, ...] | None:
    if isinstance(given, str):  # common, since Arrow columns have a fixed type
        try:
            given = json.loads(given) if given.strip() else None
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{where}: 'tools' is a string that is not valid JSON ({error}). Write a JSON "
                "list of descriptions."
            ) from None
    if not given:
        return None
    if not isinstance(given, Sequence):
        raise ValueError(f"{where}: 'tools' is {_kind(given)}; it must be a list of descriptions.")
    return tuple(given)


def _from_sharegpt(given: object, where: str) -> object:
    if not isinstance(given, Sequence) or isinstance(given, str):
        return given
    messages = []
    for turn in given:
        if not isinstance(turn, Mapping) or "from" not in turn:
            messages.append(turn)  # of the other shape, or wrong: the next check reports it
            continue
        role = _SHAREGPT_ROLES.get(turn["from"], turn["from"])
        messages.append({"role": role, "content": turn.get("value")})
    return messages
