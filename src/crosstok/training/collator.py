"""Texts to padded tensors: both tokenizations, cut at the same byte, with their chunk ids.

All text work happens here, in data loader workers; the training step sees tensors only.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import get_worker_info

from crosstok.alignment import Alignment, align_batch, tokens_that_fit
from crosstok.tokenizers import Spans, TextEncoder, shared_texts


class Row(TypedDict):
    """A window of a text, as :func:`crosstok.training.windows.text_windows` makes them."""

    text: str
    row: int  # index of the text in the data set
    is_end: bool  # whether the text ends with this window: only then is there an end to learn


@dataclass(frozen=True)
class AlignedCollator:
    """Rows to the tensors of an :class:`~crosstok.objectives.AlignedBatch`, by field name.

    Each window is tokenized on both sides, aligned, and cut at the last chunk end that leaves both
    sides within their ``max_length`` (tokens). Chunks that hold a token which nothing predicts (the
    first of a sequence) are taken out. Without a teacher encoder the teacher fields are empty.
    """

    student: TextEncoder
    teacher: TextEncoder | None
    max_length: int
    teacher_max_length: int | None = None

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Collate rows into one batch."""
        _use_one_thread_in_workers()
        other = self.teacher or self.student
        texts = shared_texts([row["text"] for row in rows], self.student, other)
        students = _encode(self.student, rows, texts)
        teachers = _encode(self.teacher, rows, texts) if self.teacher is not None else students
        alignments = align_batch(teachers, students, other.byte_vocab, self.student.byte_vocab)
        examples = [
            self._cut(student, teacher, alignment)
            for student, teacher, alignment in zip(students, teachers, alignments, strict=True)
        ]
        batch = _pad(examples)
        batch["rows"] = torch.tensor([row["row"] for row in rows])
        batch["cut_bytes"] = torch.tensor([a.num_bytes for a in alignments]) - batch["num_bytes"]
        if self.teacher is None:
            for name in ("teacher_ids", "teacher_attention_mask", "teacher_chunk_ids"):
                batch[name] = batch[name][:, :0]
        return batch

    def _cut(self, student: Spans, teacher: Spans, alignment: Alignment) -> "_Example":
        teacher_limit = self.teacher_max_length or self.max_length
        num_teacher, num_student = tokens_that_fit(
            alignment, teacher, student, teacher_limit, self.max_length
        )
        teacher_chunks = alignment.source_chunk_ids[:num_teacher].copy()
        student_chunks = alignment.target_chunk_ids[:num_student].copy()
        in_both = np.zeros(alignment.num_chunks, dtype=bool)
        in_both[student_chunks[student_chunks >= 0]] = True
        cut_byte = int(student.ends[num_student - 1]) if num_student else 0
        covered = int((alignment.chunk_ends - alignment.chunk_starts)[in_both].sum())
        for chunks in (teacher_chunks, student_chunks):
            if len(chunks) and chunks[0] >= 0:  # the first token of a sequence is never predicted
                in_both[chunks[0]] = False
        teacher_chunks[~_lookup(in_both, teacher_chunks)] = -1
        student_chunks[~_lookup(in_both, student_chunks)] = -1
        return _Example(
            student.ids[:num_student],
            student_chunks,
            teacher.ids[:num_teacher],
            teacher_chunks,
            in_both,
            alignment.chunk_is_special,
            cut_byte,
            covered,
        )


def _use_one_thread_in_workers() -> None:
    """Threads of tokenizers do not survive a fork: a worker that asks for them waits for ever."""
    if get_worker_info() is not None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"


@dataclass(frozen=True)
class _Example:
    student_ids: Int[np.ndarray, " Ts"]
    student_chunk_ids: Int[np.ndarray, " Ts"]
    teacher_ids: Int[np.ndarray, " Tt"]
    teacher_chunk_ids: Int[np.ndarray, " Tt"]
    chunk_mask: Int[np.ndarray, " C"]
    chunk_is_special: Int[np.ndarray, " C"]
    num_bytes: int
    covered_bytes: int


def _encode(encoder: TextEncoder, rows: Sequence[Row], texts: Sequence[str]) -> list[Spans]:
    """Spans of each text; the document end is left off where the text goes on."""
    return [
        spans if row["is_end"] else _without_end(spans)
        for row, spans in zip(rows, encoder(texts), strict=True)
    ]


def _without_end(spans: Spans) -> Spans:
    if not spans.specials or spans.specials[-1][1] != "eos":
        return spans
    return replace(
        spans,
        ids=spans.ids[:-1],
        starts=spans.starts[:-1],
        ends=spans.ends[:-1],
        exact=spans.exact[:-1],
        specials=spans.specials[:-1],
    )


def _lookup(mask: Int[np.ndarray, " C"], chunk_ids: Int[np.ndarray, " T"]) -> np.ndarray:
    found: np.ndarray = np.append(mask, False)[chunk_ids]  # -1 finds the appended entry
    return found


def _pad(examples: Sequence[_Example]) -> dict[str, Tensor]:
    """Stack on the right-padded rectangle; at least one column, so that empty texts are legal.

    Padding is id 0, which every vocabulary has; the attention mask says that it is none.
    """
    batch = {}
    for side in ("student", "teacher"):
        ids = [getattr(example, f"{side}_ids") for example in examples]
        batch[f"{side}_ids"] = _rectangle(ids, 0)
        batch[f"{side}_attention_mask"] = _rectangle([np.ones_like(i) for i in ids], 0)
        chunk_ids = [getattr(example, f"{side}_chunk_ids") for example in examples]
        batch[f"{side}_chunk_ids"] = _rectangle(chunk_ids, -1)
    batch["student_loss_mask"] = batch["student_attention_mask"].bool()
    batch["student_loss_mask"][:, 0] = False
    num_chunks = [
        int(np.flatnonzero(e.chunk_mask)[-1]) + 1 if e.chunk_mask.any() else 0 for e in examples
    ]
    for name in ("chunk_mask", "chunk_is_special"):
        columns = [getattr(e, name)[:n] for e, n in zip(examples, num_chunks, strict=True)]
        batch[name] = _rectangle(columns, 0).bool()
    batch["num_bytes"] = torch.tensor([example.num_bytes for example in examples])
    batch["covered_bytes"] = torch.tensor([example.covered_bytes for example in examples])
    return batch


def _rectangle(rows: Sequence[np.ndarray], fill: int) -> Int[Tensor, "B T"]:
    width = max(1, *(len(row) for row in rows))
    padded = np.full((len(rows), width), fill, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
