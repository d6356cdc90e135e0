"""How much of what a teacher says can be said in another vocabulary."""

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
    """The teacher's next-token probability on ids that the student has, too: means over tokens."""

    everywhere: float
    num_tokens: int
    one_to_one: float | None  # at one-to-one tokens only, where Strict looks; None: there are none
    num_one_to_one: int


@torch.no_grad()
def shared_mass(
    teacher: LocalTeacher,
    shared_ids: Int[Tensor, " shared"],
    batches: Iterable[AlignedBatch],
    max_tokens: int = 4096,
) -> SharedMass:
    """Measure it on batches, until ``max_tokens`` of the teacher's tokens were looked at.

    Args:
        teacher: the teacher.
        shared_ids: its ids that the student has, too.
        batches: on any device.
        max_tokens: enough for a mean; no further batch is read.
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
