"""An objective as a user would write it outside the package, and ways to get one wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from crosstok.objectives import FitsAnyPair, LossSum, Metric, Needs, count_true
from crosstok.ops.chunk_sums import chunk_sums

SOURCE = '''
from dataclasses import dataclass
from typing import ClassVar

from crosstok.objectives import FitsAnyPair, LossSum, Metric, Needs, count_true


@dataclass(frozen=True, kw_only=True)
class Half(FitsAnyPair):
    """Half the cross-entropy."""

    factor: float = 0.5

    name: ClassVar[str] = "half"
    needs: ClassVar[Needs] = Needs()
    metrics = {"loss": Metric("half of it", "half nats per token", ".3f")}

    def __post_init__(self):
        if not self.factor > 0:
            raise ValueError(f"factor is {self.factor}; it must be above 0. Use 0.5 (the default).")

    def count(self, batch, teacher):
        return count_true(batch.student_loss_mask)

    def __call__(self, batch, student, teacher):
        logprobs = student.token_logprobs.masked_fill(~batch.student_loss_mask, 0.0)
        return LossSum(-self.factor * logprobs.sum(), self.count(batch, teacher))
'''
"""A module with one: half the cross-entropy."""


@dataclass(frozen=True, kw_only=True)
class SquaredGap(FitsAnyPair):
    """Squared difference of the log-likelihoods of chunks."""

    scale: float = 1.0

    name: ClassVar[str] = "squared_gap"
    needs: ClassVar[Needs] = Needs(teacher=True)
    metrics: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric("squared gap", "square nats per chunk", ".3f")
    }

    def count(self, batch, teacher):
        return count_true(batch.chunk_mask)

    def __call__(self, batch, student, teacher):
        return LossSum(self.of_chunks(batch, student, teacher).sum(), self.count(batch, teacher))

    def of_chunks(self, batch, student, teacher):
        num_chunks = batch.chunk_mask.shape[1]
        own = chunk_sums(student.token_logprobs, batch.student_chunk_ids, num_chunks)
        target = chunk_sums(teacher.token_logprobs, batch.teacher_chunk_ids, num_chunks)
        return self.scale * (own - target).square().masked_fill(~batch.chunk_mask, 0.0)


class Averaged(SquaredGap):
    """Divides, which only the trainer may."""

    def __call__(self, batch, student, teacher):
        loss = super().__call__(batch, student, teacher)
        return LossSum(loss.total / loss.count.clamp(min=1), loss.count)


class ReadsPadding(SquaredGap):
    """Takes a mean over the columns, padding and all."""

    def __call__(self, batch, student, teacher):
        return LossSum(
            self.of_chunks(batch, student, teacher).mean(1).sum(), self.count(batch, teacher)
        )


class CountsInSingle(SquaredGap):
    """A count in which large numbers are lost."""

    def count(self, batch, teacher):
        return batch.chunk_mask.sum(dtype=torch.float32)


class Overflows(SquaredGap):
    """Probabilities where logarithms should be."""

    def of_chunks(self, batch, student, teacher):
        return (-super().of_chunks(batch, student, teacher)).exp().reciprocal()


class Lopsided(SquaredGap):
    """Not 0 where student equals teacher."""

    def of_chunks(self, batch, student, teacher):
        return super().of_chunks(batch, student, teacher) + batch.chunk_mask


class NeedsTooLittle(SquaredGap):
    """Reads a teacher that it does not ask for."""

    needs: ClassVar[Needs] = Needs()
