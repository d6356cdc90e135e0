"""Teachers that run in this process: a model of their own, or the student's first weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from crosstok.models import Scores, output_head, token_scores
from crosstok.objectives import Needs, Objective
from crosstok.ops import OutputHead
from crosstok.tokenizers import ByteVocab


class Teacher(Protocol):
    """Anything that scores texts in its own tokens."""

    supports: Needs

    def scores(self, input_ids: Int[Tensor, "B T"], attention_mask: Int[Tensor, "B T"]) -> Scores:
        """Log-probabilities of tokens and of the boundary set after each (nats), no gradient."""
        ...


def check_needs(objectives: Sequence[Objective], teacher: Teacher | None) -> None:
    """Compare what the objectives ask for with what the teacher has, before the first step.

    Raises:
        ValueError: names the objective, what it needs and what to do.
    """
    supports = teacher.supports if teacher is not None else Needs()
    for objective in objectives:
        for field in ("teacher", "boundary_mass"):
            if getattr(objective.needs, field) and not getattr(supports, field):
                raise ValueError(
                    f"objective {objective.name!r} needs {field.replace('_', ' ')}, which this "
                    "teacher does not give. Choose another teacher, or leave the objective out."
                )


class LocalTeacher:
    """A frozen model with its own tokenizer."""

    supports = Needs(teacher=True, boundary_mass=True)

    def __init__(self, model: PreTrainedModel, byte_vocab: ByteVocab) -> None:
        self.model = model.eval().requires_grad_(False)
        self.head = output_head(model)
        self.boundary_mask, self.valid_ids = vocabulary_masks(byte_vocab, self.head)

    @torch.no_grad()
    def scores(self, input_ids: Int[Tensor, "B T"], attention_mask: Int[Tensor, "B T"]) -> Scores:
        """See :class:`Teacher`."""
        return token_scores(
            self.model,
            self.head,
            input_ids,
            attention_mask,
            self.boundary_mask,
            valid_ids=self.valid_ids,
        )


class SharedTeacher:
    """The student's own weights with adapters off and the original embeddings: one copy for both.

    Args:
        model: the student, whose adapters ``adapters_off`` switches off and on again.
        input_embeddings: the original input embeddings, frozen.
        head: the original output head, frozen.
        byte_vocab: of the original tokenizer.
    """

    supports = Needs(teacher=True, boundary_mass=True)

    def __init__(
        self,
        model: PreTrainedModel,
        input_embeddings: nn.Module,
        output_embeddings: nn.Module,
        head: OutputHead,
        byte_vocab: ByteVocab,
    ) -> None:
        self.model = model
        self.input_embeddings = input_embeddings.requires_grad_(False)
        self.output_embeddings = output_embeddings.requires_grad_(False)
        self.head = head
        self.boundary_mask, self.valid_ids = vocabulary_masks(byte_vocab, head)

    @torch.no_grad()
    def scores(self, input_ids: Int[Tensor, "B T"], attention_mask: Int[Tensor, "B T"]) -> Scores:
        """See :class:`Teacher`."""
        with adapters_off(self.model), self._original_embeddings():
            return token_scores(
                self.model,
                self.head,
                input_ids,
                attention_mask,
                self.boundary_mask,
                valid_ids=self.valid_ids,
            )

    @contextmanager
    def _original_embeddings(self) -> Iterator[None]:
        was_training = self.model.training
        inputs, outputs = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        self.model.eval()
        self.model.set_input_embeddings(self.input_embeddings)
        self.model.set_output_embeddings(self.output_embeddings)
        try:
            yield
        finally:
            self.model.set_input_embeddings(inputs)
            self.model.set_output_embeddings(outputs)
            self.model.train(was_training)


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Run the model without its LoRA adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def vocabulary_masks(byte_vocab: ByteVocab, head: OutputHead) -> tuple[Tensor, Tensor | None]:
    """Boundary set and real tokens among the rows of an output matrix (None: all are real).

    Rows that pad the matrix, and gaps in the ids, are no outcomes: the softmax leaves them out.
    """
    rows, device = head.weight.shape[0], head.weight.device
    boundary = torch.from_numpy(byte_vocab.boundary_mask(rows)).to(device)
    valid = torch.zeros(rows, dtype=torch.bool)
    real = [
        id_
        for id_, token in enumerate(byte_vocab.token_bytes)
        if token is not None or id_ in byte_vocab.special_ids
    ]
    valid[real] = True
    return boundary, None if bool(valid.all()) else valid.to(device)
