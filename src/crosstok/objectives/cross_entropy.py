"""Next-token cross-entropy: training on the text alone, without a teacher."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from crosstok.models import Scores
from crosstok.objectives.base import AlignedBatch, FitsAnyPair, LossSum, Metric, Needs, count_true


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(FitsAnyPair):
    """Mean negative log-likelihood of the student's own tokens, in nats per token.

    Requirements:
        none; it needs no teacher.

    Relations:
        the next-token term in the papers of `ULD`, `MinED` and `DSKD`; often added to `ALM`, too.
    """

    name: ClassVar[str] = "cross_entropy"
    needs: ClassVar[Needs] = Needs()
    metrics: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric("cross-entropy", "nats per token", ".4f"),
    }

    def count(self, batch: AlignedBatch, teacher: Scores | None) -> Float[Tensor, ""]:
        """Number of the student's predicted tokens."""
        return count_true(batch.student_loss_mask)

    def __call__(self, batch: AlignedBatch, student: Scores, teacher: Scores | None) -> LossSum:
        """Sum over the tokens in ``student_loss_mask``."""
        logprobs = student.token_logprobs.masked_fill(~batch.student_loss_mask, 0.0)
        return LossSum(-logprobs.sum(), self.count(batch, teacher))
