"""Score token rows: the log-probabilities of their last tokens under a model.

Rows are batched by length, and logits are computed only for the scored tokens, in blocks: there is
no [tokens, vocabulary]. Rows of the output matrix without a token (padding, or gaps in the ids) get
no probability, as in training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstok.models import check_vocabulary_fits, hidden_states, max_positions, output_head
from crosstok.models.context_length import describe_excess
from crosstok.ops import OutputHead, linear_logprobs
from crosstok.tokenizers import Spans, TextEncoder

MAX_LENGTH = 2048
"""Default number of tokens in a window, for models with at least as many positions."""

TOKENS_PER_BATCH = {"cpu": 2048}
TOKENS_PER_BATCH_ACCELERATOR = 16384
"""Tokens in one forward pass. On a CPU more than its cache holds is slower: 600 BLiMP pairs took
5.5 s of CPU time with 8,192 and 3.5 s with 2,048 (6M parameters)."""

_BLOCK_BYTES = 32 * 2**20  # of logits, where whole distributions are needed


@dataclass(frozen=True)
class TokenRow:
    """Token ids; those from index `first` on are scored, each after all ids before it."""

    ids: Int[np.ndarray, " T"]
    first: int  # at least 1: nothing comes before token 0

    def __post_init__(self) -> None:
        if not 1 <= self.first <= len(self.ids):
            raise ValueError(
                f"first is {self.first}; it must be from 1 to {len(self.ids)}, the number of ids."
            )


@dataclass(frozen=True)
class RowScores:
    """Scores of the scored tokens of one row, N = T - first."""

    logprobs: Float[np.ndarray, " N"]  # nats, float64
    is_greedy: Bool[np.ndarray, " N"] | None  # the token is the model's most likely one


class Scorer:
    """A causal language model that scores text.

    Attributes:
        name: the model's name in tables and errors.
        max_length: tokens in a window, the start token included.
        start: id put before every window (bos, else eos), or None if there is none.
        byte_vocab: the bytes of the tokenizer's ids; without special ids that the model lacks.
        head: the output head, from hidden states to logits.
        valid_ids: [V] which rows of the output matrix are tokens; None where all are.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str | None = None,
        max_length: int | None = None,
        tokens_per_batch: int | None = None,
        rows_per_batch: int | None = None,
    ) -> None:
        """Prepare a model for scoring; it is put in evaluation mode.

        Args:
            model: a causal language model of transformers.
            tokenizer: its fast tokenizer.
            name: by default the model's own name or class.
            max_length: tokens in a window; by default the model's positions, at most `MAX_LENGTH`.
            tokens_per_batch: tokens in one forward pass, padding included; the default depends on
                the device.
            rows_per_batch: rows in one forward pass at most; as many as fit by default.

        Raises:
            ValueError: the tokenizer has ids that the model has no rows for, or `max_length` is
                below 2 or above the model's positions.
        """
        self.name = name or getattr(model, "name_or_path", "") or type(model).__name__
        self.model = model.eval()
        self.encoder = TextEncoder(tokenizer)
        self.byte_vocab = self.encoder.byte_vocab
        self.start = self.byte_vocab.document_start
        self.max_length = _max_length(model, max_length, self.name)
        check_vocabulary_fits(model, self.byte_vocab.num_rows_needed, self.name)
        self.head = output_head(model)
        self.byte_vocab = self.byte_vocab.with_rows(self.head.weight.shape[0])
        device = self.head.weight.device
        valid = self.byte_vocab.token_mask(self.head.weight.shape[0])
        self.valid_ids: Bool[Tensor, " V"] | None = (
            None if valid.all() else torch.from_numpy(valid).to(device)
        )
        self.tokens_per_batch = tokens_per_batch or TOKENS_PER_BATCH.get(
            device.type, TOKENS_PER_BATCH_ACCELERATOR
        )
        self.rows_per_batch = rows_per_batch

    def with_window(
        self,
        max_length: int | None = None,
        tokens_per_batch: int | None = None,
        rows_per_batch: int | None = None,
    ) -> Scorer:
        """The same model with other windows or batches; None leaves them unchanged.

        Raises:
            ValueError: `max_length` is below 2 or above the model's positions.
        """
        other = copy.copy(self)
        if max_length is not None:
            other.max_length = _max_length(self.model, max_length, self.name)
        other.tokens_per_batch = tokens_per_batch or self.tokens_per_batch
        other.rows_per_batch = rows_per_batch or self.rows_per_batch
        return other

    @property
    def num_start(self) -> int:
        """Tokens before every window: 1, or 0 if the tokenizer has neither bos nor eos."""
        return 0 if self.start is None else 1

    def encode(self, texts: Sequence[str]) -> list[Spans]:
        """Text tokens with byte spans, without start and end of document."""
        return self.encoder(texts, add_start=False, add_end=False)

    def row(self, ids: Int[np.ndarray, " T"], num_context: int = 0) -> TokenRow | None:
        """Make a row of text ids after the start token; the first `num_context` are not scored.

        Without a start token nothing comes before the first id, and it is not scored. None if no id
        is left to score.
        """
        if self.start is not None:
            ids = np.concatenate([np.array([self.start], dtype=np.int64), ids])
        return self.row_without_start(ids, num_context + self.num_start)

    def row_without_start(
        self, ids: Int[np.ndarray, " T"], num_context: int = 0
    ) -> TokenRow | None:
        """Make a row of ids that continue a text, without a start token; see `row`."""
        first = max(1, num_context)
        return TokenRow(ids, first) if first < len(ids) else None

    def score(
        self,
        rows: Sequence[TokenRow],
        *,
        greedy: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[RowScores]:
        """Score rows; the order and the size of batches affect nothing but rounding.

        Equal rows are scored once, so that their scores are the same to the last digit.

        Args:
            rows: the rows to score.
            greedy: also find out which tokens are the model's most likely ones.
            on_progress: called with the number of rows done, after every batch.

        Raises:
            ValueError: see `crosstok.models.hidden_states` and `crosstok.ops.linear_logprobs`.
        """
        places: dict[tuple[int, bytes], list[int]] = {}
        for place, row in enumerate(rows):
            key = row.first, np.asarray(row.ids, dtype=np.int64).tobytes()
            places.setdefault(key, []).append(place)
        equal = list(places.values())
        scores: dict[int, RowScores] = {}
        with torch.no_grad():
            lengths = [len(rows[same[0]].ids) for same in equal]
            for batch in batches(lengths, self.tokens_per_batch, self.rows_per_batch):
                done = self._score_batch([rows[equal[i][0]] for i in batch], greedy)
                for i, result in zip(batch, done, strict=True):
                    scores.update(dict.fromkeys(equal[i], result))
                if on_progress is not None:
                    on_progress(sum(len(equal[i]) for i in batch))
        return [scores[place] for place in range(len(rows))]

    def hidden_of(self, rows: Sequence[TokenRow]) -> tuple[Float[Tensor, "N D"], Int[Tensor, " N"]]:
        """The hidden states that predict the scored tokens, and these tokens.

        All rows are in one forward pass, and their tokens are concatenated; for a few rows.
        """
        device = self.head.weight.device
        width = max(len(row.ids) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        attention_mask = torch.zeros_like(ids)
        wanted = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = torch.from_numpy(np.asarray(row.ids, dtype=np.int64))
            attention_mask[i, : len(row.ids)] = 1
            wanted[i, row.first - 1 : len(row.ids) - 1] = True  # row k predicts token k + 1
        ids, attention_mask, wanted = (x.to(device) for x in (ids, attention_mask, wanted))
        with torch.no_grad():
            hidden = hidden_states(self.model, ids, attention_mask)[wanted]
        return hidden, ids.roll(-1, dims=1)[wanted]

    def _score_batch(self, rows: list[TokenRow], greedy: bool) -> list[RowScores]:
        hidden, labels = self.hidden_of(rows)
        logprobs, _ = linear_logprobs(hidden, self.head, labels, valid_ids=self.valid_ids)
        likeliest = _most_likely(hidden, self.head, self.valid_ids) if greedy else None
        is_greedy = None if likeliest is None else likeliest == labels
        counts = [len(row.ids) - row.first for row in rows]
        split = logprobs.double().cpu().numpy(), None if is_greedy is None else is_greedy.cpu()
        ends = np.cumsum(counts)
        return [
            RowScores(
                split[0][end - count : end],
                None if split[1] is None else split[1][end - count : end].numpy(),
            )
            for end, count in zip(ends, counts, strict=True)
        ]


def groups(texts: Iterable[str], num_chars: int = 4_000_000) -> Iterator[list[str]]:
    """Texts in groups of about `num_chars` characters, to bound the memory that they take."""
    group: list[str] = []
    held = 0
    for text in texts:
        group.append(text)
        held += len(text)
        if held >= num_chars:
            yield group
            group, held = [], 0
    if group:
        yield group


def _max_length(model: Any, asked: int | None, name: str) -> int:
    positions = max_positions(model.config)
    if asked is None:
        return min(positions or MAX_LENGTH, MAX_LENGTH)
    if asked < 2:
        raise ValueError(f"max_length is {asked}; a window needs at least 2 tokens.")
    if positions is not None and asked > positions:
        raise ValueError(describe_excess("max_length", asked, name, positions))
    return asked


def batches(
    lengths: list[int], tokens_per_batch: int, rows_per_batch: int | None = None
) -> Iterator[list[int]]:
    """Indices of rows, longest first, as many as fit when all are padded to the longest."""
    most = rows_per_batch or len(lengths)
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batch: list[int] = []
    for i in order:
        is_full = len(batch) == most
        if batch and (is_full or (len(batch) + 1) * lengths[batch[0]] > tokens_per_batch):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def blocks(num_rows: int, vocab_size: int) -> Iterator[slice]:
    """Slices of rows whose logits take little memory."""
    rows = max(1, _BLOCK_BYTES // (4 * vocab_size))
    for first in range(0, num_rows, rows):
        yield slice(first, first + rows)


def _most_likely(
    hidden: Float[Tensor, "N D"], head: OutputHead, valid_ids: Bool[Tensor, " V"] | None
) -> Int[Tensor, " N"]:
    """The id with the largest logit; scale and soft cap keep the order of logits."""
    best = []
    for places in blocks(len(hidden), head.weight.shape[0]):
        block = hidden[places].to(head.weight.dtype)
        logits = torch.nn.functional.linear(block, head.weight, head.bias)
        if valid_ids is not None:
            logits = logits.masked_fill(~valid_ids, -torch.inf)
        best.append(logits.argmax(dim=-1))
    return torch.cat(best)
