"""Which token of the student is compared with which token of the teacher.

All indices are positions of the *predicted* token k; the row of ``Scores.hidden`` that predicts it
is k - 1. That row always exists: ``chunk_mask`` excludes chunks with the first token of a sequence,
which nothing predicts.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstok.objectives.base import AlignedBatch
from crosstok.ops.chunk_sums import chunk_sums, last_tokens


@dataclass(frozen=True)
class Pairs:
    """N pairs of predicted tokens, one on each side, in row-major order of batch and chunk."""

    row: Int[Tensor, " N"]  # row of the batch
    chunk: Int[Tensor, " N"]
    student: Int[Tensor, " N"]
    teacher: Int[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.row)

    def student_rows(self, hidden: Float[Tensor, "B Ts D"]) -> Float[Tensor, "N D"]:
        """The hidden states that predict the student's tokens."""
        return hidden[self.row, self.student - 1]

    def teacher_rows(self, hidden: Float[Tensor, "B Tt E"]) -> Float[Tensor, "N E"]:
        """The hidden states that predict the teacher's tokens."""
        return hidden[self.row, self.teacher - 1]


def one_to_one(batch: AlignedBatch) -> Pairs:
    """Chunks of a single token on both sides (*strict* groups, arXiv 2610.08448)."""
    return _pairs(batch, one_to_one_mask(batch), first=True)


def chunk_starts(batch: AlignedBatch) -> Pairs:
    """The first token of every chunk: both models predict it from the same bytes."""
    return _pairs(batch, batch.chunk_mask, first=True)


def chunk_ends(batch: AlignedBatch) -> Pairs:
    """The last token of every chunk."""
    return _pairs(batch, batch.chunk_mask, first=False)


def answer_positions(batch: AlignedBatch) -> Pairs:
    """The r-th predicted token of the student and the r-th of the teacher, whatever their bytes.

    The pairs end with the shorter side; ``chunk`` is r.
    """
    counts = [m.sum(1, keepdim=True) for m in (batch.student_loss_mask, batch.teacher_loss_mask)]
    shorter = torch.minimum(*counts)
    sides = []
    for mask in (batch.student_loss_mask, batch.teacher_loss_mask):
        rank = mask.cumsum(1) - 1
        sides.append((mask & (rank < shorter)).nonzero(as_tuple=True))
    (row, student), (_, teacher) = sides
    rank = batch.student_loss_mask.cumsum(1)[row, student] - 1
    return Pairs(row, rank, student, teacher)


def one_to_one_mask(batch: AlignedBatch) -> Bool[Tensor, "B C"]:
    """Which chunks hold a single token on both sides."""
    num_chunks = batch.chunk_mask.shape[1]
    sizes = [
        chunk_sums(torch.ones_like(ids, dtype=torch.float32), ids, num_chunks)
        for ids in (batch.student_chunk_ids, batch.teacher_chunk_ids)
    ]
    return batch.chunk_mask & (sizes[0] == 1) & (sizes[1] == 1)


def first_tokens(chunk_ids: Int[Tensor, "B T"], num_chunks: int) -> Int[Tensor, "B C"]:
    """Index of each chunk's first token; 0 for a chunk without tokens."""
    length = chunk_ids.shape[1]
    return (length - 1 - last_tokens(chunk_ids.flip(1), num_chunks)) * _has_tokens(
        chunk_ids, num_chunks
    )


def _has_tokens(chunk_ids: Tensor, num_chunks: int) -> Tensor:
    return chunk_sums(torch.ones_like(chunk_ids), chunk_ids, num_chunks) > 0


def _pairs(batch: AlignedBatch, mask: Bool[Tensor, "B C"], *, first: bool) -> Pairs:
    num_chunks = batch.chunk_mask.shape[1]
    place = first_tokens if first else last_tokens
    row, chunk = mask.nonzero(as_tuple=True)
    student = place(batch.student_chunk_ids, num_chunks)[row, chunk]
    teacher = place(batch.teacher_chunk_ids, num_chunks)[row, chunk]
    return Pairs(row, chunk, student, teacher)
