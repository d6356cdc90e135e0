"""`--columns`: the data's own names for the fields that crosstok reads."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

FIELDS = (
    "text", "messages", "conversations", "prompt", "completion", "tools", "system",
    "chat_template_kwargs",
)  # fmt: skip
"""Fields that may be given another column: those that a row of texts or chats has."""

_JOINT = "+"
_SEPARATOR = "\n\n"
_CHATS = ("messages", "conversations")

# Names that data sets use, by the field that they are; in the order of preference.
_PROMPTS = ("prompt", "instruction", "question", "query", "problem", "user")
_MORE_PROMPT = ("input", "context")
_COMPLETIONS = (
    "completion", "output", "response", "answer", "solution", "chosen", "target", "assistant",
)  # fmt: skip
_TEXTS = ("text", "content", "body", "document", "article", "passage", "story", "code", "sentence")


def check_columns(columns: Mapping[str, str]) -> None:
    """Check a mapping of fields to columns, without the data.

    Raises:
        ValueError: a key is not a field.
    """
    for field, column in columns.items():
        if field in FIELDS:
            continue
        turned = f" Or was it {column}={field}?" if column in FIELDS else ""
        raise ValueError(
            f"columns has {field!r}, which is not a field that crosstok reads; the fields are "
            f"{', '.join(FIELDS)}, each followed by the data's own name for it: "
            f"prompt=question.{turned}"
        )


def parts_of(column: str, there: Collection[Any]) -> list[str]:
    """The columns that are joined for ``instruction+input``; a column of that name is itself."""
    return [column] if column in there else [part.strip() for part in column.split(_JOINT)]


def check_there(
    columns: Mapping[str, str], there: Sequence[str], source: str, *, may_lack: bool = False
) -> bool:
    """Check that the data has the columns.

    Args:
        columns: column of each field.
        there: columns of the data.
        source: name of the data.
        may_lack: whether data that has none of them is read by its own names.

    Returns:
        Whether the columns are to be mapped.

    Raises:
        ValueError: the data lacks a column.
    """
    lacking = [
        (field, part)
        for field, column in columns.items()
        for part in parts_of(column, there)
        if part not in there
    ]
    if not lacking:
        return True
    if may_lack and not any(p in there for c in columns.values() for p in parts_of(c, there)):
        return False
    field, column = lacking[0]
    advice = suggest(there)
    hint = f" Perhaps {advice}." if advice else ""
    raise ValueError(
        f"columns has {field}={columns[field]}, and {source} has no column {column!r}; its columns "
        f"are {', '.join(map(repr, there))}.{hint}"
    )


def mapped(row: Any, columns: Mapping[str, str], where: str = "a row") -> Any:
    """Return a row with the fields that the columns stand for; what is not a mapping stays.

    Fields of another form that the row has as well are left out: ``prompt`` and ``completion`` are
    asked for where a row also has ``messages``.

    Raises:
        ValueError: columns are joined that do not hold text.
    """
    if not isinstance(row, Mapping):
        return row
    given = {field: value_of(row, column, where) for field, column in columns.items()}
    used = {part for column in columns.values() for part in parts_of(column, row)}
    kept = {key: value for key, value in row.items() if key not in used}
    if columns.keys() & {"prompt", "completion"}:
        kept = {key: value for key, value in kept.items() if key not in _CHATS}
    if "messages" in columns:
        kept.pop("conversations", None)
    return {**kept, **{field: value for field, value in given.items() if value is not None}}


def fields_after(there: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """The fields of rows once these columns are mapped."""
    if not columns:
        return list(there)
    filled = mapped(dict.fromkeys(there, "."), columns)
    return list(filled)


def value_of(row: Mapping[str, Any], column: str, where: str) -> Any:
    """Return what a column holds; of ``title+body``, both texts, joined by a blank line.

    Raises:
        ValueError: columns are joined that do not hold text.
    """
    parts = parts_of(column, row)
    if len(parts) == 1:
        return row.get(parts[0])
    values = [row[part] for part in parts if row.get(part)]
    for value in values:
        if not isinstance(value, str):
            raise ValueError(
                f"{where}: the columns {column} are joined, and one of them is a "
                f"{type(value).__name__}; only columns of text can be joined."
            )
    return _SEPARATOR.join(values) if values else None


def suggest(there: Sequence[str], row: Mapping[str, Any] | None = None) -> str:
    """The ``--columns`` flags that fit data with these columns best; empty where none does.

    Args:
        there: columns of the data.
        row: a row of it, which says what the columns hold.
    """
    row = row or {}
    by_lower = {column.lower(): column for column in there}
    found = _chat_like(there, row)
    if found is None:
        prompt = _first(_PROMPTS, by_lower)
        completion = _first(_COMPLETIONS, by_lower)
        text = _first(_TEXTS, by_lower)
        if prompt is not None and completion is not None:
            more = _first(_MORE_PROMPT, by_lower)
            found = {
                "prompt": f"{prompt}{_JOINT}{more}" if more else prompt,
                "completion": completion,
            }
        elif text is not None:
            found = {"text": text}
        elif (longest := _longest(there, row)) is not None:
            found = {"text": longest}
    pairs = [f"{field}={column}" for field, column in (found or {}).items() if field != column]
    return " ".join(f"--columns {pair}" for pair in pairs)


def _first(names: Sequence[str], by_lower: Mapping[str, str]) -> str | None:
    return next((by_lower[name] for name in names if name in by_lower), None)


def _chat_like(there: Sequence[str], row: Mapping[str, Any]) -> dict[str, str] | None:
    """A column that holds lists of messages, of several the preferred one."""
    lists = [
        column
        for column in there
        if isinstance(row.get(column), list)
        and row[column]
        and all(isinstance(entry, Mapping) for entry in row[column])
        and {"role", "from"} & set(row[column][0])
    ]
    best = next((column for column in lists if column == "chosen"), lists[0] if lists else None)
    return None if best is None else {"messages": best}


def _longest(there: Sequence[str], row: Mapping[str, Any]) -> str | None:
    """The column with the longest text; the only column, where there is just one."""
    texts = {column: len(row[column]) for column in there if isinstance(row.get(column), str)}
    if texts:
        return max(texts, key=lambda column: texts[column])
    return there[0] if len(there) == 1 and not row else None
