"""Models and tokenizers as people pass them: loaded, or by name."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from crosstok.chats import ExampleEncoder
from crosstok.models import check_vocabulary_fits, load_model, unwrap_model
from crosstok.tokenizers import TextEncoder, load_tokenizer


def loaded_model(model: str | nn.Module, dtype: torch.dtype | str = "auto") -> Any:
    """The model itself, or the one of that name.

    Args:
        model: a causal language model of transformers, possibly wrapped; or a name or folder.
        dtype: of weights that are loaded here; a model that is there stays as it is.

    Raises:
        ValueError: there is no model of that name.
    """
    return load_model(model, dtype=dtype) if isinstance(model, str) else model


def encoder_of(model: nn.Module, tokenizer: Any, option: str) -> ExampleEncoder:
    """The encoder of a model's tokenizer.

    Args:
        model: whose vocabulary it is.
        tokenizer: a fast tokenizer, its name, or None: the one that the model was saved with.
        option: what the caller calls the tokenizer, for errors.

    Raises:
        ValueError: there is no such tokenizer, it is a slow one, or the model has too few rows.
    """
    inner = unwrap_model(model)
    if tokenizer is None:
        tokenizer = getattr(inner, "name_or_path", None)
        if not tokenizer:
            raise ValueError(
                f"{option} is None, and the model does not say where it was loaded from "
                f"(name_or_path is empty). Pass {option}=AutoTokenizer.from_pretrained(...)."
            )
    encoder = encoder_of_tokenizer(tokenizer, option)
    size = encoder.encoder.byte_vocab.num_rows_needed
    check_vocabulary_fits(model, size, encoder.encoder.tokenizer.name_or_path or option)
    return encoder


def encoder_of_tokenizer(tokenizer: Any, option: str) -> ExampleEncoder:
    """The encoder of a tokenizer, or of the one of that name.

    Raises:
        ValueError: there is no such tokenizer, or it is a slow one.
    """
    if isinstance(tokenizer, str):
        tokenizer = load_tokenizer(tokenizer)
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # of a processor
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ValueError(
            f"{option} is a {type(tokenizer).__name__}, which says nothing about bytes; it must be "
            "a fast tokenizer, as AutoTokenizer.from_pretrained loads it."
        )
    return ExampleEncoder(TextEncoder(tokenizer))


def check_two_models(student: nn.Module, teacher: nn.Module) -> None:
    """Refuse one model in both parts: the teacher is frozen, so nothing would be trained.

    Raises:
        ValueError: they are one object.
    """
    if unwrap_model(student) is unwrap_model(teacher):
        raise ValueError(
            "student and teacher are the same model, and the teacher is frozen, so nothing would "
            "be trained. Load it twice, or pass copy.deepcopy(model) as the teacher."
        )


def bring_to(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """The model on that device; one that a device map has spread stays where it is."""
    if getattr(model, "hf_device_map", None) is None:
        nn.Module.to(model, device)
    return model
