"""Encode prompts, and prompts with continuations, with one tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from crosstok.byteview.reader import as_bytes
from crosstok.chats.prompts import ChatPrompts
from crosstok.inference.language_model import Prompt, check_pairs
from crosstok.tokenizers import Spans, TextEncoder
from crosstok.tokenizers.spans import copy_backend, encode_all


@dataclass(frozen=True, eq=False)
class ReadPair:
    """A prompt with its continuation.

    Attributes:
        ids: [T] start token included.
        first: index of the first scored id.
        starts: [T - first] byte of prompt and continuation at which each scored token begins. For
            a chat, which each tokenizer renders in its own way, the byte of the continuation, which
            begins with a new token.
    """

    ids: Int64[np.ndarray, " T"]
    first: int
    starts: Int64[np.ndarray, " N"]


class PromptReader:
    """Reads prompts with one tokenizer, and chats with its own or another template."""

    def __init__(self, encoder: TextEncoder, chat_template: str | None = None) -> None:
        self.encoder = encoder
        self._backend = copy_backend(encoder.tokenizer.backend_tokenizer)
        self._template = chat_template
        self._chats: ChatPrompts | None = None
        start = encoder.byte_vocab.document_start
        self._start = [] if start is None else [start]

    @property
    def chats(self) -> ChatPrompts:
        """The chat template.

        Raises:
            ValueError: there is none.
        """
        if self._chats is None:
            self._chats = ChatPrompts(self.encoder, self._template)
        return self._chats

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Encode a prompt for generation.

        Text gets the start token unless it begins with it. The spelling of a special token within a
        text is read as that token, as in transformers. A chat is rendered by its template.

        Raises:
            ValueError: there is neither a prompt nor a start token, bytes are not UTF-8, or the
                template cannot render the messages.
        """
        if not isinstance(prompt, str | bytes):
            return [int(index) for index in self.chats(prompt)[0].ids]
        ids: list[int] = encode_all(self._backend, [as_text(prompt)])[0].ids
        if self._start and ids[:1] != self._start:
            ids = [*self._start, *ids]
        if not ids:
            raise ValueError(
                "the prompt is empty and this tokenizer has no bos or eos; give a prompt."
            )
        return ids

    def pairs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[ReadPair]:
        """Encode prompts with their continuations.

        A text and its continuation are encoded together, as text is in training, and all tokens
        that end after the prompt are scored: one that straddles the boundary counts in full. The
        spelling of a special token within a text is read as plain text.

        Raises:
            ValueError: a continuation is empty or has no token that can be scored; or see
                `prompt_ids`.
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
        """Encode the first `cut` bytes of a text, start token included.

        These are the first ids of the whole text if one of its tokens ends at `cut`, otherwise the
        ids of these bytes alone.

        Raises:
            ValueError: `cut` is inside a character, and no token ends there.
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
            ValueError: it does not; says how many bytes fit.
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
                f"nothing comes before the first token of {continuation[:40]!r} (prompt: "
                f"{_shown(prompt)}): this tokenizer has no bos or eos, so that token has no "
                "probability; give a longer prompt."
            )
        raise ValueError(
            f"the tokenizer keeps no token of the continuation {continuation[:40]!r} of "
            f"{_shown(prompt)}; give another continuation."
        )


def num_tokens_of(spans: Spans, num_bytes: int) -> int:
    """Count the tokens that end within the first `num_bytes` bytes.

    For 0 bytes the count is 0, even where the first token is a space that the tokenizer puts before
    every text: it belongs to the continuation.
    """
    return int(np.searchsorted(spans.ends, num_bytes, "right")) if num_bytes else 0


def as_text(prompt: str | bytes) -> str:
    """The text of a prompt for a model that reads tokens.

    Raises:
        ValueError: bytes are not UTF-8, or a string holds half a character.
    """
    if isinstance(prompt, str):
        as_bytes(prompt)
        return prompt
    try:
        return prompt.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the prompt is not UTF-8 at byte {error.start} (0x{prompt[error.start]:02X}), and "
            "this model reads tokens of text. Read it byte by byte instead (bytes_view), where a "
            "prompt may end inside a character."
        ) from None


def _shown(prompt: Prompt) -> str:
    return f"{prompt[-40:]!r}" if isinstance(prompt, str | bytes) else "a chat"
