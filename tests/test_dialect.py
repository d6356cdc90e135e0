"""One dialect: entries of docstrings have one form, and some phrases stand in no text of `src`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "crosstok"
FILES = sorted(SRC.rglob("*.py"))

BANNED = re.compile(
    r"\bbehind\b|\bin front of\b|\bin the place of\b|\bso many likeliest\b"
    r"|\btell(s|ing)?\b|\btold\b|\bbe had\b|\bthose of the ones\b"
    r"|(?<!there )\b(is|are) no (?!more|less|longer)\w+",
    re.IGNORECASE,
)
SECTION = r"^( *)(?:Args|Attributes|Raises):\n((?:\1 {4}.*\n|\n)+)"
ENTRY = r"^ {%d}(?! ).+(?:\n {%d}.+)*"
PROPER = re.compile(
    r"\S*[A-Z]\S*[A-Z0-9]|(?!A\b)[A-Z]\b|(Arrow|Hugging|Jinja|Levenshtein|Python)\b"
)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def faults(source: str) -> Iterator[tuple[int, str]]:
    """Line and reason of everything in a module's docstrings and strings that breaks the rules."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for found in BANNED.finditer(node.value):
                yield _line(node, found.start()), f"banned words {found[0]!r}"
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            constant = node.body[0].value
            for place, entry in _entries(constant.value):
                if reason := _wrong_form(entry):
                    yield _line(constant, place), f"{reason}: {entry[:60]!r}"


def _line(node: ast.Constant, place: int) -> int:
    return node.lineno + node.value.count("\n", 0, place)


def _entries(docstring: str) -> Iterator[tuple[int, str]]:
    for section in re.finditer(SECTION, f"{docstring}\n", re.MULTILINE):
        indent = len(section[1]) + 4
        for entry in re.finditer(ENTRY % (indent, indent + 1), section[2], re.MULTILINE):
            yield section.start(2) + entry.start(), " ".join(entry[0].split())


def _wrong_form(entry: str) -> str | None:
    parts = re.match(r"[\w.*, `]+: (.+)", entry)
    if parts is None:
        return "an entry is not of the form 'name: text'"
    if parts[1][0].isupper() and not PROPER.match(parts[1]):
        return "an entry does not begin lower-case"
    return None if parts[1].endswith(".") else "an entry does not end in a full stop"


@pytest.mark.parametrize("path", sorted(FILES), ids=lambda path: str(path.relative_to(SRC)))
def test_docstrings_and_messages_keep_to_one_dialect(path: Path):
    found = [f"{path}:{line}: {reason}" for line, reason in sorted(faults(path.read_text()))]
    assert not found, "\n".join(found)


def test_the_check_of_the_dialect_finds_the_line():
    source = '''def f(x):
    """Do it.

    Args:
        x: The number
            that counts.
        y: ALM, or a
            number

    Raises:
        ValueError: it is no number.
    """
    raise ValueError("look behind it; there is no more")
'''
    lines = [(line, reason.split(":")[0]) for line, reason in sorted(faults(source))]
    assert lines == [
        (5, "an entry does not begin lower-case"),
        (7, "an entry does not end in a full stop"),
        (11, "banned words 'is no number'"),
        (13, "banned words 'behind'"),
    ]
