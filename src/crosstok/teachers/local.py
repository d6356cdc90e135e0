"""Teachers that run in this process: a separate model, or the student's original weights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from crosstok.loaded import Loaded
from crosstok.models import (
    Scores,
    check_model_exists,
    check_vocabulary_fits,
    evaluating,
    load_model,
    output_head,
    token_scores,
    vocabulary_masks,
)
from crosstok.objectives import ModelView, Needs
from crosstok.ops import OutputHead
from crosstok.teachers.base import Teacher, TeacherRequest
from crosstok.teachers.fingerprint import Fingerprint, fingerprint
from crosstok.tokenizers import ByteVocab

EVERYTHING = Needs(teacher=True, boundary_mass=True, distributions=True, hidden_states=True)
"""Needs that a teacher in this process supports: all."""


class LocalTeacher(Teacher):
    """A frozen model with its own tokenizer.

    Args:
        model: put into evaluation mode, with its parameters frozen.
        byte_vocab: vocabulary of its tokenizer.
        name: its name in errors and metrics; by default the model's own name.
    """

    supports = EVERYTHING
    view: ModelView

    def __init__(
        self, model: PreTrainedModel, byte_vocab: ByteVocab, name: str | None = None
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.name = name or short_name(model.name_or_path)
        self.head = output_head(model)
        self.boundary_mask, self.valid_ids = vocabulary_masks(byte_vocab, self.head)
        vocab = byte_vocab.with_rows(self.head.weight.shape[0])
        self.view = ModelView(vocab, self.head, self.valid_ids, model.get_input_embeddings())
        self.num_parameters = model.num_parameters()

    @classmethod
    def check(cls, name: str) -> None:
        """Check that the model exists; see `Teacher`."""
        check_model_exists(name)

    @classmethod
    def open(cls, request: TeacherRequest) -> Teacher:
        """Load the model; see `Teacher`.

        Raises:
            ValueError: the model does not exist, or its tokenizer has ids without a row.
        """
        model = load_model(
            request.name,
            dtype=request.dtype,
            device=request.device,
            trust_remote_code=request.trust_remote_code,
            options=request.options,
            shared=True,
        )
        check_vocabulary_fits(model, request.byte_vocab.num_rows_needed, request.name)
        return cls(model, request.byte_vocab)

    @classmethod
    def identify(cls, request: TeacherRequest, notes: Path) -> Fingerprint:
        """Digests of weights, configuration and vocabulary; see `Teacher`."""
        if isinstance(request.name, Loaded):
            raise ValueError(
                f"teacher_cache needs a teacher by name, since its files say which one it is, and "
                f"{request.name!s} is loaded already. Save it and give its folder, or leave "
                "teacher_cache out."
            )
        arithmetic = request.arithmetic
        if request.options:  # quantisation or another attention changes the scores
            arithmetic += f", {json.dumps(dict(request.options), sort_keys=True, default=str)}"
        return fingerprint(
            request.name,
            request.byte_vocab,
            arithmetic,
            notes,
            trust_remote_code=request.trust_remote_code,
        )

    @torch.no_grad()
    def scores(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Int[Tensor, "B T"], needs: Needs
    ) -> Scores:
        """See :class:`Teacher`."""
        return token_scores(
            self.model,
            self.head,
            input_ids,
            attention_mask,
            self.boundary_mask if needs.boundary_mass else None,
            valid_ids=self.valid_ids,
            keep_hidden=needs.distributions or needs.hidden_states,
        )


class SharedTeacher(Teacher):
    """The student's own weights, without adapters and with the original embeddings.

    Teacher and student share one copy of the weights.

    Args:
        model: the student; its adapters are switched off while the teacher scores.
        input_embeddings: the original input embeddings, frozen.
        output_embeddings: the original output embeddings, frozen.
        head: the original output head, frozen.
        byte_vocab: vocabulary of the original tokenizer.
    """

    supports = EVERYTHING

    def __init__(
        self,
        model: PreTrainedModel,
        input_embeddings: nn.Module,
        output_embeddings: nn.Module,
        head: OutputHead,
        byte_vocab: ByteVocab,
    ) -> None:
        self.model = model
        self.name = short_name(model.name_or_path)
        self.input_embeddings = input_embeddings.requires_grad_(False)
        self.output_embeddings = output_embeddings.requires_grad_(False)
        self.head = head
        self.boundary_mask, self.valid_ids = vocabulary_masks(byte_vocab, head)
        vocab = byte_vocab.with_rows(head.weight.shape[0])
        self.view = ModelView(vocab, head, self.valid_ids, self.input_embeddings)

    @torch.no_grad()
    def scores(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Int[Tensor, "B T"], needs: Needs
    ) -> Scores:
        """See :class:`Teacher`."""
        with evaluating(self.model), adapters_off(self.model), self._original_embeddings():
            return token_scores(
                self.model,
                self.head,
                input_ids,
                attention_mask,
                self.boundary_mask if needs.boundary_mass else None,
                valid_ids=self.valid_ids,
                keep_hidden=needs.distributions or needs.hidden_states,
            )

    @contextmanager
    def _original_embeddings(self) -> Iterator[None]:
        inputs, outputs = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        self.model.set_input_embeddings(self.input_embeddings)
        self.model.set_output_embeddings(self.output_embeddings)
        try:
            yield
        finally:
            self.model.set_input_embeddings(inputs)
            self.model.set_output_embeddings(outputs)


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Switch the LoRA adapters of a model off within a ``with`` block."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def short_name(name_or_path: str | None) -> str:
    """Return the last part of a hub name or folder; "teacher" if there is no name."""
    return (name_or_path or "").rstrip("/").split("/")[-1] or "teacher"
