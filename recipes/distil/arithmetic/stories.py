"""Word problems: a few dozen templates, filled with names, things, places and numbers.

A template is a line of stories.txt: a question and its worked steps. Every step holds
``{a} + {b} = {x}`` (or ``-``, ``x``, ``/``), from which the third number follows. Letters a to d
stand for numbers up to 12, k, m and n for numbers up to 6, x, y and z for what the steps
find; the last step finds the answer.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STEP = re.compile(r"\{(\w+)\} ([-+x/]) \{(\w+)\} = \{(\w)\}")
LARGE, SMALL = range(2, 13), range(2, 7)
LARGEST_RESULT = 60

NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jack", "Kate",
    "Leo", "Maria", "Noah", "Olga", "Peter", "Ruth", "Sam", "Tina", "Victor", "Wendy", "Yusuf",
)  # fmt: skip
THINGS = (
    "apples", "pears", "books", "pens", "coins", "stamps", "marbles", "cards", "cookies", "shells",
    "stickers", "balloons", "oranges", "candles", "beads", "buttons", "flowers", "stones", "eggs",
    "toys", "tickets", "cakes", "cups", "plates",
)  # fmt: skip
PLACES = (
    "shop", "school", "market", "library", "farm", "bakery", "museum", "garden", "station", "park",
)  # fmt: skip
BOXES = ("boxes", "bags", "baskets", "jars", "crates", "drawers")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _read_templates(file: Path) -> list[list[str]]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.split(" | ") for line in lines if line and not line.startswith("#")]


TEMPLATES = _read_templates(Path(__file__).with_name("stories.txt"))


@dataclass(frozen=True)
class Story:
    """A filled template: which one and with which numbers (`key`), question, steps, answer."""

    key: tuple[object, ...]
    question: str
    steps: tuple[str, ...]
    number: int


def draw_story(draw: random.Random, num_operations: int) -> Story:
    """A word problem with that many operations: numbers are drawn until every step comes out."""
    choices = [i for i, (_, *steps) in enumerate(TEMPLATES) if len(steps) == num_operations]
    index = draw.choice(choices)
    question, *steps = TEMPLATES[index]
    numbers = _draw_numbers(draw, question + " ".join(steps), steps)
    words = _draw_words(draw)
    texts = [text.format(**words, **numbers) for text in (question, *steps)]
    key = (index, *sorted(numbers.items()))
    last = STEP.search(steps[-1])
    assert last is not None
    return Story(key, texts[0], tuple(texts[1:]), numbers[last[4]])


def _draw_words(draw: random.Random) -> dict[str, str]:
    name, other = draw.sample(NAMES, 2)
    day = draw.randrange(len(DAYS))
    return {
        "name": name,
        "other": other,
        "things": draw.choice(THINGS),
        "place": draw.choice(PLACES),
        "boxes": draw.choice(BOXES),
        "day": DAYS[day],
        "next": DAYS[(day + 1) % len(DAYS)],
    }


def _draw_numbers(draw: random.Random, text: str, steps: list[str]) -> dict[str, int]:
    given = sorted(set(re.findall(r"\{([a-dkmn])\}", text)))
    while True:
        numbers = {g: draw.choice(SMALL if g in "kmn" else LARGE) for g in given}
        if _solve({**numbers, "two": 2}, steps, numbers):
            return {**numbers, **({"two": 2} if "{two}" in text else {})}


def _solve(known: dict[str, int], steps: list[str], found: dict[str, int]) -> bool:
    """Add what the steps find to `found`; False where a number would be broken or out of range."""
    for step in steps:
        match = STEP.search(step)
        assert match is not None, step
        left, operation, right, result = match.groups()
        value = apply(operation, known[left], known[right])
        if value is None or not 0 < value <= LARGEST_RESULT:
            return False
        known[result] = found[result] = value
    return True


def apply(operation: str, left: int, right: int) -> int | None:
    """The result, or None where a division leaves a rest."""
    results: Mapping[str, int | None] = {
        "+": left + right,
        "-": left - right,
        "x": left * right,
        "/": left // right if right and left % right == 0 else None,
    }
    return results[operation]
