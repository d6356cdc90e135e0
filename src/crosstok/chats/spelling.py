"""How a chat template wants thoughts and the arguments of calls to be passed, found by running it.

Templates read thoughts from ``reasoning_content``, ``thinking`` or other fields, or from a part of
the content. They write arguments from a mapping, or from its JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from crosstok.chats.conversations import THOUGHT, Message
from crosstok.chats.templates import ChatTemplate, TemplateFailure

_FIELDS = (THOUGHT, "thinking", "reasoning", "thought")
_PARTS = "parts of the content"
_MARK = "Zqthoughtzq"
_USER = {"role": "user", "content": "Zquserzq"}
_ANSWER = {"role": "assistant", "content": "Zqanswerzq"}
_RESULT = {"role": "tool", "content": "Zqresultzq", "tool_call_id": "abcdef123", "name": "Zqcallzq"}


@dataclass(frozen=True)
class Spelling:
    """How messages are passed to a template.

    Attributes:
        thought: the field of the thoughts, or "parts of the content"; None: it writes no thoughts.
        arguments: whether arguments of calls are passed as a mapping or as JSON.
    """

    thought: str | None
    arguments: Literal["mapping", "json"]

    @classmethod
    def learn(cls, template: ChatTemplate, options: Mapping[str, Any]) -> Spelling:
        """Find the spelling that a template reads under these options."""
        arguments = _arguments(template, options)
        thoughts = [cls(field, arguments) for field in (*_FIELDS, _PARTS)]
        found = next((one for one in thoughts if one._writes_thoughts(template, options)), None)
        return found or cls(None, arguments)

    def _writes_thoughts(self, template: ChatTemplate, options: Mapping[str, Any]) -> bool:
        dialogues = (
            [_USER, {**_ANSWER, THOUGHT: _MARK}],
            [_USER, {**_call({}), THOUGHT: _MARK}, _RESULT, _ANSWER],
        )
        for dialogue in dialogues:
            rendered = _render(template, self.spell(dialogue), options)
            # A template that joins strings may write the list of parts as Python or as JSON.
            if _MARK in rendered and "'type'" not in rendered and '"thinking"' not in rendered:
                return True
        return False

    def spell(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages as the template reads them."""
        return [
            self._spelled(message) if THOUGHT in message or message.get("tool_calls") else message
            for message in messages
        ]

    def _spelled(self, message: Message) -> Message:
        spelled = dict(message)
        thought = spelled.pop(THOUGHT, None)
        if thought is not None and self.thought == _PARTS:
            content = spelled.get("content")
            parts = [{"type": "thinking", "thinking": thought}] if thought else []
            spelled["content"] = [*parts, *([{"type": "text", "text": content}] if content else [])]
        elif thought is not None:
            spelled[self.thought or THOUGHT] = thought
        if self.arguments == "json" and spelled.get("tool_calls"):
            spelled["tool_calls"] = [_with_json(call) for call in spelled["tool_calls"]]
        return spelled


def _with_json(call: Any) -> Any:
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        return call
    function = call["function"]
    if not isinstance(function.get("arguments"), Mapping):
        return call
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def _call(arguments: Mapping[str, Any] | str) -> dict[str, Any]:
    function = {"name": "Zqcallzq", "arguments": arguments}
    call = {"id": "abcdef123", "type": "function", "function": function}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def _arguments(template: ChatTemplate, options: Mapping[str, Any]) -> Literal["mapping", "json"]:
    """Find whether JSON must be passed: a mapping fails, or is written as Python writes it."""
    arguments = {"Zqkeyzq": "Zqvaluezq"}
    for rest in ([], [_RESULT, _ANSWER]):
        as_mapping = _render(template, [_USER, _call(arguments), *rest], options)
        if "Zqvaluezq" in as_mapping and str(arguments) not in as_mapping:
            return "mapping"
        as_json = _render(template, [_USER, _call(json.dumps(arguments)), *rest], options)
        if json.dumps(arguments) in as_json:
            return "json"
    return "mapping"


def _render(template: ChatTemplate, messages: Sequence[Message], options: Mapping[str, Any]) -> str:
    try:
        return template.render(messages, None, options)
    except TemplateFailure:
        return ""
