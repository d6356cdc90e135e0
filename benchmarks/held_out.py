"""Held-out texts and exams for the small Llama, from the folder of corpora and exam sets."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import write_rows

DOMAINS = ("wikipedia", "books", "code", "sums")
WINDOW_BYTES = 420
"""A window of text, the same bytes for every tokenizer."""
NUM_PAIRS, NUM_SUMS, NUM_CLOZES, NUM_QUESTIONS = 1000, 200, 400, 1000


def write_held_out(data: Path, folder: Path) -> None:
    """Write texts of each domain and exams, drawn the same way every time.

    Args:
        data: folder of corpora and exams.
        folder: one `.jsonl` file for each of ``DOMAINS``, and ``sums_four_shots``, ``blimp``,
            ``lambada`` (those items that fit a window), ``arc_easy``.
    """
    from crosstok.corpora import load_corpus
    from crosstok.corpora import read_rows as read_packed

    corpora, exams = data / "corpora", data / "evals"
    draw = random.Random(0)
    code = list(load_corpus(str(corpora / "python_stdlib_3.11/stdlib.jsonl.xz")).texts())
    wikipedia = load_corpus(str(corpora / "english_wikipedia_2019/test.jsonl.xz")).texts(10)
    books = load_corpus(str(corpora / "public_domain_books/validation.jsonl.xz")).texts()
    texts = {
        "wikipedia": [text[:4000] for text in wikipedia],
        "books": [text[:12000] for text in books],
        "code": [text[:3000] for text in code[:: len(code) // 10]][:10],
        "sums": ["".join(f"{sum_of(draw)}\n" for _ in range(30)) for _ in range(25)],
    }
    for name, documents in texts.items():
        write_rows(folder / f"{name}.jsonl", [{"text": text} for text in documents])
    write_rows(folder / "sums_four_shots.jsonl", [question(draw) for _ in range(NUM_SUMS)])
    pairs = read_packed(str(exams / "minimal_pairs/blimp.jsonl.xz"))
    write_rows(folder / "blimp.jsonl", every(pairs, NUM_PAIRS))
    clozes = read_packed(str(exams / "cloze/lambada_openai_test.jsonl.xz"))
    short = [row for row in clozes if len(json.dumps(row)) < WINDOW_BYTES]
    write_rows(folder / "lambada.jsonl", every(short, NUM_CLOZES))
    questions = read_packed(str(exams / "choice/arc_easy_test.jsonl.xz"))
    write_rows(folder / "arc_easy.jsonl", every(questions, NUM_QUESTIONS))


def measure(
    model: Path, test: Path, exams: Sequence[str], *, trust_remote_code: bool = False
) -> dict[str, Any]:
    """Measure bits per byte of each domain, in windows of the same bytes for all models, and exams.

    Args:
        model: folder.
        test: the folder that :func:`write_held_out` filled.
        exams: names of its files.
        trust_remote_code: for models with input expansion.
    """
    from crosstok.evaluation import EvaluationOptions, evaluate

    result = evaluate(
        [str(model)],
        [str(test / f"{name}.jsonl") for name in DOMAINS],
        [str(test / f"{name}.jsonl") for name in exams],
        options=EvaluationOptions(window_bytes=WINDOW_BYTES, trust_remote_code=trust_remote_code),
        show_progress=False,
    )
    return dict(result["models"][0])


def every(rows: list[dict[str, object]], count: int) -> list[dict[str, object]]:
    """A number of rows, evenly spaced."""
    return rows[:: len(rows) // count][:count]


def question(draw: random.Random) -> dict[str, object]:
    """Four sums with their answers, then one without."""
    shots = [sum_of(draw) for _ in range(5)]
    asked, answer = shots[4].split(" = ")
    return {"context": "\n".join(shots[:4]) + f"\n{asked} =", "continuation": f" {answer}"}


def sum_of(draw: random.Random) -> str:
    """A sum as in the model's training: two operands below 100, no negative result."""
    left, right = draw.randrange(100), draw.randrange(100)
    if draw.random() < 0.5:
        return f"{left} + {right} = {left + right}"
    left, right = max(left, right), min(left, right)
    return f"{left} - {right} = {left - right}"
