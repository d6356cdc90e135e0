"""The ids that two models share, for objectives that compare distributions id by id."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from crosstok.alignment import overlapping_tokens
from crosstok.objectives.base import ModelView


@dataclass(frozen=True, eq=False)
class SharedIds:
    """Pairs of ids with the same bytes (or the same role as an end), and the ids in no pair.

    Each tensor is on the device of its model's output matrix.
    """

    student: Int[Tensor, " shared"]
    teacher: Int[Tensor, " shared"]
    student_others: Int[Tensor, " Vs-shared"]  # tokens only, no padding rows
    teacher_others: Int[Tensor, " Vt-shared"]
    is_shared: Bool[Tensor, " Vs"]  # by student id

    @classmethod
    def of(cls, student: ModelView, teacher: ModelView) -> "SharedIds":
        """Pair the ids of two models by bytes; end of turn and end of document by role.

        Raises:
            ValueError: no id is shared.
        """
        ours, theirs = _pairs(student, teacher)
        if not len(ours):
            raise ValueError(
                f"the vocabularies of student ({len(student.byte_vocab)} ids) and teacher "
                f"({len(teacher.byte_vocab)} ids) share no token, so there is nothing to compare "
                "id by id. Use alm, which compares likelihoods of the same bytes."
            )
        others = _others(student, ours), _others(teacher, theirs)
        return cls(ours, theirs, *others, ~_outside(student, ours))

    def __len__(self) -> int:
        return len(self.student)


def _pairs(student: ModelView, teacher: ModelView) -> tuple[Tensor, Tensor]:
    devices = student.head.weight.device, teacher.head.weight.device
    if student.byte_vocab.same_as(teacher.byte_vocab):
        # One tokenizer: every id is paired with itself, specials and duplicate spellings too.
        same = _real(student)[: len(student.byte_vocab)].nonzero().squeeze(1)
        return same.to(devices[0]), same.to(devices[1])
    overlap = overlapping_tokens(student.byte_vocab, teacher.byte_vocab, roles=student.ends)
    return (
        torch.from_numpy(overlap.source_ids).to(devices[0]),
        torch.from_numpy(overlap.target_ids).to(devices[1]),
    )


def _num_rows(view: ModelView) -> int:
    return view.head.weight.shape[0]


def _real(view: ModelView) -> Tensor:
    if view.valid_ids is not None:
        return view.valid_ids
    return torch.ones(_num_rows(view), dtype=torch.bool, device=view.head.weight.device)


def _outside(view: ModelView, shared: Tensor) -> Tensor:
    mask = torch.ones(_num_rows(view), dtype=torch.bool, device=shared.device)
    mask[shared] = False
    return mask


def _others(view: ModelView, shared: Tensor) -> Tensor:
    return (_outside(view, shared) & _real(view)).nonzero().squeeze(1)
