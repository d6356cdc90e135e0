r"""Approximate Likelihood Matching (ALM), arXiv 2503.20083 version 4, section 3.

Compares the likelihoods that teacher and student give to the same chunk of bytes, as the binary
outcome "this chunk" or "anything else" (a lower bound of the full divergence between them):

    L = sum over chunks of  f( p_T(chunk)^(1/tau), p_S(chunk)^(1/tau) )

Two tokenizers end tokens in different places and for different reasons, so the likelihood of a run
of tokens is biased: it leaves out continuations that the tokenizer would have segmented
differently. *Outcome-chunk debiasing* multiplies each chunk's likelihood by the probability that
the next byte is one that hardly ever occurs inside a token (space, newline, tab; or a special):

    p(chunk) -> p(chunk) * sum of p(v | text up to the end of the chunk) over v in the boundary set

and a chunk may only end where the teacher gives that set more than ``min_boundary_mass``; any other
chunk is merged with the next one.

Deliberate deviations from the paper and its reference code:

* ``temperature`` is 100, as in the paper's tables. A footnote of the paper recommends 5 for the
  benchmarks of instruction-tuned models (its ablation: 56.3 against 55.5); in bits per byte, and
  with new embeddings to learn, high temperatures recover clearly more (``dev/LOG.md``, 2026-11-21).
* The loss is multiplied by ``tau``, so that its scale does not depend on the temperature.
* The KL is written so that it is zero at the optimum (the code drops the teacher's entropy).
* ``max_slope`` bounds the gradient for an over-confident student (see ``ops/divergences.py``).
* Chunks after the last boundary of a text (its *open tail*) are left out, as the paper's constraint
  requires; its code keeps them (``keep_open_tail=True``).
* The end of a special token (eos, end of turn) is certain, so it is a boundary of mass 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstok.models import Scores
from crosstok.objectives.base import (
    AlignedBatch,
    FitsAnyPair,
    LossSum,
    Metric,
    Needs,
    count_true,
    require_boundary,
)
from crosstok.ops.chunk_sums import chunk_sums, last_tokens
from crosstok.ops.divergences import binary_kl, binary_total_variation, surprisal_kl


@dataclass(frozen=True, kw_only=True)
class ALM(FitsAnyPair):
    """Approximate likelihood matching with outcome-chunk debiasing.

    Requirements:
        the teacher's token log-probabilities and boundary mass, computed or stored. Works for any
        two vocabularies.

    Relations:
        the only objective that can use a stored teacher. Often combined with `CrossEntropy`, and
        with `HiddenStates` for byte students.
    """

    divergence: Literal["kl", "total_variation"] = "kl"
    """Form of f: forward KL(teacher || student), or total variation."""

    temperature: float = 100.0
    """tau; ``inf`` compares surprisals, the limit. The paper's tables use 100, its footnote 5."""

    min_boundary_mass: float = 0.1
    """gamma: boundary mass the teacher must give a chunk end (paper: 0.1); 0 keeps every chunk."""

    debias: bool = True
    """Multiply chunk likelihoods by the boundary mass (the largest gain in the ablation)."""

    max_slope: float | None = 10.0
    """Largest slope for an over-confident chunk (for an unlikely one: 1). None or inf: no bound."""

    keep_open_tail: bool = False
    """Keep the chunks after a text's last boundary as one more chunk, as the paper's code does."""

    name: ClassVar[str] = "alm"
    needs: ClassVar[Needs] = Needs(teacher=True, boundary_mass=True)
    metrics: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric("ALM loss", "nats per chunk"),
        "chunk_gap_nats": Metric("likelihood gap to teacher", "nats per chunk", ".4f"),
        "open_tail": Metric("open tails", "of chunks", ".2%"),
    }

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(
                f"ALM temperature must be above 0, got {self.temperature}; "
                "use 100 (the default), 5 (the paper's later advice) or inf (the limit)."
            )
        if not 0 <= self.min_boundary_mass < 1:
            raise ValueError(
                f"ALM min_boundary_mass is a probability in [0, 1), got {self.min_boundary_mass}; "
                "the paper uses 0.1, and 0 switches merging off."
            )
        if self.max_slope is not None and not self.max_slope > 0:
            raise ValueError(
                f"ALM max_slope must be above 0, got {self.max_slope}; "
                "use 10 (the default), or null for the paper's unbounded form."
            )

    def count(self, batch: AlignedBatch, teacher: Scores) -> Float[Tensor, ""]:
        """Number of merged chunks."""
        return count_true(self._merge(batch, teacher).mask)

    def __call__(self, batch: AlignedBatch, student: Scores, teacher: Scores) -> LossSum:
        """Sum of the divergence over merged chunks (temperature x nats)."""
        chunks = self._merge(batch, teacher)
        # Chunks that do not count get -1 on both sides: equal, so no loss and no gradient.
        teacher_logprobs = self._chunk_logprobs(batch.teacher_chunk_ids, teacher, chunks, batch)
        student_logprobs = self._chunk_logprobs(batch.student_chunk_ids, student, chunks, batch)
        loss = self._divergence(teacher_logprobs, student_logprobs)
        count = count_true(chunks.mask)
        gap = (teacher_logprobs - student_logprobs.detach()).abs()
        return LossSum(
            loss.masked_fill(~chunks.mask, 0.0).sum(),
            count,
            {
                "chunk_gap_nats": (gap.masked_fill(~chunks.mask, 0.0).sum(), count),
                "open_tail": (
                    count_true(batch.chunk_mask & (chunks.group < 0)),
                    count_true(batch.chunk_mask),
                ),
            },
        )

    def _divergence(self, teacher: Tensor, student: Tensor) -> Tensor:
        if self.divergence == "total_variation":
            if math.isinf(self.temperature):
                return (teacher - student).abs()
            return binary_total_variation(teacher, student, self.temperature)
        if math.isinf(self.temperature):
            return surprisal_kl(teacher, student, self.max_slope)
        return binary_kl(teacher, student, self.temperature, self.max_slope)

    def _merge(self, batch: AlignedBatch, teacher: Scores) -> "MergedChunks":
        is_end = batch.chunk_mask
        if self.min_boundary_mass > 0:
            mass = _boundary_logprobs(batch.teacher_chunk_ids, teacher, batch)
            is_end = is_end & (mass > math.log(self.min_boundary_mass))
        return merge_chunks(batch.chunk_mask, is_end, keep_open_tail=self.keep_open_tail)

    def _chunk_logprobs(
        self,
        chunk_ids: Int[Tensor, "B T"],
        scores: Scores,
        chunks: "MergedChunks",
        batch: AlignedBatch,
    ) -> Float[Tensor, "B C"]:
        """Log-likelihood of each merged chunk, with its boundary mass; -1 where there is none."""
        num_chunks = batch.chunk_mask.shape[1]
        logprobs = chunk_sums(scores.token_logprobs, chunk_ids, num_chunks)
        if self.debias:
            boundary = _boundary_logprobs(chunk_ids, scores, batch)
            logprobs = logprobs + boundary.masked_fill(~chunks.is_end, 0.0)
        merged = chunk_sums(logprobs, chunks.group, num_chunks)
        return merged.masked_fill(~chunks.mask, -1.0)


@dataclass(frozen=True)
class MergedChunks:
    """Which merged chunk each chunk belongs to."""

    group: Int[Tensor, "B C"]  # -1: in none
    is_end: Bool[Tensor, "B C"]  # last chunk of its merged chunk: its boundary mass counts
    mask: Bool[Tensor, "B C"]  # which merged chunks exist


def merge_chunks(
    chunk_mask: Bool[Tensor, "B C"], is_end: Bool[Tensor, "B C"], *, keep_open_tail: bool
) -> MergedChunks:
    """Merge chunks whose end is not allowed with the next ones, up to an allowed end.

    Example: ends [no, yes, no, no, yes, no] give groups [0, 0, 1, 1, 1, -1]: the last is open.
    """
    ends_before = is_end.cumsum(1) - is_end.long()
    num_closed = is_end.sum(1, keepdim=True)
    in_group = chunk_mask if keep_open_tail else chunk_mask & (ends_before < num_closed)
    group = torch.where(in_group, ends_before, -1)
    index = torch.arange(chunk_mask.shape[1], device=chunk_mask.device)
    num_groups = group.max(1, keepdim=True).values + 1 if group.shape[1] else num_closed
    if keep_open_tail:
        is_last = torch.where(in_group, index, -1).amax(1, keepdim=True) == index
        is_end = is_end | (is_last & in_group)
    return MergedChunks(group, is_end & in_group, index.expand_as(group) < num_groups)


def _boundary_logprobs(
    chunk_ids: Int[Tensor, "B T"], scores: Scores, batch: AlignedBatch
) -> Float[Tensor, "B C"]:
    """Log-mass of the boundary set after each chunk; 0 (certain) after specials."""
    last = last_tokens(chunk_ids, batch.chunk_mask.shape[1])
    boundary = require_boundary(scores)
    return boundary.gather(1, last).masked_fill(batch.chunk_is_special, 0.0)
