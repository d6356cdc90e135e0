"""Questions with worked answers, generated: calculations of small numbers, and word problems.

Every problem has a key that says what has to be worked out, whatever the words (the operation and
its numbers; the template and its numbers). A hash of the key decides which split a problem is in,
so the splits share no problem. Equal seeds give equal files.
"""

import itertools
import json
import random
import zlib
from dataclasses import dataclass
from pathlib import Path

from stories import draw_story

ANSWER = "The answer is"
KINDS = ("sum", "difference", "product", "quotient", "story 1", "story 2", "story 3")
# Of 16 parts of all problems: one to test on, one to choose learning rates on, the others to train.
TEST, VALIDATION, PARTS = 0, 1, 16

WORDINGS = {
    "+": ("What is {a} + {b}?", "Add {a} and {b}.", "Calculate {a} + {b}.", "{a} + {b} = ?"),
    "-": ("What is {a} - {b}?", "Subtract {b} from {a}.", "Calculate {a} - {b}.", "{a} - {b} = ?"),
    "x": ("What is {a} x {b}?", "Multiply {a} by {b}.", "Calculate {a} x {b}.", "{a} x {b} = ?"),
    "/": ("What is {a} / {b}?", "Divide {a} by {b}.", "Calculate {a} / {b}.", "{a} / {b} = ?"),
}


@dataclass(frozen=True)
class Problem:
    """A question, its worked answer without the last sentence, and the number it comes to."""

    kind: str
    key: tuple[object, ...]
    question: str
    work: str
    number: int

    @property
    def split(self) -> str:
        """Which split this problem is in."""
        part = zlib.crc32(repr((self.kind, self.key)).encode()) % PARTS
        return {TEST: "test", VALIDATION: "validation"}.get(part, "train")

    def row(self) -> dict[str, object]:
        """The problem as a row of chat data."""
        answer = f"{self.work} {ANSWER} {self.number}."
        messages = [
            {"role": "user", "content": self.question},
            {"role": "assistant", "content": answer},
        ]
        return {"messages": messages, "kind": self.kind, "number": self.number}


def problems(split: str, num: int, seed: int) -> list[Problem]:
    """So many problems of a split: "train", "validation" or "test"; no question comes twice.

    All kinds are equally many, until all there is of a kind is used up. To train on, a problem may
    come in several wordings; to test on, in one.
    """
    draw = random.Random(f"{split} {seed}")
    found: dict[object, Problem] = {}
    for kind in itertools.cycle(KINDS):
        for _ in range(50):
            problem = draw_problem(draw, kind)
            name = problem.question if split == "train" else (kind, problem.key)
            if problem.split == split and name not in found:
                found[name] = problem
                break
        if len(found) == num:
            return list(found.values())
    raise AssertionError


def draw_problem(draw: random.Random, kind: str) -> Problem:
    """A problem of one kind, of any split."""
    if kind.startswith("story"):
        story = draw_story(draw, int(kind[-1]))
        return Problem(kind, story.key, story.question, " ".join(story.steps), story.number)
    operation, a, b, number, work = _CALCULATIONS[kind](draw)
    question = draw.choice(WORDINGS[operation]).format(a=a, b=b)
    return Problem(kind, (a, b), question, work, number)


def write_rows(file: Path, rows: list[dict[str, object]]) -> None:
    """One row a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


Calculation = tuple[str, int, int, int, str]


def _sum(draw: random.Random) -> Calculation:
    a, b = draw.randrange(1, 31), draw.randrange(1, 31)
    return "+", a, b, a + b, f"{a} + {b} = {a + b}."


def _difference(draw: random.Random) -> Calculation:
    b, rest = draw.randrange(1, 31), draw.randrange(0, 31)
    return "-", b + rest, b, rest, f"{b + rest} - {b} = {rest}."


def _product(draw: random.Random) -> Calculation:
    a, b = draw.randrange(2, 11), draw.randrange(2, 11)
    return "x", a, b, a * b, f"{a} x {b} = {a * b}."


def _quotient(draw: random.Random) -> Calculation:
    b, number = draw.randrange(2, 11), draw.randrange(2, 11)
    a = b * number
    return "/", a, b, number, f"{b} x {number} = {a}, so {a} / {b} = {number}."


_CALCULATIONS = {
    "sum": _sum,
    "difference": _difference,
    "product": _product,
    "quotient": _quotient,
}
