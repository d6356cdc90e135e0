r"""Dual-space knowledge distillation (DSKD), arXiv 2406.17328, and its second version, 2504.11426.

Hidden states of each model are projected into the space of the other and go through *its* output
matrix, so that two distributions over the same vocabulary can be compared. With h the projected
teacher, U output matrices, sg the stop-gradient and τ the temperature, the loss has three terms:

    L_ce  = - log softmax( h sg(U_S)^T )[target]                             trains the projector
    L_stu = [argmax h U_S^T = target] D( sg softmax(h U_S^T/τ), p_S at τ )   trains the student
    L_tea = KL( p_T at τ || softmax(projected student sg(U_T)^T / τ) )       trains both

``cma`` (cross-model attention) needs no alignment: every student token attends to all teacher
tokens of its text, and its target is the student's own token. ``v2`` compares one-to-one tokens
only; its target is the teacher's most likely token, where the student has it.

Deliberate deviations:

* Teacher vectors are divided by their standard deviation over the real tokens *of their text*. The
  code takes it over the whole padded batch, which makes a text's loss depend on the other texts.
* Teacher tokens that the student lacks are left out. The code of v2 maps them to end of sequence.
* v2 always masks L_stu by agreement; the paper does so only below a ratio taken over the batch.
* v2's student projector is initialised by least squares and trained, not solved in every step.
* The sum of all terms is divided by the number of student positions (pairs in v2). The next-token
  term of the papers (weight 0.5) is a separate objective: add ``cross_entropy``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

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
from crosstok.objectives.projectors import apply, parameter_dtype, projector
from crosstok.objectives.shared_ids import SharedIds
from crosstok.objectives.token_pairs import one_to_one, one_to_one_mask
from crosstok.ops import blockwise_sum
from crosstok.ops.row_divergences import DivergenceName, row_divergence


@dataclass(frozen=True, kw_only=True)
class DSKD:
    """Dual-space knowledge distillation, by cross-model attention or at one-to-one tokens.

    Requirements:
        the teacher's whole distributions and hidden states; for ``v2`` a token that both
        vocabularies share, for ``cma`` teacher embeddings as wide as its hidden states.

    Relations:
        ``v2`` compares the same one-to-one tokens as `Strict`. Add `CrossEntropy` for the papers'
        full loss.
    """

    variant: Literal["cma", "v2"] = "cma"
    """``cma``: attention over all tokens of the other model; ``v2``: one-to-one tokens."""

    temperature: float = 2.0
    """Temperature of both KD terms, which are not multiplied by its square (as in the code)."""

    divergence: DivergenceName = "forward_kl"
    """D, the divergence between the projected teacher and the student."""

    learning_rate: float = 1e-3
    """Learning rate of the projectors, which are trained with the student and then discarded."""

    name: ClassVar[str] = "dskd"
    needs: ClassVar[Needs] = Needs(teacher=True, distributions=True, hidden_states=True)
    metrics: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric("DSKD loss", "nats per position"),
        "projection_nats": Metric("projected teacher", "nats per token"),
        "agreement": Metric("projected teacher agrees", "of tokens", ".2%"),
        "student_space_nats": Metric("gap in the student's space", "nats per agreed token"),
        "teacher_space_nats": Metric("gap in the teacher's space", "nats per token"),
        "target_share": Metric("tokens that the student has", "of the teacher's", ".2%"),
    }

    def __post_init__(self) -> None:
        for option in ("temperature", "learning_rate"):
            value = getattr(self, option)
            if not value > 0:
                raise ValueError(
                    f"DSKD {option} must be above 0, got {value}; "
                    "the paper uses temperature 2 and learning_rate 1e-3."
                )

    def bind(self, student: ModelView, teacher: ModelView) -> "BoundDSKD":
        """Make the loss for this pair, with new projectors.

        Raises:
            ValueError: the vocabularies share no token (``v2``), or the teacher's embeddings are
                not as wide as its hidden states (``cma``).
        """
        form = CrossModelAttention if self.variant == "cma" else AlignedProjection
        return form(self, student, teacher)


class BoundDSKD(nn.Module):
    """The terms of a block of rows, common to both variants."""

    def __init__(self, config: DSKD, student: ModelView, teacher: ModelView) -> None:
        super().__init__()
        self.config, self.student, self.teacher = config, student, teacher
        self.learning_rate = config.learning_rate

    def student_space(
        self,
        t2s_rows: Float[Tensor, "K D"],
        student_rows: Float[Tensor, "K D"],
        target: Int[Tensor, " K"],
        *head: Tensor,
    ) -> Float[Tensor, "5"]:
        """Sums of L_ce + L_stu, L_ce, L_stu, agreements, targets (a target of -1 means none)."""
        t2s_logits = self.student.logits(t2s_rows, *(tensor.detach() for tensor in head))
        labelled = (target >= 0).nonzero().squeeze(1)
        logprobs = torch.log_softmax(t2s_logits[labelled], dim=-1)
        cross_entropy = -logprobs.gather(1, target[labelled, None]).sum()
        agree = (t2s_logits.argmax(-1) == target).nonzero().squeeze(1)
        tau = self.config.temperature
        divergence = row_divergence(
            self.config.divergence,
            t2s_logits[agree].detach() / tau,
            self.student.logits(student_rows[agree], *head) / tau,
        ).sum()
        numbers = divergence.new_tensor([len(agree), len(labelled)])
        terms = torch.stack([cross_entropy + divergence, cross_entropy, divergence])
        return torch.cat([terms, numbers])

    def teacher_space(
        self, s2t_rows: Float[Tensor, "K E"], teacher_logits: Float[Tensor, "K Vt"]
    ) -> Float[Tensor, ""]:
        """Sum of L_tea."""
        tau = self.config.temperature
        return row_divergence(
            "forward_kl", teacher_logits / tau, self.teacher.logits(s2t_rows) / tau
        ).sum()


class CrossModelAttention(BoundDSKD):
    """DSKD-CMA: each side attends to the other's tokens (2406.17328, section 3.2)."""

    def __init__(self, config: DSKD, student: ModelView, teacher: ModelView) -> None:
        super().__init__(config, student, teacher)
        width, teacher_width = student.head.weight.shape[1], teacher.head.weight.shape[1]
        embedding_width = _embedding_width(student)
        if _embedding_width(teacher) != teacher_width:
            raise ValueError(
                f"dskd variant 'cma' adds the teacher's embeddings (width "
                f"{_embedding_width(teacher)}) to its hidden states (width {teacher_width}); "
                "with this teacher use variant 'v2'."
            )
        self.query = nn.Linear(2 * embedding_width, 2 * teacher_width)
        self.student_to_teacher = nn.Linear(width, teacher_width)
        self.teacher_to_student = nn.Linear(teacher_width, width)
        self.to(student.head.weight.device, parameter_dtype(student, teacher))

    def count(self, batch: AlignedBatch, teacher: Scores) -> Float[Tensor, ""]:
        """Number of predicted student tokens, in texts where the teacher predicts tokens, too."""
        has_teacher = batch.teacher_loss_mask.any(dim=1, keepdim=True)
        return count_true(batch.student_loss_mask & has_teacher)

    def forward(self, batch: AlignedBatch, student: Scores, teacher: Scores) -> LossSum:
        """Sum of the three terms (nats)."""
        student_hidden, teacher_hidden = require_hidden(student), require_hidden(teacher)
        texts = [
            self._attend(row, batch, student_hidden, teacher_hidden)
            for row in range(len(student_hidden))
        ]
        t2s, student_rows, labels, s2t, teacher_rows = (
            torch.cat(parts) for parts in zip(*texts, strict=True)
        )
        here = blockwise_sum(
            self.student_space,
            (t2s, student_rows, labels),
            self.student.head.tensors(),
            vocab_size=self.student.head.weight.shape[0],
        )
        there = blockwise_sum(
            lambda s2t, rows: self.teacher_space(s2t, self.teacher.logits(rows))[None],
            (s2t, teacher_rows),
            vocab_size=self.teacher.head.weight.shape[0],
        )
        sums = torch.cat([_exactly(5, here), there])
        num_teacher_rows = sums.new_tensor(len(teacher_rows), dtype=torch.float64)
        metrics = _metrics(sums.detach(), num_teacher_rows)
        return LossSum(sums[0] + sums[5], self.count(batch, teacher), metrics)

    def _attend(
        self,
        row: int,
        batch: AlignedBatch,
        student_hidden: Float[Tensor, "B Ts D"],
        teacher_hidden: Float[Tensor, "B Tt E"],
    ) -> tuple[Tensor, ...]:
        """Rows of one text: projected teacher, student, labels; projected student, teacher."""
        own = batch.student_loss_mask[row].nonzero().squeeze(1)
        others = batch.teacher_loss_mask[row].nonzero().squeeze(1)
        if not len(own) or not len(others):
            own, others = own[:0], others[:0]
        with torch.no_grad():
            before, label = (
                self.student.input_embeddings(batch.student_ids[row, own - shift])
                for shift in (1, 0)
            )
            teacher_before, teacher_label = (
                self.teacher.input_embeddings(batch.teacher_ids[row, others - shift])
                for shift in (1, 0)
            )
            keys = _of_unit_deviation(torch.cat([teacher_before, teacher_label], dim=-1))
            teacher_rows = teacher_hidden[row, others - 1]
            values = _of_unit_deviation(teacher_rows) + _of_unit_deviation(teacher_label)
        queries = apply(self.query, torch.cat([before, label], dim=-1))
        student_rows = student_hidden[row, own - 1]
        scores = queries @ keys.to(queries.dtype).T / keys.shape[1] ** 0.5
        t2s = torch.softmax(scores, dim=1) @ apply(self.teacher_to_student, values)
        s2t = torch.softmax(scores.T, dim=1) @ apply(self.student_to_teacher, student_rows)
        labels = batch.student_ids[row, own]
        # In the dtype of the output matrix that they go through, which then need not be cast.
        t2s, s2t = t2s.to(student_rows.dtype), s2t.to(teacher_rows.dtype)
        return t2s, student_rows, labels, s2t, teacher_rows


class AlignedProjection(BoundDSKD):
    """DSKD-v2 with exact token alignment (2504.11426): one-to-one tokens, no attention."""

    partner: Int[Tensor, " Vt"]  # student id of the same token, -1: none

    def __init__(self, config: DSKD, student: ModelView, teacher: ModelView) -> None:
        super().__init__(config, student, teacher)
        self.student_to_teacher = projector(student, teacher)
        self.teacher_to_student = projector(teacher, student)
        shared = SharedIds.of(student, teacher)
        device = student.head.weight.device
        partner = torch.full((teacher.head.weight.shape[0],), -1, device=device)
        partner[shared.teacher.to(device)] = shared.student.to(device)
        self.register_buffer("partner", partner, persistent=False)
        self.to(device)

    def count(self, batch: AlignedBatch, teacher: Scores) -> Float[Tensor, ""]:
        """Number of one-to-one tokens."""
        return count_true(one_to_one_mask(batch))

    def forward(self, batch: AlignedBatch, student: Scores, teacher: Scores) -> LossSum:
        """Sum of the three terms (nats)."""
        pairs = one_to_one(batch)
        student_rows = pairs.student_rows(require_hidden(student))
        teacher_rows = pairs.teacher_rows(require_hidden(teacher))
        t2s = apply(self.teacher_to_student, teacher_rows).to(student_rows.dtype)
        s2t = apply(self.student_to_teacher, student_rows).to(teacher_rows.dtype)

        def of_block(
            t2s: Tensor, s2t: Tensor, student_rows: Tensor, teacher_rows: Tensor, *head: Tensor
        ) -> Tensor:
            teacher_logits = self.teacher.logits(teacher_rows)
            target = self.partner[teacher_logits.argmax(-1)]
            here = self.student_space(t2s, student_rows, target, *head)
            there = self.teacher_space(s2t, teacher_logits)
            return torch.cat([here[:1] + there, here[1:], there[None]])

        vocab_size = max(self.student.head.weight.shape[0], self.teacher.head.weight.shape[0])
        sums = blockwise_sum(
            of_block,
            (t2s, s2t, student_rows, teacher_rows),
            self.student.head.tensors(),
            vocab_size=vocab_size,
        )
        sums = _exactly(6, sums)
        count = self.count(batch, teacher)
        metrics = _metrics(sums.detach(), count) | {"target_share": (sums[4].detach(), count)}
        return LossSum(sums[0], count, metrics)


def _exactly(number: int, sums: Tensor) -> Tensor:
    """Pad with zeros: a sum over no rows has fewer outputs."""
    return pad(sums, (0, number - len(sums)))


def _metrics(sums: Float[Tensor, "6"], num_teacher_rows: Float[Tensor, ""]) -> dict[str, Ratio]:
    """Means of the three terms, and how often projected teacher and target agree."""
    _, cross_entropy, divergence, num_agree, num_targets, teacher_space = sums
    return {
        "projection_nats": (cross_entropy, num_targets),
        "agreement": (num_agree, num_targets),
        "student_space_nats": (divergence, num_agree),
        "teacher_space_nats": (teacher_space, num_teacher_rows),
    }


def _embedding_width(model: ModelView) -> int:
    with torch.no_grad():
        first = torch.zeros(1, dtype=torch.long, device=model.head.weight.device)
        width: int = model.input_embeddings(first).shape[-1]
    return width


def _of_unit_deviation(vectors: Float[Tensor, "M E"]) -> Float[Tensor, "M E"]:
    """Divide by the standard deviation over all entries of a text's vectors."""
    if not len(vectors):
        return vectors
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return wide / wide.var(correction=0).sqrt().clamp(min=1e-6)
