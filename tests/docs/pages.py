"""The pages: fenced blocks and commands in code spans, with their lines."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    + list((ROOT / "docs").rglob("*.md"))
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)|<img [^>]*src=\"([^\"]+)\"")
_FENCED = re.compile(
    r"^(?:<!-- (?P<mark>run|prints) -->\n)?"
    r"(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<content>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_FILE = re.compile(r"# ([\w./-]+\.(?:ya?ml|py))(?:$|[:,\s])", re.MULTILINE)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))

# A code span is a command if it could be typed as it stands: one of these words, then its options.
_NEEDED = {
    "transfer": ({"--model", "--tokenizer", "--data", "--output"},),
    "distil": ({"--teacher", "--student", "--data", "--output"},),
    "distill": ({"--teacher", "--student", "--data", "--output"},),
    "transplant": ({"--model", "--tokenizer", "--output"},),
    "evaluate": ({"--model", "--data"}, {"--model", "--exam"}, {"--model", "--task"}),
    "inspect": ({"--source", "--target"}, {"--teacher", "--student"}),
    "generate": ({"--model", "--prompt"}, {"--model", "--prompt-file"}, {"--model", "--chat"}),
    "demo": (set(),),
}
_PROGRAMS = ("make", "python", "pip", "git", "source", "accelerate", ".venv/bin/")


@dataclass(frozen=True)
class Piece:
    """A block or a command of a page.

    Attributes:
        page: Where it stands.
        line: Of its first line of content, counted from 1.
        language: Of a block; "command" for a code span that is one.
        content: As printed, without the indentation of the block.
        mark: "run", "prints" or "".
    """

    page: Path
    line: int
    language: str
    content: str
    mark: str = ""

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file_name(self) -> str | None:
        """What its first line calls the file that it is."""
        found = _FILE.match(self.content)
        return found[1] if found else None


def blocks(page: Path) -> list[Piece]:
    """Every fenced block, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCED.finditer(text):
        line = text.count("\n", 0, match.start("content")) + 1
        content = dedent(match["content"]) if match["indent"] else match["content"]
        found.append(Piece(page, line, match["language"], content, match["mark"] or ""))
    return found


def prose(page: Path) -> str:
    """The page with its blocks blanked, line for line."""
    text = page.read_text(encoding="utf-8")
    return _FENCED.sub(lambda match: "\n" * match[0].count("\n"), text)


def spans(page: Path) -> list[Piece]:
    """Every code span outside blocks that is a whole command."""
    text = prose(page)
    return [
        Piece(page, text.count("\n", 0, match.start()) + 1, "command", command + "\n")
        for match in _SPAN.finditer(text)
        if is_command(command := " ".join(match[1].split()))
    ]


def pieces(page: Path) -> list[Piece]:
    """Blocks and commands in code spans, in the order of the page."""
    return sorted([*blocks(page), *spans(page)], key=lambda piece: piece.line)


def lines_of(piece: Piece) -> list[tuple[int, str]]:
    """The command lines of a piece, continued lines joined, without comments."""
    found, begun, start = [], "", 0
    for number, line in enumerate(piece.content.splitlines(), piece.line):
        start = start if begun else number
        begun += line.removesuffix("\\")
        if not line.endswith("\\"):
            if words := shlex.split(begun, comments=True):
                found.append((start, shlex.join(words)))
            begun = ""
    return found


def is_command(span: str) -> bool:
    """Whether a code span can be typed as it stands."""
    words = [word for word in span.split() if not re.match(r"[A-Z_]+=", word)]
    if "..." in span or len(words) < 2:
        return False
    if words[0] != "crosstok":
        return words[0].startswith(_PROGRAMS) and (words[0] in _PROGRAMS or "/" in words[0])
    flags = {word for word in words if word.startswith("--")}
    if flags & {"--help", "--version", "--recipe"}:
        return True
    return any(needed <= flags for needed in _NEEDED.get(words[1], ()))
