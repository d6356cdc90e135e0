"""The interface of all language models: one model, its byte view, or several as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from crosstok.choices import Unit

Prompt = str | bytes | Sequence[Mapping[str, Any]]
"""Text, bytes, or the messages of a chat.

Bytes must be UTF-8, but may end inside a character where a model is read byte by byte. Messages are
rendered by each model's own chat template, up to the beginning of the answer.
"""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to generate, with the names and meanings that transformers uses.

    Attributes:
        max_new_tokens: most tokens in an answer; for models that answer in bytes, most bytes,
            unless `max_new_bytes` is set.
        max_new_bytes: most bytes in an answer of models that answer in bytes; others ignore it.
        temperature: 0 takes the most likely token each time (greedy).
        top_k: sample from the k most likely tokens; 0 for all.
        top_p: sample from the most likely tokens that together hold this probability.
        min_p: sample from tokens with at least this share of the highest probability.
        repetition_penalty: above 1, tokens that already occur become less likely; 1 for none.
            Models that answer in bytes do not take it, since nearly all bytes soon occur.
        stop: the answer ends before the first of these strings.
        seed: seed of the sampling; the global random state is not changed.
    """

    max_new_tokens: int = 128
    max_new_bytes: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: a value is out of range; names it and its range.
        """
        _check(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        most = self.max_new_bytes
        _check(most is None or most >= 1, "max_new_bytes", most, "at least 1, or left out")
        is_number = math.isfinite(self.temperature) and self.temperature >= 0
        _check(is_number, "temperature", self.temperature, "0 (greedy) or above")
        _check(self.top_k >= 0, "top_k", self.top_k, "at least 1, or 0 for all")
        _check(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1 (all)")
        _check(0 <= self.min_p <= 1, "min_p", self.min_p, "from 0 (all) to 1")
        penalty = self.repetition_penalty
        is_number = math.isfinite(penalty) and penalty > 0
        _check(is_number, "repetition_penalty", penalty, "above 0; 1 is none")
        if isinstance(self.stop, str) or not all(self.stop):
            raise ValueError(
                f"stop is {self.stop!r}; it must be a tuple of strings that are not empty."
            )

    @property
    def is_greedy(self) -> bool:
        """Whether nothing is sampled."""
        return self.temperature == 0

    @property
    def num_bytes(self) -> int:
        """The limit for a model that answers in bytes."""
        return self.max_new_tokens if self.max_new_bytes is None else self.max_new_bytes

    def of(self, unit: Unit) -> Sampling:
        """The same with `max_new_tokens` as the limit in this unit, of tokens or of bytes."""
        return self if unit == "token" else replace(self, max_new_tokens=self.num_bytes)


@dataclass(frozen=True)
class ContinuationScore:
    """A model's score of one continuation.

    Attributes:
        logprob: log-probability in nats; a token that straddles the end of the prompt counts in
            full.
        is_greedy: whether greedy decoding would write it: every token (or byte) is the most likely
            one. False if this was not requested.
        num_bytes: number of bytes.
        num_units: number of tokens, or of bytes where the model is read byte by byte.
    """

    logprob: float
    is_greedy: bool
    num_bytes: int
    num_units: int


class LanguageModel(Protocol):
    """A model, or several as one, that scores and generates text."""

    name: str

    @property
    def unit(self) -> Unit:
        """The unit in which it answers."""
        ...

    @property
    def max_length(self) -> int:
        """Most tokens (or bytes) in a text, the start token included."""
        ...

    def logprob(
        self, pairs: Sequence[tuple[Prompt, str]], *, greedy: bool = True
    ) -> list[ContinuationScore]:
        """Score continuations.

        Args:
            pairs: prompts with continuations; the prompt "" is the start of a document.
            greedy: also find out whether greedy decoding would write them, which may take longer.

        Raises:
            ValueError: a continuation is empty or cannot be scored, or a prompt cannot be read;
                says which and why. Nothing is cut: for a text that is too long, the error says how
                many bytes fit.
        """
        ...

    def text_logprobs(self, texts: Sequence[str]) -> list[ContinuationScore]:
        """Score whole texts, each after the start of a document; `is_greedy` is always False.

        The score of an empty text is 0.

        Raises:
            ValueError: see `logprob`.
        """
        if isinstance(texts, str):
            raise ValueError("text_logprobs takes a list of texts; pass [text].")
        scores = iter(self.logprob([("", text) for text in texts if text], greedy=False))
        return [next(scores) if text else ContinuationScore(0.0, False, 0, 0) for text in texts]

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling = ...,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> list[str]:
        """Answer prompts, several at a time.

        Args:
            prompts: texts to continue, or chats to answer.
            sampling: how to generate; greedy by default.
            on_text: receives the answer to a single prompt as it is generated, in whole
                characters.

        Returns:
            The answers, without prompts, special tokens and stop strings.

        Raises:
            ValueError: a prompt is empty and the tokenizer has no start token, cannot be read, or
                leaves no room for an answer; or `on_text` is given with several prompts.
        """
        ...


def check_pairs(pairs: Sequence[tuple[Prompt, str]]) -> None:
    """Check that these are prompts with continuations.

    Raises:
        ValueError: one is not a pair, or its continuation is not text or empty.
    """
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(
                f"logprob takes a list of (prompt, continuation), and {pair!r:.60} is not one."
            )
        prompt, continuation = pair
        if isinstance(continuation, str) and continuation:
            continue
        shown = f"{prompt[-40:]!r}" if isinstance(prompt, str | bytes) else "a chat"
        is_what = "empty" if isinstance(continuation, str) else type(continuation).__name__
        raise ValueError(f"the continuation of {shown} is {is_what}; give some text.")


def check_single(prompts: Sequence[Prompt], on_text: Callable[[str], None] | None) -> None:
    """Check that prompts are a list, of one prompt only where text is streamed.

    Raises:
        ValueError: a single prompt is given instead of a list, or several are to be streamed.
    """
    if isinstance(prompts, str | bytes):
        raise ValueError("generate takes a list of prompts; pass [prompt].")
    if on_text is not None and len(prompts) != 1:
        raise ValueError(f"on_text streams one answer, and there are {len(prompts)} prompts.")


def _check(is_right: bool, name: str, value: object, rule: str) -> None:
    if not is_right:
        raise ValueError(f"{name} is {value}; it must be {rule}.")
