"""Fidelity: how close a student's likelihoods are to its teacher's, on the same chunks of bytes.

Both tokenize the same text; a chunk is a shortest run of bytes at whose ends both have a token
boundary (`crosstok.alignment`). Each model gives the probability of each chunk after the text
before it: p (teacher) and q (student). The figures are

* `chunk_divergence`: mean over chunks of KL between the outcomes "this chunk" and "anything else",
  p log(p/q) + (1-p) log((1-p)/(1-q)), in nats. The objective ALM trains a debiased form of this.
* `logprob_gap_per_byte`: sum of |log p - log q| over the bytes of the chunks, in nats per byte.
* `agreement`: share of chunks where both agree on which of the two is more likely, this chunk or
  anything else: p > 1/2 and q > 1/2, or neither.

The windows of both models are cut at the same bytes, so both have the same context.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from crosstok.alignment import Alignment, align_batch
from crosstok.alignment.chunks import tokens_up_to_chunks
from crosstok.inference.scoring import Scorer, TokenRow, groups
from crosstok.ops.divergences import binary_kl
from crosstok.tokenizers import shared_texts


@dataclass(frozen=True)
class Fidelity:
    """Sums over chunks and texts."""

    total_divergence: float  # nats
    total_gap: float  # nats
    num_agreeing: int
    num_chunks: int
    num_chunk_bytes: int
    num_bytes: int  # of the texts

    def as_json(self) -> dict[str, float | int]:
        """The figures of the `evaluate` command; the module describes them."""
        return {
            "chunk_divergence": self.total_divergence / self.num_chunks,
            "logprob_gap_per_byte": self.total_gap / self.num_chunk_bytes,
            "agreement": self.num_agreeing / self.num_chunks,
            "chunks": self.num_chunks,
            "bytes": self.num_chunk_bytes,
            "coverage": self.num_chunk_bytes / self.num_bytes,
        }


def fidelity(
    student: Scorer,
    teacher: Scorer,
    texts: Iterable[str],
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Fidelity:
    """Compare a student's chunk likelihoods with its teacher's.

    A chunk is left out, and lowers `coverage`, if the two sides hold different bytes, if it is
    longer than a window, or if nothing comes before it (no start token).

    Args:
        student: the model to evaluate.
        teacher: the model it should agree with.
        texts: the documents.
        on_progress: called with the number of texts done.

    Raises:
        ValueError: no chunk of the texts can be compared.
    """
    totals = np.zeros(2)
    counts = np.zeros(4, dtype=np.int64)
    for group in groups(texts):
        pairs = _paired_windows(student, teacher, group)
        student_logprobs = _chunk_logprobs(student, [pair.student for pair in pairs])
        teacher_logprobs = _chunk_logprobs(teacher, [pair.teacher for pair in pairs])
        for pair, q, p in zip(pairs, student_logprobs, teacher_logprobs, strict=True):
            said = ~(np.isnan(p) | np.isnan(q))
            p, q, widths = p[said], q[said], pair.chunk_bytes[said]
            divergence = binary_kl(torch.from_numpy(p), torch.from_numpy(q))
            totals += divergence.sum().item(), np.abs(p - q).sum()
            agreeing = (p > -np.log(2)) == (q > -np.log(2))
            counts[:3] += agreeing.sum(), len(p), widths.sum()
        counts[3] += sum(len(text.encode()) for text in group)
        if on_progress is not None:
            on_progress(len(group))
    if not counts[1]:
        raise ValueError(
            f"no chunk of the texts can be compared between {student.name} and {teacher.name}; "
            "give longer texts, or inspect the pair with `crosstok inspect`."
        )
    return Fidelity(float(totals[0]), float(totals[1]), *(int(count) for count in counts))


@dataclass(frozen=True)
class _Side:
    """One model's part of a window: its row, and the chunk of each of its text tokens."""

    row: TokenRow | None
    chunk_ids: Int[np.ndarray, " T"]  # from 0 in this window; -1: in none
    num_chunks: int
    num_unscored: int  # text tokens before the first scored one


@dataclass(frozen=True)
class _PairedWindow:
    student: _Side
    teacher: _Side
    chunk_bytes: Int[np.ndarray, " C"]


def _paired_windows(student: Scorer, teacher: Scorer, texts: list[str]) -> list[_PairedWindow]:
    texts = shared_texts(texts, student.encoder, teacher.encoder)
    encoded = student.encode(texts), teacher.encode(texts)
    alignments = align_batch(*encoded, student.byte_vocab, teacher.byte_vocab)
    windows = []
    for student_spans, teacher_spans, found in zip(*encoded, alignments, strict=True):
        widths = found.chunk_ends - found.chunk_starts
        for chunks, student_part, teacher_part in _cuts(student, teacher, found):
            student_ids = found.source_chunk_ids[student_part] - chunks.start
            teacher_ids = found.target_chunk_ids[teacher_part] - chunks.start
            windows.append(
                _PairedWindow(
                    _side(student, student_spans.ids[student_part], student_ids, chunks),
                    _side(teacher, teacher_spans.ids[teacher_part], teacher_ids, chunks),
                    widths[chunks],
                )
            )
    return windows


def _cuts(
    student: Scorer, teacher: Scorer, alignment: Alignment
) -> Iterator[tuple[slice, slice, slice]]:
    """Windows of one text: chunks, student tokens, teacher tokens; as many chunks as fit both."""
    student_ends = tokens_up_to_chunks(alignment.source_chunk_ids, alignment.num_chunks)
    teacher_ends = tokens_up_to_chunks(alignment.target_chunk_ids, alignment.num_chunks)
    student_room = student.max_length - student.num_start
    teacher_room = teacher.max_length - teacher.num_start
    chunk = student_begin = teacher_begin = 0
    while chunk < alignment.num_chunks:
        fit = min(
            int(np.searchsorted(student_ends, student_begin + student_room, "right")),
            int(np.searchsorted(teacher_ends, teacher_begin + teacher_room, "right")),
        )
        last = max(fit, chunk + 1) - 1  # a chunk longer than a window is skipped
        student_end, teacher_end = int(student_ends[last]), int(teacher_ends[last])
        if fit > chunk:
            yield (
                slice(chunk, fit),
                slice(student_begin, student_end),
                slice(teacher_begin, teacher_end),
            )
        chunk, student_begin, teacher_begin = last + 1, student_end, teacher_end


def _side(
    scorer: Scorer, ids: Int[np.ndarray, " T"], chunk_ids: Int[np.ndarray, " T"], chunks: slice
) -> _Side:
    row = scorer.row(ids)
    num_unscored = len(ids) if row is None else row.first - scorer.num_start
    return _Side(row, np.maximum(chunk_ids, -1), chunks.stop - chunks.start, num_unscored)


def _chunk_logprobs(scorer: Scorer, sides: list[_Side]) -> list[Float[np.ndarray, " C"]]:
    """Log-likelihood of every chunk in nats; NaN where one of its tokens is unscored."""
    scores = iter(scorer.score([side.row for side in sides if side.row is not None]))
    logprobs = []
    for side in sides:
        tokens = np.full(len(side.chunk_ids), np.nan)
        if side.row is not None:
            tokens[side.num_unscored :] = next(scores).logprobs
        placed = side.chunk_ids >= 0
        logprobs.append(
            np.bincount(side.chunk_ids[placed], tokens[placed], minlength=side.num_chunks)
        )
    return logprobs
