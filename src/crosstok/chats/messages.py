"""Read messages: their roles, contents, thoughts, calls, and their marks for the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crosstok.chats.calls import from_json, kind_of, read_calls
from crosstok.chats.conversations import ROLES, THOUGHT, Message

MESSAGES_SHAPE = (
    'a row is {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", ...}]}, or '
    '{"prompt": ..., "completion": ...}'
)
_ROLES = {
    "human": "user", "gpt": "assistant", "bot": "assistant",
    "model": "assistant", "observation": "tool", "function": "tool", "ipython": "tool",
    "tool_response": "tool", "tool_result": "tool", "function_response": "tool",
}  # fmt: skip
_CALL_ROLES = ("function_call", "tool_call", "tool_calls")  # turns that hold the JSON of calls
_THOUGHTS = (THOUGHT, "thinking", "reasoning", "thought", "thoughts")
_TEXT_PARTS = ("text", "input_text", "output_text")
_THOUGHT_PARTS = ("thinking", "reasoning", "thought")

# Marks of a message for the loss. True, 1: the turn is learned; for the last ones, it is not.
_TRAINED = ("weight", "train", "training", "trainable", "train_on_turn", "loss", "loss_mask")
_MASKED = ("mask", "masked")
_DETAILS = ("training_detail", "train_detail")


@dataclass(frozen=True)
class ReadMessage:
    """A message, and what it says about the loss: True: learn it, False: do not, None: nothing."""

    message: Message
    is_trained: bool | None


def read_messages(given: object, where: str, name: str) -> tuple[ReadMessage, ...]:
    """Read messages as OpenAI or ShareGPT write them, from a list or its JSON.

    A turn of calls (ShareGPT's ``function_call``) is joined to the assistant's turn before it.

    Raises:
        ValueError: they are not messages; the error names the row and the message.
    """
    given = from_json(given, where, name, "a JSON list of messages") if _is_json(given) else given
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ValueError(f"{where}: {name!r} is {kind_of(given)}; {MESSAGES_SHAPE}.")
    if not given:
        raise ValueError(f"{where}: {name!r} is empty; {MESSAGES_SHAPE}.")
    read: list[ReadMessage] = []
    for number, one in enumerate(given, 1):
        found, is_call = _message(one, f"{where}, message {number}")
        if is_call and read and read[-1].message["role"] == "assistant":
            found = _joined(read.pop(), found, f"{where}, message {number}")
        read.append(found)
    return tuple(read)


def _is_json(given: object) -> bool:
    return isinstance(given, str) and given.lstrip().startswith("[")


def _joined(turn: ReadMessage, calls: ReadMessage, where: str) -> ReadMessage:
    if turn.is_trained is not calls.is_trained:
        raise ValueError(
            f"{where}: calls belong to the turn of the assistant before them, and the two have "
            "different marks for the loss. Give them the same, or put a message between them."
        )
    held = [*turn.message.get("tool_calls", ()), *calls.message["tool_calls"]]
    return ReadMessage({**turn.message, "tool_calls": held}, turn.is_trained)


def _message(given: object, where: str) -> tuple[ReadMessage, bool]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: {given!r:.80} is not a JSON object; {MESSAGES_SHAPE}.")
    # Arrow gives every row the fields of all rows; None means that this row has no such field.
    message = {key: value for key, value in given.items() if value is not None}
    if "role" not in message and "from" in message:
        message["role"] = message.pop("from")
        if "value" in message:
            message["content"] = message.pop("value")
    is_trained = _mark(message, where)
    role = message.get("role")
    is_call = role in _CALL_ROLES
    if is_call:
        message["tool_calls"] = message.pop("content", None)
        message["role"] = "assistant"
    role = message["role"] = _ROLES.get(str(role), message.get("role"))
    if role not in ROLES:
        raise ValueError(f"{where}: unknown role {role!r}; known roles are {', '.join(ROLES)}.")
    _read_calls_of(message, where)
    _read_words_of(message, where)
    # Fields of the words come first, so that the order in the data does not matter.
    first = {"role": role, "content": message.pop("content")}
    return ReadMessage(first | message, is_trained), is_call


def _read_calls_of(message: dict[str, Any], where: str) -> None:
    given = message.pop("tool_calls", None)
    if given is None and "function_call" in message and message["role"] == "assistant":
        given = message.pop("function_call")
    calls = read_calls(given, where)
    if calls:
        message["tool_calls"] = calls


def _read_words_of(message: dict[str, Any], where: str) -> None:
    """Read the content, and an assistant's thoughts from the field or the parts that hold them."""
    content, thought = _content(message.get("content"), where)
    thoughts = {} if thought is None else {"content": thought}
    if message["role"] == "assistant":
        for key in _THOUGHTS:
            if isinstance(message.get(key), str):
                thoughts[key] = message.pop(key)
                check_utf8(thoughts[key], where)
    elif thought is not None:
        raise ValueError(
            f"{where} (role {message['role']}): a part of the content is a thought; only the "
            "assistant's messages may hold thoughts."
        )
    different = set(filter(None, thoughts.values()))
    if len(different) > 1:
        raise ValueError(
            f"{where}: thoughts in {' and '.join(map(repr, thoughts))} that differ. Keep one of "
            "them."
        )
    if thoughts:
        message[THOUGHT] = different.pop() if different else ""
    if content is None and message.get(THOUGHT) and not message.get("tool_calls"):
        content = ""
    if content is None and not message.get("tool_calls"):
        raise ValueError(
            f"{where} (role {message['role']}): neither content nor tool_calls. Give it a content "
            "(it may be an empty string), or remove it."
        )
    message["content"] = content


def _content(content: object, where: str) -> tuple[str | None, str | None]:
    """Return the text of a content, and the thoughts among its parts (None: it has none)."""
    thoughts: list[str] = []
    if isinstance(content, Sequence) and not isinstance(content, str):
        texts: list[str] = []
        for part in content:
            text, is_thought = _part(part, where)
            (thoughts if is_thought else texts).append(text)
        content = "".join(texts)
    if content is not None and not isinstance(content, str):
        raise ValueError(
            f"{where}: the content is {kind_of(content)}; it must be a string, or a list of "
            '{"type": "text", "text": "..."}.'
        )
    if content is not None:
        check_utf8(content + "".join(thoughts), where)
    return content, "".join(thoughts) if thoughts else None


def _part(part: object, where: str) -> tuple[str, bool]:
    if isinstance(part, str):
        return part, False
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    text: object = None
    if isinstance(part, Mapping) and kind in _THOUGHT_PARTS:
        text = part.get(kind, part.get("text", part.get("content")))
        if isinstance(text, Sequence) and not isinstance(text, str):
            text = "".join(_part(one, where)[0] for one in text)
    elif isinstance(part, Mapping) and kind in _TEXT_PARTS:
        text = part.get("text")
    if not isinstance(text, str):
        raise ValueError(
            f"{where}: a part of the content is of type {kind!r}; only "
            '{"type": "text", "text": "..."} and {"type": "thinking", "thinking": "..."} can be '
            "read: images and sounds have no text bytes."
        )
    return text, kind in _THOUGHT_PARTS


def check_utf8(text: str, where: str) -> None:
    """Check that a text has bytes.

    Raises:
        ValueError: it holds half of a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: the text holds the lone surrogate U+{ord(text[error.start]):04X}, which is "
            "half of a character and has no bytes; repair the text."
        ) from None


def _mark(message: dict[str, Any], where: str) -> bool | None:
    """Take the marks for the loss out of a message; None if it has none."""
    for key in _DETAILS:
        if message.get(key):
            raise ValueError(
                f"{where}: {key!r} marks parts of a content for the loss, which cannot be "
                "honoured. Mark whole turns ('train': false), or split the turn."
            )
    marks: dict[str, bool] = {}
    for key in (*_TRAINED, *_MASKED):
        if key in message:
            value = message.pop(key)
            is_number = not isinstance(value, bool)
            if value not in (0, 1) or (is_number and key in _MASKED):
                known = "true or false" if key in _MASKED else "0 or 1 (false or true)"
                raise ValueError(
                    f"{where}: {key!r} is {value!r}; as a mark for the loss it must be {known}. A "
                    "turn is learned or not; it cannot be weighted."
                )
            marks[key] = bool(value) != (key in _MASKED)
    if len(set(marks.values())) > 1:
        raise ValueError(
            f"{where}: its marks for the loss ({', '.join(map(repr, marks))}) contradict each "
            "other. Keep one of them."
        )
    return next(iter(marks.values()), None)
