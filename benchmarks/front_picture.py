"""The picture on the front page: one text, two tokenizers, and what training changed.

Held-out Python as the shipped model's tokenizer and the new one cut it, the chunks that both can
spell, and how far the student's likelihood of each is from the teacher's, before and after training
by ALM. Reads the output of `python benchmarks/learning_curves.py`.

    python benchmarks/front_picture.py
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import read_rows, save_picture

PICTURE = Path("docs/images/chunks")
LENGTHS = (56, 84)
"""Shortest and longest line that fits the picture, in characters."""
MAX_GAP = 3.0
"""Gap with the darkest colour, in nats."""
ROWS = {"teacher": 3.3, "student": 2.2, "before": 1.1, "after": 0.3}
"""Vertical position of each row."""


@dataclass(frozen=True)
class Cut:
    """One ASCII text in both tokenizers: half-open ranges, and gaps of the chunks in nats."""

    text: str
    ranges: dict[str, list[tuple[int, int]]]  # of the tokens, teacher's and student's
    chunks: list[tuple[int, int]]
    gaps: dict[str, np.ndarray]  # log p_teacher - log p_student, before and after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("out/learning_curves"))
    parser.add_argument("--text", help="another text, of plain characters")
    arguments = parser.parse_args()
    cut = measure(arguments.output, arguments.text or first_line(arguments.output / "code.jsonl"))
    draw(cut)
    means = {name: round(float(np.abs(gaps).mean()), 3) for name, gaps in cut.gaps.items()}
    print(json.dumps({"text": cut.text, "mean gap, nats": means}))


def first_line(file: Path) -> str:
    """The first held-out line that fits the picture."""
    shortest, longest = LENGTHS
    lines = (line.strip() for row in read_rows(file) for line in row["text"].splitlines())
    return next(line for line in lines if shortest <= len(line) <= longest and line.isascii())


def measure(output: Path, text: str) -> Cut:
    """Tokens, chunks and gaps of one text."""
    from crosstok.alignment import align
    from crosstok.demo.run import MODEL
    from crosstok.evaluation import Scorer
    from crosstok.models import load_model
    from crosstok.tokenizers import load_tokenizer

    folders = {"teacher": MODEL, "before": output / "transplant-0", "after": output / "alm-0"}
    scorers = {
        name: Scorer(load_model(str(folder), dtype="float32"), load_tokenizer(str(folder)))
        for name, folder in folders.items()
    }
    theirs, ours = (scorers[name].encode([text])[0] for name in ("teacher", "after"))
    vocabs = scorers["teacher"].byte_vocab, scorers["after"].byte_vocab
    aligned = align(theirs, ours, *vocabs)
    sums = {}
    for name, scorer in scorers.items():
        spans, ids = (
            (theirs, aligned.source_chunk_ids)
            if name == "teacher"
            else (ours, aligned.target_chunk_ids)
        )
        logprobs = scorer.score([scorer.row(spans.ids)])[0].logprobs
        sums[name] = np.bincount(ids, weights=logprobs)
    return Cut(
        text,
        {"teacher": ranges(theirs.starts, theirs.ends), "student": ranges(ours.starts, ours.ends)},
        ranges(aligned.chunk_starts, aligned.chunk_ends),
        {name: sums["teacher"] - sums[name] for name in ("before", "after")},
    )


def ranges(starts: np.ndarray, ends: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def draw(cut: Cut) -> None:
    """Draw boxes as wide as their characters, one row per tokenizer, then the gaps."""
    import matplotlib.pyplot as plt

    width = len(cut.text)
    figure, panel = plt.subplots(figsize=(0.15 * width + 1.6, 2.7), layout="constrained")
    for side, tokens in cut.ranges.items():
        for start, end in tokens:
            box(panel, ROWS[side], start, end, "#e8ecef")
            shown = cut.text[start:end].replace(" ", "␣")
            write(panel, ROWS[side], start, end, shown, family="monospace", fontsize=10)
    for name, gaps in cut.gaps.items():
        for (start, end), gap in zip(cut.chunks, gaps, strict=True):
            color = plt.get_cmap("PuOr_r")(0.5 + 0.5 * np.clip(gap / MAX_GAP, -1, 1))
            box(panel, ROWS[name], start, end, color, height=0.62)
            if end - start > 2:
                ink = "white" if abs(gap) > 0.75 * MAX_GAP else "black"
                write(panel, ROWS[name] - 0.1, start, end, f"{gap:+.1f}", fontsize=8, color=ink)
    labels = {"teacher": "old tokenizer", "student": "new tokenizer"}
    for name, gaps in cut.gaps.items():
        labels[name] = f"gap {name}\nmean {np.abs(gaps).mean():.2f}"
    for name, label in labels.items():
        panel.text(-0.8, ROWS[name] + 0.4, label, ha="right", va="center", fontsize=9)
    panel.set_xlim(-0.5, width + 0.5)
    panel.set_ylim(0, 4.3)
    panel.axis("off")
    save_picture(figure, PICTURE)


def box(
    panel: Any, bottom: float, start: int, end: int, color: Any, *, height: float = 0.8
) -> None:
    """Draw a box under some characters."""
    from matplotlib.patches import FancyBboxPatch

    corner = (start + 0.12, bottom)
    style = "round,pad=0,rounding_size=0.15"
    size = (max(end - start - 0.24, 0.05), height)
    panel.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, facecolor=color, linewidth=0))


def write(panel: Any, bottom: float, start: int, end: int, text: str, **style: Any) -> None:
    panel.text((start + end) / 2, bottom + 0.4, text, ha="center", va="center", **style)


if __name__ == "__main__":
    main()
