"""Describe what a chat template writes, and how the pieces of two templates are matched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from crosstok.chats.conversations import Conversation, Text
from crosstok.chats.encoder import ExampleEncoder
from crosstok.chats.marks import END_OF_TURN, TemplateMarks
from crosstok.chats.renderer import SYSTEM_FOLDED, ChatRenderer
from crosstok.chats.templates import TemplateFailure

_CALL = {
    "role": "assistant",
    "tool_calls": [
        {"id": "abcdef123", "type": "function", "function": {"name": "Zqcallzq", "arguments": {}}}
    ],
}
_RESULT = {"role": "tool", "content": "Zqresultzq", "tool_call_id": "abcdef123"}
_TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "Zqtoolzq",
            "description": "none",
            "parameters": {"type": "object", "properties": {}},
        },
    },
)

Matching = Literal["matched", "left only", "right only", "each its own"]


@dataclass(frozen=True)
class ChatDescription:
    """What a chat template writes around contents.

    Attributes:
        bos: text that begins every conversation; empty if there is none.
        end_of_turn: text that ends the assistant's turns; the loss covers it.
        last_end_of_turn: the same for the last turn of a conversation; the tokenizer's eos if the
            template writes nothing there.
        appends_eos: whether that eos is appended because the template writes nothing.
        after_end: text after an end of turn that the loss does not cover (a line break).
        ends_every_role: whether the same end also closes the user's turns.
        headers: role -> text before its content.
        before_first: text that the template adds when the conversation has no system message: a
            default system prompt, dates.
        system: "own turn", "with the user's" (the template puts it into the user's message),
            "folded" (the template refuses or drops it, so it is prepended to the user's message),
            or "none" (it cannot be rendered at all).
        trims: roles whose contents lose the white space at their ends.
        tools: whether the template writes descriptions of tools.
        tool_calls: whether the template writes tool calls and their results.
    """

    bos: str
    end_of_turn: str
    last_end_of_turn: str
    appends_eos: bool
    after_end: str
    ends_every_role: bool
    headers: Mapping[str, str]
    before_first: str
    system: Literal["own turn", "with the user's", "folded", "none"]
    trims: tuple[str, ...]
    tools: bool
    tool_calls: bool


@dataclass(frozen=True)
class PieceMatch:
    """One piece of two templates.

    Attributes:
        piece: its role (``bos``, ``end_of_turn``, ``header_user``, ...), or a description.
        left: what the first template writes; empty for nothing.
        right: what the second template writes; empty for nothing.
        matching: "matched": both write it, and it is one chunk; "left only", "right only": it is in
            no chunk; "each its own": both write something, which is never compared.
    """

    piece: str
    left: str
    right: str
    matching: Matching


def describe_template(encoder: ExampleEncoder) -> ChatDescription:
    """Describe the chat template of an encoder.

    Raises:
        ValueError: the tokenizer has no chat template, or the template cannot be read.
    """
    chat, tokenizer = encoder.chat, encoder.encoder.tokenizer
    marks = chat.marks
    appends_eos = not marks.last_end_of_turn
    eos = str(tokenizer.eos_token or "")
    turns = _turns("user", "assistant")
    placed = [Text(0, "content"), Text(1, "content")]
    parts = marks.split(chat.renderer.skeleton(turns).gaps(), placed, turns.messages)
    return ChatDescription(
        bos=marks.bos,
        end_of_turn=marks.end_of_turn,
        last_end_of_turn=eos if appends_eos else marks.last_end_of_turn,
        appends_eos=appends_eos,
        after_end=marks.after_end,
        ends_every_role=any(role == "end_of_user" for _, role, _ in parts[1]),
        headers=dict(marks.headers),
        before_first=marks.before_first,
        system=_system(chat.renderer, marks),
        trims=tuple(sorted(chat.trims)),
        tools=_writes(chat.renderer, turns.messages, _TOOLS, "Zqtoolzq"),
        tool_calls=_writes(
            chat.renderer, (turns.messages[0], _CALL, _RESULT, turns.messages[1]), None,
            "Zqcallzq", "Zqresultzq",
        ),
    )  # fmt: skip


def compare_templates(left: ExampleEncoder, right: ExampleEncoder) -> list[PieceMatch]:
    """List how the pieces of two chat templates are matched, in the order of a conversation."""
    one, other = describe_template(left), describe_template(right)
    pieces = [_match("bos", one.bos, other.bos)]
    pieces.append(
        _match("written before the first turn", one.before_first, other.before_first, own=True)
    )
    for role in ("system", "user", "assistant"):
        pieces.append(
            _match(f"header_{role}", one.headers.get(role, ""), other.headers.get(role, ""))
        )
    pieces.append(_match(END_OF_TURN, one.end_of_turn, other.end_of_turn))
    pieces.append(_match("end_of_user", *(d.end_of_turn * d.ends_every_role for d in (one, other))))
    pieces.append(_match(f"last {END_OF_TURN}", one.last_end_of_turn, other.last_end_of_turn))
    pieces.append(_match("written after the end", one.after_end, other.after_end, own=True))
    return [piece for piece in pieces if piece.left or piece.right]


def _match(piece: str, left: str, right: str, *, own: bool = False) -> PieceMatch:
    matching: Matching = "each its own" if own else "matched"
    if not (left and right):
        matching = "left only" if left else "right only"
    return PieceMatch(piece, left, right, matching)


def _turns(*roles: str) -> Conversation:
    return Conversation(tuple({"role": role, "content": "content"} for role in roles))


def _system(
    renderer: ChatRenderer, marks: TemplateMarks
) -> Literal["own turn", "with the user's", "folded", "none"]:
    try:
        skeleton = renderer.skeleton(_turns("system", "user", "assistant"))
    except ValueError:
        return "none"
    if skeleton.variant == SYSTEM_FOLDED:
        return "folded"
    is_first = skeleton.placed_texts()[0].message == 0
    between = skeleton.gaps()[1] if is_first else ""
    header = marks.headers["user"].strip()
    begins_turn = bool(header) and between.strip().endswith(header)
    has_end = bool(marks.end_of_turn) and marks.end_of_turn in between
    return "own turn" if has_end or begins_turn else "with the user's"


def _writes(
    renderer: ChatRenderer, messages: tuple[Any, ...], tools: tuple[Any, ...] | None, *names: str
) -> bool:
    try:
        rendered = renderer.render(Conversation(messages, tools), "as given")
    except TemplateFailure:
        return False
    return all(name in rendered for name in names)
