"""Four domains of text, cut into short pieces, and mixtures of them.

A piece is what fits a window of 256 tokens of every tokenizer of the zoo, so that all models, and
all ensembles of them, read the same bytes in training and in tests. Wikipedia, books and code come
from the folder of corpora, read at run time; word problems too; sums are generated.
"""

import hashlib
import json
import lzma
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosstok.training.windows import window_starts

# Characters of a piece. What no window of 256 tokens holds is left out: see `fits`.
PIECE = {"wikipedia": 700, "books": 640, "code": 400, "sums": 640}
DOMAINS = tuple(PIECE)
HELD_OUT_CODE = 10  # one file in so many


@dataclass(frozen=True)
class Source:
    """Where a domain's documents come from, under the folder of data."""

    train: str
    held_out: str


SOURCES = {
    "wikipedia": Source(
        "corpora/english_wikipedia_2019/train.jsonl.xz",
        "corpora/english_wikipedia_2019/test.jsonl.xz",
    ),
    "books": Source(
        "corpora/public_domain_books/train.jsonl.xz",
        "corpora/public_domain_books/validation.jsonl.xz",
    ),
    "code": Source(
        "corpora/python_stdlib_3.11/stdlib.jsonl.xz", "corpora/python_stdlib_3.11/stdlib.jsonl.xz"
    ),
    "sums": Source(
        "corpora/instructions/gsm8k_train.jsonl.xz", "evals/generation/gsm8k_test.jsonl.xz"
    ),
}


def pieces_of(data: Path, domain: str, *, held_out: bool, seed: int) -> list[str]:
    """All pieces of a domain, in an order drawn by the seed.

    Args:
        data: folder of corpora and exams.
        domain: one of ``DOMAINS``.
        held_out: the part that no model is trained on.
        seed: of the order, and of the sums.
    """
    source = SOURCES[domain]
    rows = read_rows(data / (source.held_out if held_out else source.train))
    draw = random.Random(f"{domain} {held_out} {seed}")
    if domain == "sums":
        pieces = [word_problem(row) for row in rows]
        pieces += [sums(draw) for _ in range(len(pieces) // 2)]
        pieces = [piece for piece in pieces if len(piece) <= PIECE[domain]]
    else:
        if domain == "code":
            rows = [row for row in rows if is_held_out(row["path"]) == held_out]
        pieces = [piece for row in rows for piece in cut(row["text"], PIECE[domain])]
    draw.shuffle(pieces)
    return pieces


def cut(text: str, num_characters: int) -> Iterator[str]:
    """A document in pieces, cut before a space or a newline; scraps of the end are left out."""
    starts = window_starts(text, num_characters)
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        if end - start >= num_characters // 4:
            yield text[start:end]


def is_held_out(path: str) -> bool:
    """Whether a file of the standard library is for tests: by its name, the same every time."""
    return hashlib.sha256(path.encode()).digest()[0] % HELD_OUT_CODE == 0


def word_problem(row: Mapping[str, str]) -> str:
    """Question and worked answer, without the marks for a calculator."""
    work, number = re.sub(r"<<.*?>>", "", row["answer"]).split("\n#### ")
    return f"Question: {row['question']}\nAnswer: {work} The answer is {number}.\n"


def sums(draw: random.Random, lines: int = 12) -> str:
    """Additions and subtractions of numbers below 1,000, one a line."""
    shown = []
    for _ in range(lines):
        left, right = draw.randrange(1000), draw.randrange(1000)
        if draw.random() < 0.5:
            shown.append(f"{left} + {right} = {left + right}\n")
        else:
            left, right = max(left, right), min(left, right)
            shown.append(f"{left} - {right} = {left - right}\n")
    return "".join(shown)


def mix(
    domains: Mapping[str, list[str]], shares: Mapping[str, float], num_pieces: int
) -> list[str]:
    """Pieces of several domains, each with its share of the bytes.

    The next piece is of the domain that is furthest behind its share; a domain that has been read
    to its end begins again.

    Args:
        domains: pieces by domain, in the order to take them.
        shares: share of the bytes by domain; what is missing or 0 is left out.
        num_pieces: how many.
    """
    used = {name: 0.0 for name, share in shares.items() if share > 0}
    taken = dict.fromkeys(used, 0)
    mixed = []
    while len(mixed) < num_pieces:
        name = min(used, key=used.__getitem__)
        piece = domains[name][taken[name] % len(domains[name])]
        taken[name] += 1
        used[name] += len(piece.encode()) / shares[name]
        mixed.append(piece)
    return mixed


def first_bytes(pieces: Iterable[str], num_bytes: int) -> list[str]:
    """Pieces from the front until they hold so many bytes, or a little more."""
    taken, total = [], 0
    for piece in pieces:
        if total >= num_bytes:
            break
        taken.append(piece)
        total += len(piece.encode())
    return taken


def read_rows(file: Path) -> list[dict[str, Any]]:
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write_texts(file: Path, texts: Iterable[str]) -> None:
    """One row a text."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as lines:
        for text in texts:
            lines.write(json.dumps({"text": text}) + "\n")
