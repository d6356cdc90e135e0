"""One model read byte by byte, as a member of a byte ensemble."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from crosstok.byteview.model import ByteModel, ByteStream
from crosstok.byteview.reader import Pruning, as_bytes
from crosstok.choices import Target
from crosstok.inference.language_model import Prompt
from crosstok.inference.prompts import PromptReader
from crosstok.tokenizers import TextEncoder

_DEFAULT = Pruning()

Rows = Float[np.ndarray, "n ..."]


class ByteMember:
    """A model that predicts the next byte of prompts, and of chats under its own template.

    Attributes:
        name: the model's name in errors.
        model: its byte view, after the start of a document.
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
        self.model = ByteModel(model, tokenizer, target=target, pruning=pruning, name=self.name)
        self._reader = PromptReader(TextEncoder(tokenizer), chat_template)

    def check_prompt(self, prompt: Prompt) -> None:
        """Check that a prompt can be answered; see `ByteModel.check_prompt`."""
        model, before = self._place(prompt)
        model.check_prompt(before)

    def stream(self, prompt: Prompt, ahead: str = "") -> ByteStream:
        """Read a prompt; `ahead` is the text that will follow."""
        model, before = self._place(prompt)
        return model.prefill(before, ahead=ahead)

    def tables(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Float[np.ndarray, "n 258"]]:
        """Log-probabilities of all outcomes at every byte of the continuations.

        See `ByteModel.outcome_logprobs`; the entries of the bytes written are `byte_logprobs`.
        """
        if self.model.target != "all":
            return [self._stepwise(*pair) for pair in pairs]
        return self._placed(pairs, ByteModel.outcome_logprobs)

    def _stepwise(self, prompt: Prompt, continuation: str) -> Float[np.ndarray, "n 258"]:
        """The same from a stream, which has no outcome for pruned spellings."""
        stream, rows = self.stream(prompt, continuation), []
        for byte in as_bytes(continuation):
            row, before = stream.next_byte_logprobs(), stream.logprob
            stream.advance(byte)
            if row[byte] == -math.inf:  # all its spellings were pruned
                row[byte] = min(0.0, stream.logprob - before)
            rows.append(row)
        return np.pad(np.stack(rows), ((0, 0), (0, 1)), constant_values=-np.inf)

    def sums(self, pairs: Sequence[tuple[Prompt, str]]) -> list[tuple[float, float]]:
        """Log-probabilities of prompts (0 for chats), and of prompts with continuations."""
        placed = [self._place(prompt) for prompt, _ in pairs]
        contents = [as_bytes(continuation) for _, continuation in pairs]
        asked: dict[bytes, float] = {}  # options of a question share their prompt
        for (model, before), content in zip(placed, contents, strict=True):
            if model is self.model:
                asked |= {before: 0.0, before + content: 0.0}
        for text, score in zip(asked, self.model.score(list(asked)), strict=True):
            asked[text] = score.logprob
        return [
            (asked[before], asked[before + content])
            if model is self.model
            else (0.0, model.score([content])[0].logprob)
            for (model, before), content in zip(placed, contents, strict=True)
        ]

    def byte_logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Float[np.ndarray, " n"]]:
        """Log-probability of every byte of the continuations."""
        if self.model.target != "all":
            contents = [list(as_bytes(continuation)) for _, continuation in pairs]
            return [
                table[np.arange(len(content)), content]
                for table, content in zip(self.tables(pairs), contents, strict=True)
            ]

        def after_prompts(model: ByteModel, contents: list[bytes], firsts: list[int]) -> list[Rows]:
            found = model.byte_logprobs(contents)
            return [one[first:] for one, first in zip(found, firsts, strict=True)]

        return self._placed(pairs, after_prompts)

    def _placed(
        self,
        pairs: Sequence[tuple[Prompt, str]],
        score: Callable[[ByteModel, list[bytes], list[int]], list[Rows]],
    ) -> list[Rows]:
        """Score the continuations: texts in one batch, each chat after its own tokens."""
        found: dict[int, Rows] = {}
        together: list[tuple[int, bytes, int]] = []
        for place, (prompt, continuation) in enumerate(pairs):
            model, before = self._place(prompt)
            content = before + as_bytes(continuation)
            if model is self.model:
                together.append((place, content, len(before)))
            else:
                [found[place]] = score(model, [content], [len(before)])
        scores = score(self.model, [one[1] for one in together], [one[2] for one in together])
        found.update(zip((one[0] for one in together), scores, strict=True))
        return [found[place] for place in range(len(pairs))]

    def _place(self, prompt: Prompt) -> tuple[ByteModel, bytes]:
        """The byte view after the right start tokens, and the bytes to read next."""
        if isinstance(prompt, str | bytes):
            return self.model, as_bytes(prompt)
        return self.model.starting_with(self._reader.prompt_ids(prompt)), b""
