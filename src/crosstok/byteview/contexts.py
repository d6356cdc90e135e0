"""Evaluate many token sequences that share keys and values of their common beginnings.

Every token of every sequence is evaluated once and takes one slot of one cache. A sequence is the
list of its slots, and the attention mask of a forward pass lets every new token attend to the slots
of its own sequence and to no others. So a batch of branches is one forward pass over the new tokens
alone, wherever they branch off. Slots of sequences that are no longer referenced are removed.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from crosstok.models import extra_inputs, hidden_states, max_positions, unwrap_model
from crosstok.models.caches import cache_argument
from crosstok.models.head_probe import output_matrix_module
from crosstok.ops import OutputHead

log = logging.getLogger(__name__)

_TOKENS_PER_PASS = 2048

NO_LIMIT = 2**31
"""Positions of a model whose configuration names no number."""


class Context:
    """A token sequence that the model has read.

    Attributes:
        token: its last token.
        length: number of tokens.
        hidden: [D] last hidden state, which predicts the next token.
        following: a context with one more token that was evaluated along with this one, or None.
    """

    __slots__ = ("__weakref__", "following", "hidden", "ids", "length", "slots", "token")

    def __init__(self, token: int, length: int, hidden: Tensor) -> None:
        self.token, self.length, self.hidden = token, length, hidden
        self.following: Context | None = None
        self.slots: np.ndarray = np.zeros(0, dtype=np.int64)
        self.ids: tuple[int, ...] = ()  # all without sharing; the last few for extra inputs


class Contexts:
    """Token sequences that grow from common beginnings.

    Attributes:
        max_length: most tokens in a sequence.
        num_evaluated: tokens that the model has read so far.
    """

    def __init__(
        self, model: PreTrainedModel, max_length: int | None = None, *, share_kv: bool = True
    ) -> None:
        self._model, self._share_kv = model, share_kv
        self._config = unwrap_model(model).config.get_text_config()
        self.max_length = max_length or max_positions(self._config) or NO_LIMIT
        self.num_evaluated = 0
        self._extra = extra_inputs(model)
        self._cache, self._cache_name = DynamicCache(), cache_argument(model) or "cache"
        self._num_slots = 0
        self._alive: weakref.WeakSet[Context] = weakref.WeakSet()

    def extend(
        self, requests: Sequence[tuple[Context | None, Sequence[int]]]
    ) -> list[list[Context]]:
        """Extend each sequence by a chain of tokens, all in one forward pass if they are few.

        Args:
            requests: a context (None for a new sequence) and the tokens after it, at least one.

        Returns:
            For every request, the contexts after each of its tokens.
        """
        made: list[list[Context]] = []
        group: list[tuple[Context | None, Sequence[int]]] = []
        size = 0
        for request in requests:
            if group and size + len(request[1]) > _TOKENS_PER_PASS:
                made += self._evaluate(group)
                group, size = [], 0
            group.append(request)
            size += len(request[1])
        if group:
            made += self._evaluate(group)
        for chain in made:
            for context, after in pairwise(chain):
                context.following = after
        return made

    @torch.no_grad()
    def _evaluate(
        self, requests: Sequence[tuple[Context | None, Sequence[int]]]
    ) -> list[list[Context]]:
        if not self._share_kv:
            return self._evaluate_rows(requests)
        self._compact()
        tokens = [token for _, chain in requests for token in chain]
        positions, slots = self._place(requests)
        masks = self._masks(requests, slots, len(tokens))
        device = self._model.device
        ids = torch.tensor([tokens], device=device)
        with _taking_input(self._model) as seen:
            self._model(
                input_ids=ids,
                attention_mask=masks,
                position_ids=torch.tensor([positions], device=device),
                use_cache=True,
                **{self._cache_name: self._cache},
                **self._extra_inputs(requests),
            )
        self._num_slots += len(tokens)
        self.num_evaluated += len(tokens)
        hidden = seen[0][0]
        made, row = [], 0
        for (parent, chain), own in zip(requests, slots, strict=True):
            before = parent.length if parent else 0
            tail = self._tail(parent)
            contexts = []
            for step, token in enumerate(chain):
                context = Context(token, before + step + 1, hidden[row])
                context.slots = own[: before + step + 1]
                if self._extra is not None:
                    tail = context.ids = (*tail, token)[-self._extra.context :]
                self._alive.add(context)
                contexts.append(context)
                row += 1
            made.append(contexts)
        return made

    def _tail(self, parent: Context | None) -> tuple[int, ...]:
        """The last tokens before a chain, as many as its extra inputs depend on."""
        return parent.ids if parent is not None else ()

    def _extra_inputs(
        self, requests: Sequence[tuple[Context | None, Sequence[int]]]
    ) -> dict[str, Tensor]:
        """The model's inputs besides the ids of the new tokens."""
        if self._extra is None:
            return {}
        found = [
            {
                name: values[:, -len(chain) :]
                for name, values in self._extra(
                    torch.tensor([[*self._tail(parent), *chain]])
                ).items()
            }
            for parent, chain in requests
        ]
        device = self._model.device
        return {name: torch.cat([one[name] for one in found], 1).to(device) for name in found[0]}

    def _place(
        self, requests: Sequence[tuple[Context | None, Sequence[int]]]
    ) -> tuple[list[int], list[np.ndarray]]:
        """Positions of the new tokens, and for every request the slots of its whole sequence."""
        positions: list[int] = []
        slots: list[np.ndarray] = []
        free = self._num_slots
        for parent, chain in requests:
            before = parent.slots if parent else np.zeros(0, dtype=np.int64)
            slots.append(np.concatenate([before, np.arange(free, free + len(chain))]))
            positions += range(len(before), len(before) + len(chain))
            free += len(chain)
        return positions, slots

    def _masks(
        self,
        requests: Sequence[tuple[Context | None, Sequence[int]]],
        slots: Sequence[np.ndarray],
        num_new: int,
    ) -> Any:
        """Additive masks [1 1 N S], one for each kind of layer."""
        windows = attention_windows(self._config)
        masks = {}
        for kind, window in windows.items():
            visible = np.zeros((num_new, self._num_slots + num_new), dtype=np.bool_)
            row = 0
            for (_, chain), own in zip(requests, slots, strict=True):
                first = len(own) - len(chain)
                for length in range(first + 1, len(own) + 1):
                    begin = 0 if window is None else max(0, length - window)
                    visible[row, own[begin:length]] = True
                    row += 1
            hidden = torch.from_numpy(~visible).to(self._model.device)
            mask = torch.zeros(visible.shape, dtype=self._model.dtype, device=self._model.device)
            masks[kind] = mask.masked_fill_(hidden, torch.finfo(mask.dtype).min)[None, None]
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _compact(self) -> None:
        """Remove unreferenced slots once they are the greater part."""
        if self._num_slots < 256:
            return
        used = np.zeros(self._num_slots, dtype=np.bool_)
        alive = list(self._alive)
        for context in alive:
            used[context.slots] = True
        kept = np.flatnonzero(used)
        if 2 * len(kept) + 128 > self._num_slots:
            return
        index = torch.from_numpy(kept).to(self._model.device)
        for layer in self._cache.layers:
            layer.keys = layer.keys.index_select(-2, index)  # type: ignore[union-attr]
            layer.values = layer.values.index_select(-2, index)  # type: ignore[union-attr]
        places = np.cumsum(used) - 1
        moved: dict[int, np.ndarray] = {}  # contexts of a chain keep sharing one array
        for context in alive:
            base = context.slots.base if context.slots.base is not None else context.slots
            if id(base) not in moved:
                moved[id(base)] = places[base]
        for context in alive:
            base = context.slots.base if context.slots.base is not None else context.slots
            context.slots = moved[id(base)][: context.length]
        self._num_slots = len(kept)

    def _evaluate_rows(
        self, requests: Sequence[tuple[Context | None, Sequence[int]]]
    ) -> list[list[Context]]:
        """Without sharing: every sequence from its first token, padded to the longest."""
        rows = [(*(parent.ids if parent else ()), *chain) for parent, chain in requests]
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        device = self._model.device
        hidden = hidden_states(self._model, ids.to(device), mask.to(device))
        self.num_evaluated += sum(map(len, rows))
        made = []
        for place, ((_, chain), row) in enumerate(zip(requests, rows, strict=True)):
            contexts = []
            for length in range(len(row) - len(chain) + 1, len(row) + 1):
                context = Context(row[length - 1], length, hidden[place, length - 1])
                context.ids = row[:length]
                contexts.append(context)
            made.append(contexts)
        return made


@contextmanager
def _taking_input(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Collect the input of the output matrix, and pass only one position on to it."""
    seen: list[Tensor] = []

    def take(_module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        seen.append(args[0])
        return (args[0][:1, -1:], *args[1:])

    handle = output_matrix_module(model).register_forward_pre_hook(take)
    try:
        yield seen
    finally:
        handle.remove()


def attention_windows(config: Any) -> dict[str, int | None]:
    """Kind of layer -> number of tokens attended to, the token included (None for all)."""
    window = getattr(config, "sliding_window", None)
    if window is None or getattr(config, "use_sliding_window", True) is False:
        return {"full_attention": None}
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    if kinds == {"sliding_attention"} and not getattr(config, "layer_types", None):
        return {"sliding_attention": window}
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(kinds)}


def can_share(model: PreTrainedModel, name: str) -> bool:
    """Return whether branches may share a cache; one line says so if they may not."""
    try:
        check_sharing(model)
    except ValueError as error:
        log.warning("%s: every branch is read from its first token, which is slower", name)
        log.debug("%s", error)
        return False
    return True


def check_sharing(model: PreTrainedModel) -> None:
    """Compare shared branches with plain forward passes on a few tokens.

    Raises:
        ValueError: they differ, since the model ignores positions or masks that are passed to it.
    """
    config = unwrap_model(model).config.get_text_config()
    windows = [window for window in attention_windows(config).values() if window]
    length = min([window + 2 for window in windows if window <= 32] or [6])
    embeddings: Any = model.get_input_embeddings()
    size = int(embeddings.weight.shape[0])
    chain = [int(i) % size for i in np.linspace(0, size - 1, length)]
    branch = [size // 2, size // 3]
    plain = Contexts(model, share_kv=False).extend([(None, chain), (None, chain[:3] + branch)])
    try:
        shared = Contexts(model)
        [trunk] = shared.extend([(None, chain)])
        [after] = shared.extend([(trunk[2], branch)])
        found = torch.stack([trunk[-1].hidden, after[-1].hidden])
    except Exception as error:  # whatever a model makes of masks and positions it does not take
        raise ValueError(_NO_SHARING.format(type(model).__name__, error)) from error
    wanted = torch.stack([plain[0][-1].hidden, plain[1][-1].hidden])
    misfit = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))
    bound = {torch.float64: 1e-5, torch.float32: 1e-3}.get(model.dtype, 5e-2)
    if not misfit < bound:
        raise ValueError(_NO_SHARING.format(type(model).__name__, f"off by {misfit:.1e}"))


_NO_SHARING = (
    "{} gives other results for branches that share a cache than without one ({}); pass "
    "share_kv=False, which evaluates every branch from its first token."
)


def log_probabilities(
    head: OutputHead, contexts: Sequence[Context], valid_ids: Bool[Tensor, " V"] | None
) -> Float[Tensor, "N V"]:
    """Log-probabilities of the next token over the valid ids (None: all); for a few contexts."""
    with torch.no_grad():
        logits = head.logits(torch.stack([context.hidden for context in contexts]), valid_ids)
        return torch.log_softmax(logits, dim=-1)
