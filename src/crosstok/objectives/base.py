"""Interface of objectives: scores of one batch by two models in, a sum and a count out.

Shapes: ``B`` batch, ``Ts`` / ``Tt`` student / teacher tokens, ``C`` chunks. Log-probabilities are
in nats and follow the convention of :class:`~crosstok.models.Scores`: position k holds the
log-probability *of* token k, and the boundary mass *after* token k.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar, Protocol, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from crosstok.alignment import ENDS_OF_TEXTS
from crosstok.models import Scores
from crosstok.ops import OutputHead
from crosstok.tokenizers import ByteVocab


@dataclass(frozen=True, kw_only=True)
class AlignedBatch:
    """Texts under both tokenizers, padded on the right, with their chunk ids."""

    student_ids: Int[Tensor, "B Ts"]
    student_attention_mask: Int[Tensor, "B Ts"]
    student_loss_mask: Bool[Tensor, "B Ts"]  # True: predicted, and in the loss
    student_chunk_ids: Int[Tensor, "B Ts"]  # -1: in no chunk that can be compared
    teacher_ids: Int[Tensor, "B Tt"]
    teacher_attention_mask: Int[Tensor, "B Tt"]
    teacher_loss_mask: Bool[Tensor, "B Tt"]  # the same bytes as the student's, in its own tokens
    teacher_chunk_ids: Int[Tensor, "B Tt"]
    chunk_mask: Bool[Tensor, "B C"]  # False: padding, or a chunk with an unpredicted token
    chunk_is_special: Bool[Tensor, "B C"]  # a special token such as eos, whose end is certain
    num_bytes: Int[Tensor, " B"]  # bytes of text
    covered_bytes: Int[Tensor, " B"]  # bytes of text in chunks
    rows: Int[Tensor, " B"]  # index of each text in the data set


Ratio = tuple[Float[Tensor, ""], Float[Tensor, ""]]
"""A metric as (sum, count); both are added over batches and ranks before the division."""


@dataclass(frozen=True)
class LossSum:
    """A loss before division. Only the trainer divides, by the count of the global batch."""

    total: Float[Tensor, ""]
    count: Float[Tensor, ""]
    metrics: Mapping[str, Ratio] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """Label, unit and number format of a metric in tables and pages.

    Example: ``Metric("likelihood gap to teacher", "nats per chunk", ".2f")`` is written as
    ``likelihood gap to teacher   0.42 nats per chunk``.
    """

    label: str
    unit: str = ""
    """Follows the number; may be a phrase such as ``of chunks``."""
    format: str = ".4g"
    """Format specification of the number: ``.4g``, ``.2%``."""

    @property
    def form(self) -> str:
        """Format string with the unit, for ``str.format``."""
        return f"{{:{self.format}}} {self.unit}".rstrip()


@dataclass(frozen=True)
class Needs:
    """What an objective requires; compared with what a teacher supports before the first step."""

    teacher: bool = False
    boundary_mass: bool = False
    distributions: bool = False
    """Whole next-token distributions: ``Scores.hidden`` of both models, and their output heads."""
    hidden_states: bool = False
    """Hidden states themselves (and input embeddings), not only the logits computed from them."""

    @classmethod
    def all_of(cls, needs: "Iterable[Needs]") -> "Needs":
        """Everything that several objectives need together."""
        needs = list(needs)
        return cls(**{f.name: any(getattr(n, f.name) for n in needs) for f in fields(cls)})


@dataclass(frozen=True)
class ModelView:
    """One model as objectives see it: fixed for a run, except that the student's weights are live.

    Attributes:
        byte_vocab: vocabulary of its tokenizer.
        head: output matrix with its bias, scale and soft cap.
        valid_ids: [V], False for rows of the output matrix that are not tokens; None: all are.
        input_embeddings: module that maps ids to vectors.
        ends: roles of the tokens that end an answer, first those that end the texts of the data.
            The ends of two models are matched by these roles.
    """

    byte_vocab: ByteVocab
    head: OutputHead
    valid_ids: Bool[Tensor, " V"] | None
    input_embeddings: nn.Module
    ends: tuple[str, ...] = ENDS_OF_TEXTS

    def logits(self, hidden: Float[Tensor, "N D"], *tensors: Tensor) -> Float[Tensor, "N V"]:
        """Logits of a block of rows; invalid ids get -inf.

        Args:
            hidden: rows of ``Scores.hidden``.
            tensors: ``head.tensors()`` as :func:`crosstok.ops.blockwise_sum` passes them; by
                default the head's own.
        """
        head = self.head.of(*tensors) if tensors else self.head
        return head.logits(hidden, self.valid_ids)


class Objective(Protocol):
    """Options of a loss, and the method that makes the loss for a pair of models.

    A frozen dataclass whose fields, all with defaults, are the options; ``docs/guides/extend.md``
    writes one. A class may also define ``metrics: ClassVar[Mapping[str, Metric]]``: the label of
    each of ``LossSum.metrics`` by its name, and of the loss itself as ``loss``.

    Attributes:
        name: short and lower-case; names the loss in logs, options and weights in recipes.
        needs: what it requires of the teacher and the student.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs]

    def bind(self, student: ModelView, teacher: ModelView) -> "BoundObjective":
        """Make the loss for this pair of models; itself if their scores are all it needs.

        The result may be an ``nn.Module``; its parameters (projectors) are trained, too.

        Args:
            student: the model that is trained.
            teacher: never None if ``needs`` ask for distributions or hidden states. Otherwise it
                may be None: there is no teacher, or only its stored likelihoods.

        Raises:
            ValueError: the objective cannot be used for this pair; the message says why.
        """
        ...


class BoundObjective(Protocol):
    """The loss of a pair of models. ``count`` must not depend on the student's scores.

    The teacher's scores are None for an objective whose ``needs`` ask for no teacher.
    """

    def count(self, batch: AlignedBatch, teacher: Scores) -> Float[Tensor, ""]:
        """What this batch adds to the divisor of the global batch."""
        ...

    def __call__(self, batch: AlignedBatch, student: Scores, teacher: Scores) -> LossSum:
        """Sum the loss over the batch; the sums of two half-batches add up to it."""
        ...


class FitsAnyPair:
    """Base of objectives whose loss needs nothing of the two models but their scores."""

    def bind(self, student: ModelView, teacher: ModelView | None) -> Self:
        """Return the objective itself."""
        return self


def label_metrics(objectives: Iterable[Objective]) -> dict[str, tuple[str, str]]:
    """Label and format string of these objectives' metrics, by the names they are logged under.

    The loss of an objective is logged as ``loss_NAME``, its other metrics by their own names.
    """
    labels: dict[str, tuple[str, str]] = {}
    for objective in objectives:
        own: Mapping[str, Metric] = getattr(objective, "metrics", {})
        for name, metric in own.items():
            logged = f"loss_{objective.name}" if name == "loss" else name
            labels.setdefault(logged, (metric.label, metric.form))
    return labels


def require_hidden(scores: Scores) -> Float[Tensor, "B T D"]:
    """Return the hidden states.

    Raises:
        ValueError: the scores have none, since the objective does not ask for them.
    """
    if scores.hidden is None:
        raise ValueError(
            "the scores hold no hidden states; the objective's needs must say distributions=True "
            "or hidden_states=True (in a loop of your own: token_scores(..., keep_hidden=True))."
        )
    return scores.hidden


def require_boundary(scores: Scores) -> Float[Tensor, "B T"]:
    """Return the log-mass of the boundary set after each token.

    Raises:
        ValueError: the scores have none, since the objective does not ask for them.
    """
    if scores.boundary_logprobs is None:
        raise ValueError(
            "the scores hold no boundary mass; the objective's needs must say boundary_mass=True "
            "(in a loop of your own: give token_scores a boundary_mask)."
        )
    return scores.boundary_logprobs


def count_true(mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Count the True entries, as a float64 scalar (float32 is not exact above 2^24)."""
    return mask.sum(dtype=torch.float64)
