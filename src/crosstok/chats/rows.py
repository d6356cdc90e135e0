"""Read rows of chat data in the usual formats, and say which of their fields were not read.

Conversations are ``{"messages": [...]}`` or ShareGPT's ``{"conversations": [{"from", "value"}]}``;
pairs are ``{"prompt", "completion"}`` (two strings or two lists of messages), ``{"instruction",
"input", "output"}`` (Alpaca), ``{"question", "answer"}`` and the like; of preferences, ``chosen``
is read.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from transformers import PreTrainedTokenizerBase

from crosstok.chats.calls import from_json, kind_of, read_tools
from crosstok.chats.conversations import Conversation, PromptCompletion
from crosstok.chats.messages import MESSAGES_SHAPE, ReadMessage, check_utf8, read_messages

CONVERSATION_FIELDS = ("messages", "conversations", "conversation")
# A text by a person, and its answer: rows of these are conversations of two messages.
PAIRS = (
    ("instruction", "output"), ("instruction", "response"), ("question", "answer"),
    ("question", "response"), ("query", "response"), ("prompt", "response"), ("prompt", "answer"),
    ("problem", "solution"), ("input", "output"),
)  # fmt: skip
_SYSTEM = ("system", "system_prompt", "system_message")
_MEDIA = ("images", "image", "videos", "video", "audios", "audio")
_OPTIONS = "chat_template_kwargs"
# Fields that describe a row, and change nothing that is learned.
HARMLESS = frozenset({
    "id", "ids", "idx", "index", "uid", "uuid", "guid", "hash", "source", "sources", "origin",
    "url", "urls", "dataset", "dataset_name", "data_source", "split", "category", "subcategory",
    "categories", "domain", "topic", "tags", "tag", "language", "lang", "model", "model_name",
    "generator", "license", "licence", "date", "timestamp", "created", "created_at", "updated_at",
    "author", "user_id", "score", "scores", "rating", "quality", "difficulty", "redacted", "toxic",
    "turn", "turns", "num_turns", "num_tokens", "token_count", "length", "metadata", "meta", "info",
    "avg_rating", "hashed_ip", "prompt_id", "conversation_id", "message_id", "title", "name",
})  # fmt: skip

# Options of `apply_chat_template` itself.
_RESERVED = frozenset(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters) - {
    "documents"
}

Example: TypeAlias = Conversation | PromptCompletion


class _Row(Mapping[str, Any]):
    """A row that remembers which of its fields were looked at; a field that is None is absent."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = {key: value for key, value in fields.items() if value is not None}
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return self._fields[key]

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def parse_example(row: str | Mapping[str, Any], where: str) -> Example:
    """Read and check one row.

    Args:
        row: the row, or its JSON.
        where: file and row, with which every error message begins.

    Raises:
        ValueError: the row has no messages, an unknown role, no assistant turn to learn, a message
            with neither content nor tool calls, or a field that cannot be honoured.
    """
    return read_example(row, where)[0]


def read_example(row: str | Mapping[str, Any], where: str) -> tuple[Example, list[str]]:
    """Read and check one row, and return the names of its fields that were not read.

    Raises:
        ValueError: as for `parse_example`.
    """
    given = json.loads(row) if isinstance(row, str) else row
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: {given!r:.80} is not a JSON object; {MESSAGES_SHAPE}.")
    fields = _Row(given)
    _refuse(fields, where)
    example = _example(fields, where)
    return example, [name for name in fields if name not in fields.read]


def is_chat(fields: Collection[str]) -> bool:
    """Return whether rows with these fields are chats, or prompts with completions.

    Rows of a question and an answer under other names are not: whether they are to be read as chats
    or as plain text, the user says (option columns).
    """
    known = set(fields)
    return {"prompt", "completion"} <= known or not known.isdisjoint(CONVERSATION_FIELDS)


def _refuse(row: _Row, where: str) -> None:
    for name in _MEDIA:
        if row.get(name):
            raise ValueError(
                f"{where}: it has {name!r}, and only text can be read: images and sounds have no "
                "text bytes. Leave such rows out."
            )
    if row.get("chat_template"):
        raise ValueError(
            f"{where}: it has a 'chat_template' of its own. All rows are read with the template of "
            "the tokenizer; name another one for all of them (option chat_template), or remove the "
            "field."
        )


def _example(row: _Row, where: str) -> Example:
    for name in CONVERSATION_FIELDS:
        if name in row:
            read = read_messages(row[name], where, name)
            return _conversation(row, read, 0, where)
    if "prompt" in row and "completion" in row:
        return _pair(row, "prompt", "completion", where)
    if "chosen" in row:
        return _chosen(row, where)
    for asked, answered in PAIRS:
        if asked in row and answered in row:
            return _two_texts(row, asked, answered, where)
    fields = ", ".join(map(repr, row)) or "none"
    raise ValueError(
        f"{where}: no 'messages', and no 'prompt' with 'completion'; its fields are {fields}; "
        f"{MESSAGES_SHAPE}."
    )


def _pair(row: _Row, asked: str, answered: str, where: str) -> Example:
    prompt, completion = row[asked], row[answered]
    if isinstance(prompt, str) and isinstance(completion, str):
        if not completion:
            raise ValueError(f"{where}: the {answered} is empty, so there is nothing to learn.")
        needs_messages = [name for name in (*_SYSTEM, "tools", _OPTIONS) if row.get(name)]
        if needs_messages:
            raise ValueError(
                f"{where}: {needs_messages[0]!r} needs a chat template, and {asked!r} and "
                f"{answered!r} are plain texts, to which none is applied. Write them as lists of "
                "messages, or name them 'question' and 'answer'."
            )
        check_utf8(prompt + completion, where)
        return PromptCompletion(prompt, completion, where)
    if isinstance(prompt, str) or isinstance(completion, str):
        raise ValueError(
            f"{where}: {asked!r} is {kind_of(prompt)} and {answered!r} is {kind_of(completion)}; "
            "both must be strings, or both lists of messages."
        )
    given = read_messages(prompt, where, asked)
    answer = read_messages(completion, where, answered)
    if not any(one.message["role"] == "assistant" for one in answer):
        raise ValueError(
            f"{where}: the {answered} has no assistant message (its roles: {_roles(answer)}); only "
            "assistant messages can be trained on."
        )
    return _conversation(row, given + answer, len(given), where)


def _chosen(row: _Row, where: str) -> Example:
    """Read the preferred answer of a pair; the other one is named as not read."""
    if "prompt" in row:
        return _pair(row, "prompt", "chosen", where)
    if isinstance(row["chosen"], str):
        raise ValueError(
            f"{where}: 'chosen' is a string, and there is no 'prompt', so it is not known where "
            "the answer begins. Write it as a list of messages, or add the field 'prompt'."
        )
    return _conversation(row, read_messages(row["chosen"], where, "chosen"), 0, where)


def _two_texts(row: _Row, asked: str, answered: str, where: str) -> Conversation:
    """Read a question and its answer as two messages, after the pairs of ``history``."""
    question, answer = row[asked], row[answered]
    if asked == "instruction" and row.get("input"):
        question = f"{question}\n{row['input']}"
    turns: list[Any] = []
    for pair in from_json(row.get("history"), where, "history", "a JSON list of pairs") or ():  # type: ignore[attr-defined]
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise ValueError(
                f"{where}: 'history' holds {pair!r:.80}; it must be a list of pairs "
                "[question, answer]."
            )
        turns += pair
    turns += [question, answer]
    for name, value in ((asked, question), (answered, answer)):
        if not isinstance(value, str):
            raise ValueError(f"{where}: {name!r} is {kind_of(value)}; it must be a string.")
    if not answer:
        raise ValueError(f"{where}: {answered!r} is empty, so there is nothing to learn.")
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(turns)]
    return _conversation(row, read_messages(messages, where, answered), 0, where)


def _conversation(
    row: _Row, read: Sequence[ReadMessage], num_prompt: int, where: str
) -> Conversation:
    system = _system(row, read, where)
    read = (*system, *read)
    answers = [place for place, one in enumerate(read) if one.message["role"] == "assistant"]
    if not answers:
        raise ValueError(
            f"{where}: no assistant turn (the roles are: {_roles(read)}), so there is nothing to "
            "learn. Remove the row, or add the answer as a message of role 'assistant'."
        )
    untrained = frozenset(place for place, one in enumerate(read) if one.is_trained is False)
    if untrained.issuperset(place for place in answers if place >= num_prompt + len(system)):
        raise ValueError(
            f"{where}: every turn of the assistant is marked as not to be learned, so there is "
            "nothing to learn. Remove the row, or one of the marks."
        )
    return Conversation(
        tuple(one.message for one in read),
        _tools(row, where),
        num_prompt + len(system) if num_prompt else 0,
        where,
        _options(row, where),
        untrained,
    )


def _system(row: _Row, read: Sequence[ReadMessage], where: str) -> tuple[ReadMessage, ...]:
    """Return the system message of a field of its own, unless the first message repeats it."""
    given = {name: row[name] for name in _SYSTEM if name in row}
    for name, value in given.items():
        if not isinstance(value, str):
            raise ValueError(f"{where}: {name!r} is {kind_of(value)}; it must be a string.")
    texts = {value for value in given.values() if value}
    if read[0].message["role"] in ("system", "developer"):
        texts.add(read[0].message["content"])
        if len(texts) == 1:
            return ()
    if len(texts) > 1:
        raise ValueError(
            f"{where}: it has more than one system prompt ({', '.join(map(repr, given))}, "
            "messages), and they differ. Keep one of them."
        )
    return (
        read_messages([{"role": "system", "content": texts.pop()}], where, "system")
        if texts
        else ()
    )


def _tools(row: _Row, where: str) -> tuple[Any, ...] | None:
    name = "functions" if "functions" in row and not row.get("tools") else "tools"
    return read_tools(row.get(name), where, name)


def _options(row: _Row, where: str) -> Mapping[str, Any]:
    """Read the variables that a row passes to the template."""
    given = from_json(row.get(_OPTIONS), where, _OPTIONS, "a JSON object")
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"{where}: {_OPTIONS!r} is {kind_of(given)}; it must be a JSON object.")
    options = {key: value for key, value in (given or {}).items() if value is not None}
    reserved = sorted(_RESERVED.intersection(options))
    if reserved:
        raise ValueError(
            f"{where}: {_OPTIONS!r} sets {reserved[0]!r}, which is not a variable of the template "
            "but an option of rendering, and the same for all rows. Remove it."
        )
    documents = from_json(row.get("documents"), where, "documents", "a JSON list")
    if documents and options.setdefault("documents", documents) != documents:
        raise ValueError(
            f"{where}: it has 'documents' twice (one of them in {_OPTIONS!r}), and they differ. "
            "Keep one of them."
        )
    return options


def _roles(read: Sequence[ReadMessage]) -> str:
    return ", ".join(str(one.message["role"]) for one in read)
