"""Read descriptions of tools, and calls of tools, in the spellings that are in use.

Tools are a list of ``{"type": "function", "function": {"name", "description", "parameters"}}``, of
the functions alone, or either of them as JSON. Calls have arguments that are a mapping, or its
JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_OF_CALL = ("name", "arguments", "parameters")


def read_tools(given: object, where: str, name: str = "tools") -> tuple[Any, ...] | None:
    """Read the tools of a row; None if there are none.

    Raises:
        ValueError: they are neither a list nor the JSON of one, or an entry is not an object.
    """
    given = from_json(given, where, name, "a JSON list of descriptions")
    if isinstance(given, Mapping):
        given = [given]
    if not given:
        return None
    if not isinstance(given, Sequence):
        raise ValueError(
            f"{where}: {name!r} is {kind_of(given)}; it must be a list of descriptions."
        )
    return tuple(_tool(tool, where, name) for tool in given)


def _tool(given: object, where: str, name: str) -> Mapping[str, Any]:
    tool = from_json(given, where, name, "a description as JSON")
    if not isinstance(tool, Mapping):
        raise ValueError(f"{where}: {name!r} holds {tool!r:.80}; a description is a JSON object.")
    if "name" in tool and "function" not in tool:
        function = {key: value for key, value in tool.items() if key != "type"}
        return {"type": "function", "function": function}
    return tool


def read_calls(given: object, where: str) -> list[Mapping[str, Any]]:
    """Read the calls of a message as ``{"type": "function", "function": {"name", "arguments"}}``.

    Arguments that are JSON are parsed, since most templates want a mapping; the renderer writes
    them as JSON for those that do not.

    Raises:
        ValueError: they are not calls, or arguments are neither a mapping nor the JSON of one.
    """
    given = from_json(given, where, "tool_calls", "the calls as JSON")
    if not given:
        return []
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, Sequence):
        raise ValueError(f"{where}: 'tool_calls' is {kind_of(given)}; it must be a list of calls.")
    return [_call(call, where) for call in given]


def _call(given: object, where: str) -> Mapping[str, Any]:
    call: Any = from_json(given, where, "tool_calls", "a call as JSON")
    if isinstance(call, Mapping) and "function" not in call and "name" in call:
        bare = {key: call[key] for key in _OF_CALL if key in call}
        call = {key: value for key, value in call.items() if key not in _OF_CALL}
        call = {"type": "function", **call, "function": bare}
    function: Any = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise ValueError(
            f"{where}: {call!r:.80} is not a call; it must be "
            '{"type": "function", "function": {"name": ..., "arguments": {...}}}.'
        )
    arguments = function.get("arguments", function.get("parameters"))
    read = {key: value for key, value in function.items() if key != "parameters"}
    read["arguments"] = _arguments(arguments, where, str(function.get("name")))
    return {**call, "function": read}


def _arguments(given: object, where: str, name: str) -> Mapping[str, Any]:
    arguments = given
    for _ in range(2):  # some data encode them twice
        if isinstance(arguments, str):
            what = f"arguments of the call of {name!r}"
            arguments = from_json(arguments, where, what, "a JSON object")
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise ValueError(
            f"{where}: the arguments of the call of {name!r} are {given!r:.80}; they must be a "
            "JSON object."
        )
    return arguments


def from_json(given: object, where: str, name: str, shape: str) -> object:
    """Parse a value that may be JSON (Arrow columns have a fixed type); blank strings are None.

    Raises:
        ValueError: it is a string that is not JSON.
    """
    if not isinstance(given, str):
        return given
    if not given.strip():
        return None
    try:
        return json.loads(given)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where}: {name!r} is a string that is not valid JSON ({error}): {given!r:.80}. Write "
            f"{shape}."
        ) from None


def kind_of(value: object) -> str:
    """Name the type of a value as JSON does."""
    return {"str": "a string", "list": "a list"}.get(type(value).__name__, type(value).__name__)
