"""Answers token by token, many at a time, from whatever gives scores of the next outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstok.inference.answers import AnswerText, Sampler
from crosstok.inference.language_model import Sampling

log = logging.getLogger(__name__)

# Tokens of prompts and answers that are held at once, padding included.
_TOKENS_PER_BATCH = {"cpu": 8192}
_TOKENS_PER_BATCH_ACCELERATOR = 65536


class Steps(Protocol):
    """Rows that grow by one outcome at a time."""

    def scores(self) -> Float[Tensor, "B U"]:
        """Logits or log-probabilities of the next outcome."""
        ...

    def append(self, outcomes: Int[Tensor, " B"]) -> None:
        """Add an outcome to every row."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        ...


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What may come next.

    Attributes:
        contents: Bytes of every outcome; empty for special tokens.
        is_stop: [U] Whether it ends the answer.
    """

    contents: Sequence[bytes]
    is_stop: Bool[np.ndarray, " U"]


@dataclass(frozen=True)
class Row:
    """One answer that is asked for.

    Attributes:
        number: Of the prompt.
        num_prompt_tokens: Of the longest of the members' prompts.
        room: New tokens that fit.
        history: Outcomes of the prompt, for the repetition penalty.
        strips_space: The first space of the answer is the tokenizer's.
    """

    number: int
    num_prompt_tokens: int
    room: int
    history: tuple[int, ...]
    strips_space: bool = False


def answer_rows(
    rows: Sequence[Row],
    begin: Callable[[Sequence[int]], Steps],
    outcomes: Outcomes,
    sampling: Sampling,
    *,
    device: str,
    on_text: Callable[[str], None] | None = None,
) -> list[str]:
    """Answer all rows, in batches of about equal lengths.

    Args:
        rows: What is asked for.
        begin: Makes the steps of the prompts with these numbers.
        outcomes: What the scores are of.
        sampling: How to choose.
        device: Type of the models' device, which decides the size of batches.
        on_text: Receives the answer to a single row as it comes.
    """
    answers = [""] * len(rows)
    for batch in _batches(rows, sampling.max_new_tokens, device):
        steps = begin([row.number for row in batch])
        texts = _answer_batch(batch, steps, outcomes, sampling, on_text)
        for row, text in zip(batch, texts, strict=True):
            answers[row.number] = text
    return answers


def _batches(rows: Sequence[Row], num_new: int, device: str) -> Iterator[list[Row]]:
    budget = _TOKENS_PER_BATCH.get(device, _TOKENS_PER_BATCH_ACCELERATOR)
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: -row.num_prompt_tokens):
        if batch and (len(batch) + 1) * (batch[0].num_prompt_tokens + num_new) > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _answer_batch(
    batch: Sequence[Row],
    steps: Steps,
    outcomes: Outcomes,
    sampling: Sampling,
    on_text: Callable[[str], None] | None,
) -> list[str]:
    texts = [AnswerText(sampling.stop, on_text, strips_space=row.strips_space) for row in batch]
    histories = [list(row.history) for row in batch]
    limits = [min(sampling.max_new_tokens, row.room) for row in batch]
    numbers = [row.number for row in batch]
    sampler = Sampler(sampling, numbers)
    active = list(range(len(batch)))
    step = 0
    while active:
        step += 1
        live = [numbers[place] for place in active]
        chosen = sampler(steps.scores(), live, [histories[place] for place in active])
        kept = []
        for position, (place, outcome) in enumerate(zip(active, chosen.tolist(), strict=True)):
            histories[place].append(outcome)
            if outcomes.is_stop[outcome]:
                texts[place].add(b"", is_last=True)
                continue
            is_last = step >= limits[place]
            if not texts[place].add(outcomes.contents[outcome], is_last=is_last) and not is_last:
                kept.append(position)
        if kept and len(kept) < len(active):
            steps.keep(kept)
            chosen = chosen[kept]
        active = [active[position] for position in kept]
        if active:
            steps.append(chosen)
    return [text.text for text in texts]


def room_for(
    num_prompt_tokens: int, max_length: int, max_new_tokens: int, num_fitting_bytes: int, name: str
) -> int:
    """New tokens that the model's positions hold behind a prompt.

    Raises:
        ValueError: None; says how many bytes of a prompt fit.
    """
    room = max_length - num_prompt_tokens
    if room < 1:
        raise ValueError(
            f"the prompt has {num_prompt_tokens} tokens, and {name} has {max_length} positions for "
            f"prompt and answer: {num_fitting_bytes} bytes of it fit with one new token; shorten "
            "the prompt."
        )
    if room < max_new_tokens:
        log.warning("%d new tokens at most: %s has %d positions", room, name, max_length)
    return room
