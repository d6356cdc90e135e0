"""How an answer comes about, whatever says it: draws, stop strings, text in whole characters."""

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
    """Draws outcomes by the options of `Sampling`, through transformers' own processors."""

    def __init__(self, sampling: Sampling, rows: Sequence[int]) -> None:
        """Seed the draws.

        Args:
            sampling: The options.
            rows: Numbers of the answers: each has draws of its own, whoever else is in the batch.
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
        """One outcome for each row.

        Args:
            scores: Logits or log-probabilities of the outcomes.
            rows: Numbers of the answers.
            history: Outcomes of prompt and answer so far, for the repetition penalty.
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
        """Rows of different lengths are filled up with an outcome behind the last one."""
        size, width = scores.shape[1], max(map(len, history))
        ids = torch.full((len(history), width), size, dtype=torch.long)
        for place, row in enumerate(history):
            ids[place, : len(row)] = torch.tensor(row)
        filled = torch.nn.functional.pad(scores, (0, 1), value=-torch.inf)
        penalized: Tensor = self._penalty(ids.to(scores.device), filled)
        return penalized[:, :size]


def begun_character(prompt: object) -> bytes:
    """The bytes at the end of a prompt that begin a character; none of text and chats."""
    if not isinstance(prompt, bytes):
        return b""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(prompt)
    return decoder.getstate()[0]


class AnswerText:
    """One answer as its bytes come: text in whole characters, up to the first stop string.

    Attributes:
        text: The answer so far.
    """

    def __init__(
        self,
        stop: Sequence[str] = (),
        on_text: Callable[[str], None] | None = None,
        *,
        strips_space: bool = False,
        begun: bytes = b"",
    ) -> None:
        """Begin.

        Args:
            stop: The answer ends in front of the first of them.
            on_text: Receives the answer piece by piece; what may be the beginning of a stop string
                is held back until it is known.
            strips_space: The first byte is a space that a tokenizer puts in front of every text.
            begun: The beginning of a character, at the end of the prompt; the answer begins with
                the whole of it.
        """
        self.text = ""
        self._stop, self._on_text = tuple(stop), on_text
        self._strips_space = strips_space
        self._longest = max(map(len, self._stop), default=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._decoder.decode(begun)
        self._told = 0

    def add(self, content: bytes, *, is_last: bool = False) -> bool:
        """Take more bytes, or the end of the answer; says whether a stop string came."""
        if self._strips_space and content:
            content, self._strips_space = content.removeprefix(b" "), False
        before = len(self.text)
        self.text += self._decoder.decode(content, final=is_last)
        from_here = max(0, before - self._longest + 1)
        found = [place for word in self._stop if (place := self.text.find(word, from_here)) >= 0]
        if found:
            self.text = self.text[: min(found)]
        self._tell(is_end=bool(found) or is_last)
        return bool(found)

    def _tell(self, *, is_end: bool) -> None:
        end = len(self.text) if is_end else len(self.text) - self._held_back()
        if end > self._told and self._on_text is not None:
            self._on_text(self.text[self._told : end])
        self._told = max(self._told, end)

    def _held_back(self) -> int:
        """Characters at the end that a stop string may begin with."""
        sizes = range(min(self._longest - 1, len(self.text)), 0, -1)
        ends = (size for size in sizes for word in self._stop if word.startswith(self.text[-size:]))
        return next(ends, 0)
