"""Hidden states and token log-probabilities of a model, without its [tokens, vocabulary] logits."""

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from crosstok.models.head_probe import output_matrix_module, unwrap_model
from crosstok.ops import OutputHead, linear_logprobs


@dataclass(frozen=True)
class Scores:
    """Log-probabilities of a batch of texts under a model, in nats; 0 at undefined positions.

    Attributes:
        token_logprobs: [B T]. Position k holds log p(token k | tokens before k); position 0 is 0.
        boundary_logprobs: [B T], or None. Position k holds the log-mass of the boundary set as
            the **next** token, after tokens 0..k.
        hidden: [B T D], or None. Row k is the input of the output matrix that predicts token
            **k + 1**.
    """

    token_logprobs: Float[Tensor, "B T"]
    boundary_logprobs: Float[Tensor, "B T"] | None
    hidden: Float[Tensor, "B T D"] | None = None


def hidden_states(
    model: nn.Module,
    input_ids: Int[Tensor, "B T"],
    attention_mask: Int[Tensor, "B T"],
    **more: Tensor,
) -> Float[Tensor, "B T D"]:
    """Run the model and return the input of its output matrix.

    The call goes through all wrappers of the model (DistributedDataParallel, PEFT), so gradients
    are synchronised and adapters apply. A hook on the output embeddings takes their input and
    passes on a single position, so the model computes logits of [1 1 V] only.

    Args:
        model: a causal language model of transformers, possibly wrapped.
        input_ids: ids, padded on the right.
        attention_mask: 1 (or True) for tokens, 0 for padding.
        more: extra inputs of the model (`crosstok.models.extra_inputs`); a model that has them
            computes them itself if they are not passed.

    Raises:
        ValueError: a row is padded on the left or in the middle, or the model does not pass its
            hidden states through its output embeddings.
    """
    _check_right_padded(input_ids, attention_mask)
    check_ids_have_rows(model, input_ids)
    seen: list[Tensor] = []

    def take_input(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        seen.append(args[0])
        return (args[0][:1, -1:], *args[1:])

    handle = output_matrix_module(model).register_forward_pre_hook(take_input)
    try:
        model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **more)
    finally:
        handle.remove()
    if len(seen) != 1 or seen[0].shape[:-1] != input_ids.shape:
        shapes = [tuple(tensor.shape) for tensor in seen]
        raise ValueError(
            f"for ids of shape {tuple(input_ids.shape)} the output embeddings of "
            f"{type(model).__name__} received {shapes}; crosstok needs one [B, T, D]. Prompt "
            "tuning and several heads are not supported."
        )
    return seen[0]


def check_ids_have_rows(model: nn.Module, input_ids: Int[Tensor, "B T"]) -> None:
    """Check that every id of a batch has a row in the model's input matrix.

    Raises:
        ValueError: one has none; names it.
    """
    inner = unwrap_model(model)
    rows = inner.get_input_embeddings().weight.shape[0]
    highest = input_ids.amax(dim=1)
    wrong = (highest >= rows).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"row {row} holds id {int(highest[row])}, and {type(inner).__name__} has only {rows} "
            "rows: its tokenizer has special tokens that the model does not know. Leave the "
            "text with that token out, or give the model a row for it first (transplant)."
        )


def _check_right_padded(input_ids: Tensor, attention_mask: Tensor) -> None:
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, input_ids "
            f"{tuple(input_ids.shape)}; they must be the same."
        )
    is_token = attention_mask.bool()
    gaps = (is_token[:, 1:] & ~is_token[:, :-1]).any(dim=1)
    if bool(gaps.any()):
        raise ValueError(
            f"row {int(gaps.nonzero()[0])} of attention_mask has a token after padding; positions "
            "would be wrong. Pad on the right (tokenizer.padding_side = 'right')."
        )


def token_scores(
    model: nn.Module,
    head: OutputHead,
    input_ids: Int[Tensor, "B T"],
    attention_mask: Int[Tensor, "B T"],
    boundary_mask: Bool[Tensor, "V"] | None = None,
    *,
    valid_ids: Bool[Tensor, "V"] | None = None,
    keep_hidden: bool = False,
    tokens_per_block: int | None = None,
    **more: Tensor,
) -> Scores:
    """Score every token of a batch; gradients flow if they are enabled.

    Args:
        model: a causal language model of transformers, possibly wrapped.
        head: `output_head(model)`.
        input_ids: ids, padded on the right.
        attention_mask: 1 (or True) for tokens, 0 for padding. Padding is not evaluated.
        boundary_mask: ids of the boundary set; None leaves its mass out.
        valid_ids: false for rows of the output matrix that are not tokens.
        keep_hidden: return the hidden states too.
        tokens_per_block: see `crosstok.ops.linear_logprobs`.
        more: see `hidden_states`.

    Raises:
        ValueError: as for `hidden_states` and `crosstok.ops.linear_logprobs`.
    """
    hidden = hidden_states(model, input_ids, attention_mask, **more)
    scores = scores_from_hidden(
        hidden,
        head,
        input_ids,
        attention_mask,
        boundary_mask,
        valid_ids=valid_ids,
        tokens_per_block=tokens_per_block,
    )
    return replace(scores, hidden=hidden) if keep_hidden else scores


def scores_from_hidden(
    hidden: Float[Tensor, "B T D"],
    head: OutputHead,
    input_ids: Int[Tensor, "B T"],
    attention_mask: Int[Tensor, "B T"],
    boundary_mask: Bool[Tensor, "V"] | None = None,
    *,
    valid_ids: Bool[Tensor, "V"] | None = None,
    tokens_per_block: int | None = None,
) -> Scores:
    """Do the same as `token_scores` from hidden states that are already computed."""
    batch, length = input_ids.shape
    is_token = attention_mask.bool()
    # Hidden row k predicts token k + 1: rows without a next token have a boundary mass only.
    has_next = is_token.clone()
    has_next[:, :-1] &= is_token[:, 1:]
    has_next[:, -1:] = False
    wanted = has_next if boundary_mask is None else is_token
    rows = wanted.flatten().nonzero().squeeze(1)
    # A row without a next token gets its own id as the label, and the result is dropped.
    labels = input_ids.where(~has_next, input_ids.roll(-1, dims=1)).flatten()[rows]
    logprobs, log_mass = linear_logprobs(
        hidden.flatten(0, 1)[rows],
        head,
        labels,
        boundary_mask,
        valid_ids=valid_ids,
        tokens_per_block=tokens_per_block,
    )
    predicts = has_next.flatten()[rows]
    silence = logprobs.new_zeros(batch * length)
    token_logprobs = silence.index_put((rows[predicts] + 1,), logprobs[predicts])
    boundary = None if log_mass is None else silence.index_put((rows,), log_mass)
    return Scores(
        token_logprobs.view(batch, length),
        None if boundary is None else boundary.view(batch, length),
    )
