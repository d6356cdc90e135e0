"""What every model that answers can do: one model, its byte view, or several that answer as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from crosstok.choices import Unit

Prompt = str | bytes | Sequence[Mapping[str, Any]]
"""Text, bytes, or the messages of a chat.

Bytes may end inside a character where a model is read byte by byte, and must be UTF-8 elsewhere.
Messages are rendered by each model's own chat template, up to where the answer begins.
"""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to generate, with the names and the meaning of transformers.

    Attributes:
        max_new_tokens: At most so many tokens; of models that answer in bytes, bytes, unless
            `max_new_bytes` says how many.
        max_new_bytes: At most so many bytes, of models that answer in bytes; others take no notice.
        temperature: 0 takes the likeliest each time (greedy).
        top_k: Only the so many likeliest; 0 for all.
        top_p: Only the likeliest that hold this much probability together.
        min_p: Only those with at least this share of the likeliest one's probability.
        repetition_penalty: Divides the odds of what is there already; 1 for none. Not of models
            that answer in bytes, where every byte is there soon.
        stop: The answer ends in front of the first of these.
        seed: Of the draws; the global random state is left as it was.
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
            ValueError: One is out of range; names it and its range.
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
        """Whether nothing is drawn."""
        return self.temperature == 0

    @property
    def num_bytes(self) -> int:
        """The limit of a model that answers in bytes."""
        return self.max_new_tokens if self.max_new_bytes is None else self.max_new_bytes

    def of(self, unit: Unit) -> Sampling:
        """The same for a model that writes tokens; `max_new_tokens` counts them, bytes or not."""
        return self if unit == "token" else replace(self, max_new_tokens=self.num_bytes)


@dataclass(frozen=True)
class ContinuationScore:
    """What a model says of one continuation.

    Attributes:
        logprob: Of all its bytes, in nats; of a token that straddles the end of the prompt, in
            full.
        is_greedy: Whether greedy decoding would write it: every token (or byte) is the likeliest
            one. False where it was not asked for.
        num_bytes: Its bytes.
        num_units: Its tokens, or bytes where the model is read byte by byte.
    """

    logprob: float
    is_greedy: bool
    num_bytes: int
    num_units: int


class LanguageModel(Protocol):
    """One object that answers."""

    name: str

    @property
    def unit(self) -> Unit:
        """What it answers in."""
        ...

    @property
    def max_length(self) -> int:
        """Tokens, or bytes, that a text may have, the start token included."""
        ...

    def logprob(
        self, pairs: Sequence[tuple[Prompt, str]], *, greedy: bool = True
    ) -> list[ContinuationScore]:
        """Score continuations.

        Args:
            pairs: Prompt and continuation; the prompt "" is the start of a document.
            greedy: Also find whether greedy decoding would write them, which may cost.

        Raises:
            ValueError: A continuation is empty or cannot be scored, or a prompt cannot be read;
                says which and why. Nothing is cut: one that is too long is an error that says how
                many bytes fit.
        """
        ...

    def text_logprobs(self, texts: Sequence[str]) -> list[ContinuationScore]:
        """Score whole texts, each behind the start of a document; `is_greedy` is not found.

        Of an empty text nothing is asked.

        Raises:
            ValueError: As `logprob`.
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
            prompts: Each is continued, or answered if it is a chat.
            sampling: How; greedy by default.
            on_text: Receives the answer to a single prompt as it comes, in whole characters.

        Returns:
            The answers, without prompts, special tokens and stop strings.

        Raises:
            ValueError: A prompt is empty where nothing starts a text, cannot be read, or leaves no
                room for an answer; or `on_text` comes with several prompts.
        """
        ...


def check_pairs(pairs: Sequence[tuple[Prompt, str]]) -> None:
    """Check that prompts with continuations were given.

    Raises:
        ValueError: One is no pair, or its continuation is no text or empty.
    """
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(
                f"logprob takes a list of (prompt, continuation), and {pair!r:.60} is none."
            )
        prompt, continuation = pair
        if isinstance(continuation, str) and continuation:
            continue
        shown = f"{prompt[-40:]!r}" if isinstance(prompt, str | bytes) else "a chat"
        is_what = "empty" if isinstance(continuation, str) else type(continuation).__name__
        raise ValueError(f"the continuation of {shown} is {is_what}; give some text.")


def check_single(prompts: Sequence[Prompt], on_text: Callable[[str], None] | None) -> None:
    """Check that a list of prompts was given, and only one where text is streamed.

    Raises:
        ValueError: A single prompt was given in the place of the list, or several to stream.
    """
    if isinstance(prompts, str | bytes):
        raise ValueError("generate takes a list of prompts; pass [prompt].")
    if on_text is not None and len(prompts) != 1:
        raise ValueError(f"on_text streams one answer, and there are {len(prompts)} prompts.")


def _check(is_right: bool, name: str, value: object, rule: str) -> None:
    if not is_right:
        raise ValueError(f"{name} is {value}; it must be {rule}.")
