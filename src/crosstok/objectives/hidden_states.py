r"""Hidden states at the ends of chunks, where both models have read the same text (2503.20083).

This is the hidden-state term that ALM's code adds for byte students. h_T and h_S are the inputs of
the output matrix after the last token of a chunk; W projects the student's width to the teacher's
where they differ. With D_T channels c,

    L = sum over chunks of  1/D_T  sum over c of  (W h_S - h_T)_c^2 / s_c^2

The projection goes from student to teacher, so that the target is fixed. Projecting the teacher
would allow the trivial solution in which both sides are zero.

s_c^2 is the teacher's mean square in channel c, because a few channels of a large model are many
times larger than the rest and would dominate the loss. The code takes it over the batch, which
makes a text's loss depend on the other texts; here it is taken over the chunk ends of the text
itself, with the text's mean over all channels as ``PRIOR`` more observations, so that the scale of
a channel is never close to zero in a short text with a single chunk.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

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
from crosstok.objectives.projectors import apply, projector
from crosstok.objectives.token_pairs import Pairs, chunk_ends

PRIOR = 8.0
"""Weight of a text's mean over all channels in the scale of each channel, in chunk ends."""


@dataclass(frozen=True, kw_only=True)
class HiddenStates:
    """Mean squared error between hidden states at chunk ends, in units of the teacher's.

    Requirements:
        the teacher's hidden states; where a projector is needed, a token that both vocabularies
        share.

    Relations:
        an addition to `ALM` for byte students; by itself it does not train the output matrix.
    """

    project: Literal["if_needed", "always"] = "if_needed"
    """``if_needed``: if widths differ; ``always``: also for unrelated models of equal width."""

    learning_rate: float = 1e-3
    """Learning rate of the projector, which is trained with the student and then discarded."""

    name: ClassVar[str] = "hidden_states"
    needs: ClassVar[Needs] = Needs(teacher=True, hidden_states=True)
    metrics: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric("hidden-state error", "of the teacher's mean square"),
        "cosine": Metric("cosine of hidden states", format=".4f"),
    }

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(
                f"hidden_states learning_rate must be above 0, got {self.learning_rate}; "
                "use 1e-3 (the default)."
            )

    def bind(self, student: ModelView, teacher: ModelView) -> "BoundHiddenStates":
        """Make the loss for this pair, with a new projector where one is needed.

        Raises:
            ValueError: a projector is needed, and the vocabularies share no token.
        """
        return BoundHiddenStates(self, student, teacher)


class BoundHiddenStates(nn.Module):
    """:class:`HiddenStates` for one pair of models."""

    def __init__(self, config: HiddenStates, student: ModelView, teacher: ModelView) -> None:
        super().__init__()
        self.learning_rate = config.learning_rate
        differ = student.head.weight.shape[1] != teacher.head.weight.shape[1]
        project = differ or config.project == "always"
        self.projector = projector(student, teacher) if project else None
        if self.projector is not None:
            self.projector.to(student.head.weight.device)

    def count(self, batch: AlignedBatch, teacher: Scores) -> Float[Tensor, ""]:
        """Number of chunks."""
        return count_true(batch.chunk_mask)

    def forward(self, batch: AlignedBatch, student: Scores, teacher: Scores) -> LossSum:
        """Sum over chunks of the mean over channels; a zero state has about 1."""
        ends = chunk_ends(batch)
        # The states *after* the last tokens of chunks, not the states that predict these tokens.
        own = require_hidden(student)[ends.row, ends.student]
        target = require_hidden(teacher)[ends.row, ends.teacher]
        if self.projector is not None:
            own = apply(self.projector, own)
        dtype = torch.promote_types(own.dtype, torch.float32)
        own, target = own.to(dtype), target.to(dtype)
        scale = _channel_scale(target, ends, len(batch.chunk_mask))
        total = ((own - target).square() / scale[ends.row]).mean(dim=-1).sum()
        count = self.count(batch, teacher)
        similarity = nn.functional.cosine_similarity(own.detach(), target, dim=-1).sum()
        return LossSum(total, count, {"cosine": (similarity, count)})


def _channel_scale(
    target: Float[Tensor, "N E"], ends: Pairs, num_rows: int
) -> Float[Tensor, "B E"]:
    """Mean square of every channel in each text."""
    sums = target.new_zeros(num_rows, target.shape[1]).index_add_(0, ends.row, target.square())
    number = target.new_zeros(num_rows, 1).index_add_(0, ends.row, torch.ones_like(target[:, :1]))
    prior = sums.mean(dim=1, keepdim=True) / number.clamp(min=1)
    scale = (sums + PRIOR * prior) / (number + PRIOR)
    return scale.clamp(min=torch.finfo(scale.dtype).tiny)
