"""Find where a chat template puts the contents of a conversation, by running it.

The conversation is rendered once with sentinels instead of its contents and shared thoughts (this
skeleton is cached, as it is the same for all conversations of one shape) and once as it is. The
text between the sentinels is the template's; with the texts put in, it must equal the other
rendering. If it does not, because the template changes texts (trims them, removes thoughts), each
of them is searched for between the pieces of the template's text.
"""

from __future__ import annotations

import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from crosstok.chats.conversations import THOUGHT, Conversation, Message, Text
from crosstok.chats.locate import Piece, locate
from crosstok.chats.spelling import Spelling
from crosstok.chats.templates import TEMPLATE_OPTIONS, ChatTemplate, TemplateFailure

_MAX_SKELETONS = 512
_SYSTEM = ("system", "developer")


@dataclass(frozen=True)
class Skeleton:
    """A rendering of conversations of one shape, with their texts left open.

    Attributes:
        parts: the template's text, and for each text its number in `Conversation.texts`.
        placed: which entries of `parts` are texts, in the order of the conversation. A text that is
            written a second time, or out of order, counts as text of the template.
        texts: the texts of the conversation; their strings are left open.
        variant: how the messages were passed to the template: "as given", "developer as system",
            or "system folded" into the user message that follows it.
    """

    parts: tuple[str | int, ...]
    placed: frozenset[int]
    texts: tuple[Text, ...]
    variant: str

    def gaps(self) -> list[str]:
        """Return the template's text before, between and after the placed texts."""
        gaps = [""]
        for place, part in enumerate(self.parts):
            if place in self.placed:
                gaps.append("")
            else:
                gaps[-1] += part if isinstance(part, str) else ""
        return gaps

    def placed_texts(self) -> list[Text]:
        """Return the texts that are placed, in order."""
        return [self.texts[self.parts[place]] for place in sorted(self.placed)]  # type: ignore[index]


class ChatRenderer:
    """Runs a tokenizer's chat template, or another one instead of it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, chat_template: str | None) -> None:
        self.template = ChatTemplate(tokenizer, chat_template)
        self._sentinel = f"Zq{secrets.token_hex(8)}x"
        self._find_sentinel = re.compile(self._sentinel + r"(\d+)z")
        self._skeletons: OrderedDict[Any, Skeleton] = OrderedDict()
        self._spellings: dict[str, Spelling] = {}

    def spelling(self, options: Mapping[str, Any]) -> Spelling:
        """Return how the template reads thoughts and calls under these options."""
        variables = {key: value for key, value in options.items() if key != "documents"}
        key = json.dumps(variables, sort_keys=True, default=str)
        if key not in self._spellings:
            self._spellings[key] = Spelling.learn(self.template, variables)
        return self._spellings[key]

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
        """Render a conversation and find its shared texts.

        Raises:
            ValueError: the template cannot render it, or changes a content beyond recognition.
        """
        strings = [text.string for text in conversation.texts]
        skeleton = self.skeleton(conversation)
        try:
            rendered = self.render(conversation, skeleton.variant)
        except TemplateFailure as failure:
            raise _cannot_render(conversation, str(failure)) from None
        parts = _filled(skeleton, strings)
        if "".join(text for text, _, _ in parts) == rendered:
            return skeleton, parts
        fresh = self._render_skeleton(conversation)
        if fresh != skeleton:  # the template writes the time, and that has changed
            self._keep(_shape(conversation), fresh)
        return fresh, locate(_filled(fresh, strings), rendered, conversation)

    def render(
        self, conversation: Conversation, variant: str, options: Mapping[str, Any] | None = None
    ) -> str:
        """Run the template on a conversation; `options` are added to its own.

        Raises:
            TemplateFailure: the template raised an error, or returned something other than text.
        """
        messages = VARIANTS[variant](conversation.messages)
        spelled = self.spelling(conversation.options).spell(messages)
        return self.template.render(
            spelled, conversation.tools, {**conversation.options, **(options or {})}
        )

    def generation_prompt(self) -> str:
        """Return what the template writes after a user's turn so that an answer begins there."""
        asked = [{"role": "user", "content": f"{self._sentinel}0z"}]
        try:
            whole = self.template.render(asked)
            begun = self.template.render(asked, None, {"add_generation_prompt": True})
        except TemplateFailure:
            return ""
        return begun.removeprefix(whole) if begun.startswith(whole) else ""

    def trims(self) -> frozenset[str]:
        """Find the roles whose contents the template strips of white space at their ends.

        The thoughts of the assistant count as a role, "thought".
        """
        trimmed = set()
        messages = [{"role": role, "content": "M"} for role in ("system", "user", "assistant")]
        for index, message in enumerate(messages):
            padded = {**message, "content": self._padded}
            if self._strips((*messages[:index], padded, *messages[index + 1 :])):
                trimmed.add(str(message["role"]))
        if "system" in trimmed:
            trimmed.add("developer")
        thinking = (messages[1], {**messages[2], THOUGHT: self._padded})
        if self.spelling({}).thought is not None and self._strips(thinking):
            trimmed.add("thought")
        return frozenset(trimmed)

    @property
    def _padded(self) -> str:
        return f" \n {self._sentinel}0z \n "

    def _strips(self, messages: tuple[Message, ...]) -> bool:
        conversation = Conversation(messages)
        try:
            rendered = self.render(conversation, self.skeleton(conversation).variant)
        except (TemplateFailure, ValueError):
            return False
        return self._padded not in rendered

    def _render_skeleton(self, conversation: Conversation) -> Skeleton:
        texts = conversation.texts
        hollow = conversation.with_texts(
            [f"{self._sentinel}{i}z" if text.string else "" for i, text in enumerate(texts)]
        )
        roles = {str(message["role"]) for message in conversation.messages}
        reason = ""
        for name in VARIANTS:
            if name != _AS_GIVEN and not roles.intersection(_SYSTEM):
                break
            try:
                rendered = self.render(hollow, name)
            except TemplateFailure as failure:
                reason = str(failure)
                continue
            skeleton = self._split(rendered, name, texts)
            missing = _missing(conversation, skeleton)
            if missing is None:
                return skeleton
            role = conversation.messages[missing]["role"]
            reason = f"it leaves out message {missing + 1} (role {role})"
        raise _cannot_render(conversation, reason)

    def _split(self, rendered: str, variant: str, texts: Sequence[Text]) -> Skeleton:
        parts: list[str | int] = []
        for index, text in enumerate(self._find_sentinel.split(rendered)):
            parts.append(int(text) if index % 2 else text)
        places = {place: part for place, part in enumerate(parts) if isinstance(part, int)}
        hollow = tuple(Text(text.message, text.kind) for text in texts)
        return Skeleton(tuple(parts), frozenset(_in_order(places)), hollow, variant)


def _filled(skeleton: Skeleton, strings: Sequence[str]) -> list[Piece]:
    pieces: list[Piece] = []
    for place, part in enumerate(skeleton.parts):
        if isinstance(part, str):
            pieces.append((part, None, 0))
        else:
            pieces.append((strings[part], part if place in skeleton.placed else None, 0))
    return pieces


def _shape(conversation: Conversation) -> tuple[Any, ...]:
    """Return what the structure of a rendering depends on: everything but the texts."""
    turns = []
    for index, message in enumerate(conversation.messages):
        content = message.get("content")
        turn: tuple[Any, ...] = (message["role"], None if content is None else bool(content))
        if len(message) > 2:
            extra = {k: v for k, v in message.items() if k not in ("role", "content")}
            if index in conversation.shared_thoughts:
                extra[THOUGHT] = True
            turn += (json.dumps(extra, sort_keys=True, default=str),)
        turns.append(turn)
    more = [conversation.tools, conversation.options, sorted(conversation.shared_calls)]
    return (tuple(turns), json.dumps(more, sort_keys=True, default=str) if any(more) else None)


def _in_order(places: dict[int, int]) -> list[int]:
    """Return the places, from {place: message}, at which the messages are in order.

    They are the longest such subsequence, so one message out of order does not displace others.
    """
    best: list[list[int]] = []
    for place, message in places.items():
        before = [run for run in best if places[run[-1]] < message]
        best.append([*max(before, key=len, default=[]), place])
    return max(best, key=len, default=[])


def _missing(conversation: Conversation, skeleton: Skeleton) -> int | None:
    """Return the first message whose content the template must write but does not."""
    placed = set(skeleton.placed_texts())
    for number, text in enumerate(conversation.texts):
        message = conversation.messages[text.message]
        if text.kind != "content" or not text.string or text in placed or message.get("tool_calls"):
            continue
        if number in skeleton.parts and message["role"] != "assistant":  # written out of order
            continue
        return text.message
    return None


def _as_given(messages: Sequence[Message]) -> list[Message]:
    return list(messages)


def _developer_as_system(messages: Sequence[Message]) -> list[Message]:
    return [
        {**message, "role": "system"} if message["role"] == "developer" else message
        for message in messages
    ]


def _system_folded(messages: Sequence[Message]) -> list[Message]:
    """Prepend the contents of system messages to the user messages that follow them."""
    folded: list[Message] = []
    waiting: list[str] = []
    for message in messages:
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
VARIANTS: dict[str, Callable[[Sequence[Message]], list[Message]]] = {
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
