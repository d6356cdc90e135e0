r"""MinED: the teacher's distribution, mapped to the student's vocabulary by edit distance.

FuseLLM, arXiv 2401.10491, section 3. A map m, computed once, gives every teacher id the student id
with the same bytes, or with the least edit distance (:mod:`crosstok.alignment.edit_distance`).
Where both tokenizers have the same single token, the loss is

    KL( q || p_S )   with   q(u) = sum of p_T(v) over the teacher ids v with m(v) = u

and everywhere else cross-entropy, the paper's one-hot target of the student's own token.

Deliberate deviations:

* Tokens are aligned by their bytes. The paper aligns by dynamic time warping over edit distances,
  which is approximate, since it does not use the text itself.
* q is a sum, so that it always has the mass of p_T. The paper's code keeps one of several teacher
  tokens with the same student id; other code counts a teacher token once for every student id that
  is mapped to it.
* KL instead of cross-entropy to q: the same gradient, and zero at the optimum.
* The paper stores the teacher's 10 largest logits (``top_k=10``); here all are available.
* The paper's additional cross-entropy term (weight 0.9) is a separate objective: add
  ``cross_entropy``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstok.alignment.edit_distance import nearest_tokens
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
from crosstok.objectives.token_pairs import Pairs, one_to_one, one_to_one_mask
from crosstok.ops import blockwise_sum
from crosstok.ops.row_divergences import forward_kl_to


@dataclass(frozen=True, kw_only=True)
class MinED:
    """Forward KL to the teacher's distribution after the minimum-edit-distance map.

    Requirements:
        the teacher's whole distributions. Works for any two vocabularies.

    Relations:
        the same one-to-one tokens as `Strict`, but over the whole vocabulary; other tokens as in
        `CrossEntropy`.
    """

    temperature: float = 1.0
    """Divides the logits of both models; the KL is multiplied by its square, to keep its scale."""

    top_k: int | None = None
    """Keep the k most likely teacher tokens, renormalised (paper: 10); None: all."""

    one_hot: bool = True
    """Train all other tokens by cross-entropy, as the paper does; False leaves them out."""

    name: ClassVar[str] = "mined"
    needs: ClassVar[Needs] = Needs(teacher=True, distributions=True)
    metrics: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric("MinED loss", "nats per token"),
        "exact_mass": Metric("kept its token", "of the teacher's probability", ".2%"),
        "one_hot_share": Metric("trained on themselves", "of tokens", ".2%"),
    }

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(
                f"MinED temperature must be above 0, got {self.temperature}; the paper uses 1."
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(
                f"MinED top_k must be at least 1, got {self.top_k}; "
                "the paper uses 10, and null (None) keeps every token."
            )

    def bind(self, student: ModelView, teacher: ModelView) -> "BoundMinED":
        """Make the loss for this pair; the map takes seconds (see ``nearest_tokens``)."""
        roles = (*student.ends, "bos")
        partners = nearest_tokens(teacher.byte_vocab, student.byte_vocab, roles=roles, workers=-1)
        # Rows that are not tokens have probability 0: where they are mapped does not matter.
        ids = torch.zeros(teacher.head.weight.shape[0], dtype=torch.long)
        is_exact = torch.zeros(len(ids), dtype=torch.bool)
        ids[: len(partners.ids)] = torch.from_numpy(partners.ids).clamp(min=0)
        is_exact[: len(partners.ids)] = torch.from_numpy(partners.is_exact)
        device = teacher.head.weight.device
        return BoundMinED(self, student, teacher, ids.to(device), is_exact.to(device))


@dataclass(frozen=True, eq=False)
class BoundMinED:
    """:class:`MinED` for one pair of models.

    Attributes:
        partner: student id for every row of the teacher's output matrix.
        is_exact: whether that id has the same bytes or role.
    """

    config: MinED
    student: ModelView
    teacher: ModelView
    partner: Int[Tensor, " Vt"]
    is_exact: Bool[Tensor, " Vt"]

    def count(self, batch: AlignedBatch, teacher: Scores) -> Float[Tensor, ""]:
        """Number of predicted student tokens; without ``one_hot``, of one-to-one tokens."""
        if self.config.one_hot:
            return count_true(batch.student_loss_mask)
        return count_true(one_to_one_mask(batch))

    def __call__(self, batch: AlignedBatch, student: Scores, teacher: Scores) -> LossSum:
        """Sum of the KL over one-to-one tokens and of cross-entropy over the others (nats)."""
        pairs = one_to_one(batch)
        total, exact_mass = self._mapped_kl(pairs, student, teacher)
        num_pairs = count_true(one_to_one_mask(batch))
        count = self.count(batch, teacher)
        metrics = {"exact_mass": (exact_mass, num_pairs)}
        if self.config.one_hot:
            alone = batch.student_loss_mask.clone()
            alone[pairs.row, pairs.student] = False
            total = total - student.token_logprobs.masked_fill(~alone, 0.0).sum()
            metrics["one_hot_share"] = (count_true(alone), count)
        return LossSum(total, count, metrics)

    def _mapped_kl(self, pairs: Pairs, student: Scores, teacher: Scores) -> tuple[Tensor, Tensor]:
        """KL and exact mass, summed over pairs."""
        temperature = self.config.temperature

        def of_block(student_rows: Tensor, teacher_rows: Tensor, *head: Tensor) -> Tensor:
            target, exact = self._targets(self.teacher.logits(teacher_rows) / temperature)
            kl = forward_kl_to(target, self.student.logits(student_rows, *head) / temperature).sum()
            return torch.stack([kl * temperature**2, exact.sum()])

        outputs = blockwise_sum(
            of_block,
            (
                pairs.student_rows(require_hidden(student)),
                pairs.teacher_rows(require_hidden(teacher)),
            ),
            self.student.head.tensors(),
            vocab_size=max(len(self.partner), self.student.head.weight.shape[0]),
        )
        if not len(pairs):
            return outputs.sum(), outputs.detach().sum()
        return outputs[0], outputs[1].detach()

    def _targets(
        self, logits: Float[Tensor, "K Vt"]
    ) -> tuple[Float[Tensor, "K Vs"], Float[Tensor, " K"]]:
        """The teacher's distribution over student ids, and how much of it kept its token."""
        partner, is_exact = self.partner, self.is_exact
        vocab_size = self.student.head.weight.shape[0]
        if self.config.top_k is None or self.config.top_k >= logits.shape[1]:
            probs = torch.softmax(logits, dim=-1)
            target = probs.new_zeros(len(probs), vocab_size).index_add_(1, partner, probs)
            return target, probs @ is_exact.to(probs.dtype)
        kept, ids = logits.topk(self.config.top_k, dim=-1)
        probs = torch.softmax(kept, dim=-1)
        target = probs.new_zeros(len(probs), vocab_size).scatter_add_(1, partner[ids], probs)
        return target, (probs * is_exact[ids]).sum(-1)
