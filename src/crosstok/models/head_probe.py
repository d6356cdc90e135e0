"""Find the output head of a loaded model and verify it against the model's logits."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crosstok.models.modes import evaluating
from crosstok.ops import OutputHead

# Configuration fields that scale logits, and the factors that each may mean. A field can have two
# meanings in the architectures of transformers (Granite divides by it, others multiply), so the
# fields only propose factors and the probe decides.
_SCALE_FIELDS = ("logits_scaling", "logit_scale", "lm_head_multiplier")
_SOFTCAP_FIELDS = ("final_logit_softcapping", "softcap")

_PROBE_LENGTH = 6
# Largest allowed difference of the probe, as a share of the largest logit, by dtype of the weights.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 4e-2}


def unwrap_model(model: nn.Module) -> Any:
    """Return the transformers model inside DistributedDataParallel, torch.compile and PEFT."""
    inner: Any = model
    while True:
        if hasattr(inner, "get_base_model"):
            inner = inner.get_base_model()
        elif hasattr(inner, "_orig_mod"):
            inner = inner._orig_mod
        elif isinstance(getattr(inner, "module", None), nn.Module) and not hasattr(inner, "config"):
            inner = inner.module
        else:
            return inner


def output_matrix_module(model: nn.Module) -> nn.Module:
    """Return the module that turns the hidden states into logits.

    Raises:
        ValueError: the model has no output embeddings, or they carry an adapter.
    """
    inner = unwrap_model(model)
    module = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
    name = type(inner).__name__
    if module is None:
        raise ValueError(
            f"{name} has no output embeddings, so it gives no next-token probabilities; load a "
            "causal language model (AutoModelForCausalLM)."
        )
    if hasattr(module, "base_layer"):
        raise ValueError(
            f"the output embeddings of {name} carry an adapter ({type(module).__name__}), so the "
            "logits are not a single matrix product; leave the output embeddings out of "
            "target_modules, or train them in full with modules_to_save."
        )
    if not isinstance(getattr(module, "weight", None), Tensor) or module.weight.ndim != 2:
        raise ValueError(
            f"the output embeddings of {name} are a {type(module).__name__} without a [V, D] "
            "weight; crosstok needs an output matrix."
        )
    return module  # type: ignore[no-any-return]


def output_head(model: nn.Module) -> OutputHead:
    """Find the model's output matrix, bias, scale and soft cap, and verify them.

    The matrix and bias are the model's own parameters (gradients reach them). Scale and soft cap
    are taken from the configuration and accepted only if they turn the hidden states of a few
    tokens into the logits that the model itself returns for them. The same forward pass checks that
    the model is causal.

    Call it before the model is wrapped for training, and again after the matrix is replaced.

    Args:
        model: a causal language model of transformers, possibly wrapped.

    Raises:
        ValueError: there is no output matrix, the model is not causal, or no scale and soft cap
            reproduce the model's logits.
    """
    module = output_matrix_module(model)
    inner = unwrap_model(model)
    bias = getattr(module, "bias", None)
    bias = bias if isinstance(bias, Tensor) else None
    hidden, logits = _probe(inner, module)
    tolerance = _TOLERANCE.get(module.weight.dtype, max(_TOLERANCE.values()))  # type: ignore[arg-type]
    _check_causal(inner, logits, tolerance)
    proposals = [
        OutputHead(module.weight, bias, scale, softcap)  # type: ignore[arg-type]
        for softcap in _proposed_softcaps(inner.config)
        for scale in _proposed_scales(inner.config)
    ]
    misfits = [_misfit(head, hidden, logits) for head in proposals]
    for head, misfit in zip(proposals, misfits, strict=True):
        if misfit <= tolerance:
            return head
    tried = "; ".join(
        f"scale {head.scale:g}, softcap {head.softcap}: off by {misfit:.1e}"
        for head, misfit in zip(proposals, misfits, strict=True)
    )
    raise ValueError(
        f"the logits of {type(inner).__name__} are not reproduced by its output matrix (tried "
        f"{tried}, in shares of the largest logit; at most {tolerance:g} is allowed). Its forward "
        "pass changes the logits in a way that is not supported; please report the architecture."
    )


def _text_config(config: Any) -> Any:
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _proposed_scales(config: Any) -> list[float]:
    text_config = _text_config(config)
    values = [getattr(text_config, field, None) for field in _SCALE_FIELDS]
    scales = [1.0]
    for value in values:
        if isinstance(value, int | float) and value not in (0, 1):
            scales = [1.0 / value, float(value), *scales]
    return scales


def _proposed_softcaps(config: Any) -> list[float | None]:
    text_config = _text_config(config)
    values = [getattr(text_config, field, None) for field in _SOFTCAP_FIELDS]
    caps = [float(value) for value in values if isinstance(value, int | float) and value > 0]
    return [*caps, None]


def _probe_ids(vocab_size: int, device: torch.device) -> Int[Tensor, "2 T"]:
    """Make two rows of ids spread over the vocabulary that differ only in their last id."""
    ids = torch.linspace(0, vocab_size - 1, _PROBE_LENGTH, device=device).long().repeat(2, 1)
    ids[1, -1] = vocab_size // 2
    return ids


def _probe(inner: Any, module: Any) -> tuple[Float[Tensor, "2 T D"], Float[Tensor, "2 T V"]]:
    """Return the input of the output matrix, and the model's logits, for the probe's tokens."""
    seen: list[Tensor] = []
    embeddings = inner.get_input_embeddings().weight
    ids = _probe_ids(min(embeddings.shape[0], module.weight.shape[0]), embeddings.device)
    handle = module.register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach()))
    try:
        with torch.no_grad(), evaluating(inner):
            logits = inner(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()
    if not seen or seen[-1].shape[:-1] != ids.shape:
        raise ValueError(
            f"{type(inner).__name__} does not pass its hidden states [batch, position, width] "
            "through its output embeddings, so crosstok cannot find what enters the output matrix; "
            "please report the architecture."
        )
    return seen[-1], logits


def _check_causal(inner: Any, logits: Tensor, tolerance: float) -> None:
    before = logits[:, :-1].float()
    change = float((before[0] - before[1]).abs().max())
    if change > tolerance * max(float(before.abs().max()), 1e-30):
        raise ValueError(
            f"{type(inner).__name__} is not causal: changing the last token changed the logits "
            "before it. Load a causal language model."
        )


def _misfit(head: OutputHead, hidden: Tensor, logits: Tensor) -> float:
    """Return the largest difference from the model's logits, as a share of the largest logit."""
    with torch.no_grad():
        rebuilt = nn.functional.linear(hidden.to(head.weight.dtype), head.weight).float()
        if head.bias is not None:
            rebuilt = rebuilt + head.bias
        rebuilt = rebuilt * head.scale
        if head.softcap is not None:
            rebuilt = head.softcap * torch.tanh(rebuilt / head.softcap)
        if rebuilt.shape != logits.shape:
            return float("inf")
        largest = max(float(logits.abs().max()), 1e-30)
        return float((rebuilt - logits.float()).abs().max()) / largest
