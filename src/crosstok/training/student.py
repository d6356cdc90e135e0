"""The student: the source model with the target's embeddings, trained whole or by LoRA."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from crosstok.alignment import ENDS_OF_TEXTS
from crosstok.choices import Precision
from crosstok.models import output_head, plain_model, vocabulary_masks
from crosstok.objectives import ModelView
from crosstok.ops import OutputHead
from crosstok.teachers import SharedTeacher
from crosstok.tokenizers import TextEncoder
from crosstok.training.terms import detach_modules
from crosstok.transplants import TransplantReport


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters on every linear layer; the embeddings are trained whole."""

    rank: int = 64
    """Paper's transfer runs: 64."""
    alpha: int = 64
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"


@dataclass
class Student:
    """A model in training.

    ``model`` is always the plain transformers model; with LoRA its layers carry adapters, which
    ``export`` merges.
    """

    model: PreTrainedModel
    encoder: TextEncoder
    report: TransplantReport | None = None
    adapters: Any = field(default=None, repr=False)  # peft's wrapper around model, if any
    ends: tuple[str, ...] = ENDS_OF_TEXTS  # roles of what ends an example of the data

    def __post_init__(self) -> None:
        # training switches the cache off and may align ids; what is saved has the model's own
        self._settings = copy.deepcopy((self.model.config, self.model.generation_config))
        self.head = output_head(self.model)  # holds the live weights, not a copy
        self.boundary_mask, self.valid_ids = vocabulary_masks(self.encoder.byte_vocab, self.head)

    def view(self, device: torch.device) -> ModelView:
        """The student as objectives see it, its masks on the device that it trains on."""
        model: Any = self.model  # whose annotation of `to` hides its argument
        model.to(device)
        self.boundary_mask = self.boundary_mask.to(device)
        if self.valid_ids is not None:
            self.valid_ids = self.valid_ids.to(device)
        embeddings = self.model.get_input_embeddings()
        vocab = self.encoder.byte_vocab.with_rows(self.head.weight.shape[0])
        return ModelView(vocab, self.head, self.valid_ids, embeddings, self.ends)

    def settle(self) -> PreTrainedModel:
        """End training: take out what objectives trained along, and give the settings back."""
        detach_modules(self.model)
        self.restore_settings()
        return self.model

    def restore_settings(self) -> None:
        """Give the model the configurations that it had before training."""
        config, generation_config = copy.deepcopy(self._settings)
        vars(self.model.config).update(vars(config))
        self.model.generation_config = generation_config

    def export(self) -> PreTrainedModel:
        """The plain model with its own settings: settled, and adapters merged."""
        self.settle()
        if self.adapters is not None:
            self.model = self.adapters.merge_and_unload()
            self.adapters = None
        return self.model


@dataclass(frozen=True)
class OriginalEmbeddings:
    """The source model's embeddings before the transplant, for a teacher that shares weights."""

    inputs: nn.Module
    outputs: nn.Module
    head: OutputHead

    @classmethod
    def of(cls, model: PreTrainedModel, device: torch.device) -> "OriginalEmbeddings":
        """Copy them from a model that still has its own tokenizer.

        Args:
            model: it stays as it is.
            device: where the trainer will put the model; nothing moves the copies afterwards.
        """
        memo: dict[int, Any] = {}  # one memo: tied matrices stay one
        head = output_head(model)
        inputs = copy.deepcopy(model.get_input_embeddings(), memo).to(device)
        outputs = copy.deepcopy(model.get_output_embeddings(), memo).to(device)
        return cls(
            inputs,
            outputs,
            OutputHead(
                outputs.weight.detach(),
                None if head.bias is None else outputs.bias.detach(),
                head.scale,
                head.softcap,
            ),
        )

    def teacher(self, student: Student, source: TextEncoder) -> SharedTeacher:
        """The teacher that is the student's weights without adapters, with these embeddings."""
        return SharedTeacher(
            plain_model(student.model), self.inputs, self.outputs, self.head, source.byte_vocab
        )


def add_lora(student: Student, lora: Lora) -> Student:
    """Freeze the weights, add adapters to them, and leave the embeddings trainable.

    Raises:
        ValueError: peft is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise ValueError(
            "lora needs the package peft, which is not installed; "
            "run `pip install 'crosstok[lora]'`, or train without lora."
        ) from error
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    adapters = peft.get_peft_model(student.model, config)
    for module in (student.model.get_input_embeddings(), student.model.get_output_embeddings()):
        module.requires_grad_(True)
    return Student(student.model, student.encoder, student.report, adapters)


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of a frozen teacher; trained weights are always fp32. fp16 is fp32 on a CPU."""
    if precision == "bf16":
        return torch.bfloat16
    return torch.float16 if precision == "fp16" and device.type == "cuda" else torch.float32


def dtype_name(frozen: torch.dtype, *, shares_fp32_weights: bool = False) -> str:
    """What a teacher computes in, in words: scores may be mixed where these are the same.

    Args:
        frozen: `compute_dtype` of the run.
        shares_fp32_weights: the teacher is the student's own weights, rounded by autocast only.
    """
    name = str(frozen).removeprefix("torch.")
    is_rounded_late = shares_fp32_weights and frozen != torch.float32
    return f"{name} from float32 weights" if is_rounded_late else name
