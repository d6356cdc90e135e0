"""What an objective is: two models' scores of one batch in, a sum and a count out.

Shapes: ``B`` batch, ``Ts`` / ``Tt`` student / teacher tokens, ``C`` chunks. Log-probabilities are
in nats and follow the convention of :class:`~crosstok.models.Scores`: position k holds the
log-probability *of* token k, and the boundary mass *after* token k.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstok.models import Scores


@dataclass(frozen=True, kw_only=True)
class AlignedBatch:
    """Texts under both tokenizers, padded on the right, with their chunk ids."""

    student_ids: Int[Tensor, "B Ts"]
    student_attention_mask: Int[Tensor, "B Ts"]
    student_loss_mask: Bool[Tensor, "B Ts"]  # True: predicted, and counts
    student_chunk_ids: Int[Tensor, "B Ts"]  # -1: in no chunk that can be compared
    teacher_ids: Int[Tensor, "B Tt"]
    teacher_attention_mask: Int[Tensor, "B Tt"]
    teacher_chunk_ids: Int[Tensor, "B Tt"]
    chunk_mask: Bool[Tensor, "B C"]  # False: padding, or a chunk with an unpredicted token
    chunk_is_special: Bool[Tensor, "B C"]  # a special token, such as eos: its end is never in doubt
    num_bytes: Int[Tensor, " B"]  # of text
    covered_bytes: Int[Tensor, " B"]  # of text in chunks
    rows: Int[Tensor, " B"]  # index of each text in the data set


Ratio = tuple[Float[Tensor, ""], Float[Tensor, ""]]
"""A metric as (sum, count), so that batches and ranks can be added before anything is divided."""


@dataclass(frozen=True)
class LossSum:
    """A loss before division. Only the trainer divides, by the count of the whole global batch."""

    total: Float[Tensor, ""]
    count: Float[Tensor, ""]
    metrics: Mapping[str, Ratio] = field(default_factory=dict)


@dataclass(frozen=True)
class Needs:
    """What an objective must be given; compared with what a teacher has before the first step."""

    teacher: bool = False
    boundary_mass: bool = False


@runtime_checkable
class Objective(Protocol):
    """A training objective. ``count`` must not depend on the student: it is known beforehand."""

    name: ClassVar[str]
    needs: ClassVar[Needs]

    def count(self, batch: AlignedBatch, teacher: Scores | None) -> Float[Tensor, ""]:
        """The number that this batch adds to the divisor of the global batch."""
        ...

    def __call__(self, batch: AlignedBatch, student: Scores, teacher: Scores | None) -> LossSum:
        """Sum the loss over the batch; the sum over two half-batches is that over the batch."""
        ...


def counted(mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """How many are True, as a float64 scalar (float32 would lose count at 2^24)."""
    return mask.sum(dtype=torch.float64)
