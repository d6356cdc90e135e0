"""One page of every kind, with the numbers that are in it."""

import math
import random

import numpy as np

from crosstok.alignment import align
from crosstok.reports import (
    RunNumbers,
    chunk_view,
    compare_tokenizers,
    pair_page,
    run_curves,
    run_page,
)
from crosstok.tokenizers import TextEncoder
from tests.texts import SAMPLE
from tests.tiny import tiny_tokenizer

BPE, SPM, WORDPIECE = (
    TextEncoder(tiny_tokenizer(kind)) for kind in ("bytelevel_bpe", "spm_bpe", "wordpiece")
)


def view(text=SAMPLE, target=SPM, *, gaps=True, **ends):
    ends = ends or {"add_start": False, "add_end": False}
    spans = BPE([text], **ends)[0], target([text], **ends)[0]
    vocabs = BPE.byte_vocab, target.byte_vocab
    alignment = align(*spans, *vocabs)
    rng = np.random.default_rng(0)
    made = {name: rng.normal(0, 3, alignment.num_chunks) for name in ("before", "after")}
    sides = ("teacher", "student")
    return chunk_view("row 1", spans, alignment, vocabs, sides, made if gaps else None)


def history(steps: int, metrics: int = 16) -> list[dict[str, float]]:
    """A log as a run with one line a step leaves it."""
    rng = random.Random(0)
    names = ["loss", "loss_alm", "chunk_gap_nats", "bits_per_byte", "coverage", "learning_rate",
             "grad_norm", "tokens_per_second"]  # fmt: skip
    names += [f"made_up_{i}" for i in range(metrics - len(names))]
    return [
        {
            "step": step, "epoch": step / 100, "tokens_seen": 512 * step, "bytes_seen": 2048 * step,
            **{name: math.exp(-step / 3000) * rng.uniform(0.5, 1.5) for name in names},
        }
        for step in range(1, steps + 1)
    ]  # fmt: skip


def run(**changes) -> RunNumbers:
    values = {
        "title": "out", "summary": "`a` moved to `b`.", "curves": run_curves(history(30)),
        "metrics": {"steps": 30, "bits_per_byte": 1.2345, "coverage": 0.99954},
        "counts": {"copied": 1234, "tied": True}, "views": [view()], "note": "Some rows.",
        "settings": {"seed": "7"}, "environment": {"device": "cpu"},
    }  # fmt: skip
    return RunNumbers(**{**values, **changes})


def pair_numbers():
    return compare_tokenizers(BPE, SPM, {"one": ["Hello"], "two": [SAMPLE]}).as_json()


def pages() -> dict[str, str]:
    return {
        "pair": pair_page(pair_numbers(), "some/source", "some/target", [view(gaps=False)]),
        "run": run_page(run()),
        "empty run": run_page(run(curves=None, metrics={}, counts={}, views=[])),
        "run by one step": run_page(run(curves=run_curves(history(1)))),
    }
