"""Token sequences of one model that grow together on one cache."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from crosstok.models.caches import cache_argument, cache_of
from crosstok.models.forward import check_ids_have_rows


class TokenRows:
    """Rows of token ids, padded on the left, that all grow by the same number of tokens."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        """Begin with prompts of at least one token."""
        width = max(map(len, prompts))
        self._model: Any = model
        self._ids = torch.zeros(len(prompts), width, dtype=torch.long)
        self._mask = torch.zeros_like(self._ids)
        for row, ids in enumerate(prompts):
            self._ids[row, width - len(ids) :] = torch.tensor(ids)
            self._mask[row, width - len(ids) :] = 1
        self._ids, self._mask = self._ids.to(model.device), self._mask.to(model.device)
        check_ids_have_rows(model, self._ids)
        self._cache: Any = DynamicCache(config=model.config)
        self._cache_name = cache_argument(model)
        self._num_prompt = width
        self._num_new: int | None = None  # tokens that the model has not read; None: all
        taken = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in taken
        self._takes_num_logits = "logits_to_keep" in taken

    @torch.no_grad()
    def logits(self, num: int = 1) -> Float[Tensor, "B num V"]:
        """Read the new tokens, and predict the token after each of the last `num` of them.

        Args:
            num: number of last tokens to predict from; all of them must be new.

        Returns:
            Logits of the token after each of them, at least float32.

        Raises:
            ValueError: fewer tokens are new.
        """
        num_unread = self._ids.shape[1] if self._num_new is None else self._num_new
        if not 1 <= num <= num_unread:
            raise ValueError(
                f"num is {num}; it must be from 1 to {num_unread}, the number of tokens that were "
                "added since the last call."
            )
        extra: dict[str, Any] = {"logits_to_keep": num} if self._takes_num_logits else {}
        if self._cache_name is not None:
            extra[self._cache_name] = self._cache
        if self._takes_positions:
            extra["position_ids"] = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        inputs = self._model.prepare_inputs_for_generation(
            self._ids,
            next_sequence_length=self._num_new,
            attention_mask=self._mask,
            use_cache=True,
            is_first_iteration=self._num_new is None,
            **extra,
        )
        output = self._model(**inputs)
        self._cache, self._num_new = cache_of(output), 0
        logits: Tensor = output.logits[:, -num:]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def append(self, ids: Int[Tensor, "B k"]) -> None:
        """Add tokens to every row."""
        self._ids = torch.cat([self._ids, ids.to(self._ids)], dim=1)
        self._mask = torch.nn.functional.pad(self._mask, (0, ids.shape[1]), value=1)
        if self._num_new is not None:
            self._num_new += ids.shape[1]

    def crop(self, num: int) -> None:
        """Remove the last `num` tokens of every row, as if they had never been added.

        The token before them is read again, since the token after it is predicted next.

        Args:
            num: number of tokens to remove, at most the number added to the prompts.

        Raises:
            ValueError: `num` is larger than the number of tokens that were added; or the model has
                read them, and its cache no longer holds the state before (a recurrent state, or a
                full sliding window).
        """
        width = self._ids.shape[1] - num
        if num < 0 or width < self._num_prompt:
            raise ValueError(
                f"num is {num}; it must be from 0 to {self._ids.shape[1] - self._num_prompt}, the "
                "number of tokens that were added to the prompts."
            )
        if self._num_new is not None and num > 0:
            num_read = self._ids.shape[1] - self._num_new
            if num_read >= width:
                self._forget(num_read - width + 1)
                self._num_new = 1
            else:
                self._num_new -= num
        self._ids, self._mask = self._ids[:, :width], self._mask[:, :width]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        chosen = torch.tensor(rows, device=self._ids.device)
        self._ids, self._mask = self._ids[chosen], self._mask[chosen]
        self._cache.reorder_cache(chosen)

    def _forget(self, num: int) -> None:
        """Remove the last tokens from the cache."""
        if why := _why_fixed(self._cache):
            raise ValueError(
                f"the cache of {type(self._model).__name__} cannot remove {num} tokens: {why}. "
                "Decode it one token at a time."
            )
        self._cache.crop(-num)


def _why_fixed(cache: Any) -> str | None:
    """Why a cache cannot be rolled back; None if it can."""
    if not hasattr(cache, "crop"):
        return f"it is a {type(cache).__name__}, which has no crop"
    for layer in cache.layers:
        if hasattr(layer, "recurrent_states") or hasattr(layer, "conv_states"):
            return "a recurrent state holds all tokens that were read"
        window = getattr(layer, "sliding_window", None)
        if window is not None and layer.get_seq_length() >= window:
            return f"its sliding window of {window} tokens is full, and older tokens are gone"
    return None
