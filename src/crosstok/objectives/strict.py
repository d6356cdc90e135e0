r"""Strict: KL over the shared vocabulary where both tokenizers agree on a token.

arXiv 2610.08448. Only *one-to-one* chunks count (a single token on both sides), so both models
predict that token from the same bytes, and only ids of the shared vocabulary are compared:

    L = sum over one-to-one tokens of  KL( q_K || p_K )

with q_K and p_K the student's and the teacher's next-token distribution, renormalised on the
student's K most likely shared ids (*student-selected support*). No gradient flows through the
choice of these ids. An id outside the shared vocabulary never gets a gradient, so
nothing pushes its probability up or down.

Deviations from public code (KDFlow's ``simple_ctkd``): tokens are matched by their bytes and
aligned by byte offsets, not by strings without their space marks, and specials only by role: the
end of a turn and of a document are shared, so that the student learns when to stop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstok.models import Scores
from crosstok.objectives.base import (
    AlignedBatch,
    LossSum,
    Metric,
    ModelView,
    Needs,
    Ratio,
    count_true,
    require_hidden,
)
from crosstok.objectives.shared_ids import SharedIds
from crosstok.objectives.token_pairs import one_to_one, one_to_one_mask
from crosstok.ops import blockwise_sum
from crosstok.ops.row_divergences import DivergenceName, row_divergence

_MASS_SAMPLE = 16
"""The teacher's mass on the shared vocabulary needs all its logits: measured at every 16th pair."""


@dataclass(frozen=True, kw_only=True)
class Strict:
    """Shared-vocabulary KL at one-to-one tokens, in nats per token.

    Requirements:
        the teacher's whole distributions, and a token that both vocabularies share.

    Relations:
        with ``top_k=None`` and equal tokenizers it is the plain KL divergence. `MinED` compares
        the same tokens over the whole vocabulary.
    """

    divergence: DivergenceName = "reverse_kl"
    """``reverse_kl``: KL(student || teacher), as in the paper; or forward KL, or Jensen-Shannon."""

    top_k: int | None = 16
    """Compare the student's k most likely shared ids (paper: 16); null (None): all shared ids."""

    temperature: float = 1.0
    """Divides the logits of both models; the loss is multiplied by its square."""

    name: ClassVar[str] = "strict"
    needs: ClassVar[Needs] = Needs(teacher=True, distributions=True)
    metrics: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric("Strict loss", "nats per one-to-one token"),
        "one_to_one_share": Metric("one-to-one", "of the student's tokens", ".2%"),
        "shared_mass_teacher": Metric("shared vocabulary", "of the teacher's probability", ".2%"),
    }

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 2:
            raise ValueError(
                f"Strict top_k must be at least 2, got {self.top_k}: on one id every distribution "
                "is 1. Use 16 (the default), or null for the whole shared vocabulary."
            )
        if not 0 < self.temperature < float("inf"):
            raise ValueError(
                f"Strict temperature must be above 0 and finite, got {self.temperature}; "
                "the paper uses 1."
            )

    def bind(self, student: ModelView, teacher: ModelView) -> "BoundStrict":
        """Make the loss for this pair, with its shared vocabulary.

        Raises:
            ValueError: the vocabularies share no token.
        """
        return BoundStrict(self, student, teacher, SharedIds.of(student, teacher))


@dataclass(frozen=True, eq=False)
class BoundStrict:
    """:class:`Strict` for one pair of models."""

    config: Strict
    student: ModelView
    teacher: ModelView
    shared: SharedIds

    def count(self, batch: AlignedBatch, teacher: Scores) -> Float[Tensor, ""]:
        """Number of one-to-one tokens."""
        return count_true(one_to_one_mask(batch))

    def __call__(self, batch: AlignedBatch, student: Scores, teacher: Scores) -> LossSum:
        """Sum of the divergence over one-to-one tokens (nats, times temperature squared)."""
        mask = one_to_one_mask(batch)
        pairs, count = one_to_one(batch), count_true(mask)
        number = (mask.cumsum(1) - 1)[pairs.row, pairs.chunk]  # index of the pair in its text
        teacher_rows = pairs.teacher_rows(require_hidden(teacher))
        rows = (pairs.student_rows(require_hidden(student)), teacher_rows.detach())
        total = self._on_all(*rows) if self.config.top_k is None else self._on_support(*rows)
        return LossSum(
            total * self.config.temperature**2,
            count,
            {
                "one_to_one_share": (count, count_true(batch.student_loss_mask)),
                "shared_mass_teacher": self._mass(teacher_rows[number % _MASS_SAMPLE == 0]),
            },
        )

    def _on_support(self, student_rows: Tensor, teacher_rows: Tensor) -> Tensor:
        """Divergence on the student's most likely shared ids: few logits have a gradient."""
        top_k = min(self.config.top_k or 0, len(self.shared))
        teacher_ids = self._teacher_ids()

        def block(ours: Tensor, theirs: Tensor, *tensors: Tensor) -> Tensor:
            head = self.student.head.of(*tensors)
            with torch.no_grad():
                ids = head.logits(ours, self.shared.is_shared).topk(top_k).indices
                target = self.teacher.head.logits_at(theirs, teacher_ids[ids])
            return self._divergence(target, head.logits_at(ours, ids))

        width = self.student.head.weight.shape[0]
        rows = (student_rows, teacher_rows)
        return blockwise_sum(block, rows, self.student.head.tensors(), vocab_size=width)[0]

    def _on_all(self, student_rows: Tensor, teacher_rows: Tensor) -> Tensor:
        """Divergence on all shared ids; their rows of both output matrices are selected once."""
        student, teacher = self.student.head, self.teacher.head
        with torch.no_grad():
            teacher_head = teacher.rows(self.shared.teacher)

        def block(ours: Tensor, theirs: Tensor, *tensors: Tensor) -> Tensor:
            with torch.no_grad():
                target = teacher_head.logits(theirs)
            return self._divergence(target, student.of(*tensors).logits(ours))

        rows, shared = (student_rows, teacher_rows), student.rows(self.shared.student).tensors()
        return blockwise_sum(block, rows, shared, vocab_size=4 * len(self.shared))[0]

    def _divergence(self, teacher_logits: Tensor, student_logits: Tensor) -> Float[Tensor, "1"]:
        tau, name = self.config.temperature, self.config.divergence
        return row_divergence(name, teacher_logits / tau, student_logits / tau).sum()[None]

    def _teacher_ids(self) -> Int[Tensor, " Vs"]:
        """Teacher's id for each shared student id; 0 for the others, which are never looked up."""
        table = torch.zeros_like(self.shared.is_shared, dtype=torch.long)
        table[self.shared.student] = self.shared.teacher.to(table.device)
        return table.to(self.shared.teacher.device)

    @torch.no_grad()
    def _mass(self, teacher_rows: Float[Tensor, "N E"]) -> Ratio:
        """Probability that the teacher gives to the shared vocabulary, summed over these rows."""

        def block(rows: Tensor) -> Tensor:
            logits = self.teacher.logits(rows)
            shared = logits[:, self.shared.teacher].logsumexp(-1)
            return (shared - logits.logsumexp(-1)).exp().sum()[None]

        width = 2 * self.teacher.head.weight.shape[0]
        number = teacher_rows.new_tensor(len(teacher_rows), dtype=torch.float64)
        return blockwise_sum(block, (teacher_rows,), vocab_size=width)[0], number
