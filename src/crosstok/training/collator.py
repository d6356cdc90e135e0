"""Examples to padded tensors: every model's tokenization, cut at the same byte, with chunk ids.

All text work happens here, in data loader workers; the training step sees tensors only. One student
meets any number of teachers: the student's tokens are the same for all, the chunks are not.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.data import get_worker_info

from crosstok.alignment import Alignment, align_batch, tokens_that_fit
from crosstok.chats import ExampleEncoder
from crosstok.choices import LossOn
from crosstok.models import ExtraInputs
from crosstok.objectives import AlignedBatch
from crosstok.tokenizers import Spans
from crosstok.training.rows import encode_rows, first_tokens

OF_EACH_TEACHER = (
    "student_chunk_ids",
    "teacher_ids",
    "teacher_attention_mask",
    "teacher_loss_mask",
    "teacher_chunk_ids",
    "chunk_mask",
    "chunk_is_special",
    "covered_bytes",
)
"""Fields of an ``AlignedBatch`` that each teacher has its own of; the others are the student's."""

_GRACE_SECONDS = 1.0  # for the process that trains to notice the same signal

EXTRA = "student_extra."
"""Prefix of the names of what the student is given besides ids and mask."""


@dataclass(frozen=True)
class AlignedCollator:
    """Rows to the tensors of an :class:`~crosstok.objectives.AlignedBatch`, by field name.

    Each example is tokenized for every model, aligned, and cut at the last chunk end that leaves
    all within their ``max_length`` (tokens). Chunks that hold a token which nothing predicts (the
    first of a sequence), and chunks outside what the loss is taken on, are taken out. The fields
    ``OF_EACH_TEACHER`` are named ``field.i`` for teacher i; without teachers they are there once
    (``field.0``), the student aligned with itself, the teacher's side empty.

    What the student is given besides ids and mask (`crosstok.models.extra_inputs`) is found here
    too, under its name after ``EXTRA``.
    """

    student: ExampleEncoder
    teachers: tuple[ExampleEncoder, ...]
    max_length: int
    teacher_max_length: int | None = None
    loss_on: LossOn = "assistant"
    extra: ExtraInputs | None = None  # of the student

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Collate rows into one batch."""
        _prepare_worker()
        others = self.teachers or (self.student,)
        students, *teachers = encode_rows(rows, (self.student, *others), self.loss_on)
        vocabs = [side.encoder.byte_vocab for side in (self.student, *others)]
        alignments = [
            align_batch(spans, students, vocab, vocabs[0])
            for spans, vocab in zip(teachers, vocabs[1:], strict=True)
        ]
        cuts = [
            self._cut(student, sides, pairs)
            for student, sides, pairs in zip(
                students, zip(*teachers, strict=True), zip(*alignments, strict=True), strict=True
            )
        ]
        batch = _student_tensors([own for own, _ in cuts])
        for i in range(len(others)):
            tensors = _teacher_tensors([pairs[i] for _, pairs in cuts])
            if not self.teachers:
                empty = [name for name in tensors if name.startswith("teacher")]
                tensors |= {name: tensors[name][:, :0] for name in empty}
            batch |= {f"{name}.{i}": tensor for name, tensor in tensors.items()}
        batch["rows"] = torch.tensor([row["row"] for row in rows])
        all_bytes = torch.tensor([_trained_bytes(spans) for spans in students])
        batch["cut_bytes"] = all_bytes - batch["num_bytes"]
        if self.extra is not None:
            more = self.extra(batch["student_ids"], batch["student_attention_mask"])
            batch |= {f"{EXTRA}{name}": tensor for name, tensor in more.items()}
        return batch

    def _cut(
        self, student: Spans, teachers: Sequence[Spans], alignments: Sequence[Alignment]
    ) -> "tuple[Spans, list[_Pair]]":
        """The student's kept tokens, and each teacher's with the chunks of both sides."""
        num_student, nums_teacher = self._lengths(student, teachers, alignments)
        kept = first_tokens(student, num_student)
        return kept, [
            _pair(kept, first_tokens(teacher, num), alignment)
            for teacher, num, alignment in zip(teachers, nums_teacher, alignments, strict=True)
        ]

    def _lengths(
        self, student: Spans, teachers: Sequence[Spans], alignments: Sequence[Alignment]
    ) -> tuple[int, list[int]]:
        """Tokens to keep: the most that leave every side within its limit, cut at one byte."""
        limit = teacher_limit = self.max_length
        if self.teachers and self.teacher_max_length is not None:
            teacher_limit = self.teacher_max_length
        while True:
            fits = [
                tokens_that_fit(alignment, teacher, student, teacher_limit, limit)
                for teacher, alignment in zip(teachers, alignments, strict=True)
            ]
            shortest = min(num for _, num in fits)
            if all(num == shortest for _, num in fits):
                return shortest, [num for num, _ in fits]
            limit = shortest


def extra_of(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the student's model is given besides ids and mask, by its own names."""
    return {
        name.removeprefix(EXTRA): tensor
        for name, tensor in inputs.items()
        if name.startswith(EXTRA)
    }


def batch_of(inputs: Mapping[str, Tensor], teacher: int = 0) -> AlignedBatch:
    """The collator's tensors as the objectives see them, for one of the teachers."""
    names = [field.name for field in fields(AlignedBatch)]
    return AlignedBatch(
        **{n: inputs[f"{n}.{teacher}" if n in OF_EACH_TEACHER else n] for n in names}
    )


@dataclass(frozen=True)
class _Pair:
    """One example of student and teacher, cut."""

    teacher: Spans
    student_chunk_ids: Int[np.ndarray, " Ts"]
    teacher_chunk_ids: Int[np.ndarray, " Tt"]
    chunk_mask: Bool[np.ndarray, " C"]
    chunk_is_special: Bool[np.ndarray, " C"]
    covered_bytes: int


def _pair(student: Spans, teacher: Spans, alignment: Alignment) -> _Pair:
    teacher_chunks = alignment.source_chunk_ids[: len(teacher)].copy()
    student_chunks = alignment.target_chunk_ids[: len(student)].copy()
    trained = np.ones(alignment.num_chunks, dtype=bool)
    for spans, chunks in ((student, student_chunks), (teacher, teacher_chunks)):
        trained &= _ends_in_loss(spans, chunks, alignment.num_chunks)
    in_loss = _lookup(trained, student_chunks) & _loss_mask(student)
    covered = int((student.ends - student.starts)[in_loss].sum())
    for chunks in (teacher_chunks, student_chunks):
        if len(chunks) and chunks[0] >= 0:  # the first token of a sequence is never predicted
            trained[chunks[0]] = False
    teacher_chunks[~_lookup(trained, teacher_chunks)] = -1
    student_chunks[~_lookup(trained, student_chunks)] = -1
    return _Pair(
        teacher, student_chunks, teacher_chunks, trained, alignment.chunk_is_special, covered
    )


def _ends_in_loss(
    spans: Spans, chunk_ids: Int[np.ndarray, " T"], num_chunks: int
) -> Bool[np.ndarray, " C"]:
    """Which chunks have tokens on this side, the last of them one that the loss is taken on."""
    ends = np.zeros(num_chunks, dtype=bool)
    placed = np.flatnonzero(chunk_ids >= 0)
    ends[chunk_ids[placed]] = _loss_mask(spans)[placed]  # later tokens overwrite earlier ones
    return ends


def _loss_mask(spans: Spans) -> Bool[np.ndarray, " T"]:
    if spans.loss_mask is None:
        return np.ones(len(spans), dtype=np.bool_)
    return spans.loss_mask


def _trained_bytes(spans: Spans) -> int:
    return int((spans.ends - spans.starts)[_loss_mask(spans)].sum())


def _prepare_worker() -> None:
    """In a worker of a data loader, use no threads, and leave signals to the process that trains.

    Threads of tokenizers do not survive a fork: a worker that asks for them waits for ever. Ctrl-C
    and SIGTERM may reach all processes. That which trains then ends its step with the batches that
    it has asked for: a worker ignores the one, and heeds the other a little later.
    """
    if get_worker_info() is not None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if signal.getsignal(signal.SIGTERM) is not _end_soon:
            signal.signal(signal.SIGTERM, _end_soon)


def _end_soon(signal_number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # at once, the next time
    signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS)


def _lookup(mask: Bool[np.ndarray, " C"], chunk_ids: Int[np.ndarray, " T"]) -> np.ndarray:
    found: np.ndarray = np.append(mask, False)[chunk_ids]  # -1 finds the appended entry
    return found


def _student_tensors(students: Sequence[Spans]) -> dict[str, Tensor]:
    batch = _side("student", students)
    batch["num_bytes"] = torch.tensor([_trained_bytes(spans) for spans in students])
    return batch


def _teacher_tensors(pairs: Sequence[_Pair]) -> dict[str, Tensor]:
    batch = _side("teacher", [pair.teacher for pair in pairs])
    for side in ("student", "teacher"):
        name = f"{side}_chunk_ids"
        batch[name] = _rectangle([getattr(pair, name) for pair in pairs], -1)
    sizes = [int(np.flatnonzero(p.chunk_mask)[-1]) + 1 if p.chunk_mask.any() else 0 for p in pairs]
    for name in ("chunk_mask", "chunk_is_special"):
        columns = [getattr(pair, name)[:n] for pair, n in zip(pairs, sizes, strict=True)]
        batch[name] = _rectangle(columns, 0).bool()
    batch["covered_bytes"] = torch.tensor([pair.covered_bytes for pair in pairs])
    return batch


def _side(side: str, examples: Sequence[Spans]) -> dict[str, Tensor]:
    """Ids and masks, padded with id 0, which every vocabulary has; the mask says it is none."""
    ids = _rectangle([spans.ids for spans in examples], 0)
    attention_mask = _rectangle([np.ones_like(spans.ids) for spans in examples], 0)
    loss_mask = _rectangle([_loss_mask(spans) for spans in examples], 0).bool()
    loss_mask[:, 0] = False  # nothing predicts the first token
    return {
        f"{side}_ids": ids,
        f"{side}_attention_mask": attention_mask,
        f"{side}_loss_mask": loss_mask,
    }


def _rectangle(rows: Sequence[np.ndarray], fill: int) -> Int[Tensor, "B T"]:
    """Stack, padded on the right; at least one column, so that empty texts are legal."""
    width = max(1, *(len(row) for row in rows))
    padded = np.full((len(rows), width), fill, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
