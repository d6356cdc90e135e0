r"""ULD: universal logit distillation, arXiv 2402.12030, which ignores the identity of tokens.

Both next-token distributions are sorted, and compared rank by rank:

    L = sum over positions of  sum over ranks i of | q_(i) - p_(i) |

the shorter one padded with zeros. It is in [0, 2] per position. Any two vocabularies can be
compared, because it does not matter which token has which probability: a student that is as certain
as the teacher, but of the wrong tokens, has loss 0.

Positions: the paper compares the r-th token of the student's answer with the r-th of the teacher's
(``alignment="index"``), which drift apart after the first word that they segment differently.
``alignment="bytes"`` compares the first tokens of every chunk instead, which both models predict
from the same text. The paper's cross-entropy term is a separate objective: ``cross_entropy+uld``
with weights 1 and 1.5 is the paper's loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from crosstok.models import Scores
from crosstok.objectives.base import (
    AlignedBatch,
    LossSum,
    Metric,
    ModelView,
    Needs,
    count_true,
    require_hidden,
)
from crosstok.objectives.token_pairs import Pairs, answer_positions, chunk_starts
from crosstok.ops import blockwise_sum
from crosstok.ops.distributions import sorted_l1


@dataclass(frozen=True, kw_only=True)
class ULD:
    """L1 distance between sorted next-token distributions, per position.

    Requirements:
        the teacher's whole distributions. Works for any two vocabularies.

    Relations:
        add `CrossEntropy` for the paper's full loss. `GOLD` also compares ids with equal bytes.
    """

    alignment: Literal["index", "bytes"] = "index"
    """Which positions are compared: of equal index in the answer (paper), or after equal text."""

    temperature: float = 1.0
    """Divides the logits of both models."""

    name: ClassVar[str] = "uld"
    needs: ClassVar[Needs] = Needs(teacher=True, distributions=True)
    metrics: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric("ULD loss", "per position"),
        "same_text_share": Metric("predicted from the same text", "of positions", ".2%"),
    }

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(
                f"ULD temperature must be above 0 and finite, got {self.temperature}; "
                "the paper uses 1."
            )

    def bind(self, student: ModelView, teacher: ModelView) -> "BoundULD":
        """Make the loss for this pair, whatever its vocabularies."""
        return BoundULD(self, student, teacher)


@dataclass(frozen=True, eq=False)
class BoundULD:
    """:class:`ULD` for one pair of models."""

    config: ULD
    student: ModelView
    teacher: ModelView

    def count(self, batch: AlignedBatch, teacher: Scores) -> Float[Tensor, ""]:
        """Number of compared positions."""
        if self.config.alignment == "bytes":
            return count_true(batch.chunk_mask)
        masks = batch.student_loss_mask, batch.teacher_loss_mask
        return torch.minimum(*(mask.sum(1) for mask in masks)).sum(dtype=torch.float64)

    def __call__(self, batch: AlignedBatch, student: Scores, teacher: Scores) -> LossSum:
        """Sum of the distances."""
        by_bytes = self.config.alignment == "bytes"
        pairs = chunk_starts(batch) if by_bytes else answer_positions(batch)
        rows = (
            pairs.student_rows(require_hidden(student)),
            pairs.teacher_rows(require_hidden(teacher)).detach(),
        )
        width = self.student.head.weight.shape[0] + self.teacher.head.weight.shape[0]
        sums = blockwise_sum(
            self._distances, rows, self.student.head.tensors(), vocab_size=2 * width
        )
        count = self.count(batch, teacher)
        return LossSum(sums[0], count, {"same_text_share": (_same_text(batch, pairs), count)})

    def _distances(self, ours: Tensor, theirs: Tensor, *tensors: Tensor) -> Float[Tensor, "1"]:
        tau = self.config.temperature
        with torch.no_grad():
            target = torch.softmax(self.teacher.logits(theirs) / tau, -1)
        probs = torch.softmax(self.student.logits(ours, *tensors) / tau, -1)
        return sorted_l1(probs, target).sum()[None]


def _same_text(batch: AlignedBatch, pairs: Pairs) -> Float[Tensor, ""]:
    """Number of pairs predicted from the same text: both are the first token of one chunk."""
    sides = (batch.student_chunk_ids, pairs.student), (batch.teacher_chunk_ids, pairs.teacher)
    chunks = [ids[pairs.row, place] for ids, place in sides]
    before = [ids[pairs.row, place - 1] for ids, place in sides]
    begins = (chunks[0] >= 0) & (chunks[0] != before[0]) & (chunks[1] != before[1])
    return count_true(begins & (chunks[0] == chunks[1]))
