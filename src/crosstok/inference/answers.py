"""Build answers: sampling, stop strings, and text in whole characters."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from crosstok.inference.language_model import Sampling


class Sampler:
    """Draws outcomes by the options of `Sampling`, with transformers' logits processors."""

    def __init__(self, sampling: Sampling, rows: Sequence[int]) -> None:
        """Seed the draws.

        Args:
            sampling: the options.
            rows: numbers of the answers; each has its own random draws, whatever the batch.
        """
        self._is_greedy = sampling.is_greedy
        self._penalty: Any = LogitsProcessorList()
        if sampling.repetition_penalty != 1:
            self._penalty.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        self._warpers: Any = LogitsProcessorList()
        if not sampling.is_greedy:  # in the order of transformers
            self._warpers.append(TemperatureLogitsWarper(float(sampling.temperature)))
            if sampling.top_k:
                self._warpers.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                self._warpers.append(TopPLogitsWarper(sampling.top_p))
            if sampling.min_p:
                self._warpers.append(MinPLogitsWarper(sampling.min_p))
        self._random = {row: np.random.default_rng([sampling.seed, row]) for row in rows}

    def __call__(
        self,
        scores: Float[Tensor, "B U"],
        rows: Sequence[int],
        history: Sequence[Sequence[int]] | None = None,
    ) -> Int[Tensor, " B"]:
        """Choose one outcome for each row.

        Args:
            scores: logits or log-probabilities of the outcomes.
            rows: numbers of the answers.
            history: outcomes of prompt and answer so far, for the repetition penalty.
        """
        if self._penalty and history is not None:
            scores = self._penalized(scores, history)
        if self._is_greedy:
            return scores.argmax(dim=-1)
        ids = torch.zeros(len(scores), 0, dtype=torch.long, device=scores.device)
        scores = self._warpers(ids, scores)
        mass = scores.double().softmax(dim=-1).cumsum(dim=-1)
        drawn = [[self._random[row].random()] for row in rows]
        places = torch.tensor(drawn, dtype=torch.float64, device=scores.device) * mass[:, -1:]
        return torch.searchsorted(mass, places, right=True).squeeze(1).clamp(max=mass.shape[1] - 1)

    def _penalized(
        self, scores: Float[Tensor, "B U"], history: Sequence[Sequence[int]]
    ) -> Float[Tensor, "B U"]:
        """Apply the penalty; shorter histories are padded with an extra outcome, then removed."""
        size, width = scores.shape[1], max(map(len, history))
        ids = torch.full((len(history), width), size, dtype=torch.long)
        for place, row in enumerate(history):
            ids[place, : len(row)] = torch.tensor(row)
        filled = torch.nn.functional.pad(scores, (0, 1), value=-torch.inf)
        penalized: Tensor = self._penalty(ids.to(scores.device), filled)
        return penalized[:, :size]


def begun_character(prompt: object) -> bytes:
    """The bytes of an unfinished character at the end of a prompt of bytes; else none."""
    if not isinstance(prompt, bytes):
        return b""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(prompt)
    return decoder.getstate()[0]


class AnswerText:
    """Builds one answer from its bytes: text in whole characters, up to the first stop string.

    Attributes:
        text: the answer so far.
    """

    def __init__(
        self,
        stop: Sequence[str] = (),
        on_text: Callable[[str], None] | None = None,
        *,
        strips_space: bool = False,
        begun: bytes = b"",
    ) -> None:
        """Begin an answer.

        Args:
            stop: the answer ends before the first of these strings.
            on_text: receives the answer piece by piece; the possible beginning of a stop string is
                held back until it is certain.
            strips_space: the first byte is a space that the tokenizer puts before every text.
            begun: the unfinished character at the end of the prompt; the answer begins with the
                whole character.
        """
        self.text = ""
        self._stop, self._on_text = tuple(stop), on_text
        self._strips_space = strips_space
        self._longest = max(map(len, self._stop), default=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._decoder.decode(begun)
        self._num_sent = 0

    def add(self, content: bytes, *, is_last: bool = False) -> bool:
        """Add bytes, or the end of the answer; returns whether a stop string was found."""
        if self._strips_space and content:
            content, self._strips_space = content.removeprefix(b" "), False
        before = len(self.text)
        self.text += self._decoder.decode(content, final=is_last)
        from_here = max(0, before - self._longest + 1)
        found = [place for word in self._stop if (place := self.text.find(word, from_here)) >= 0]
        if found:
            self.text = self.text[: min(found)]
        self._send(is_end=bool(found) or is_last)
        return bool(found)

    def _send(self, *, is_end: bool) -> None:
        end = len(self.text) if is_end else len(self.text) - self._held_back()
        if end > self._num_sent and self._on_text is not None:
            self._on_text(self.text[self._num_sent : end])
        self._num_sent = max(self._num_sent, end)

    def _held_back(self) -> int:
        """Number of characters at the end with which a stop string may begin."""
        sizes = range(min(self._longest - 1, len(self.text)), 0, -1)
        ends = (size for size in sizes for word in self._stop if word.startswith(self.text[-size:]))
        return next(ends, 0)
