"""Generate answers token by token, in batches, from anything that scores the next outcome.

Two protocols:

* `Steps` are the rows of a model, or of several as one: they give scores for the next outcome, take
  outcomes, also several at once, and can remove them again.
* `Decoder` decides which outcomes are added, and how many at a time. `OneByOne` chooses one from
  the scores. A decoder that drafts several outcomes, scores them together and removes the rejected
  ones has the same form, `Decoder(steps, sampler, numbers)`; pass it to `TokenModel` or
  `TokenEnsemble` as `decoder`.

`answer_rows` does the rest: batches, limits, stops and text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crosstok.inference.answers import AnswerText, Sampler
from crosstok.inference.language_model import Sampling

log = logging.getLogger(__name__)

# Tokens of prompts and answers in one batch, padding included.
_TOKENS_PER_BATCH = {"cpu": 8192}
_TOKENS_PER_BATCH_ACCELERATOR = 65536


class Steps(Protocol):
    """Rows of outcomes that grow together, each after its prompt."""

    def scores(self, num: int = 1) -> Float[Tensor, "B num U"]:
        """Logits or log-probabilities of the outcome after each of the last `num` outcomes.

        The last scores are for the next outcome. These outcomes (or tokens of the prompt) must have
        been added since the last call: nothing is scored twice.
        """
        ...

    def append(self, outcomes: Int[Tensor, "B k"]) -> None:
        """Add `k` outcomes to every row."""
        ...

    def crop(self, num: int) -> None:
        """Remove the last `num` outcomes of every row; earlier scores are no longer valid.

        Raises:
            ValueError: fewer were added, or a cache cannot be rolled back; names the model.
        """
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        ...


class Decoder(Protocol):
    """A way to decode: extends rows by one or more outcomes per step."""

    def step(self, histories: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
        """Extend every row.

        Args:
            histories: for every row, the outcomes of prompt and answer so far.

        Returns:
            For every row the next outcomes, in order, at least one. Outcomes after the first that
            ends the answer are ignored, and the row is dropped.
        """
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        ...


class OneByOne:
    """Plain decoding: one outcome at a time, chosen from the scores."""

    def __init__(self, steps: Steps, sampler: Sampler, numbers: Sequence[int]) -> None:
        """Begin answers.

        Args:
            steps: the rows, with their prompts.
            sampler: chooses outcomes.
            numbers: numbers of the answers, for the sampler.
        """
        self._steps, self._sampler, self._numbers = steps, sampler, list(numbers)
        self._chosen: Int[Tensor, "B 1"] | None = None  # not yet added to the rows

    def step(self, histories: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
        """One outcome for each row; see `Decoder`."""
        if self._chosen is not None:
            self._steps.append(self._chosen)
        scores = self._steps.scores()[:, -1]
        self._chosen = self._sampler(scores, self._numbers, histories)[:, None]
        found: list[list[int]] = self._chosen.tolist()
        return found

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        self._steps.keep(rows)
        self._numbers = [self._numbers[row] for row in rows]
        if self._chosen is not None:
            self._chosen = self._chosen[torch.tensor(rows, device=self._chosen.device)]


MakeDecoder = Callable[[Steps, Sampler, Sequence[int]], Decoder]
"""Makes the decoder of a batch from its rows, a sampler and the numbers of the answers."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcomes that a step can have.

    Attributes:
        contents: bytes of every outcome; empty for special tokens.
        is_stop: [U] whether the outcome ends the answer.
        word_ends: outcomes whose last byte, a space, is written with the next outcome only
            (`ByteVocab.word_ends`).
    """

    contents: Sequence[bytes]
    is_stop: Bool[np.ndarray, " U"]
    word_ends: frozenset[int] = frozenset()

    def after(self, before: int | None, outcome: int) -> bytes:
        """The bytes that an outcome adds to a text, after another one."""
        content = self.contents[outcome]
        if outcome in self.word_ends:
            content = content[:-1]
        return b" " + content if content and before in self.word_ends else content


@dataclass(frozen=True)
class Row:
    """One answer to generate.

    Attributes:
        number: number of the prompt.
        num_prompt_tokens: tokens of the prompt, for several members of the longest one.
        room: number of new tokens that fit.
        history: outcomes of the prompt, for the repetition penalty.
        strips_space: the answer begins with a space that the tokenizer adds, which is removed.
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
    decoder: MakeDecoder = OneByOne,
    on_text: Callable[[str], None] | None = None,
) -> list[str]:
    """Answer all rows, in batches of about equal lengths.

    Args:
        rows: the answers to generate.
        begin: makes the steps of the prompts with these numbers.
        outcomes: the outcomes that are scored.
        sampling: how to choose.
        device: type of the models' device, which sets the size of batches.
        decoder: how to decode.
        on_text: receives the answer to a single row as it comes.
    """
    answers = [""] * len(rows)
    for batch in _batches(rows, sampling.max_new_tokens, device):
        numbers = [row.number for row in batch]
        decoding = decoder(begin(numbers), Sampler(sampling, numbers), numbers)
        texts = _answer_batch(batch, decoding, outcomes, sampling, on_text)
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
    decoder: Decoder,
    outcomes: Outcomes,
    sampling: Sampling,
    on_text: Callable[[str], None] | None,
) -> list[str]:
    texts = [AnswerText(sampling.stop, on_text, strips_space=row.strips_space) for row in batch]
    answers = [
        _Answer(text, min(sampling.max_new_tokens, row.room), list(row.history), outcomes)
        for text, row in zip(texts, batch, strict=True)
    ]
    active = answers
    while active:
        chosen = decoder.step([answer.history for answer in active])
        kept = [
            place
            for place, (answer, found) in enumerate(zip(active, chosen, strict=True))
            if not answer.add(found)
        ]
        if kept and len(kept) < len(active):
            decoder.keep(kept)
        active = [active[place] for place in kept]
    return [text.text for text in texts]


class _Answer:
    """One unfinished answer."""

    def __init__(
        self, text: AnswerText, limit: int, history: list[int], outcomes: Outcomes
    ) -> None:
        self.history = history
        self._text, self._outcomes = text, outcomes
        self._num_left = limit

    def add(self, chosen: Sequence[int]) -> bool:
        """Add outcomes up to the one that ends the answer; returns whether one did."""
        for outcome in chosen:
            before = self.history[-1] if self.history else None
            self.history.append(outcome)
            if self._outcomes.is_stop[outcome]:
                self._text.add(b"", is_last=True)
                return True
            self._num_left -= 1
            is_last = self._num_left == 0
            content = self._outcomes.after(before, outcome)
            if self._text.add(content, is_last=is_last) or is_last:
                return True
        return False


def room_for(
    num_prompt_tokens: int, max_length: int, max_new_tokens: int, num_fitting_bytes: int, name: str
) -> int:
    """Number of new tokens that fit after a prompt in the model's positions.

    Raises:
        ValueError: there is no room for one; says how many bytes of the prompt fit.
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
