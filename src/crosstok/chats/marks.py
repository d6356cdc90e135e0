"""Split the text of a chat template between two contents into end of turn, header and the rest.

The parts are found in four turns with open contents, as `crosstok.tokenizers.roles` does on ids::

    U  end after_end header_assistant  A  end after_end header_user  U ... A  end after_end

The end of turn is the common text after an inner and the last ``A``, up to and including its last
special token: a model stops there and never writes the template's text after it (a line break).
The text left before the next content is that role's header. Where the template writes thoughts, the
marks around them are the assistant's words too, except for what the generation prompt writes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from transformers import PreTrainedTokenizerFast

from crosstok.chats.conversations import (
    THOUGHT,
    Conversation,
    Message,
    Text,
    strings_of_calls,
)
from crosstok.chats.renderer import ChatRenderer
from crosstok.tokenizers.spans import TEMPLATE

END_OF_TURN = "end_of_turn"
BEGIN_OF_THOUGHT, END_OF_THOUGHT = "begin_of_thought", "end_of_thought"
# The assistant's words, but in the spelling of one template.
TOOL_CALL, OWN_THOUGHT = "tool_call", "thought"
# Roles of text that the assistant writes, beside its contents and thoughts.
OF_ASSISTANT = (END_OF_TURN, BEGIN_OF_THOUGHT, END_OF_THOUGHT, TOOL_CALL, OWN_THOUGHT)

# Text of a template, its role, and the message it belongs to (None: no message).
Part: TypeAlias = tuple[str, str, int | None]


@dataclass(frozen=True)
class TemplateMarks:
    """The strings with which a template marks turns.

    Attributes:
        bos: text that begins every conversation; empty if there is none.
        end_of_turn: text that ends the assistant's turns.
        after_end: text that the template writes after it, before the next header.
        last_end_of_turn: text that ends the last turn; usually the same as `end_of_turn`. Empty if
            the template writes nothing: then the tokenizer's eos ends the turn.
        headers: role -> text before its content.
        generation: text after a user's turn at which an answer begins; empty if it is not known.
        before_first: text that the template adds before the first header (default system prompt,
            dates).
    """

    bos: str
    end_of_turn: str
    after_end: str
    last_end_of_turn: str
    headers: Mapping[str, str]
    generation: str
    before_first: str
    find_special: re.Pattern[str] = field(repr=False)

    @property
    def whole_end(self) -> str:
        """The end of turn with the text that the template writes after it."""
        return self.end_of_turn + self.after_end

    @classmethod
    def learn(cls, renderer: ChatRenderer, tokenizer: PreTrainedTokenizerFast) -> TemplateMarks:
        """Find the marks in renderings of a template.

        Raises:
            ValueError: the template cannot render user, assistant, user, assistant.
        """
        turns = _dialogue("user", "assistant", "user", "assistant")
        first, after_user, inner, _, tail = renderer.skeleton(turns).gaps()
        find = _find_special(tokenizer)
        eos = str(tokenizer.eos_token or "")
        end, after_end, last = _ends(after_user, inner, tail, find, eos)
        headers = {
            "user": inner.removeprefix(end + after_end),
            "assistant": after_user.removeprefix(end + after_end),
        }
        bos = str(tokenizer.bos_token or "")
        bos = bos if bos and first.startswith(bos) else ""
        before_first = first.removeprefix(bos)
        if headers["user"]:  # which may begin with bos in every turn
            before_first = before_first.removesuffix(headers["user"].removeprefix(bos))
        generation = renderer.generation_prompt().removeprefix(end + after_end)
        marks = cls(bos, end, after_end, last, headers, generation, before_first, find)
        return replace(marks, headers={**headers, **marks._system_header(renderer)})

    def _system_header(self, renderer: ChatRenderer) -> dict[str, str]:
        try:
            skeleton = renderer.skeleton(_dialogue("system", "user", "assistant"))
        except ValueError:
            return {}
        if skeleton.variant != "as given" or skeleton.placed_texts()[0].message != 0:
            return {}
        header = skeleton.gaps()[0].removeprefix(self.bos)
        # If headers are marked, a date between header and content is not part of the header.
        user, assistant = self.headers["user"], self.headers["assistant"]
        opening = common_prefix(user, assistant)
        closing = common_prefix(user[::-1], assistant[len(opening) :][::-1])[::-1]
        if self.find_special.search(opening) and header.startswith(opening) and closing:
            stop = header.find(closing, len(opening))
            header = header[: stop + len(closing)] if stop >= 0 else header
        return {"system": header}

    def split(
        self, gaps: Sequence[str], placed: Sequence[Text], messages: Sequence[Message]
    ) -> list[list[Part]]:
        """Split every gap (before, between and after the placed texts) into its parts."""
        edges = [None, *placed, None]
        return [
            self._split_gap(gap, before, after, messages)
            for gap, before, after in zip(gaps, edges, edges[1:], strict=False)
        ]

    def _split_gap(
        self, gap: str, before: Text | None, after: Text | None, messages: Sequence[Message]
    ) -> list[Part]:
        parts: list[Part] = []
        rest = gap
        if before is not None and after is not None and before.message == after.message:
            return [(gap, END_OF_THOUGHT, before.message)] if gap else []
        if before is None:
            if self.bos and rest.startswith(self.bos):
                parts.append((self.bos, "bos", None))
                rest = rest[len(self.bos) :]
        else:
            words = END_OF_THOUGHT if before.kind == "thought" else None
            rest = self._take_end(parts, rest, before.message, messages, words)
        first = -1 if before is None else before.message
        stop = len(messages) if after is None else after.message
        for silent in range(first + 1, stop):  # messages without a text here
            rest = self._take_silent(parts, rest, silent, messages)
        if after is None:
            parts.append((rest, TEMPLATE, None))
        else:
            self._take_header(parts, rest, before, after, messages)
        return [part for part in parts if part[0]]

    def _take_header(
        self,
        parts: list[Part],
        rest: str,
        before: Text | None,
        after: Text,
        messages: Sequence[Message],
    ) -> None:
        message = messages[after.message]
        role = str(message["role"])
        role = "system" if role == "developer" else role
        if self.headers.get(role) is None:
            parts.append((rest, f"header_{role}", after.message))
            return
        if after.kind == "thought":
            words, limit = BEGIN_OF_THOUGHT, len(rest)
        else:
            words, limit = OWN_THOUGHT, _start_of_thought(message, rest)
        start, header = self._find_header(
            rest[: limit if limit >= 0 else None], role, before is None, limit >= 0
        )
        if start < 0:
            parts.append((rest, TEMPLATE, None))
            return
        lead = rest[:start]
        if before is not None and self.end_of_turn and lead.endswith(self.whole_end):
            # The template wrote more after the content before it ended the turn (tools).
            lead = lead.removesuffix(self.whole_end)
            index = before.message
            parts += [
                (lead, TEMPLATE, None),
                (self.end_of_turn, end_role(str(messages[index]["role"])), index),
                (self.after_end, TEMPLATE, None),
            ]
        else:
            parts.append((lead, TEMPLATE, None))
        named = self.headers[role] if header.startswith(self.headers[role]) else header
        parts.append((named, f"header_{role}", after.message))
        parts.append((header[len(named) :], TEMPLATE, None))
        rest = rest[start + len(header) :]
        parts.append((rest, words, after.message) if limit >= 0 else (rest, TEMPLATE, None))

    def _find_header(
        self, rest: str, role: str, is_first: bool, has_thought: bool
    ) -> tuple[int, str]:
        """Find a role's header: its place (-1: it is not there), and its text.

        Thoughts begin where the generation prompt ends, which may hold their mark.
        """
        if has_thought and self.generation:
            start = rest.rfind(self.generation)
            if start >= 0:
                return start, self.generation
        header = self.headers[role]
        if is_first and self.bos:  # taken already, if every header begins with it
            header = header.removeprefix(self.bos)
        return (rest.rfind(header) if header else len(rest)), header

    def _take_silent(
        self, parts: list[Part], rest: str, silent: int, messages: Sequence[Message]
    ) -> str:
        """Take the turn of a message that is empty or holds only tool calls."""
        header = self.headers.get(str(messages[silent]["role"]), "")
        start = rest.find(header) if header else 0
        if start < 0 and self.generation and messages[silent]["role"] == "assistant":
            header = self.generation  # the rest of its header comes before contents alone
            start = rest.find(header)
        if start < 0 or (not header and messages[silent]["role"] != "assistant"):
            return rest
        parts.append((rest[:start], TEMPLATE, None))
        parts.append((header, f"header_{messages[silent]['role']}", silent))
        rest = rest[start + len(header) :]
        words = OWN_THOUGHT if _start_of_thought(messages[silent], rest) >= 0 else None
        return self._take_end(parts, rest, silent, messages, words)

    def _take_end(
        self,
        parts: list[Part],
        rest: str,
        index: int,
        messages: Sequence[Message],
        words: str | None = None,
    ) -> str:
        """Take the end of a message's turn, and the assistant's words before it.

        They are its tool calls, or else have the role `words`; None: there are none.
        """
        is_assistant = messages[index]["role"] == "assistant"
        ends = [(self.end_of_turn, self.after_end)]
        if index == len(messages) - 1 and is_assistant:
            ends.insert(0, (self.last_end_of_turn, ""))
        if messages[index].get("tool_calls"):
            words = TOOL_CALL
        if words is not None:
            calls = strings_of_calls(messages[index])
            rest = self._take_words(parts, rest, (words, index), calls, [e for e, _ in ends if e])
        for end, after_end in ends:
            if end and rest.startswith(end):
                parts.append((end, end_role(str(messages[index]["role"])), index))
                rest = rest[len(end) :]
                if after_end and rest.startswith(after_end):
                    parts.append((after_end, TEMPLATE, None))
                    rest = rest[len(after_end) :]
                break
        return rest

    def _take_words(
        self,
        parts: list[Part],
        rest: str,
        words: tuple[str, int],
        calls: Sequence[str],
        ends: Sequence[str],
    ) -> str:
        begin = 0  # the turn ends after its last call; thoughts may end in the same token
        for call in calls:
            begin = (
                max(begin, rest.find(call, begin) + len(call)) if call in rest[begin:] else begin
            )
        stop = next((at for end in ends if (at := rest.find(end, begin)) >= 0), -1)
        if stop >= 0:
            parts.append((rest[:stop], *words))
            return rest[stop:]
        special = self.find_special.search(rest, begin)  # a turn of calls has an end of its own
        if special is None:
            parts.append((rest, *words))
            return ""
        parts.append((rest[: special.start()], *words))
        parts.append((special[0], END_OF_TURN, words[1]))
        return rest[special.end() :]


def places_of_calls(
    message: Message, string: str, numbers: Collection[int]
) -> dict[int, tuple[int, int]]:
    """Find names and arguments of calls in what a template writes for them, one after the other.

    Args:
        message: the message with the calls.
        string: what the template writes.
        numbers: which of `strings_of_calls` to look for.

    Returns:
        First character of each that is found, and the one after its last.
    """
    places, begin = {}, 0
    for number, call in enumerate(strings_of_calls(message)):
        if number in numbers:
            found = re.compile(rf"(?<!\w){re.escape(call)}(?!\w)").search(string, begin)
            if found:
                places[number] = found.span()
                begin = found.end()
    return places


def _start_of_thought(message: Message, gap: str) -> int:
    """Find the thoughts of the assistant's message in text of the template; -1: not there."""
    thought = str(message.get(THOUGHT) or "").strip()
    return gap.rfind(thought) if thought and message["role"] == "assistant" else -1


def end_role(role: str) -> str:
    """Return the role of the text that ends a turn; a model stops at the assistant's end only."""
    return END_OF_TURN if role == "assistant" else f"end_of_{role}"


def _dialogue(*roles: str) -> Conversation:
    messages = tuple({"role": role, "content": "content"} for role in roles)
    return Conversation(messages, where=f"a conversation of the roles {', '.join(roles)}")


def _find_special(tokenizer: PreTrainedTokenizerFast) -> re.Pattern[str]:
    """Compile a pattern of a tokenizer's special and added tokens, the longest first."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    tokens = {token.content for token in added} | set(map(str, tokenizer.all_special_tokens))
    ordered = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")


def _ends(
    after_user: str, inner: str, tail: str, find: re.Pattern[str], eos: str
) -> tuple[str, str, str]:
    """Find the end of an inner turn, the text after it, and the end of the last turn."""
    common = whole_tokens(common_prefix(inner, tail), (inner, tail), find)
    if common:
        end = up_to_last_special(common, find)
        return end, common[len(end) :], end
    if not tail:
        return (eos, "", "") if eos and inner.startswith(eos) else ("", "", "")
    # The last turn ends differently (a "return" token): take what ends both inner turns.
    common = whole_tokens(common_prefix(inner, after_user), (inner, after_user), find)
    special = find.search(common)
    return common[: special.end()] if special else "", "", up_to_last_special(tail, find)


def common_prefix(left: str, right: str) -> str:
    """Return the text with which both begin."""
    pairs = zip(left, right, strict=False)
    size = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
    return left[:size]


def whole_tokens(prefix: str, wholes: Sequence[str], find: re.Pattern[str]) -> str:
    """Shorten a common prefix of texts so that it does not end inside a special token."""
    for whole in wholes:
        for token in find.finditer(whole):
            if token.start() < len(prefix) < token.end():
                prefix = prefix[: token.start()]
    return prefix


def up_to_last_special(text: str, find: re.Pattern[str]) -> str:
    """Return a text up to and including its last special token; all of it if it has none."""
    tokens = list(find.finditer(text))
    return text[: tokens[-1].end()] if tokens else text
