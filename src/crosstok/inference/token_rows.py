"""Token sequences of one model that grow together, on one cache."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


class TokenRows:
    """Rows of token ids, padded on the left, each followed by one more token at a time."""

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
        self._cache: Any = DynamicCache(config=model.config)
        self._num_new: int | None = None  # tokens that the model has not read; None: all
        taken = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in taken
        self._one_logit = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}

    @torch.no_grad()
    def logits(self) -> Float[Tensor, "B V"]:
        """Read the tokens that are new; logits of the next one, at least float32."""
        extra: dict[str, Any] = dict(self._one_logit)
        if self._takes_positions:
            extra["position_ids"] = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        inputs = self._model.prepare_inputs_for_generation(
            self._ids,
            next_sequence_length=self._num_new,
            past_key_values=self._cache,
            attention_mask=self._mask,
            use_cache=True,
            is_first_iteration=self._num_new is None,
            **extra,
        )
        output = self._model(**inputs)
        self._cache, self._num_new = output.past_key_values, 0
        logits: Tensor = output.logits[:, -1]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def append(self, ids: Int[Tensor, " B"]) -> None:
        """Add a token to every row."""
        self._ids = torch.cat([self._ids, ids.to(self._ids)[:, None]], dim=1)
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        if self._num_new is not None:
            self._num_new += 1

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        chosen = torch.tensor(rows, device=self._ids.device)
        self._ids, self._mask = self._ids[chosen], self._mask[chosen]
        self._cache.batch_select_indices(chosen)
