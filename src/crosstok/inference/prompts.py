"""Prompts, and prompts with continuations, as ids of one tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from transformers import PreTrainedTokenizerFast

from crosstok.byteview.reader import as_bytes
from crosstok.chats.prompts import ChatPrompts
from crosstok.inference.language_model import Prompt, check_pairs
from crosstok.tokenizers import Spans, TextEncoder


@dataclass(frozen=True, eq=False)
class ReadPair:
    """A prompt with its continuation.

    Attributes:
        ids: [T] the start token included.
        first: The first of them that is scored.
        starts: [T - first] Byte of prompt and continuation where each scored token begins. Of a
            chat, which every tokenizer renders in its own way, byte of the continuation, which
            begins with a token of its own.
    """

    ids: Int64[np.ndarray, " T"]
    first: int
    starts: Int64[np.ndarray, " N"]


class PromptReader:
    """Reads prompts with one tokenizer, chats with its own template or another one."""

    def __init__(self, encoder: TextEncoder, chat_template: str | None = None) -> None:
        self.encoder = encoder
        self._tokenizer: PreTrainedTokenizerFast = encoder.tokenizer
        self._template = chat_template
        self._chats: ChatPrompts | None = None
        start = encoder.byte_vocab.document_start
        self._start = [] if start is None else [start]

    @property
    def chats(self) -> ChatPrompts:
        """The chat template.

        Raises:
            ValueError: There is none.
        """
        if self._chats is None:
            self._chats = ChatPrompts(self.encoder, self._template)
        return self._chats

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """What a model reads before it writes.

        The start token stands in front of text, unless the text begins with it; what looks like a
        special token in a text is one, as transformers reads it. A chat is as its template writes
        it.

        Raises:
            ValueError: There is neither a prompt nor a start token, bytes are no UTF-8, or the
                template cannot render the messages.
        """
        if not isinstance(prompt, str | bytes):
            return [int(index) for index in self.chats(prompt)[0].ids]
        ids: list[int] = self._tokenizer(as_text(prompt), add_special_tokens=False)["input_ids"]
        if self._start and ids[:1] != self._start:
            ids = [*self._start, *ids]
        if not ids:
            raise ValueError(
                "the prompt is empty and this tokenizer has no bos or eos; give a prompt."
            )
        return ids

    def pairs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[ReadPair]:
        """Encode prompts with their continuations.

        A text and its continuation are encoded together, as text comes in training, and all tokens
        that end behind the prompt are scored: one that straddles the cut counts in full. Here what
        looks like a special token in a text is text.

        Raises:
            ValueError: As `prompt_ids`; a continuation is empty, or has no token that can be
                scored.
        """
        check_pairs(pairs)
        texts = [
            as_text(prompt) + continuation
            for prompt, continuation in pairs
            if isinstance(prompt, str | bytes)
        ]
        encoded = iter(self.encoder(texts, add_start=False, add_end=False) if texts else [])
        found = []
        for prompt, continuation in pairs:
            if not isinstance(prompt, str | bytes):
                before, after = self.chats(prompt, continuation)
                ids = np.concatenate([before.ids, after.ids])
                starts = np.concatenate([[0], after.ends])[:-1]
                pair = ReadPair(ids, len(before.ids), starts)
            else:
                spans = next(encoded)
                size = len(as_text(prompt).encode())
                count = num_tokens_of(spans, size)
                ids = np.concatenate([np.array(self._start, dtype=np.int64), spans.ids])
                pair = ReadPair(ids, count + len(self._start), spans.starts[count:])
            if not 1 <= pair.first < len(pair.ids):
                self._explain(prompt, continuation, pair)
            found.append(pair)
        return found

    def prefix_ids(self, text: str, cut: int) -> list[int]:
        """Ids of the first `cut` bytes of a text, start token included.

        Those of the whole text where one of them ends there, else those of these bytes alone.

        Raises:
            ValueError: The cut is inside a character, and no token ends there.
        """
        [spans] = self.encoder([text], add_start=False, add_end=False)
        count = num_tokens_of(spans, cut)
        if (int(spans.ends[count - 1]) if count else 0) != cut:
            before = as_text(text.encode()[:cut])
            [spans] = self.encoder([before], add_start=False, add_end=False)
            count = len(spans.ids)
        return [*self._start, *spans.ids[:count].tolist()]

    def check_fits(
        self, ids: Int64[np.ndarray, " T"], continuation: str, max_length: int, name: str
    ) -> None:
        """Check that a model has positions for prompt and continuation.

        Raises:
            ValueError: It has not; says how many bytes fit.
        """
        if len(ids) <= max_length:
            return
        token_bytes = self.encoder.byte_vocab.token_bytes
        fitting = sum(len(token_bytes[index] or b"") for index in ids[:max_length])
        raise ValueError(
            f"prompt and continuation ({continuation[:40]!r}...) take {len(ids)} tokens, and "
            f"{name} has {max_length} positions: the first {fitting} bytes fit. Shorten the text, "
            "or score it in windows."
        )

    def _explain(self, prompt: Prompt, continuation: str, pair: ReadPair) -> None:
        if pair.first < 1:
            raise ValueError(
                f"nothing stands in front of the first token of {continuation[:40]!r} (prompt: "
                f"{_shown(prompt)}): this tokenizer has no bos or eos, so that token has no "
                "probability; give a longer prompt."
            )
        raise ValueError(
            f"the tokenizer keeps no token of the continuation {continuation[:40]!r} of "
            f"{_shown(prompt)}; give another one."
        )


def num_tokens_of(spans: Spans, num_bytes: int) -> int:
    """Tokens that end within the first bytes.

    Of no bytes there are none: a space that the tokenizer puts in front of every text, and that has
    a token of its own, is part of what is written.
    """
    return int(np.searchsorted(spans.ends, num_bytes, "right")) if num_bytes else 0


def as_text(prompt: str | bytes) -> str:
    """The text of a prompt for a model that reads tokens.

    Raises:
        ValueError: Bytes are no UTF-8, or a string holds half a character.
    """
    if isinstance(prompt, str):
        as_bytes(prompt)
        return prompt
    try:
        return prompt.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the prompt is no UTF-8 at byte {error.start} (0x{prompt[error.start]:02X}), and this "
            "model reads tokens of text; read it byte by byte instead (--bytes), where a prompt "
            "may end inside a character."
        ) from None


def _shown(prompt: Prompt) -> str:
    return f"{prompt[-40:]!r}" if isinstance(prompt, str | bytes) else "a chat"
