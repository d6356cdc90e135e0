"""Models with any tokenizers that answer as one, byte by byte, and the byte view of one.

Every member is read byte by byte (`ByteModel`), and their distributions over the 256 bytes and the
end are combined; the end is one outcome, whatever special tokens a member has for it. P_i is
member i's probability of the next byte x, and w_i its weight (weights sum to 1):

bytes-mixture   sum_i w_i P_i(x), the same weights at every byte
bytes-bayes     sum_i w_i P_i(text so far) P_i(x), normalised: the mixture of whole texts
bytes-product   prod_i P_i(x)^w_i, normalised
proxy           P_base(x) (P_expert(x) / P_anti(x))^alpha, normalised (Liu et al. 2024,
                arXiv 2401.08565, per byte)

In products and ratios no probability is below 1e-9, so that no single member can rule a byte out;
in a product, a byte that all members find less likely than that keeps its probability.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from crosstok.byteview.model import STOP, ByteStream
from crosstok.byteview.reader import NoRoomError, Pruning
from crosstok.choices import Target, Unit
from crosstok.inference.answers import AnswerText, Sampler, begun_character
from crosstok.inference.byte_member import ByteMember
from crosstok.inference.ensemble import check_engine
from crosstok.inference.language_model import (
    ContinuationScore,
    LanguageModel,
    Prompt,
    Sampling,
    check_pairs,
    check_single,
)

log = logging.getLogger(__name__)

_LOG_FLOOR = math.log(1e-9)
_SPACE = ord(" ")
_DEFAULT = Pruning()
_CHARS_PER_GROUP = (
    8192  # of continuations whose tables are in memory at once, 2 kB per byte and member
)


class ByteEnsemble(LanguageModel):
    """Models that answer byte by byte as one: see `LanguageModel`.

    Attributes:
        name: the rule with the members' names.
        members: the models.
        combine: the rule; see the module.
    """

    unit: Unit = "byte"

    def __init__(
        self,
        members: Sequence[ByteMember],
        combine: str,
        *,
        weights: Sequence[float] | None = None,
        alpha: float = 1.0,
    ) -> None:
        """Combine models.

        Args:
            members: the models; for "proxy" base, expert and anti-expert.
            combine: the rule.
            weights: one for each member, above 0; equal by default.
            alpha: for "proxy": strength of expert minus anti-expert.

        Raises:
            ValueError: see `Ensemble`.
        """
        declared = check_engine(ByteEnsemble, members, combine, weights, alpha)
        self.members, self.combine, self._alpha = list(members), combine, alpha
        self._weights = declared.shares
        names = ", ".join(member.name for member in members)
        self.name = f"{combine}({names})"

    @property
    def max_length(self) -> int:
        """Bytes that always fit; a text of ordinary tokens may have several times as many."""
        return min(member.model.max_length for member in self.members)

    def logprob(
        self, pairs: Sequence[tuple[Prompt, str]], *, greedy: bool = True
    ) -> list[ContinuationScore]:
        """Score continuations; see `LanguageModel.logprob`.

        Many texts are scored in a few passes; `greedy` takes one step per byte, up to the first
        byte that greedy decoding would not write.
        """
        check_pairs(pairs)
        if not pairs:
            return []
        if self.combine == "bytes-bayes":
            logprobs = self._sequence_logprobs(pairs)
        elif self.combine == "bytes-mixture":
            logprobs = self._mixture_logprobs(pairs)
        else:
            logprobs = [logprob for group in _groups(pairs) for logprob in self._table_sums(group)]
        likeliest = [greedy and self._is_greedy(*pair) for pair in pairs]
        sizes = [len(continuation.encode()) for _, continuation in pairs]
        return [
            ContinuationScore(logprob, is_greedy, size, size)
            for logprob, is_greedy, size in zip(logprobs, likeliest, sizes, strict=True)
        ]

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> list[str]:
        """Answer prompts, one after the other; see `LanguageModel.generate`.

        A prompt of bytes may end inside a character; the answer then begins with that character.
        """
        check_single(prompts, on_text)
        if sampling.repetition_penalty != 1:
            raise ValueError(
                f"repetition_penalty is {sampling.repetition_penalty}, and a model that answers in "
                "bytes takes none, since nearly all bytes soon occur. Leave it out."
            )
        for prompt in prompts:  # before the first is answered
            for member in self.members:
                member.check_prompt(prompt)
        return [self._answer(i, prompt, sampling, on_text) for i, prompt in enumerate(prompts)]

    def next_byte_logprobs(
        self, tables: Float[np.ndarray, "k n U"], so_far: Float[np.ndarray, "k n"]
    ) -> Float[np.ndarray, "n U"]:
        """Combine the members' log-probabilities of the outcomes.

        Args:
            tables: [k, n, U] the members' log-probabilities, at n places.
            so_far: [k, n] the members' log-probabilities of everything before those places.
        """
        if self.combine == "proxy":
            base, expert, anti = tables
            ratio = np.maximum(expert, _LOG_FLOOR) - np.maximum(anti, _LOG_FLOOR)
            return _normalized(base + self._alpha * ratio)
        weights = self._weights[:, None, None]
        if self.combine == "bytes-product":
            # Where all members are below the floor, probabilities stay, even 0.
            floored = np.where(tables.max(axis=0) < _LOG_FLOOR, tables, tables.clip(_LOG_FLOOR))
            return _normalized((weights * floored).sum(axis=0))
        log_weights = np.log(weights)
        if self.combine == "bytes-bayes":
            log_weights = log_weights + so_far[:, :, None]
            log_weights = log_weights - np.logaddexp.reduce(log_weights, axis=0)
        mixed: Float[np.ndarray, "n U"] = np.logaddexp.reduce(log_weights + tables, axis=0)
        return mixed

    def _sequence_logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[float]:
        sums = np.array([member.sums(pairs) for member in self.members])  # [k, pairs, 2]
        both = np.logaddexp.reduce(np.log(self._weights)[:, None, None] + sums, axis=0)
        return [float(value) for value in both[:, 1] - both[:, 0]]

    def _mixture_logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[float]:
        log_weights = np.log(self._weights)[:, None]
        by_member = [member.byte_logprobs(pairs) for member in self.members]
        return [
            float(np.logaddexp.reduce(log_weights + np.stack(rows), axis=0).sum())
            for rows in zip(*by_member, strict=True)
        ]

    def _table_sums(self, pairs: Sequence[tuple[Prompt, str]]) -> list[float]:
        """Sums over the combined tables, which have one more outcome for what was pruned."""
        sums = []
        by_member = [member.tables(pairs) for member in self.members]
        for (_, continuation), tables in zip(pairs, zip(*by_member, strict=True), strict=True):
            stacked = np.stack(tables)
            combined = self.next_byte_logprobs(stacked, np.zeros(stacked.shape[:2]))
            content = np.frombuffer(continuation.encode(), dtype=np.uint8)
            sums.append(float(combined[np.arange(len(content)), content].sum()))
        return sums

    def _is_greedy(self, prompt: Prompt, continuation: str) -> bool:
        streams = [member.stream(prompt, continuation) for member in self.members]
        so_far = np.array([[stream.logprob] for stream in streams])
        content = continuation.encode()
        for place, byte in enumerate(content, 1):
            tables = np.stack([[stream.next_byte_logprobs()] for stream in streams])
            if int(self.next_byte_logprobs(tables, so_far).argmax()) != byte:
                return False
            if place < len(content):  # the last one may have no position left
                so_far = so_far + tables[:, :, byte]
                for stream in streams:
                    stream.advance(byte)
        return True

    def _answer(
        self,
        number: int,
        prompt: Prompt,
        sampling: Sampling,
        on_text: Callable[[str], None] | None,
    ) -> str:
        streams = [member.stream(prompt) for member in self.members]
        so_far = np.array([[stream.logprob] for stream in streams])
        sampler = Sampler(sampling, [number])
        text = AnswerText(sampling.stop, on_text, begun=begun_character(prompt))
        separates, held = self.members[0].model.separates_words, b""
        for step in range(1, sampling.num_bytes + 1):
            tables = np.stack([[stream.next_byte_logprobs()] for stream in streams])
            scores = torch.from_numpy(self.next_byte_logprobs(tables, so_far))
            byte = int(sampler(scores, [number]))
            if byte == STOP:
                break
            is_last = step == sampling.num_bytes
            content = held + bytes([byte])
            held = b" " if separates and byte == _SPACE else b""
            if text.add(content.removesuffix(held), is_last=is_last) or is_last:
                return text.text
            if not self._advance(streams, byte, step):
                break
            so_far = so_far + tables[:, :, byte]
        text.add(b"", is_last=True)
        return text.text

    def _advance(self, streams: Sequence[ByteStream], byte: int, step: int) -> bool:
        """Let all members read a byte; False if one of them has no position left."""
        try:
            for stream in streams:
                stream.advance(byte)
        except NoRoomError as error:
            log.warning("stopped after %d new bytes: %s", step, error)
            return False
        return True


class ByteView(ByteEnsemble):
    """One model, read byte by byte: see `LanguageModel` and `ByteModel`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        name: str | None = None,
        chat_template: str | None = None,
        target: Target = "all",
        pruning: Pruning = _DEFAULT,
    ) -> None:
        """Prepare a model; see `ByteModel` for the arguments and what they raise."""
        member = ByteMember(
            model,
            tokenizer,
            name=name,
            chat_template=chat_template,
            target=target,
            pruning=pruning,
        )
        self.members, self.name = [member], member.name
        self.combine, self._alpha = "bytes-bayes", 1.0  # for one model: its own probability
        self._weights = np.ones(1)


def _groups(pairs: Sequence[tuple[Prompt, str]]) -> Iterator[list[tuple[Prompt, str]]]:
    """Pairs in groups, to bound the memory that their tables take."""
    group: list[tuple[Prompt, str]] = []
    size = 0
    for pair in pairs:
        group.append(pair)
        size += len(pair[1])
        if size >= _CHARS_PER_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _normalized(scores: Float[np.ndarray, "n U"]) -> Float[np.ndarray, "n U"]:
    total: Float[np.ndarray, "n 1"] = np.logaddexp.reduce(scores, axis=1, keepdims=True)
    scores = scores - total
    return scores
