"""One model read byte by byte, as a member of those that answer in bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from crosstok.inference.byte_view import Pruning, Target, as_bytes
from crosstok.inference.contract import Prompt
from crosstok.inference.next_byte import ByteModel, ByteStream
from crosstok.inference.prompts import PromptReader
from crosstok.tokenizers import TextEncoder

_DEFAULT = Pruning()


class ByteMember:
    """A model that gives the next byte of prompts, chats in its own template.

    Attributes:
        name: What the model is called in errors.
        model: Its byte view, behind the start of a document.
    """

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
        self.name = name or getattr(model, "name_or_path", "") or type(model).__name__
        self.model = ByteModel(model, tokenizer, target=target, pruning=pruning)
        self._reader = PromptReader(TextEncoder(tokenizer), chat_template)

    def stream(self, prompt: Prompt, ahead: str = "") -> ByteStream:
        """Read a prompt; `ahead` are bytes that are going to follow."""
        model, before = self._place(prompt)
        return model.prefill(before, ahead=ahead)

    def table(self, prompt: Prompt, continuation: str) -> Float[np.ndarray, "bytes 257"]:
        """Log-probabilities of all outcomes at every byte of a continuation."""
        stream, rows = self.stream(prompt, continuation), []
        for byte in as_bytes(continuation):
            row, before = stream.next_byte_logprobs(), stream.logprob
            stream.advance(byte)
            if row[byte] == -math.inf:  # pruning had set its spellings aside
                row[byte] = min(0.0, stream.logprob - before)
            rows.append(row)
        return np.stack(rows)

    def sums(self, pairs: Sequence[tuple[Prompt, str]]) -> list[tuple[float, float]]:
        """Log-probabilities of prompts (a chat's is 0), and of prompts with continuations."""
        found: list[tuple[float, float] | None] = [None] * len(pairs)
        together: list[bytes] = []
        for place, (prompt, continuation) in enumerate(pairs):
            model, before = self._place(prompt)
            if model is self.model:
                together += [before, before + as_bytes(continuation)]
            else:
                found[place] = 0.0, model.score([continuation])[0].logprob
        scores = iter(self.model.score(together))
        return [
            (next(scores).logprob, next(scores).logprob) if one is None else one for one in found
        ]

    def byte_logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Float[np.ndarray, " n"]]:
        """Log-probability of every byte of the continuations."""
        if self.model.target != "all":
            observed = []
            for prompt, continuation in pairs:
                table = self.table(prompt, continuation)
                content = list(as_bytes(continuation))
                observed.append(table[np.arange(len(content)), content])
            return observed
        placed = [self._place(prompt) for prompt, _ in pairs]
        contents = [
            before + as_bytes(continuation)
            for (_, before), (_, continuation) in zip(placed, pairs, strict=True)
        ]
        plain = iter(
            self.model.byte_logprobs(
                [c for c, (model, _) in zip(contents, placed, strict=True) if model is self.model]
            )
        )
        return [
            (next(plain) if model is self.model else model.byte_logprobs([content])[0])[
                len(before) :
            ]
            for content, (model, before) in zip(contents, placed, strict=True)
        ]

    def _place(self, prompt: Prompt) -> tuple[ByteModel, bytes]:
        """The model behind the right start tokens, and the bytes that are read then."""
        if isinstance(prompt, str | bytes):
            return self.model, as_bytes(prompt)
        return self.model.starting_with(self._reader.prompt_ids(prompt)), b""
