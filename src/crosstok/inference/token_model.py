"""A causal language model of transformers as a `LanguageModel`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from crosstok.alignment.vocab_map import first_id
from crosstok.byteview.canonical import adds_prefix_space
from crosstok.byteview.contexts import NO_LIMIT
from crosstok.choices import Unit
from crosstok.inference.continuing import continue_prompts
from crosstok.inference.generation import (
    MakeDecoder,
    OneByOne,
    Outcomes,
    Row,
    answer_rows,
    room_for,
)
from crosstok.inference.language_model import (
    ContinuationScore,
    LanguageModel,
    Prompt,
    Sampling,
    check_single,
)
from crosstok.inference.prompts import PromptReader, ReadPair
from crosstok.inference.scoring import Scorer, TokenRow
from crosstok.models import max_positions, unwrap_model
from crosstok.tokenizers import ByteVocab
from crosstok.tokenizers.spans import text_backend


class TokenModel(LanguageModel):
    """A causal language model with its tokenizer: see `LanguageModel`.

    Ids without a token (gaps, rows that pad the output matrix) get no probability, in scores and in
    answers.

    Attributes:
        name: the model's name in tables and errors.
        scorer: scores rows of tokens. Its `max_length` is the window into which long texts are cut
            for evaluation; the model's own `max_length` is the longest text that it takes.
        reader: encodes prompts.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        name: str | None = None,
        chat_template: str | None = None,
        decoder: MakeDecoder = OneByOne,
    ) -> None:
        """Prepare a model; it is put in evaluation mode.

        Args:
            model: a causal language model of transformers.
            tokenizer: its fast tokenizer.
            name: by default the model's own name or class.
            chat_template: text of a chat template to use instead of the tokenizer's own.
            decoder: how to decode; see `crosstok.inference.generation`.

        Raises:
            ValueError: the tokenizer has ids that the model has no rows for.
        """
        self.scorer = Scorer(model, tokenizer, name=name)
        self.name, self._decoder = self.scorer.name, decoder
        self.reader = PromptReader(self.scorer.encoder, chat_template)
        self.model, self.tokenizer = model, tokenizer

    def with_window(
        self,
        max_length: int | None = None,
        tokens_per_batch: int | None = None,
        rows_per_batch: int | None = None,
    ) -> TokenModel:
        """The same model with another scorer; see `Scorer.with_window`."""
        other = copy.copy(self)
        other.scorer = self.scorer.with_window(max_length, tokens_per_batch, rows_per_batch)
        return other

    @property
    def vocab(self) -> ByteVocab:
        """The bytes of the tokenizer's ids."""
        return self.scorer.byte_vocab

    @cached_property
    def unit(self) -> Unit:
        """The unit of answers: bytes if every text token is a single byte."""
        return unit_of(self.vocab.token_bytes)

    @property
    def max_length(self) -> int:
        """Most tokens in a text, the start token included."""
        return max_positions(unwrap_model(self.model).config) or NO_LIMIT

    @cached_property
    def stop_ids(self) -> list[int]:
        """Ids that end an answer: the model's own, the end of a document and the end of a turn."""
        return _stop_ids(self.model, self.vocab)

    def read_pairs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[ReadPair]:
        """Encode prompts with continuations that fit.

        Raises:
            ValueError: see `LanguageModel.logprob`.
        """
        read = self.reader.pairs(pairs)
        for pair, (_, continuation) in zip(read, pairs, strict=True):
            self.reader.check_fits(pair.ids, continuation, self.max_length, self.name)
        return read

    def logprob(
        self, pairs: Sequence[tuple[Prompt, str]], *, greedy: bool = True
    ) -> list[ContinuationScore]:
        """Score continuations; see `LanguageModel.logprob`."""
        rows = [TokenRow(pair.ids, pair.first) for pair in self.read_pairs(pairs)]
        scores = self.scorer.score(rows, greedy=greedy)
        return [
            ContinuationScore(
                logprob=float(score.logprobs.sum()),
                is_greedy=score.is_greedy is not None and bool(score.is_greedy.all()),
                num_bytes=len(continuation.encode()),
                num_units=len(score.logprobs),
            )
            for score, (_, continuation) in zip(scores, pairs, strict=True)
        ]

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> list[str]:
        """Answer prompts; see `LanguageModel.generate`."""
        check_single(prompts, on_text)
        sampling = sampling.of(self.unit)
        ids = [self.reader.prompt_ids(prompt) for prompt in prompts]
        rows = [
            Row(number, len(row), self.room(row, sampling), tuple(row), self.strips_space(row))
            for number, row in enumerate(ids)
        ]
        return answer_rows(
            rows,
            lambda numbers: _Steps(self, [ids[number] for number in numbers]),
            self.outcomes,
            sampling,
            device=self.model.device.type,
            decoder=self._decoder,
            on_text=on_text,
        )

    @property
    def num_rows(self) -> int:
        """Rows of the output matrix."""
        return self.scorer.head.weight.shape[0]

    def without_invalid(self, logits: Float[Tensor, "*B V"]) -> Float[Tensor, "*B V"]:
        """Logits with -inf for rows of the output matrix without a token."""
        valid = self.scorer.valid_ids
        return logits if valid is None else logits.masked_fill(~valid.to(logits.device), -torch.inf)

    @cached_property
    def outcomes(self) -> Outcomes:
        """The ids as outcomes."""
        size = self.num_rows
        contents = [content or b"" for content in self.vocab.token_bytes]
        contents += [b""] * (size - len(contents))
        return Outcomes(contents, np.isin(np.arange(size), self.stop_ids), self.vocab.word_ends)

    def room(self, ids: Sequence[int], sampling: Sampling) -> int:
        """Number of new tokens that fit after a prompt.

        Raises:
            ValueError: there is no room for one.
        """
        fitting = ids[: self.max_length - 1]
        token_bytes = self.scorer.encoder.byte_vocab.token_bytes
        num_bytes = sum(len(token_bytes[index] or b"") for index in fitting)
        return room_for(len(ids), self.max_length, sampling.max_new_tokens, num_bytes, self.name)

    def strips_space(self, ids: Sequence[int]) -> bool:
        """Whether an answer begins with a space that the tokenizer puts before every text."""
        return list(ids) == [self.scorer.start] and self._adds_space

    @cached_property
    def _adds_space(self) -> bool:
        vocab = self.scorer.encoder.byte_vocab
        return adds_prefix_space(text_backend(self.tokenizer.backend_tokenizer, vocab), vocab)


class _Steps:
    """The steps of one model, over all of its ids."""

    def __init__(self, model: TokenModel, prompts: Sequence[Sequence[int]]) -> None:
        self._rows, self._model = continue_prompts(model.model, prompts), model

    def scores(self, num: int = 1) -> Float[Tensor, "B num V"]:
        return self._model.without_invalid(self._rows.logits(num))

    def append(self, outcomes: Int[Tensor, "B k"]) -> None:
        self._rows.append(outcomes)

    def crop(self, num: int) -> None:
        self._rows.crop(num)

    def keep(self, rows: Sequence[int]) -> None:
        self._rows.keep(rows)


def unit_of(contents: Iterable[bytes | None]) -> Unit:
    """The unit in which a model whose tokens have these bytes answers."""
    return "byte" if all(len(content or b"") <= 1 for content in contents) else "token"


def _stop_ids(model: Any, vocab: ByteVocab) -> list[int]:
    found: set[int] = set()
    for config in (model.generation_config, model.config):
        ids = getattr(config, "eos_token_id", None)
        found.update(ids if isinstance(ids, Iterable) else [] if ids is None else [ids])
    found.update(i for role in ("eos", "end_of_turn") if (i := first_id(vocab, role)) is not None)
    return sorted(i for i in found if i < len(vocab))
