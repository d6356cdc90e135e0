"""How a model continues token sequences: on a cache, row by row, or read again from the start.

What a model's cache can do is found by trying it: two short sequences of different lengths are
continued, and the logits are compared with those of the whole sequences without a cache. A cache of
attention takes rows padded on the left together. A recurrent state may be disturbed by padding;
then every row has a cache of its own. Where no cache gives the same (GPT-1 and RWKV have none that
fits), every step reads the whole sequences again.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from crosstok.inference.token_rows import TokenRows
from crosstok.models import evaluating, unwrap_model
from crosstok.models.caches import cache_argument
from crosstok.models.forward import check_ids_have_rows

log = logging.getLogger(__name__)

_LENGTHS, _NUM_NEW = (5, 3), 2
# Largest difference from logits without a cache, as a share of their norm, by dtype; in a half
# precision the median over the positions, since an expert's router may decide otherwise at one.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
_TOLERANCE_OF_HALVES = 0.1


class Rows(Protocol):
    """Token sequences that grow together; see `TokenRows`."""

    def logits(self, num: int = 1) -> Float[Tensor, "B num V"]:
        """Logits of the token after each of the last `num` tokens."""
        ...

    def append(self, ids: Int[Tensor, "B k"]) -> None:
        """Add tokens to every row."""
        ...

    def crop(self, num: int) -> None:
        """Remove the last `num` tokens of every row."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        ...


class SeparateRows:
    """Rows with a cache each, so that none is padded."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        """Begin with prompts of at least one token."""
        self._rows = [TokenRows(model, [prompt]) for prompt in prompts]

    def logits(self, num: int = 1) -> Float[Tensor, "B num V"]:
        """See `TokenRows.logits`."""
        return torch.cat([row.logits(num) for row in self._rows])

    def append(self, ids: Int[Tensor, "B k"]) -> None:
        """Add tokens to every row."""
        for row, own in zip(self._rows, ids, strict=True):
            row.append(own[None])

    def crop(self, num: int) -> None:
        """Remove the last `num` tokens of every row; see `TokenRows.crop`."""
        for row in self._rows:
            row.crop(num)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        self._rows = [self._rows[row] for row in rows]


class RecomputedRows:
    """Rows that are read again from their first token at every step, padded on the right."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        """Begin with prompts of at least one token."""
        self._model: Any = model
        self._rows = [torch.tensor(prompt, device=model.device) for prompt in prompts]
        for row in self._rows:
            check_ids_have_rows(model, row[None])
        self._num_added = 0
        self._num_unread = min(map(len, self._rows))

    @torch.no_grad()
    def logits(self, num: int = 1) -> Float[Tensor, "B num V"]:
        """See `TokenRows.logits`."""
        if not 1 <= num <= self._num_unread:
            raise ValueError(
                f"num is {num}; it must be from 1 to {self._num_unread}, the number of tokens that "
                "were added since the last call."
            )
        ids = nn.utils.rnn.pad_sequence(self._rows, batch_first=True)
        mask = nn.utils.rnn.pad_sequence(
            [torch.ones_like(row) for row in self._rows], batch_first=True
        )
        output = self._model(input_ids=ids, attention_mask=mask, use_cache=False)
        self._num_unread = 0
        last = [
            logits[len(row) - num : len(row)]
            for row, logits in zip(self._rows, output.logits, strict=True)
        ]
        stacked = torch.stack(last)
        return stacked.to(torch.promote_types(stacked.dtype, torch.float32))

    def append(self, ids: Int[Tensor, "B k"]) -> None:
        """Add tokens to every row."""
        self._rows = [
            torch.cat([row, own.to(row)]) for row, own in zip(self._rows, ids, strict=True)
        ]
        self._num_added += ids.shape[1]
        self._num_unread += ids.shape[1]

    def crop(self, num: int) -> None:
        """Remove the last `num` tokens of every row; see `TokenRows.crop`."""
        if not 0 <= num <= self._num_added:
            raise ValueError(
                f"num is {num}; it must be from 0 to {self._num_added}, the number of tokens that "
                "were added to the prompts."
            )
        if num:
            self._rows = [row[:-num] for row in self._rows]
            self._num_added -= num
            self._num_unread = max(1, self._num_unread - num)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        self._rows = [self._rows[row] for row in rows]


_Way = Callable[[PreTrainedModel, Sequence[Sequence[int]]], Rows]

_ways: weakref.WeakKeyDictionary[nn.Module, _Way] = weakref.WeakKeyDictionary()


def continue_prompts(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Rows:
    """Begin rows of token ids in the quickest way that gives the model's own logits.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        prompts: ids, at least one in each.
    """
    way = _ways.get(model)
    if way is None:
        way = _ways[model] = _find_way(model)
    return way(model, prompts)


def _find_way(model: PreTrainedModel) -> _Way:
    """Try the ways in turn; one line says that the last is left."""
    reason = "it takes none"
    if cache_argument(model) is not None:
        prompts, new = _probe(model)
        with evaluating(model), torch.no_grad():
            wanted = _without_cache(model, prompts, new)
            for way in (TokenRows, SeparateRows):
                try:
                    misfit = _misfit(_continued(way, model, prompts, new), wanted, model.dtype)
                except Exception as error:  # a cache may fail in any way, and then is not used
                    reason = f"{type(error).__name__}: {error}".splitlines()[0]
                    continue
                if misfit <= _TOLERANCE.get(model.dtype, _TOLERANCE_OF_HALVES):
                    return way
                reason = f"logits are off by {misfit:.1e} of their norm"
    log.warning(
        "%s does not continue texts on a cache (%s): every token reads its whole text again, which "
        "is slower and gives the same",
        type(unwrap_model(model)).__name__,
        reason,
    )
    return RecomputedRows


def _probe(model: Any) -> tuple[list[list[int]], Int[Tensor, "2 n"]]:
    """Two prompts and what comes after them: ids from all over the vocabulary."""
    size = int(model.get_input_embeddings().weight.shape[0])
    count = sum(_LENGTHS) + 2 * _NUM_NEW
    ids = [int(index) for index in np.linspace(0, size - 1, count)]
    first, second = ids[: _LENGTHS[0]], ids[_LENGTHS[0] : sum(_LENGTHS)]
    return [first, second], torch.tensor(ids[sum(_LENGTHS) :]).view(2, _NUM_NEW)


def _without_cache(model: Any, prompts: Sequence[list[int]], new: Tensor) -> Tensor:
    rows = []
    for prompt, more in zip(prompts, new.tolist(), strict=True):
        ids = torch.tensor([prompt + more], device=model.device)
        rows.append(model(input_ids=ids, use_cache=False).logits[0, -_NUM_NEW - 1 :])
    return torch.stack(rows).double()


def _continued(way: _Way, model: Any, prompts: Sequence[list[int]], new: Tensor) -> Tensor:
    rows = way(model, prompts)
    found = [rows.logits()]
    for column in new.T:
        rows.append(column[:, None])
        found.append(rows.logits())
    rows.keep([1, 0])  # answers end one by one
    rows.keep([1, 0])
    return torch.cat(found, dim=1).double()


def _misfit(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> float:
    real = wanted.isfinite() & found.isfinite()
    found, wanted = found.where(real, 0.0), wanted.where(real, 0.0)
    misfits = (found - wanted).norm(dim=-1) / wanted.norm(dim=-1).clamp(min=1e-30)
    return float(misfits.max() if dtype in _TOLERANCE else misfits.median())
