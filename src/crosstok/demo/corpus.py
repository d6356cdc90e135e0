"""The demo's text: two domains from the source of the Python standard library.

Every machine that runs crosstok has this text, so the demo needs no network and no data:

- "code": source files without their docstrings and comments;
- "prose": docstrings, and the help topics of the language reference (`pydoc_data/topics.py`).

Files are parsed, never imported or executed. The text differs slightly between Python versions; the
split does not, because it depends only on the names of files and topics.
"""

import ast
import hashlib
import inspect
import io
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Domain = Literal["code", "prose"]

MAX_DOCUMENT_BYTES = 640
"""Longest document, in bytes: about 200 tokens of the base model, which reads 256."""

MIN_DOCUMENT_BYTES = 80
"""Shorter pieces ("Return a copy.") are not used as documents."""

HELD_OUT_ONE_IN = 16
"""One file (or topic) in this many is held out."""

_SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "_bundled"}
)
_TOPICS_FILE = "pydoc_data/topics.py"
# Tables of characters rather than code, and files that differ between machines.
_SKIPPED_PREFIXES = ("encodings/", "pydoc_data/", "config-", "_sysconfigdata")

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_Edit = tuple[int, int, str]  # start and end (characters, half-open), replacement


@dataclass(frozen=True)
class SplitDocuments:
    """The documents of one domain: texts of `MIN_DOCUMENT_BYTES` to `MAX_DOCUMENT_BYTES` bytes.

    No document is in both parts, and all passages of a file are in the same part.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def load_domain(domain: Domain, stdlib: Path | None = None) -> SplitDocuments:
    """Load the documents of one domain from a standard library.

    Args:
        domain: "code" or "prose".
        stdlib: folder of the standard library; by default of the running Python.

    Returns:
        Documents in the order of their files' names, without exact duplicates.

    Raises:
        ValueError: the domain is unknown, or the folder has no text of it.
    """
    root = stdlib or Path(sysconfig.get_paths()["stdlib"])
    if domain == "code":
        named_texts = _code_texts(root)
    elif domain == "prose":
        named_texts = _prose_texts(root)
    else:
        raise ValueError(f"domain is {domain!r}; it must be 'code' or 'prose'.")
    documents = _split(named_texts)
    if not documents.train or not documents.held_out:
        raise ValueError(
            f"no {domain} in the standard library folder {str(root)!r}: the demo reads its .py "
            "files, which some packaged Pythons leave out. Run it with a Python that has them."
        )
    return documents


def is_held_out(name: str) -> bool:
    """Whether the file or topic of this name is held out; only a hash of the name decides."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


def strip_code(source: str) -> str:
    """Remove docstrings and comments, trailing spaces and runs of blank lines from Python source.

    A docstring that is the only statement of a body becomes `pass`, so the result still parses.

    Raises:
        SyntaxError: the source is not Python of the running version.
    """
    line_starts = _line_starts(source)
    edits = [*_docstring_edits(source, line_starts), *_comment_edits(source, line_starts)]
    for start, end, replacement in sorted(edits, reverse=True):
        source = source[:start] + replacement + source[end:]
    return _tidy(source)


def docstrings(source: str) -> list[str]:
    """Collect the docstrings of a module, dedented, in order of appearance.

    Raises:
        SyntaxError: the source is not Python of the running version.
    """
    return [inspect.cleandoc(str(node.value)) for _, node in _docstring_nodes(ast.parse(source))]


def topics(source: str) -> dict[str, str]:
    """Read the `topics` dictionary of a `pydoc_data/topics.py` from its syntax tree.

    Raises:
        ValueError: no dictionary of strings is assigned to the name `topics`.
    """
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "topics" for target in targets):
            assert isinstance(node, ast.Assign)
            # literal_eval builds the value from the tree: strings, and strings joined by adjacency.
            values: dict[str, str] = ast.literal_eval(node.value)
            return values
    raise ValueError(
        "this source assigns nothing to `topics`. Pass the text of pydoc_data/topics.py."
    )


def cut(text: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> list[str]:
    """Split a text into passages of at most `max_bytes` bytes, at blank lines where possible.

    Neighbouring blocks share a passage while they fit. A block that is too long is split between
    lines; a single line that is too long is left out.
    """
    passages: list[str] = []
    for block in _blocks(text, max_bytes):
        joined = f"{passages[-1]}{block}" if passages else block
        if passages and _num_bytes(joined) <= max_bytes:
            passages[-1] = joined
        else:
            passages.append(block)
    return [passage.strip("\n") for passage in passages]


def _blocks(text: str, max_bytes: int) -> Iterator[str]:
    """Blocks between blank lines, each with its blank line; lines of blocks that are too long."""
    for block in text.split("\n\n"):
        whole = block + "\n\n"
        if _num_bytes(whole) <= max_bytes:
            yield whole
        else:
            lines = [line + "\n" for line in block.split("\n")]
            lines[-1] += "\n"
            yield from (line for line in lines if _num_bytes(line) <= max_bytes)


def _split(named_texts: Iterable[tuple[str, str]]) -> SplitDocuments:
    train: dict[str, None] = {}  # dictionaries keep the order and drop duplicates
    held_out: dict[str, None] = {}
    for name, text in named_texts:
        part = held_out if is_held_out(name) else train
        passages = (p for p in cut(text) if _num_bytes(p) >= MIN_DOCUMENT_BYTES)
        part.update(dict.fromkeys(passages))
    return SplitDocuments(tuple(train), tuple(text for text in held_out if text not in train))


def _code_texts(root: Path) -> Iterator[tuple[str, str]]:
    for name, source in _sources(root):
        try:
            yield name, strip_code(source)
        except SyntaxError:  # a template or a test case, not a module
            continue


def _prose_texts(root: Path) -> Iterator[tuple[str, str]]:
    for name, source in _sources(root):
        try:
            for text in docstrings(source):
                yield name, _tidy(text)
        except SyntaxError:
            continue
    topics_file = root / _TOPICS_FILE
    if topics_file.is_file():  # some distributions package it separately
        for topic, text in topics(_read(topics_file)).items():
            yield f"topic:{topic}", _tidy(text)


def _sources(root: Path) -> Iterator[tuple[str, str]]:
    """Relative path (with forward slashes) and source of every module used, sorted."""
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    for name in sorted(paths):
        folders = name.split("/")[:-1]
        if not _SKIPPED_FOLDERS.intersection(folders) and not name.startswith(_SKIPPED_PREFIXES):
            try:
                yield name, _read(paths[name])
            except (SyntaxError, UnicodeDecodeError):  # a wrong encoding declaration
                continue


def _read(path: Path) -> str:
    with tokenize.open(path) as file:  # obeys the file's encoding declaration
        return file.read()


def _docstring_nodes(tree: ast.Module) -> list[tuple[_Documented, ast.Constant]]:
    """Every documented node with its docstring, a constant of type str, in order of appearance."""
    found: list[tuple[_Documented, ast.Constant]] = []
    for node in ast.walk(tree):
        if isinstance(node, _Documented) and node.body:
            first = node.body[0]
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found.append((node, value))
    return sorted(found, key=lambda pair: (pair[1].lineno, pair[1].col_offset))


def _docstring_edits(source: str, line_starts: list[int]) -> Iterator[_Edit]:
    lines = source.split("\n")

    def offset(line: int, byte_column: int) -> int:
        text = lines[line - 1].encode()[:byte_column].decode()
        return line_starts[line - 1] + len(text)

    for node, value in _docstring_nodes(ast.parse(source)):
        assert value.end_lineno is not None
        assert value.end_col_offset is not None
        start = offset(value.lineno, value.col_offset)
        end = offset(value.end_lineno, value.end_col_offset)
        before = source[line_starts[value.lineno - 1] : start]
        after = source[end : line_starts[value.end_lineno]].strip()
        alone = not before.strip() and (not after or after.startswith("#"))
        if alone and (len(node.body) > 1 or isinstance(node, ast.Module)):
            yield start, end, ""
        else:
            yield start, end, "pass"


def _comment_edits(source: str, line_starts: list[int]) -> Iterator[_Edit]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            start = line_starts[token.start[0] - 1] + token.start[1]
            end = start + len(token.string)
            line_start = line_starts[token.start[0] - 1]
            alone = not source[line_start:start].strip()
            # A line with nothing else is removed as a whole.
            yield (line_start, end + 1, "") if alone else (start, end, "")


def _line_starts(source: str) -> list[int]:
    """Character offset of every line, and the end of the text."""
    starts = [0]
    for line in source.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    return starts


def _tidy(text: str) -> str:
    """Remove trailing spaces, form feeds and repeated blank lines; end with one line break."""
    lines = [line.rstrip() for line in text.replace("\f", "").split("\n")]
    kept = [line for index, line in enumerate(lines) if line or (index and lines[index - 1])]
    return "\n".join(kept).strip("\n") + "\n"


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
