"""Numbers about examples under two tokenizers: what a teacher can teach a student.

They are counted on what training would use: the same spans, the same chunks, cut at the same byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from crosstok.alignment import ENDS_OF_TEXTS, Alignment, overlapping_tokens, tokens_that_fit
from crosstok.tokenizers import TEMPLATE, ByteVocab, Spans


@dataclass(frozen=True)
class VocabularyNumbers:
    """Sizes and overlap of two vocabularies; ids count if they have bytes or are special tokens."""

    teacher_ids: int
    student_ids: int
    shared_ids: int  # with equal bytes, or the same end (of turn or document)
    jaccard: float  # shared / (teacher + student - shared)
    is_same: bool  # id by id


@dataclass(frozen=True)
class ExampleNumbers:
    """Counts and shares of a sample of examples for a pair; shares are between 0 and 1.

    Bytes are the bytes in the loss; tokens are the tokens predicted there, within ``max_length``.
    """

    examples: int
    bytes: int
    teacher_tokens: int
    student_tokens: int
    chunks: int
    coverage: float  # share of the bytes within max_length that lie in a chunk
    one_to_one_chunks: float  # share of chunks with a single token on both sides
    one_to_one_teacher_tokens: float
    one_to_one_student_tokens: float
    cut_bytes: int  # beyond max_length
    unknown_bytes: int  # under an unknown token on either side
    changed_bytes: int  # changed by a normaliser or dropped by a template on either side
    unmatched_bytes: int  # in no chunk for another reason
    tool_call_tokens: int  # the student's, in the loss, written by its template alone
    template_tokens: int  # the student's, not in the loss, written by its template alone
    teacher_only_tokens: float  # share of the teacher's tokens not in the student's vocabulary
    teacher_ends: int  # ends of turns and documents in the loss
    student_ends: int
    matched_ends: int

    @property
    def cut_share(self) -> float:
        """Share of bytes beyond ``max_length``."""
        return self.cut_bytes / max(1, self.bytes)


_SUMS = tuple(field.name for field in fields(ExampleNumbers) if field.type is int)


def compare_vocabularies(
    teacher: ByteVocab, student: ByteVocab, ends: Sequence[str] = ENDS_OF_TEXTS
) -> VocabularyNumbers:
    """Count the ids that two vocabularies share; ``ends`` are roles of tokens that end examples."""
    num_teacher, num_student = len(_real_ids(teacher)), len(_real_ids(student))
    is_same = teacher.same_as(student)
    shared = len(shared_teacher_ids(teacher, student, ends))
    union = num_teacher + num_student - shared
    return VocabularyNumbers(num_teacher, num_student, shared, shared / max(1, union), is_same)


def shared_teacher_ids(
    teacher: ByteVocab, student: ByteVocab, ends: Sequence[str] = ENDS_OF_TEXTS
) -> Int[np.ndarray, " shared"]:
    """Find the teacher's ids that the student has, too: by bytes, ends of examples by role."""
    if teacher.same_as(student):
        return np.array(_real_ids(teacher), dtype=np.int64)
    return overlapping_tokens(teacher, student, roles=ends).source_ids


def _real_ids(vocab: ByteVocab) -> list[int]:
    tokens = enumerate(vocab.token_bytes)
    return [id_ for id_, token in tokens if token is not None or id_ in vocab.special_ids]


class ExampleCounts:
    """Sums over examples; ``numbers`` has the shares.

    Args:
        teacher: vocabulary of the teacher.
        student: vocabulary of the student.
        max_length: most tokens of an example for the student.
        teacher_max_length: the same for the teacher; by default equal.
        ends: roles of tokens that end an example, the most likely first.
    """

    def __init__(
        self,
        teacher: ByteVocab,
        student: ByteVocab,
        max_length: int,
        teacher_max_length: int | None = None,
        ends: Sequence[str] = ENDS_OF_TEXTS,
    ) -> None:
        self.teacher, self.student = teacher, student
        self.limits = teacher_max_length or max_length, max_length
        self._is_shared = np.zeros(len(teacher), dtype=np.bool_)
        self._is_shared[shared_teacher_ids(teacher, student, ends)] = True
        self._sums: dict[str, int] = {}

    def add(self, teacher: Spans, student: Spans, alignment: Alignment) -> None:
        """Add one example; the alignment's source is the teacher."""
        kept = tokens_that_fit(alignment, teacher, student, *self.limits)
        theirs = _Side.of(teacher, alignment.source_chunk_ids, kept[0], self.teacher)
        ours = _Side.of(student, alignment.target_chunk_ids, kept[1], self.student)
        trained = theirs.ends_in_loss(alignment.num_chunks) & ours.ends_in_loss(
            alignment.num_chunks
        )
        self._add_bytes(theirs, ours, trained)
        self._add_ends(theirs, ours, trained)
        compared = trained.copy()
        for side in (theirs, ours):  # nothing predicts the first token of a sequence
            if kept[0] and side.chunk_ids[0] >= 0:
                compared[side.chunk_ids[0]] = False
        sizes = [np.bincount(s.kept_chunks(), minlength=len(trained)) for s in (theirs, ours)]
        self._add(
            examples=1,
            chunks=compared.sum(),
            one_to_one=(compared & (sizes[0] == 1) & (sizes[1] == 1)).sum(),
            teacher_tokens=theirs.predicted.sum(),
            student_tokens=ours.predicted.sum(),
            teacher_only=(theirs.predicted & ~self._is_shared[teacher.ids]).sum(),
            tool_call_tokens=(ours.is_template & ours.in_loss & ours.is_kept).sum(),
            template_tokens=(ours.is_template & ~ours.in_loss & ours.is_kept).sum(),
        )

    @property
    def numbers(self) -> ExampleNumbers:
        """The sums, and their shares."""
        s = self._sums

        def share(part: str, whole: str) -> float:
            return s[part] / s[whole] if s.get(whole) else 0.0

        sums: dict[str, Any] = {name: s.get(name, 0) for name in _SUMS}
        return ExampleNumbers(
            **sums,
            coverage=share("covered_bytes", "kept_bytes"),
            one_to_one_chunks=share("one_to_one", "chunks"),
            one_to_one_teacher_tokens=share("one_to_one", "teacher_tokens"),
            one_to_one_student_tokens=share("one_to_one", "student_tokens"),
            teacher_only_tokens=share("teacher_only", "teacher_tokens"),
        )

    def _add_bytes(self, theirs: "_Side", ours: "_Side", trained: Bool[np.ndarray, " C"]) -> None:
        """Count every byte of the loss as covered, or by the reason why it is not."""
        widths = ours.spans.ends - ours.spans.starts
        is_cut = ours.in_loss & ~ours.is_kept
        is_covered = ours.in_loss & ours.is_kept & _of_chunks(trained, ours.chunk_ids)
        left = ours.over_bytes(ours.in_loss & ~is_cut & ~is_covered)
        unknown = left & (ours.over_bytes(ours.is_unknown) | theirs.over_bytes(theirs.is_unknown))
        exact = ours.over_bytes(ours.spans.exact) & theirs.over_bytes(theirs.spans.exact)
        changed = left & ~unknown & ~exact
        num_bytes = int(widths[ours.in_loss].sum())
        cut = int(widths[is_cut].sum())
        self._add(
            bytes=num_bytes,
            kept_bytes=num_bytes - cut,
            covered_bytes=widths[is_covered].sum(),
            cut_bytes=cut,
            unknown_bytes=unknown.sum(),
            changed_bytes=changed.sum(),
            unmatched_bytes=(left & ~unknown & ~changed).sum(),
        )

    def _add_ends(self, theirs: "_Side", ours: "_Side", trained: Bool[np.ndarray, " C"]) -> None:
        in_chunk = _of_chunks(trained, ours.chunk_ids)
        ends = list(ours.ends())
        self._add(
            teacher_ends=len(list(theirs.ends())),
            student_ends=len(ends),
            matched_ends=sum(bool(in_chunk[token]) for token in ends),
        )

    def _add(self, **counts: int) -> None:
        for name, count in counts.items():
            self._sums[name] = self._sums.get(name, 0) + int(count)


@dataclass(frozen=True)
class _Side:
    """One side of one example."""

    spans: Spans
    chunk_ids: Int[np.ndarray, " T"]
    in_loss: Bool[np.ndarray, " T"]
    is_kept: Bool[np.ndarray, " T"]  # within max_length
    is_template: Bool[np.ndarray, " T"]
    is_unknown: Bool[np.ndarray, " T"]

    @classmethod
    def of(
        cls, spans: Spans, chunk_ids: Int[np.ndarray, " T"], num_kept: int, vocab: ByteVocab
    ) -> "_Side":
        in_loss = np.ones(len(spans), dtype=np.bool_)
        if spans.loss_mask is not None:
            in_loss = spans.loss_mask
        is_template, is_special = np.zeros((2, len(spans)), dtype=np.bool_)
        for token, role in spans.specials:
            is_special[token] = True
            is_template[token] = role == TEMPLATE
        has_no_bytes = np.array([vocab.token_bytes[i] is None for i in spans.ids], dtype=np.bool_)
        is_kept = np.arange(len(spans)) < num_kept
        unknown = has_no_bytes & ~is_special
        return cls(spans, chunk_ids, in_loss, is_kept, is_template, unknown)

    @property
    def predicted(self) -> Bool[np.ndarray, " T"]:
        """Tokens of the loss within ``max_length``; nothing predicts the first."""
        predicted: np.ndarray = self.in_loss & self.is_kept
        predicted[:1] = False
        return predicted

    def kept_chunks(self) -> Int[np.ndarray, " n"]:
        chunks: np.ndarray = self.chunk_ids[self.is_kept & (self.chunk_ids >= 0)]
        return chunks

    def ends_in_loss(self, num_chunks: int) -> Bool[np.ndarray, " C"]:
        """Which chunks have tokens on this side, the last of which is in the loss."""
        ends = np.zeros(num_chunks, dtype=np.bool_)
        placed = np.flatnonzero(self.is_kept & (self.chunk_ids >= 0))
        ends[self.chunk_ids[placed]] = self.in_loss[placed]  # later tokens overwrite earlier ones
        return ends

    def over_bytes(self, values: Bool[np.ndarray, " T"]) -> Bool[np.ndarray, " bytes"]:
        """For each byte of the text the value of its token; False if it has none."""
        if not (self.spans.ends > self.spans.starts).any():
            return np.zeros(self.spans.num_bytes, dtype=np.bool_)
        repeated: np.ndarray = np.repeat(values, self.spans.ends - self.spans.starts)
        return repeated

    def ends(self) -> Iterator[int]:
        """First token of each end of a turn or document that is kept and in the loss."""
        roles = dict(self.spans.specials)
        for token, role in roles.items():
            is_first = roles.get(token - 1) != role
            if role in ENDS_OF_TEXTS and is_first and self.in_loss[token] and self.is_kept[token]:
                yield token


def _of_chunks(mask: Bool[np.ndarray, " C"], chunk_ids: Int[np.ndarray, " T"]) -> np.ndarray:
    found: np.ndarray = np.append(mask, False)[chunk_ids]  # -1 finds the appended entry
    return found
