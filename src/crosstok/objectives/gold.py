r"""GOLD: general on-policy logit distillation, the cross-tokenizer loss of TRL's GOLDTrainer.

Every chunk of bytes is one position. A chunk of tokens c_1..c_n has the *merged* distribution

    m(v) = p(c_1) p(c_2 | c_1) ... p(c_n-1 | ...) * p(v | ..., c_n-1)

the next-token distribution before its last token, times the likelihood of the earlier tokens
(TRL's strategy "bayesian"). With q the student's and p the teacher's merged distribution:

    hybrid:      w * JSD_beta(p, q)  +  (1 - w) * sorted L1 of the ids without a partner
    not hybrid:  sorted L1 of all ids (see ``objectives/uld.py``)

JSD compares ids of equal bytes, and one more class for all the rest: ids without a partner, and the
texts that the earlier tokens rule out. So both sides sum to 1, and it is a divergence.

Deliberate deviations from TRL (trl.experimental.gold):

* Its default merging ("observed") reads each row one token late, so that multi-token chunks get
  the wrong conditionals. Only the correct strategy is implemented here.
* Its JSD leaves out the rest class: it can fall below 0, and pushes the logits of all ids without a
  partner down, whatever the teacher predicts (arXiv 2605.21699).
* ``matched_weight``: w is the share of the *teacher's probability* that lies on ids with a partner,
  position by position. TRL takes the share of its *vocabulary*: ``"vocabulary"``, or any number.
* Ids are paired by bytes, not by the tokenizers' spelling; end of turn and end of document by role.
  Their positions count (TRL leaves out an answer's last token), so the student learns to stop.
* Sums over chunks are divided by the chunks of the global batch. TRL averages over texts (a short
  text's chunks then weigh more), and clamps single probabilities at 1e-8.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
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
from crosstok.objectives.shared_ids import SharedIds
from crosstok.objectives.token_pairs import Pairs, chunk_ends
from crosstok.ops import blockwise_sum, linear_logprobs
from crosstok.ops.chunk_sums import chunk_sums, last_tokens
from crosstok.ops.distributions import generalized_jsd, sorted_l1
from crosstok.ops.divergences import log1mexp

LOG_NOTHING = -80.0
"""Log-probability of an empty rest class: small, but finite in fp32."""


@dataclass(frozen=True, kw_only=True)
class GOLD:
    """Merged chunk distributions: JSD on ids with a partner, sorted L1 on the others.

    Requirements:
        the teacher's whole distributions; with ``hybrid`` a token that both vocabularies share.

    Relations:
        ``hybrid=False`` is the distance of `ULD`, at chunk ends and between merged distributions.
    """

    hybrid: bool = True
    """Compare ids of equal bytes by name; False: sorted L1 of everything ("extended ULD")."""

    beta: float = 0.5
    """Interpolates the JSD: forward KL(teacher || student) at 0, reverse KL at 1."""

    matched_weight: Literal["mass", "vocabulary"] | float = "mass"
    """Weight w of the JSD: ``mass``, the teacher's probability on ids with a partner;
    ``vocabulary``, their share of its ids; or a number.
    """

    temperature: float = 1.0
    """Divides the logits of both models."""

    name: ClassVar[str] = "gold"
    needs: ClassVar[Needs] = Needs(teacher=True, distributions=True)
    metrics: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric("GOLD loss", "per chunk"),
        "shared_mass_teacher": Metric("shared vocabulary", "of the teacher's probability", ".2%"),
        "matched": Metric("JSD of ids with a partner", "nats per chunk"),
        "unmatched": Metric("sorted L1 of ids without one", "per chunk"),
    }

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ValueError(
                f"GOLD beta is in [0, 1], got {self.beta}; 0 is forward KL, 1 reverse KL, "
                "0.5 (the default) between them."
            )
        weight = self.matched_weight
        if not isinstance(weight, str) and not 0 <= weight <= 1:
            raise ValueError(
                f"GOLD matched_weight is in [0, 1], got {weight}; "
                "or 'mass' (the default), or 'vocabulary' (TRL's)."
            )
        if not 0 < self.temperature < float("inf"):
            raise ValueError(
                f"GOLD temperature must be above 0 and finite, got {self.temperature}; "
                "TRL's default is 1."
            )

    def bind(self, student: ModelView, teacher: ModelView) -> "BoundGOLD":
        """Make the loss for this pair, with the ids that have a partner.

        Raises:
            ValueError: the vocabularies share no token, and the loss is hybrid.
        """
        shared = SharedIds.of(student, teacher) if self.hybrid else None
        tau = self.temperature
        return BoundGOLD(self, _tempered(student, tau), _tempered(teacher, tau), shared)


@dataclass(frozen=True, eq=False)
class BoundGOLD:
    """:class:`GOLD` for one pair of models, whose logits are divided by the temperature."""

    config: GOLD
    student: ModelView
    teacher: ModelView
    shared: SharedIds | None

    def count(self, batch: AlignedBatch, teacher: Scores) -> Float[Tensor, ""]:
        """Number of chunks."""
        return count_true(batch.chunk_mask)

    def __call__(self, batch: AlignedBatch, student: Scores, teacher: Scores) -> LossSum:
        """Sum of the loss over chunks."""
        pairs = chunk_ends(batch)
        with torch.no_grad():
            teacher_prefix = self._prefixes(
                self.teacher, batch.teacher_ids, batch.teacher_chunk_ids, pairs, teacher
            )
        rows = (
            pairs.student_rows(require_hidden(student)),
            self._prefixes(
                self.student, batch.student_ids, batch.student_chunk_ids, pairs, student
            ),
            pairs.teacher_rows(require_hidden(teacher)).detach(),
            teacher_prefix,
        )
        width = self.student.head.weight.shape[0] + self.teacher.head.weight.shape[0]
        sums = blockwise_sum(self._block, rows, self.student.head.tensors(), vocab_size=2 * width)
        count = self.count(batch, teacher)
        if self.shared is None:
            return LossSum(sums[0], count)
        total, mass, matched, unmatched = sums if len(pairs) else sums.expand(4)
        metrics = {
            "shared_mass_teacher": (mass, count),
            "matched": (matched, count),
            "unmatched": (unmatched, count),
        }
        return LossSum(total, count, metrics)

    def _prefixes(
        self,
        view: ModelView,
        ids: Int[Tensor, "B T"],
        chunk_ids: Int[Tensor, "B T"],
        pairs: Pairs,
        scores: Scores,
    ) -> Float[Tensor, " N"]:
        """Log-likelihood of each chunk's tokens but its last; 0 for a chunk of one token."""
        num_chunks = int(pairs.chunk.max()) + 1 if len(pairs) else 0
        logprobs = scores.token_logprobs
        earlier = earlier_tokens(chunk_ids, num_chunks)
        if self.config.temperature != 1:
            row, place = earlier.nonzero(as_tuple=True)
            hidden, labels = require_hidden(scores)[row, place - 1], ids[row, place]
            tempered, _ = linear_logprobs(hidden, view.head, labels, valid_ids=view.valid_ids)
            logprobs = tempered.new_zeros(ids.shape).index_put((row, place), tempered)
        logprobs = logprobs.masked_fill(~earlier, 0.0)
        return chunk_sums(logprobs, chunk_ids, num_chunks)[pairs.row, pairs.chunk]

    def _block(
        self,
        ours: Tensor,
        our_prefix: Tensor,
        theirs: Tensor,
        their_prefix: Tensor,
        *tensors: Tensor,
    ) -> Float[Tensor, " outputs"]:
        """Loss of a block of chunks; if hybrid, also the teacher's matched mass and both parts."""
        with torch.no_grad():
            teacher = torch.log_softmax(self.teacher.logits(theirs), -1)
        student = torch.log_softmax(self.student.logits(ours, *tensors), -1)
        if self.shared is None:
            merged = student + our_prefix[:, None], teacher + their_prefix[:, None]
            return sorted_l1(*(logprobs.exp() for logprobs in merged)).sum()[None]
        q = _Merged.of(student, our_prefix, self.shared.student, self.shared.student_others)
        p = _Merged.of(teacher, their_prefix, self.shared.teacher, self.shared.teacher_others)
        beta = self.config.beta
        matched = generalized_jsd(p.matched, q.matched, beta)
        matched = matched + generalized_jsd(p.rest, q.rest, beta)
        unmatched = sorted_l1(q.others.exp(), p.others.exp())
        mass = teacher[:, self.shared.teacher].logsumexp(-1).exp()
        weight = self._weight(mass)
        loss = weight * matched + (1 - weight) * unmatched
        return torch.stack([part.sum() for part in (loss, mass, matched, unmatched)])

    def _weight(self, mass: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        weight = self.config.matched_weight
        if weight == "mass":
            return mass
        if weight == "vocabulary":
            assert self.shared is not None
            weight = len(self.shared) / len(self.teacher.byte_vocab)
        return torch.full_like(mass, float(weight))


@dataclass(frozen=True)
class _Merged:
    """A block's merged distributions in three parts, as logarithms."""

    matched: Float[Tensor, "N M"]  # ids with a partner
    others: Float[Tensor, "N U"]  # ids without
    rest: Float[Tensor, "N 1"]  # the class of everything that is not matched

    @classmethod
    def of(
        cls,
        logprobs: Float[Tensor, "N V"],
        prefix: Float[Tensor, " N"],
        matched_ids: Int[Tensor, " M"],
        other_ids: Int[Tensor, " U"],
    ) -> "_Merged":
        prefix = prefix[:, None]
        others = logprobs[:, other_ids] + prefix
        rest = log_complement(prefix)
        if len(other_ids):
            rest = torch.logaddexp(rest, others.logsumexp(-1, keepdim=True))
        return cls(logprobs[:, matched_ids] + prefix, others, rest.clamp(min=LOG_NOTHING))


def log_complement(logprobs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``log(1 - exp(x))``; ``LOG_NOTHING``, without a gradient, where x is 0 (certain)."""
    certain = logprobs >= 0
    return log1mexp(logprobs.masked_fill(certain, -1.0)).masked_fill(certain, LOG_NOTHING)


def earlier_tokens(chunk_ids: Int[Tensor, "B T"], num_chunks: int) -> Bool[Tensor, "B T"]:
    """Tokens of chunks 0..num_chunks - 1 that are not the last of their chunk."""
    inside = (chunk_ids >= 0) & (chunk_ids < num_chunks)
    if not num_chunks:
        return inside
    ids = chunk_ids.masked_fill(~inside, -1)
    last = last_tokens(ids, num_chunks).gather(1, ids.clamp(min=0))
    return inside & (last != torch.arange(chunk_ids.shape[1], device=chunk_ids.device))


def _tempered(view: ModelView, temperature: float) -> ModelView:
    return view if temperature == 1 else replace(view, head=view.head.tempered(temperature))
