"""Find where a chat template puts the contents of a conversation, by running it.

The conversation is rendered once with sentinels instead of its contents (this skeleton is cached,
as it is the same for all conversations of one shape) and once as it is. The text between the
sentinels is the template's; with the contents put in, it must equal the other rendering. If it does
not, because the template changes contents (trims them, removes thoughts), each content is searched
for between the pieces of the template's text.
"""

from __future__ import annotations

import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from crosstok.chats.conversations import Conversation, Message
from crosstok.chats.locate import Piece, locate
from crosstok.chats.templates import TEMPLATE_OPTIONS

_MAX_SKELETONS = 512
_SYSTEM = ("system", "developer")


@dataclass(frozen=True)
class Skeleton:
    """A rendering of conversations of one shape, with their contents left open.

    Attributes:
        parts: the template's text, and for each content the number of its message.
        placed: which entries of `parts` are the contents, in the order of the messages. A content
            that is written a second time, or out of order, counts as text of the template.
        variant: how the messages were passed to the template: "as given", "developer as system",
            or "system folded" into the user message that follows it.
    """

    parts: tuple[str | int, ...]
    placed: frozenset[int]
    variant: str

    def gaps(self) -> list[str]:
        """Return the template's text before, between and after the placed contents."""
        gaps = [""]
        for place, part in enumerate(self.parts):
            if place in self.placed:
                gaps.append("")
            else:
                gaps[-1] += part if isinstance(part, str) else ""
        return gaps

    def messages(self) -> list[int]:
        """Return the messages whose contents are placed, ascending."""
        return [self.parts[place] for place in sorted(self.placed)]  # type: ignore[misc]


class TemplateFailure(Exception):
    """The template raised an error; carries the message of that error."""


class ChatRenderer:
    """Runs a tokenizer's chat template, or another one instead of it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, chat_template: str | None) -> None:
        self._tokenizer = tokenizer
        self._template = chat_template
        self._sentinel = f"Zq{secrets.token_hex(8)}x"
        self._find_sentinel = re.compile(self._sentinel + r"(\d+)z")
        self._skeletons: OrderedDict[Any, Skeleton] = OrderedDict()
        if chat_template is None and not getattr(tokenizer, "chat_template", None):
            name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
            raise ValueError(
                f"tokenizer {name!r} has no chat template, and chat data needs one. Name a file "
                f"with a Jinja template ({TEMPLATE_OPTIONS}), or 'plain' for 'User: ...' and "
                "'Assistant: ...' with the end-of-sequence token."
            )

    def skeleton(self, conversation: Conversation) -> Skeleton:
        """Render the shape of a conversation.

        Raises:
            ValueError: the template cannot render it; the message names the row and quotes the
                template's own error.
        """
        key = _shape(conversation)
        found = self._skeletons.get(key)
        if found is None:
            found = self._render_skeleton(conversation)
            self._keep(key, found)
        self._skeletons.move_to_end(key)
        return found

    def _keep(self, key: Any, skeleton: Skeleton) -> None:
        self._skeletons[key] = skeleton
        if len(self._skeletons) > _MAX_SKELETONS:
            self._skeletons.popitem(last=False)

    def pieces(self, conversation: Conversation) -> tuple[Skeleton, list[Piece]]:
        """Render a conversation and find its contents.

        Raises:
            ValueError: the template cannot render it, or changes a content beyond recognition.
        """
        contents = conversation.contents
        skeleton = self.skeleton(conversation)
        messages = VARIANTS[skeleton.variant](conversation.messages, contents)
        try:
            rendered = self.render(messages, conversation.tools)
        except TemplateFailure as failure:
            raise _cannot_render(conversation, str(failure)) from None
        parts = _filled(skeleton, contents)
        if "".join(text for text, _, _ in parts) == rendered:
            return skeleton, parts
        fresh = self._render_skeleton(conversation)
        if fresh != skeleton:  # the template writes the time, and that has changed
            self._keep(_shape(conversation), fresh)
        return fresh, locate(_filled(fresh, contents), rendered, conversation)

    def render(self, messages: Sequence[Message], tools: Sequence[Any] | None) -> str:
        """Run the template.

        Raises:
            TemplateFailure: it raised an error, or returned something other than text.
        """
        try:
            rendered = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tools=list(tools) if tools else None,
                chat_template=self._template,
                tokenize=False,
            )
        except Exception as error:  # a template is a program, which may raise anything
            raise TemplateFailure(f"{type(error).__name__}: {error}") from error
        if not isinstance(rendered, str):
            raise TemplateFailure(f"it renders {type(rendered).__name__} instead of text")
        return rendered

    def trims(self) -> frozenset[str]:
        """Find the roles whose contents the template strips of white space at their ends."""
        trimmed = set()
        messages = [{"role": role, "content": "M"} for role in ("system", "user", "assistant")]
        for index, message in enumerate(messages):
            padded = Conversation(
                (*messages[:index], {**message, "content": " \n M \n "}, *messages[index + 1 :])
            )
            try:
                skeleton = self.skeleton(padded)
                sentinel = f" \n {self._sentinel}0z \n "
                contents = [m["content"] for m in messages]
                contents[index] = sentinel
                rendered = self.render(VARIANTS[skeleton.variant](padded.messages, contents), None)
            except (TemplateFailure, ValueError):
                continue
            if sentinel not in rendered:
                trimmed.add(str(message["role"]))
        if "system" in trimmed:
            trimmed.add("developer")
        return frozenset(trimmed)

    def _render_skeleton(self, conversation: Conversation) -> Skeleton:
        contents = [
            f"{self._sentinel}{index}z" if content else ""
            for index, content in enumerate(conversation.contents)
        ]
        roles = {str(message["role"]) for message in conversation.messages}
        reason = ""
        for name, variant in VARIANTS.items():
            if name != _AS_GIVEN and not roles.intersection(_SYSTEM):
                break
            try:
                rendered = self.render(variant(conversation.messages, contents), conversation.tools)
            except TemplateFailure as failure:
                reason = str(failure)
                continue
            skeleton = self._split(rendered, name)
            missing = _missing(conversation, set(skeleton.messages()), skeleton.parts)
            if missing is None:
                return skeleton
            role = conversation.messages[missing]["role"]
            reason = f"it leaves out message {missing + 1} (role {role})"
        raise _cannot_render(conversation, reason)

    def _split(self, rendered: str, variant: str) -> Skeleton:
        parts: list[str | int] = []
        for index, text in enumerate(self._find_sentinel.split(rendered)):
            parts.append(int(text) if index % 2 else text)
        places = {place: part for place, part in enumerate(parts) if isinstance(part, int)}
        return Skeleton(tuple(parts), frozenset(_in_order(places)), variant)


def _filled(skeleton: Skeleton, contents: Sequence[str]) -> list[Piece]:
    pieces: list[Piece] = []
    for place, part in enumerate(skeleton.parts):
        if isinstance(part, str):
            pieces.append((part, None, 0))
        else:
            pieces.append((contents[part], part if place in skeleton.placed else None, 0))
    return pieces


def _shape(conversation: Conversation) -> tuple[Any, ...]:
    """Return what the structure of a rendering depends on: everything but the contents."""
    turns = []
    for message in conversation.messages:
        content = message.get("content")
        turn: tuple[Any, ...] = (message["role"], None if content is None else bool(content))
        if len(message) > 2:
            extra = {k: v for k, v in message.items() if k not in ("role", "content")}
            turn += (json.dumps(extra, sort_keys=True, default=str),)
        turns.append(turn)
    tools = json.dumps(conversation.tools, default=str) if conversation.tools else None
    return (tuple(turns), tools)


def _in_order(places: dict[int, int]) -> list[int]:
    """Return the places, from {place: message}, at which the messages are in order.

    They are the longest such subsequence, so one message out of order does not displace others.
    """
    best: list[list[int]] = []
    for place, message in places.items():
        before = [run for run in best if places[run[-1]] < message]
        best.append([*max(before, key=len, default=[]), place])
    return max(best, key=len, default=[])


def _missing(
    conversation: Conversation, placed: set[int], parts: Sequence[str | int]
) -> int | None:
    """Return the first message whose content the template must write but does not."""
    for index, (message, content) in enumerate(
        zip(conversation.messages, conversation.contents, strict=True)
    ):
        if not content or index in placed or message.get("tool_calls"):
            continue
        if index in parts and message["role"] != "assistant":  # written, but out of order
            continue
        return index
    return None


def _given(message: Message, content: str) -> Message:
    return message if message.get("content") is None else {**message, "content": content}


def _as_given(messages: Sequence[Message], contents: Sequence[str]) -> list[Message]:
    return [_given(message, text) for message, text in zip(messages, contents, strict=True)]


def _developer_as_system(messages: Sequence[Message], contents: Sequence[str]) -> list[Message]:
    return [
        {**message, "role": "system"} if message["role"] == "developer" else message
        for message in _as_given(messages, contents)
    ]


def _system_folded(messages: Sequence[Message], contents: Sequence[str]) -> list[Message]:
    """Prepend the contents of system messages to the user messages that follow them."""
    folded: list[Message] = []
    waiting: list[str] = []
    for message in _as_given(messages, contents):
        if message["role"] in _SYSTEM:
            waiting += [message["content"]] if message["content"] else []
            continue
        if message["role"] == "user":
            content = "\n\n".join(filter(None, [*waiting, message["content"]]))
            message, waiting = {**message, "content": content}, []
        elif waiting:
            folded.append({"role": "user", "content": "\n\n".join(waiting)})
            waiting = []
        folded.append(message)
    return folded


_AS_GIVEN, SYSTEM_FOLDED = "as given", "system folded"
VARIANTS: dict[str, Callable[[Sequence[Message], Sequence[str]], list[Message]]] = {
    _AS_GIVEN: _as_given,
    "developer as system": _developer_as_system,
    SYSTEM_FOLDED: _system_folded,
}


def _cannot_render(conversation: Conversation, reason: str) -> ValueError:
    roles = ", ".join(str(message["role"]) for message in conversation.messages)
    hint = "Change the order of its messages, leave the row out, or use another template"
    if "tool" in roles.split(", "):
        hint = "The template may not support tools: leave such rows out, or use one that does"
    return ValueError(
        f"{conversation.where}: the chat template cannot render this conversation (roles: "
        f"{roles}): {reason}. {hint} ({TEMPLATE_OPTIONS})."
    )
