"""Models that a caller has loaded: copied to be trained, or shared to be read."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from crosstok.loaded import Loaded


def check_in_memory(given: Loaded) -> PreTrainedModel:
    """Return the model that was passed, if it is one that can be used.

    Raises:
        ValueError: it is not a causal language model of transformers.
    """
    model = given.model
    if model is None:
        raise ValueError(
            f"{given!s} is a tokenizer, and a model is needed. Give a model, or (model, tokenizer)."
        )
    if hasattr(model, "merge_and_unload"):
        raise ValueError(
            f"{given!s} is a model with adapters ({type(model).__name__}). Merge them first, in a "
            "copy that you do not need otherwise: model.merge_and_unload()."
        )
    if not isinstance(model, PreTrainedModel):
        raise ValueError(
            f"{type(model).__name__} is neither a name nor a model of transformers. Give a name, a "
            "folder, or a model from AutoModelForCausalLM."
        )
    if model.get_output_embeddings() is None:
        raise ValueError(
            f"{given!s} ({type(model).__name__}) has no output matrix: it gives no probability of "
            "a next token. Load it with AutoModelForCausalLM."
        )
    return model


def take_model(
    given: Loaded,
    *,
    dtype: torch.dtype | str,
    device: torch.device | str | None,
    options: Mapping[str, Any] | None,
    shared: bool,
) -> PreTrainedModel:
    """Return a copy of a model that a caller passed, or one that shares its weights.

    The model itself is never changed: not its weights, its mode, its configuration, nor which of
    its parameters need a gradient.

    Args:
        given: the model.
        dtype: dtype of the weights; "auto" leaves them as they are. Buffers, and what the
            architecture keeps in fp32, stay.
        device: where to put it; None leaves it where it is.
        options: arguments of ``from_pretrained``, which it can no longer take.
        shared: share the weights, frozen, where dtype and device allow it, instead of copying them.

    Raises:
        ValueError: see `check_in_memory`; or options are given.
    """
    model = check_in_memory(given)
    if options:
        raise ValueError(
            f"the options {dict(options)} are for from_pretrained, and {given!s} is loaded "
            "already. Pass them where you load it, and leave them out here."
        )
    taken = copy.deepcopy(model, _shared_weights(model) if shared else None)
    is_quantized = bool(getattr(model, "is_quantized", False))
    if dtype != "auto" and not is_quantized:
        _cast(taken, getattr(torch, dtype) if isinstance(dtype, str) else dtype)
    if device is not None and not is_quantized:
        nn.Module.to(taken, device)
    return taken.eval()  # type: ignore[no-any-return]


def _shared_weights(model: PreTrainedModel) -> dict[int, Any]:
    """What a deep copy takes instead of the weights: frozen parameters of the same storage."""
    if getattr(model, "is_quantized", False):  # parameters with a state of their own
        return {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    frozen = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return {**frozen, **{id(buffer): buffer.detach() for buffer in model.buffers()}}


def _cast(model: PreTrainedModel, dtype: torch.dtype) -> None:
    strict = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    kept = {*(getattr(model, "_keep_in_fp32_modules", None) or ()), *strict}
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not kept & set(name.split(".")):
            parameter.data = parameter.data.to(dtype)
