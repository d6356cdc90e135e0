"""How much of a teacher's probability is on tokens that the student has, too."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstok.objectives import AlignedBatch, Needs
from crosstok.objectives.token_pairs import one_to_one
from crosstok.ops import blockwise_sum
from crosstok.teachers.local import LocalTeacher

_NEEDS = Needs(teacher=True, distributions=True)


@dataclass(frozen=True)
class SharedMass:
    """Mean next-token probability of the teacher on ids that the student has, too.

    Attributes:
        everywhere: mean over all tokens.
        num_tokens: number of these tokens.
        one_to_one: mean over one-to-one tokens, which Strict compares; None if there are none.
        num_one_to_one: number of these tokens.
    """

    everywhere: float
    num_tokens: int
    one_to_one: float | None
    num_one_to_one: int


@torch.no_grad()
def shared_mass(
    teacher: LocalTeacher,
    shared_ids: Int[Tensor, " shared"],
    batches: Iterable[AlignedBatch],
    max_tokens: int = 4096,
) -> SharedMass:
    """Measure it on batches, until they hold ``max_tokens`` tokens of the teacher.

    Args:
        teacher: the teacher.
        shared_ids: its ids that the student has, too.
        batches: batches on any device.
        max_tokens: tokens that are enough for a mean; then no further batch is read.
    """
    device = teacher.head.weight.device
    ids = shared_ids.to(device)
    sums = torch.zeros(2, dtype=torch.float64)
    counts = [0, 0]
    for batch in batches:
        scores = teacher.scores(
            batch.teacher_ids.to(device), batch.teacher_attention_mask.to(device), _NEEDS
        )
        assert scores.hidden is not None
        pairs = one_to_one(batch)
        predicted = batch.teacher_loss_mask.nonzero(as_tuple=True)
        for i, (row, token) in enumerate((predicted, (pairs.row, pairs.teacher))):
            rows = scores.hidden[row.to(device), token.to(device) - 1]
            sums[i] += float(_mass(teacher, ids, rows))
            counts[i] += len(rows)
        if counts[0] >= max_tokens:
            break
    means = (sums / torch.tensor(counts).clamp(min=1)).tolist()
    return SharedMass(means[0], counts[0], means[1] if counts[1] else None, counts[1])


def _mass(teacher: LocalTeacher, ids: Tensor, rows: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    def block(some: Tensor) -> Tensor:
        logits = teacher.head.logits(some, teacher.valid_ids)
        return (logits[:, ids].logsumexp(-1) - logits.logsumexp(-1)).exp().sum()[None]

    return blockwise_sum(block, (rows,), vocab_size=2 * teacher.head.weight.shape[0])[0]
