"""Find the output head of a loaded model and verify it against the model's logits."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crosstok.models.modes import evaluating
from crosstok.ops import OutputHead

# What the output matrix is made to return, to see what the model makes of it: powers of two, which
# every dtype holds. The larger two show a soft cap, the smallest the scale.
_RESPONSES = (-(2.0**14), -8.0, -1.0, 2.0**-4, 1.0, 8.0, 32.0, 2.0**13, 2.0**14)

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
    are measured: a second forward pass shows what the model makes of known outputs of its matrix.
    The head is accepted only if it turns the hidden states of a few tokens into the logits that the
    model itself returns for them. The same forward pass checks that the model is causal.

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
    scale, softcap = _measure(inner, module, tolerance)
    head = OutputHead(module.weight, bias, scale, softcap)  # type: ignore[arg-type]
    misfit = _misfit(head, hidden, logits)
    if misfit <= tolerance:
        return head
    raise ValueError(
        f"the logits of {type(inner).__name__} are not reproduced by its output matrix with scale "
        f"{scale:g} and softcap {softcap} (off by {misfit:.1e}, in shares of the largest logit; "
        f"at most {tolerance:g} is allowed). {_UNSUPPORTED}"
    )


_UNSUPPORTED = (
    "Its forward pass changes the logits in a way that is not supported; please report the "
    "architecture."
)


def _measure(inner: Any, module: Any, tolerance: float) -> tuple[float, float | None]:
    """Find scale and soft cap by what the model makes of known outputs of its output matrix."""
    given = torch.tensor(_RESPONSES, dtype=torch.float64)

    def respond(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        places = torch.arange(output.numel(), device=output.device) % len(given)
        return given.to(output.device, output.dtype)[places].view_as(output)

    handle = module.register_forward_hook(respond)
    try:
        logits = _run(inner, module)
    finally:
        handle.remove()
    places = torch.arange(logits.numel(), device=logits.device) % len(given)
    flat = logits.double().flatten()
    found = [float(flat[places == place].median()) for place in range(len(given))]
    numbers = _numbers(inner.config)
    softcap = None
    if found[-1] < 1.5 * found[-2]:
        softcap = _as_written(found[-1], numbers, tolerance)
    small = found[3] if softcap is None else softcap * math.atanh(min(found[3] / softcap, 0.99))
    scale = _as_written(small / _RESPONSES[3], numbers, tolerance)
    head = OutputHead(module.weight, None, scale, softcap)
    for response, logit in zip(_RESPONSES, found, strict=True):
        wanted = head.scaled(torch.tensor(response, dtype=torch.float64))
        if not abs(float(wanted) - logit) <= 4 * tolerance * abs(logit):
            raise ValueError(
                f"the logits of {type(inner).__name__} are not reproduced by its output matrix: "
                f"an output {response:g} becomes {logit:g}, and with scale {scale:g} and softcap "
                f"{softcap} it would be {float(wanted):g}. {_UNSUPPORTED}"
            )
    return scale, softcap


def _as_written(measured: float, numbers: Sequence[float], tolerance: float) -> float:
    """The number of the configuration, or 1, that was measured to within rounding."""
    near = (n for n in (1.0, *numbers) if abs(n - measured) <= 2 * tolerance * abs(measured))
    return min(near, key=lambda number: abs(number - measured), default=measured)


def _numbers(config: Any) -> list[float]:
    """All numbers of a configuration above 0, and their reciprocals."""
    both = {**vars(config), **vars(_text_config(config))}
    values = [
        float(value)
        for value in both.values()
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    ]
    return [number for value in values for number in (value, 1.0 / value)]


def _text_config(config: Any) -> Any:
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _probe_ids(vocab_size: int, device: torch.device) -> Int[Tensor, "2 T"]:
    """Make two rows of ids spread over the vocabulary that differ only in their last id."""
    ids = torch.linspace(0, vocab_size - 1, _PROBE_LENGTH, device=device).long().repeat(2, 1)
    ids[1, -1] = vocab_size // 2
    return ids


def _probe(inner: Any, module: Any) -> tuple[Float[Tensor, "2 T D"], Float[Tensor, "2 T V"]]:
    """Return the input of the output matrix, and the model's logits, for the probe's tokens."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach()))
    try:
        logits = _run(inner, module)
    finally:
        handle.remove()
    if not seen or seen[-1].shape[:-1] != logits.shape[:-1]:
        raise ValueError(
            f"{type(inner).__name__} does not pass its hidden states [batch, position, width] "
            "through its output embeddings, so crosstok cannot find what enters the output matrix; "
            "please report the architecture."
        )
    return seen[-1], logits


def _run(inner: Any, module: Any) -> Float[Tensor, "2 T V"]:
    embeddings = inner.get_input_embeddings().weight
    ids = _probe_ids(min(embeddings.shape[0], module.weight.shape[0]), embeddings.device)
    with torch.no_grad(), evaluating(inner):
        logits: Tensor = inner(input_ids=ids, use_cache=False).logits
    return logits


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
        rebuilt = head.scaled(rebuilt)
        if rebuilt.shape != logits.shape:
            return float("inf")
        largest = max(float(logits.abs().max()), 1e-30)
        return float((rebuilt - logits.float()).abs().max()) / largest
