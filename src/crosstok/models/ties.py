"""Whether input and output embeddings are one matrix: what the weights say, not the configuration.

A ``config.json`` can contradict the files beside it: it says that the matrices are tied, and the
files hold an output matrix of other values; or that they are not, and the files hold one only.
Every job loads models through here, so that all of them treat such a folder alike.
"""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from crosstok.models.saved_dtypes import holds_any

log = logging.getLogger("crosstok")


def is_tied(model: Any) -> bool:
    """Whether the model has one matrix for input and output."""
    output = model.get_output_embeddings()
    return output is None or output.weight is model.get_input_embeddings().weight


def settle_ties(name: str, model: Any, missing: set[str]) -> None:
    """Tie or untie a loaded model as its weights say, and let its configuration say the same.

    Two matrices that are equal bit for bit are one matrix.

    Args:
        name: of the model, for the warning.
        model: just loaded; changed in place.
        missing: names of parameters that its files lack; those that another one gives are removed.
    """
    if not isinstance(getattr(model.get_output_embeddings(), "weight", None), Tensor):
        return  # none, or several: whoever needs one refuses the model
    was_tied, said_tied, before = is_tied(model), _says_tied(model), len(missing)
    if not was_tied and (_is_missing(name, model, missing) or _are_equal(model)):
        _tie(model, missing)
    elif not was_tied and said_tied:
        untie_embeddings(model)
    if missing or is_tied(model) == said_tied:
        return
    said = "tied" if said_tied else "two matrices"
    held = "two different ones" if said_tied else "one" if before else "the same one twice"
    log.warning(
        "%s: its configuration says that input and output embeddings are %s, but its files hold "
        "%s. What the files hold is kept",
        name,
        said,
        held,
    )


def untie_embeddings(model: Any) -> None:
    """Give the model an output matrix of its own, a copy where it has none, in place."""
    output = model.get_output_embeddings()
    if output is None:
        return
    pairs = model.get_expanded_tied_weights_keys(all_submodels=True)
    for target, source in pairs.items():  # one flag ties a bias, too, in some architectures
        shared = model.get_parameter_or_buffer(target)
        if shared is model.get_parameter_or_buffer(source) and isinstance(shared, nn.Parameter):
            owner, _, last = target.rpartition(".")
            copied = nn.Parameter(shared.detach().clone(), requires_grad=shared.requires_grad)
            setattr(model.get_submodule(owner), last, copied)
    if output.weight is model.get_input_embeddings().weight:
        output.weight = nn.Parameter(output.weight.detach().clone())
    _say(model, tied=False)


def _tie(model: Any, missing: set[str]) -> None:
    """Tie what the architecture can tie, where the files do not say otherwise."""
    before = set(missing)
    _say(model, tied=True)
    model.tie_weights(missing_keys=missing)
    if not is_tied(model):
        _say(model, tied=False)
        missing |= before


def _say(model: Any, *, tied: bool) -> None:
    """Write it into every configuration that transformers reads it from."""
    configs = [model.config, model.config.get_text_config()]
    configs += [part.config for part in _parts(model)]
    for config in configs:
        config.tie_word_embeddings = tied
    # The tied weights, which are saved once: read from the configuration when the model was made.
    model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)


def _says_tied(model: Any) -> bool:
    """Whether the configuration ties the matrices."""
    pairs = model.get_expanded_tied_weights_keys(all_submodels=True)
    output = model.get_output_embeddings().weight
    return any(
        name in pairs
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter is output
    )


def _parts(model: Any) -> Iterator[Any]:
    """The model and the models inside it that can tie weights."""
    for module in model.modules():
        if getattr(module, "_tied_weights_keys", None) and hasattr(module, "config"):
            yield module


def _is_missing(name: str, model: Any, missing: set[str]) -> bool:
    """Whether the files of a causal model hold one matrix only."""
    if not missing:
        return False
    base = model.base_model
    is_base_alone = base is not model and holds_any(name, base.state_dict().keys())
    if is_base_alone:
        return False
    matrices = [model.get_output_embeddings().weight, model.get_input_embeddings().weight]
    return any(
        parameter is matrix
        for key, parameter in model.named_parameters(remove_duplicate=False)
        if key in missing
        for matrix in matrices
    )


def _are_equal(model: Any) -> bool:
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return (
        isinstance(inputs, Tensor)
        and inputs.device == outputs.device
        and inputs.device.type != "meta"
        and inputs.dtype == outputs.dtype
        and torch.equal(inputs, outputs)
    )
