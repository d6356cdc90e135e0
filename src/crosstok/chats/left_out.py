"""Name what a chat template leaves out of conversations: thoughts, fields, tools, options.

A field is read if the rendering changes when it is taken away.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial

from crosstok.chats.conversations import THOUGHT, Conversation
from crosstok.chats.renderer import ChatRenderer
from crosstok.chats.rows import HARMLESS
from crosstok.chats.templates import TemplateFailure

log = logging.getLogger(__name__)

_THOUGHTS = f"the thoughts ({THOUGHT!r})", "turns"
_IN_CONTENT = "thoughts in the content", "turns"
_MAX_TRIES = 16  # renderings after which a field that never changed one is taken for unread
_HARMLESS = HARMLESS | {"tool_call_id", "type", "refusal", "annotations", "order", "step"}


@dataclass(frozen=True)
class _Field:
    """A field that a template may read.

    Attributes:
        name: its name.
        holder: what holds it: messages of a role, or the row.
        count: how often the conversation has it.
        remove: makes the conversation without it.
    """

    name: str
    holder: str
    count: int
    remove: Callable[[Conversation], Conversation]


class LeftOut:
    """Counts what one template leaves out, and names each thing once."""

    def __init__(self, tokenizer: str, named: Collection[tuple[str, str]] = ()) -> None:
        """Store the arguments.

        Args:
            tokenizer: its name, for the message.
            named: (what, of what) that has been named already.
        """
        self.named = set(named)
        self._tokenizer = tokenizer
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], str] = {}
        self._read: set[tuple[str, str]] = set()
        self._tries: Counter[tuple[str, str]] = Counter()

    def look(
        self, conversation: Conversation, renderer: ChatRenderer, *, is_first_time: bool = False
    ) -> None:
        """Count what the template leaves out of one conversation.

        Args:
            conversation: the conversation.
            renderer: runs the template.
            is_first_time: look only for what has not been named yet.

        Raises:
            ValueError: the template cannot render it.
        """
        known = self._read | (self.named if is_first_time else set())
        thoughts = conversation.thoughts
        if thoughts and _THOUGHTS not in known:
            candidate = replace(conversation, shared_thoughts=frozenset(thoughts))
            placed = renderer.skeleton(candidate).placed_texts()
            number = len(thoughts) - sum(text.kind == "thought" for text in placed)
            self._count(_THOUGHTS, number, conversation)
        has_marks = any("</think>" in content for content in conversation.contents)
        if has_marks and _IN_CONTENT not in known:
            number = _num_shortened(conversation, renderer)
            self._count(_IN_CONTENT, number, conversation)
        fields = [one for one in _fields(conversation) if (one.name, one.holder) not in known]
        if fields:
            self._look_at(fields, conversation, renderer)

    def _look_at(
        self, fields: list[_Field], conversation: Conversation, renderer: ChatRenderer
    ) -> None:
        variant = renderer.skeleton(conversation).variant
        whole: str | None = None
        for one in fields:
            key = one.name, one.holder
            if self._tries[key] < _MAX_TRIES:
                self._tries[key] += 1
                try:
                    whole = renderer.render(conversation, variant) if whole is None else whole
                    is_read = renderer.render(one.remove(conversation), variant) != whole
                except TemplateFailure:  # the template needs it
                    is_read = True
                if is_read:
                    self._read.add(key)
                    continue
            self._count(key, one.count, conversation)

    def _count(self, key: tuple[str, str], number: int, conversation: Conversation) -> None:
        if number:
            self._counts[key] += number
            self._first.setdefault(key, conversation.where)

    def report(self, *, is_final: bool) -> None:
        """Log what was left out since the last report.

        Args:
            is_final: whether all of the data were looked at. If not, only what has not been named
                before is logged.
        """
        found = {
            key: number
            for key, number in self._counts.items()
            if key not in self._read and (is_final or key not in self.named)
        }
        loud = [self._phrase(key, found[key]) for key in found if key[0] not in _HARMLESS]
        quiet = [self._phrase(key, found[key]) for key in found if key[0] in _HARMLESS]
        so_far = "" if is_final else " so far"
        if loud:
            log.warning(
                "%s: its chat template leaves out %s%s; this is not learned",
                self._tokenizer, "; ".join(loud), so_far,
            )  # fmt: skip
        if quiet:
            log.info(
                "%s: its chat template does not read %s%s",
                self._tokenizer, "; ".join(quiet), so_far,
            )  # fmt: skip
        self.named.update(found)
        self._counts.clear()
        self._first.clear()

    def _phrase(self, key: tuple[str, str], number: int) -> str:
        what, holders = key
        name = what if " " in what else repr(what)
        unit = holders if number != 1 else holders.replace("messages", "message").removesuffix("s")
        return f"{name} of {number:,} {unit} (first: {self._first[key]})"


def _num_shortened(conversation: Conversation, renderer: ChatRenderer) -> int:
    """Count the assistant's contents of which the template leaves out more than white space."""
    texts = conversation.texts
    written = {number: text for text, number, _ in renderer.pieces(conversation)[1]}
    return sum(
        text.kind == "content"
        and conversation.messages[text.message]["role"] == "assistant"
        and len(written.get(number, "").strip()) < len(text.string.strip())
        for number, text in enumerate(texts)
    )


def _fields(conversation: Conversation) -> Iterator[_Field]:
    counts: Counter[tuple[str, str]] = Counter()
    for message in conversation.messages:
        if len(message) > 2:
            names = (name for name in message if name not in ("role", "content", THOUGHT))
            counts.update((name, str(message["role"])) for name in names)
    for (name, role), count in counts.items():
        yield _Field(name, f"messages of role {role}", count, partial(_without_field, name, role))
    if conversation.tools:
        yield _Field("tools", "rows", 1, _without_tools)
    for name in conversation.options:
        yield _Field(name, "rows", 1, partial(_without_option, name))


def _without_field(name: str, role: str, conversation: Conversation) -> Conversation:
    messages = tuple(
        {key: value for key, value in message.items() if key != name}
        if message["role"] == role
        else message
        for message in conversation.messages
    )
    return replace(conversation, messages=messages)


def _without_tools(conversation: Conversation) -> Conversation:
    return replace(conversation, tools=None)


def _without_option(name: str, conversation: Conversation) -> Conversation:
    options = {key: value for key, value in conversation.options.items() if key != name}
    return replace(conversation, options=options)
