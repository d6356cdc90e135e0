"""One model of transformers that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from crosstok.alignment.vocab_map import first_id
from crosstok.byteview.canonical import adds_prefix_space
from crosstok.byteview.contexts import max_positions
from crosstok.choices import Unit
from crosstok.inference.generation import Outcomes, Row, answer_rows, room_for
from crosstok.inference.language_model import (
    ContinuationScore,
    LanguageModel,
    Prompt,
    Sampling,
    check_single,
)
from crosstok.inference.prompts import PromptReader, ReadPair
from crosstok.inference.scoring import Scorer, TokenRow
from crosstok.inference.token_rows import TokenRows
from crosstok.models import unwrap_model
from crosstok.tokenizers import ByteVocab
from crosstok.tokenizers.spans import text_backend


class TokenModel(LanguageModel):
    """A causal language model with its tokenizer: see `LanguageModel`.

    Scores are over all rows of the output matrix, as `crosstok evaluate` has them. Of its answers,
    ids that stand for nothing (gaps, rows that pad the matrix) are left out.

    Attributes:
        name: What the model is called in tables and errors.
        scorer: Scores rows of its tokens.
        reader: Reads prompts.
        stop_ids: Tokens that end an answer: those of the model's own files, the end of a document
            and the end of a turn.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        name: str | None = None,
        chat_template: str | None = None,
    ) -> None:
        """Prepare a model; it is put in evaluation mode.

        Args:
            model: A causal language model of transformers.
            tokenizer: The model's.
            name: By default the model's own name or class.
            chat_template: Text of a template that takes the place of the tokenizer's own.

        Raises:
            ValueError: The tokenizer has ids that the model has not.
        """
        positions = max_positions(unwrap_model(model).config.get_text_config())
        self.scorer = Scorer(model, tokenizer, name=name, max_length=positions)
        self.name = self.scorer.name
        self.reader = PromptReader(self.scorer.encoder, chat_template)
        self.model, self.tokenizer = model, tokenizer
        self.stop_ids = _stop_ids(model, self.vocab)
        backend = text_backend(tokenizer.backend_tokenizer, self.vocab)
        self.adds_space = adds_prefix_space(backend, self.vocab)

    @property
    def vocab(self) -> ByteVocab:
        """The bytes of its ids."""
        return self.scorer.byte_vocab

    @cached_property
    def unit(self) -> Unit:
        """Bytes where every token of text is one."""
        return unit_of(self.vocab.token_bytes)

    @property
    def max_length(self) -> int:
        """Tokens that a text may have, the start token included."""
        return self.scorer.max_length

    def read_pairs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[ReadPair]:
        """Encode prompts with continuations that fit.

        Raises:
            ValueError: See `LanguageModel.logprob`.
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
            on_text=on_text,
        )

    @cached_property
    def invalid_ids(self) -> Bool[Tensor, " V"]:
        """Rows of the output matrix that stand for neither bytes nor a special token."""
        output: Any = self.model.get_output_embeddings()
        valid = np.zeros(output.weight.shape[0], dtype=np.bool_)
        spelt = [i for i, content in enumerate(self.vocab.token_bytes) if content is not None]
        valid[[*spelt, *self.vocab.special_ids]] = True
        return torch.from_numpy(~valid).to(self.model.device)

    @cached_property
    def outcomes(self) -> Outcomes:
        """Its ids as outcomes."""
        size = len(self.invalid_ids)
        contents = [content or b"" for content in self.vocab.token_bytes]
        contents += [b""] * (size - len(contents))
        return Outcomes(contents, np.isin(np.arange(size), self.stop_ids))

    def room(self, ids: Sequence[int], sampling: Sampling) -> int:
        """New tokens that fit behind a prompt.

        Raises:
            ValueError: None do.
        """
        fitting = ids[: self.max_length - 1]
        num_bytes = sum(len(self.vocab.token_bytes[index] or b"") for index in fitting)
        return room_for(len(ids), self.max_length, sampling.max_new_tokens, num_bytes, self.name)

    def strips_space(self, ids: Sequence[int]) -> bool:
        """Whether an answer begins with a space that the tokenizer puts in front of every text."""
        return self.adds_space and list(ids) == [self.scorer.start]


class _Steps:
    """The steps of one model, over all of its ids."""

    def __init__(self, model: TokenModel, prompts: Sequence[Sequence[int]]) -> None:
        self._rows, self._invalid = TokenRows(model.model, prompts), model.invalid_ids

    def scores(self) -> Float[Tensor, "B V"]:
        return self._rows.logits().masked_fill(self._invalid, -torch.inf)

    def append(self, outcomes: Int[Tensor, " B"]) -> None:
        self._rows.append(outcomes)

    def keep(self, rows: Sequence[int]) -> None:
        self._rows.keep(rows)


def unit_of(contents: Iterable[bytes | None]) -> Unit:
    """What a model answers in whose tokens have these bytes."""
    return "byte" if all(len(content or b"") <= 1 for content in contents) else "token"


def _stop_ids(model: Any, vocab: ByteVocab) -> list[int]:
    found: set[int] = set()
    for config in (model.generation_config, model.config):
        ids = getattr(config, "eos_token_id", None)
        found.update(ids if isinstance(ids, Iterable) else [] if ids is None else [ids])
    found.update(i for role in ("eos", "end_of_turn") if (i := first_id(vocab, role)) is not None)
    return sorted(i for i in found if i < len(vocab))
