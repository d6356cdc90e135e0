"""How far a student is from a teacher on a few texts of the data, chunk by chunk."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from crosstok.alignment import align_batch
from crosstok.chats import ExampleEncoder
from crosstok.choices import LossOn
from crosstok.models import evaluating, token_scores
from crosstok.objectives import Needs
from crosstok.ops.chunk_sums import chunk_sums
from crosstok.reports import ChunkView, chunk_view
from crosstok.teachers import Teacher
from crosstok.training.collator import AlignedCollator, batch_of
from crosstok.training.rows import encode_rows
from crosstok.training.student import Student

NUM_TEXTS = 4
_CANDIDATES = 8  # rows looked at for each text that is shown
_LONG_ENOUGH = 240  # characters

Gaps = list[Float[np.ndarray, " C"]]
"""For each text: log p_teacher - log p_student of its chunks, nats; NaN where not compared."""


def telling_rows(rows: Any) -> list[dict[str, Any]]:
    """A few rows from all over the data, the longer of neighbours; the first ones of a stream."""
    number = NUM_TEXTS * _CANDIDATES
    try:
        total = len(rows)
    except TypeError:  # a stream
        found = list(islice(rows, number))
    else:
        number = min(number, total)
        found = [rows[i * total // number] for i in range(number)]
    share = max(1, len(found) // NUM_TEXTS)
    parts = [found[i : i + share] for i in range(0, share * NUM_TEXTS, share)]
    return [max(part, key=_telling) for part in parts if part]


def _telling(row: Mapping[str, Any]) -> int:
    return min(_LONG_ENOUGH, len(row.get("text") or row.get("example") or ""))


@torch.no_grad()
def chunk_gaps(
    student: Student,
    teacher: Teacher,
    collator: AlignedCollator,
    rows: Sequence[Mapping[str, Any]],
) -> Gaps:
    """Gaps in likelihood, a text at a time: plain sums over a chunk's tokens, nothing debiased.

    Args:
        student: put into evaluation mode for this, and back.
        teacher: the first of the collator's.
        collator: of these two.
        rows: as the collator takes them.
    """
    device = student.head.weight.device
    its_device = teacher.view.head.weight.device if teacher.view else device
    gaps = []
    with evaluating(student.model):
        for row in rows:
            batch = batch_of(collator([row]))
            ours = token_scores(
                student.model,
                student.head,
                batch.student_ids.to(device),
                batch.student_attention_mask.to(device),
                valid_ids=student.valid_ids,
            )
            ids, mask = batch.teacher_ids, batch.teacher_attention_mask
            theirs = teacher.scores(ids.to(its_device), mask.to(its_device), Needs(teacher=True))
            number = batch.chunk_mask.shape[1]
            sums = [
                chunk_sums(scores.token_logprobs.double().cpu(), chunk_ids, number)
                for scores, chunk_ids in (
                    (theirs, batch.teacher_chunk_ids),
                    (ours, batch.student_chunk_ids),
                )
            ]
            gap = (sums[0] - sums[1]).masked_fill(~batch.chunk_mask, float("nan"))
            gaps.append(gap[0].numpy())
    return gaps


def chunk_views(
    rows: Sequence[Mapping[str, Any]],
    sides: tuple[ExampleEncoder, ExampleEncoder],
    loss_on: LossOn,
    gaps: Mapping[str, Gaps],
) -> tuple[ChunkView, ...]:
    """The rows as ``sides`` (teacher, student) read them, with gaps by measure."""
    if not rows:
        return ()
    vocabs = sides[0].encoder.byte_vocab, sides[1].encoder.byte_vocab
    theirs, ours = encode_rows(rows, sides, loss_on)
    alignments = align_batch(theirs, ours, *vocabs)
    return tuple(
        chunk_view(
            f"row {row['row'] + 1:,} of the data",
            (theirs[i], ours[i]),
            alignments[i],
            vocabs,
            ("teacher", "student"),
            {name: values[i] for name, values in gaps.items()},
        )
        for i, row in enumerate(rows)
    )
