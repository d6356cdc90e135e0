"""Find the contents of messages in a rendering whose template changed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from crosstok.chats.conversations import Conversation
from crosstok.chats.templates import TEMPLATE_OPTIONS

# A piece of a rendering: its text, which of `Conversation.texts` it is (None: the template's text),
# and the number of characters of that text that the template left out before it.
Piece: TypeAlias = tuple[str, int | None, int]


def locate(parts: Sequence[Piece], rendered: str, conversation: Conversation) -> list[Piece]:
    """Find the contents in a rendering that differs from the skeleton with the contents put in."""
    gaps, contents = [""], []
    for text, message, _ in parts:
        if message is None:
            gaps[-1] += text
        else:
            contents.append((text, message))
            gaps.append("")
    pieces: list[Piece] = []
    cursor = 0
    for (content, message), gap, following in zip(contents, gaps[:-1], gaps[1:], strict=True):
        found = _find_content(rendered, cursor, content, gap, following)
        if found is None:
            raise _cannot_find(conversation, message)
        begin, end, skipped = found
        pieces += [(rendered[cursor:begin], None, 0), (rendered[begin:end], message, skipped)]
        cursor = end
    if rendered[cursor:] != gaps[-1]:  # then a content was mistaken for another
        raise _cannot_find(conversation, contents[-1][1])
    return [*pieces, (rendered[cursor:], None, 0)]


def _find_content(
    rendered: str, cursor: int, content: str, gap: str, following: str
) -> tuple[int, int, int] | None:
    """Find a content: begin and end in the rendering, number of characters left out before it."""
    left = len(content) - len(content.lstrip())
    spellings = [(content, 0), (content.lstrip(), left), (content.rstrip(), 0)]
    spellings.append((content.strip(), left))
    if rendered.startswith(gap, cursor):
        begin = cursor + len(gap)
        for text, skipped in spellings:
            if rendered.startswith(text + following, begin):
                return begin, begin + len(text), skipped
        # A part of it: everything up to the template's next text.
        end = rendered.find(following, begin) if following else len(rendered)
        skipped = content.find(rendered[begin:end]) if end >= begin else -1
        if skipped >= 0:
            return begin, end, skipped
    # The template's text before it differs: take the last occurrence before the place where the
    # texts part, else the next one.
    agreed = cursor + _num_common(gap, rendered[cursor : cursor + len(gap)])
    for text, skipped in spellings:
        if not text:
            continue
        begin = rendered.rfind(text, cursor, agreed + len(text))
        begin = rendered.find(text, agreed) if begin < 0 else begin
        is_it = text.strip() or rendered.startswith(text + following, begin)  # blanks are common
        if begin >= 0 and is_it:
            return begin, begin + len(text), skipped
    return None if content.strip() else (agreed, agreed, 0)  # trimmed white space


def _num_common(left: str, right: str) -> int:
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _cannot_find(conversation: Conversation, number: int) -> ValueError:
    message = conversation.texts[number].message
    return ValueError(
        f"{conversation.where}: the chat template changes the content of message {message + 1} "
        f"(role {conversation.messages[message]['role']}) so that it cannot be found in the "
        f"rendered text. Leave the row out, or use another template ({TEMPLATE_OPTIONS})."
    )
