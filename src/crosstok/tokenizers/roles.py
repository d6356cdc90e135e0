"""Find the roles of special tokens: bos, eos, end of turn, headers, role names.

No model family is named here. The tokenizer names some roles itself. The others are read from its
chat template: conversations with sentinel contents are rendered, and the texts between the contents
are compared. For ``user U, assistant A, user U, assistant A`` a template writes ::

    U  end_of_turn  start_header assistant end_header  A  end_of_turn  start_header user ...

so `end_of_turn` is the common prefix of the text after an inner ``A`` and the text after the last
``A``, and the two headers differ only in the role's name. The ids of the rendered text are
compared, as the model would read them, never its characters.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from crosstok.tokenizers.encoding import encode_each, without_sampling

logger = logging.getLogger(__name__)

_NAMED = ("bos", "eos", "pad", "unk", "sep", "cls", "mask")
_SYSTEM, _TURNS = "Qzsystemqz", ("Qzfirstqz", "Qzsecondqz", "Qzthirdqz", "Qzfourthqz")

Ids = tuple[int, ...]


def find_roles(tokenizer: PreTrainedTokenizerFast) -> dict[str, Ids]:
    """Find the ids that spell each role, in the order in which they occur in a conversation.

    Returns:
        Role -> ids. If the tokenizer names them: ``bos eos pad unk sep cls mask``. If the chat
        template writes them: ``end_of_turn`` (ends an assistant's turn, with the line break that
        the template writes after it), ``start_header``, ``end_header`` (around the role's name) and
        the role names ``system user assistant``; ``end_of_chat`` if the last assistant turn ends
        with another token than earlier turns (a model itself writes this one). Roles that the
        template does not write are left out; a template that marks turns by plain text only
        (``[INST]``) has no headers and no role names.
    """
    roles: dict[str, Ids] = {}
    for role in _NAMED:
        index = getattr(tokenizer, f"{role}_token_id", None)
        if index is not None:
            roles[role] = (int(index),)
    if getattr(tokenizer, "chat_template", None):
        roles.update(_chat_roles(tokenizer, bos=roles.get("bos", ())))
    return roles


def _chat_roles(tokenizer: PreTrainedTokenizerFast, *, bos: Ids) -> dict[str, Ids]:
    dialogue = [
        {"role": role, "content": content}
        for role, content in zip(("user", "assistant") * 2, _TURNS, strict=True)
    ]
    gaps = _gaps(tokenizer, dialogue)
    if isinstance(gaps, str):
        logger.warning("no chat roles: the chat template cannot be read (%s)", gaps)
        return {}
    _, after_user, after_assistant, _, tail = gaps
    marks = _Marks(tokenizer)
    end_of_turn = marks.end_of_turn(after_user, after_assistant, tail)
    roles = {"end_of_turn": end_of_turn} if end_of_turn else {}
    end_of_chat = marks.end_of_chat(after_assistant, tail)
    if end_of_chat:
        roles["end_of_chat"] = end_of_chat
    headers = marks.headers(
        assistant=_without_prefix(after_user, end_of_turn),
        user=_without_prefix(after_assistant, end_of_turn),
    )
    roles.update(headers)
    if headers:
        system = [{"role": "system", "content": _SYSTEM}, *dialogue]
        with_system = _gaps(tokenizer, system)
        if not isinstance(with_system, str):
            before = _without_prefix(with_system[0], bos)
            roles.update(_system_role(before, with_system[1], roles))
    return roles


def _gaps(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[dict[str, str]]
) -> list[Ids] | str:
    """Return the ids before, between and after the contents of a rendering, or why there are none.

    A token that reaches into a content (a space that belongs to the next word) is in no gap.
    """
    try:
        rendered = tokenizer.apply_chat_template(list(messages), tokenize=False)
    except Exception as error:  # a template is a program, which may raise anything
        return f"{type(error).__name__}: {error}"
    if not isinstance(rendered, str):
        return f"it renders {type(rendered).__name__} instead of text"
    edges = [0]
    for message in messages:
        start = rendered.find(message["content"], edges[-1])
        if start < 0:
            return "it does not write every message's content once and in order"
        edges += [start, start + len(message["content"])]
    edges.append(len(rendered))
    encoding = _encode_with_specials(tokenizer, rendered)
    if isinstance(encoding, Exception):
        return f"its tokenizer cannot encode the words {_TURNS[0]!r}: {encoding}"
    gaps = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        inside = [
            index
            for index, (first, last) in zip(encoding.ids, encoding.offsets, strict=True)
            if begin <= first and last <= end and first < last
        ]
        gaps.append(tuple(inside))
    return gaps


def _encode_with_specials(tokenizer: PreTrainedTokenizerFast, text: str) -> Any:
    backend = without_sampling(tokenizer.backend_tokenizer)
    as_text, truncation, padding = (
        backend.encode_special_tokens,
        backend.truncation,
        backend.padding,
    )
    try:
        backend.encode_special_tokens = False
        backend.no_truncation()
        backend.no_padding()
        return next(encode_each(backend, [text], offsets=True))
    finally:
        backend.encode_special_tokens = as_text
        if truncation is not None:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)


class _Marks:
    """The ids that can mark a turn: special and added tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._ids = set(tokenizer.all_special_ids)
        self._ids.update(tokenizer.backend_tokenizer.get_added_tokens_decoder())

    def end_of_turn(self, after_user: Ids, after_assistant: Ids, tail: Ids) -> Ids:
        """Find the ids that end an assistant's turn both inside a conversation and at its end."""
        common = self._from_first_mark(_common_prefix(after_assistant, tail))
        if common:
            return common
        # The last turn ends differently (a "return" token): take what ends both inner turns.
        return self._from_first_mark(_common_prefix(after_assistant, after_user))[:1]

    def end_of_chat(self, after_assistant: Ids, tail: Ids) -> Ids:
        """Find the ids that end the last assistant turn, if they differ from earlier ones."""
        if self._from_first_mark(_common_prefix(after_assistant, tail)):
            return ()
        return self._from_first_mark(tail)[:1]

    def headers(self, *, assistant: Ids, user: Ids) -> dict[str, Ids]:
        """Split two turn headers into their common parts and the role's name."""
        if not (self._ids.intersection(assistant) and self._ids.intersection(user)):
            return {}
        start = _common_prefix(assistant, user)
        assistant, user = assistant[len(start) :], user[len(start) :]
        end = _common_prefix(assistant[::-1], user[::-1])[::-1]
        names = assistant[: len(assistant) - len(end)], user[: len(user) - len(end)]
        if not all(names):
            return {}
        found = {"start_header": start, "end_header": end}
        found = {role: ids for role, ids in found.items() if ids}
        return found | {"assistant": names[0], "user": names[1]}

    def _from_first_mark(self, ids: Ids) -> Ids:
        """Drop the ids before the first mark: a space before a mark is not part of it."""
        first = next((place for place, index in enumerate(ids) if index in self._ids), len(ids))
        return ids[first:]


def _system_role(before: Ids, after: Ids, roles: dict[str, Ids]) -> dict[str, Ids]:
    """Find the name of the system role, if a system message is a turn of its own."""
    start, end = roles.get("start_header", ()), roles.get("end_header", ())
    end_of_turn = roles.get("end_of_turn", ())
    if after != end_of_turn + start + roles["user"] + end:
        return {}
    if before[: len(start)] != start or before[len(before) - len(end) :] != end:
        return {}
    name = before[len(start) : len(before) - len(end)]
    return {"system": name} if name else {}


def _common_prefix(left: Ids, right: Ids) -> Ids:
    length = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        length += 1
    return left[:length]


def _without_prefix(ids: Ids, prefix: Ids) -> Ids:
    return ids[len(prefix) :] if prefix and ids[: len(prefix)] == prefix else ids
