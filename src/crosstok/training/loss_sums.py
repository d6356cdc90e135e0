"""A micro-batch to the loss of every term: the student runs once, however many terms there are."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from crosstok.models import Scores, token_scores
from crosstok.objectives import AlignedBatch, LossSum, Needs
from crosstok.training.collator import batch_of, extra_of
from crosstok.training.student import Student
from crosstok.training.terms import NO_TEACHER, Term


def student_scores(
    model: nn.Module, student: Student, needs: Needs, inputs: Mapping[str, Any]
) -> Scores:
    """What the student says of a micro-batch; gradients flow if they are enabled.

    Args:
        model: the student's model, possibly wrapped.
        student: its head and masks, on the device of the inputs.
        needs: of all terms.
        inputs: the collator's tensors.
    """
    batch = batch_of(inputs)
    more: dict[str, Any] = dict(extra_of(inputs))
    return token_scores(
        model,
        student.head,
        batch.student_ids,
        batch.student_attention_mask,
        student.boundary_mask if needs.boundary_mass else None,
        valid_ids=student.valid_ids,
        keep_hidden=needs.distributions or needs.hidden_states,
        **more,
    )


def loss_sums(
    terms: Mapping[str, Term], inputs: Mapping[str, Any], scores: Scores
) -> dict[str, LossSum]:
    """Every term's loss, undivided.

    Args:
        terms: bound to the student and its teachers.
        inputs: the collator's tensors, and the teachers' scores (``scores.i``).
        scores: the student's.
    """
    sums = {}
    for name, term in terms.items():
        batch, teacher = seen_by(term, inputs)
        sums[name] = term.objective(batch, scores, teacher)
    return sums


def seen_by(term: Term, inputs: Mapping[str, Any]) -> tuple[AlignedBatch, Scores]:
    """The batch as one term sees it, and its teacher's scores."""
    if term.teacher is None:
        return batch_of(inputs), NO_TEACHER
    return batch_of(inputs, term.teacher), inputs[f"scores.{term.teacher}"]
