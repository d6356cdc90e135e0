"""The loss of two models on a batch of texts or chats, for training loops that are not ours.

    loss_fn = DistillationLoss(student, teacher)
    loss_fn(["a text", "another"]).backward()

Collator, teacher and terms are those of :class:`~crosstok.training.DistillationTrainer`. What a
loop lacks is the global batch: the trainer divides by the count of all micro-batches and ranks, the
loss here by that of its batch, unless the loop adds up ``sums`` itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from crosstok.alignment import ENDS_OF_CHATS, ENDS_OF_TEXTS
from crosstok.choices import LossOn
from crosstok.models import Scores, evaluating, extra_inputs, unwrap_model
from crosstok.objectives import ALM, FixedWeights, LossSum, Needs, Objective
from crosstok.objectives.choosing import choose
from crosstok.teachers import LocalTeacher, check_needs
from crosstok.training.distillation_collator import IS_CHAT, DistillationCollator
from crosstok.training.given_models import bring_to, check_two_models, encoder_of
from crosstok.training.loss_sums import loss_sums, student_scores
from crosstok.training.student import Student
from crosstok.training.terms import Term, bind

Batch = Any
"""Texts, chats or rows, as `DistillationCollator` takes them; or the tensors that it gives."""


class DistillationLoss:
    """The loss of a student against a teacher whose tokenizer differs.

    Both models run on the student's device: the teacher is brought there (unless a device map has
    spread it), put into evaluation mode, and frozen. No tensor is [tokens, vocabulary].

    Args:
        student: a causal language model of transformers, possibly wrapped (DistributedDataParallel,
            PEFT). Its mode (dropout) is the caller's.
        teacher: another one.
        student_tokenizer: its fast tokenizer, or a name; None: the one that the model was saved
            with, by its ``name_or_path``.
        teacher_tokenizer: the same for the teacher.
        objective: one, or several; `ALM` (arXiv 2503.20083) with its defaults if left out. One
            that trains weights of its own (``dskd``) needs `CrossTokenizerTrainer`.
        weighting: constant weights of several objectives; 1 each if left out.
        max_length: tokens of a row that are kept, on either side; the rest is cut off.
        teacher_max_length: the teacher's, if another number.
        loss_on: which part of a chat is learned; a text is learned whole.

    Raises:
        ValueError: a tokenizer is missing or does not fit its model, both models are one, or an
            objective or weighting cannot be used here.
    """

    def __init__(  # noqa: PLR0913 (two models, and what each of the collator's options is)
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        student_tokenizer: Any = None,
        teacher_tokenizer: Any = None,
        objective: str | Objective | Sequence[Objective] | None = None,
        weighting: FixedWeights | None = None,
        max_length: int = 512,
        teacher_max_length: int | None = None,
        loss_on: LossOn = "assistant",
    ) -> None:
        check_two_models(student, teacher)
        own = encoder_of(student, student_tokenizer, "student_tokenizer")
        other = encoder_of(teacher, teacher_tokenizer, "teacher_tokenizer")
        lookup = extra_inputs(student)
        self.collator = DistillationCollator.of(
            own, other, max_length, teacher_max_length, loss_on, lookup
        )
        self.objectives = choose(ALM() if objective is None else objective)
        self.needs = Needs.all_of(objective.needs for objective in self.objectives)
        self._model = student
        self._student = Student(unwrap_model(student), own.encoder)
        self._teacher = LocalTeacher(unwrap_model(teacher), other.encoder.byte_vocab)
        check_needs(self.objectives, (self._teacher,))
        self._device: torch.device | None = None
        self._terms: dict[bool, dict[str, Term]] = {}  # by whether the rows are chats
        terms = self._terms_on(self._student.head.weight.device, is_chat=False)
        self._weights = _constant_weights(weighting, terms)

    def __call__(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar: the sum over objectives of weight x total / count.

        Raises:
            ValueError: the batch is empty, mixes texts with chats, or a template cannot render it.
        """
        return self._divided(self.sums(batch))

    def sum(self, batch: Batch) -> LossSum:
        """Total and count of the one objective, to divide by the count of several batches.

        Raises:
            ValueError: there are several objectives, whose counts are of different things.
        """
        if len(self.objectives) > 1:
            raise ValueError(
                f"{len(self.objectives)} objectives have a count each; "
                "use sums(batch), which gives their totals and counts by name."
            )
        (total,) = self.sums(batch).values()
        return total

    def sums(self, batch: Batch) -> dict[str, LossSum]:
        """Total and count of every objective by name, undivided and without weights."""
        return self._sums(self._model, batch)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """What a trainer of transformers or TRL returns from its method of the same name.

        Without ``num_items_in_batch`` it is the mean of this micro-batch, which the trainer divides
        by the number of micro-batches. With it (the learned tokens of all micro-batches and ranks,
        which the trainer counts in ``labels``) it is that mean times this micro-batch's share of
        the tokens, so that the micro-batches add up to a mean over the global batch: exactly that
        of `CrossTokenizerTrainer` for ``cross_entropy``, whose count is of tokens, and nearly so
        for objectives that count chunks. ``average_tokens_across_devices`` must be on (it is).

        Args:
            model: the student as the trainer has wrapped it.
            inputs: what `DistillationCollator` made.
            return_outputs: return the loss with an empty dict; there are no outputs.
            num_items_in_batch: as the trainer passes it.
        """
        loss = self._divided(self._sums(model, inputs))
        if num_items_in_batch is not None:
            learned = inputs["student_loss_mask"].sum().double()
            loss = loss * (learned * _num_ranks() / num_items_in_batch).to(loss.dtype)
        return (loss, {}) if return_outputs else loss

    def _sums(self, model: nn.Module, batch: Batch) -> dict[str, LossSum]:
        is_collated = isinstance(batch, Mapping) and "student_ids" in batch
        device = self._student.head.weight.device
        tensors = batch if is_collated else self.collator(batch)
        inputs: dict[str, Any] = {name: tensor.to(device) for name, tensor in tensors.items()}
        terms = self._terms_on(device, is_chat=bool(inputs[IS_CHAT].any()))
        inputs["scores.0"] = self._scores_of_teacher(inputs)
        return loss_sums(terms, inputs, student_scores(model, self._student, self.needs, inputs))

    def _scores_of_teacher(self, inputs: Mapping[str, Tensor]) -> Scores | None:
        if not self.needs.teacher:
            return None
        there, here = self._teacher.head.weight.device, self._device
        ids, mask = inputs["teacher_ids.0"], inputs["teacher_attention_mask.0"]
        with evaluating(self._teacher.model):
            scores = self._teacher.scores(ids.to(there), mask.to(there), self.needs)
        parts = (scores.token_logprobs, scores.boundary_logprobs, scores.hidden)
        return Scores(*(None if part is None else part.to(here) for part in parts))  # type: ignore[arg-type]

    def _terms_on(self, device: torch.device, *, is_chat: bool) -> dict[str, Term]:
        """The objectives bound to both models on this device, for rows that end so."""
        if device != self._device:
            if device != self._teacher.head.weight.device:
                model, view = bring_to(self._teacher.model, device), self._teacher.view
                self._teacher = LocalTeacher(model, view.byte_vocab, self._teacher.name)
            self._device, self._terms = device, {}
        if is_chat not in self._terms:
            ends = ENDS_OF_CHATS if is_chat else ENDS_OF_TEXTS
            view = replace(self._student.view(device), ends=ends)
            self._terms[is_chat] = bind(self.objectives, view, (self._teacher,))
            _refuse_weights(self._terms[is_chat])
        return self._terms[is_chat]

    def _divided(self, sums: Mapping[str, LossSum]) -> Tensor:
        parts = [
            part.total * (self._weights[name] / part.count.clamp(min=1)).to(part.total.dtype)
            for name, part in sums.items()
        ]
        return torch.stack(parts).sum()


def alm_loss(
    student: nn.Module,
    teacher: nn.Module,
    batch: Batch,
    *,
    student_tokenizer: Any = None,
    teacher_tokenizer: Any = None,
    max_length: int = 512,
    teacher_max_length: int | None = None,
    loss_on: LossOn = "assistant",
    **options: Any,
) -> Tensor:
    """The ALM loss (arXiv 2503.20083) of a batch, a scalar: nats x temperature a chunk.

    What the two vocabularies need is prepared once and kept with the student, so that calls in a
    loop are cheap; it goes when the student goes, and copies of the student do not have it. Pass
    the same tokenizer objects in every call.

    Args:
        student: see `DistillationLoss`, as for all that is not here.
        teacher: another model, which is frozen.
        batch: texts, chats or rows; or what `DistillationCollator` made of them.
        student_tokenizer: its fast tokenizer; None: the one that the model was saved with.
        teacher_tokenizer: the same for the teacher.
        max_length: tokens of a row that are kept, on either side.
        teacher_max_length: the teacher's, if another number.
        loss_on: which part of a chat is learned.
        options: of `ALM`: ``temperature``, ``divergence``, ``min_boundary_mass``, ...

    Raises:
        ValueError: as `DistillationLoss`, or an option of ALM has a value that cannot be.
        TypeError: ALM has no such option.
    """
    objective = ALM(**options)
    kept: _Prepared = student.__dict__.setdefault(_PREPARED, _Prepared())
    parts = id(teacher), _key(student_tokenizer), _key(teacher_tokenizer)
    key = (*parts, objective, max_length, teacher_max_length, loss_on)
    if key not in kept:
        loss = DistillationLoss(
            student,
            teacher,
            student_tokenizer=student_tokenizer,
            teacher_tokenizer=teacher_tokenizer,
            objective=objective,
            max_length=max_length,
            teacher_max_length=teacher_max_length,
            loss_on=loss_on,
        )
        kept[key] = loss, (teacher, student_tokenizer, teacher_tokenizer)
    return kept[key][0](batch)


_PREPARED = "crosstok_losses"


class _Prepared(dict[Any, tuple[DistillationLoss, tuple[Any, ...]]]):
    """Losses by what they were prepared for; a model's copies and pickles begin with none.

    Beside each stand the objects whose ``id`` is in its key, so that it cannot come to mean others.
    """

    def __deepcopy__(self, memo: object) -> "_Prepared":
        return _Prepared()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Prepared, ()


def _key(tokenizer: Any) -> Any:
    return tokenizer if isinstance(tokenizer, str) else id(tokenizer)


def _constant_weights(
    weighting: FixedWeights | None, terms: Mapping[str, Term]
) -> dict[str, float]:
    weighting = FixedWeights() if weighting is None else weighting
    weights = getattr(weighting, "weights", None) or {}
    if weighting.measures_gradients or any(isinstance(w, Sequence) for w in weights.values()):
        raise ValueError(
            "weighting must be FixedWeights with one number an objective: gradient norms and "
            "schedules are of a whole run. Use CrossTokenizerTrainer, or FixedWeights(weights=...)."
        )
    return weighting(dict.fromkeys(terms, 1.0))


def _refuse_weights(terms: Mapping[str, Term]) -> None:
    for name, term in terms.items():
        module = term.objective
        if isinstance(module, nn.Module) and any(p.requires_grad for p in module.parameters()):
            raise ValueError(
                f"objective {name!r} trains weights of its own along with the student, which a "
                "loss cannot. Use CrossTokenizerTrainer, or an objective without them (alm)."
            )


def _num_ranks() -> int:
    """Ranks whose mean the gradients are; the trainer's count is of all of them."""
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if is_distributed else 1
