"""Any subword model, read byte by byte: exact next-byte probabilities without training.

A text has many token sequences. The probability that a text begins with some bytes is the sum over
all *covers* of these bytes: the shortest token sequences whose bytes begin with them (the last
token may continue beyond them). `ByteModel` sums over all covers, over the canonical ones that the
encoder would write, or over those of a model that can only write canonical ones (`Target`). So a
prompt may end in the middle of a token or of a character, and the result does not depend on where
the encoder would have split it.

Sources: Phan et al. 2024 (arXiv 2410.09303), Vieira et al. 2024 (arXiv 2412.03719), Hayase et al.
2025 (arXiv 2506.14123).
"""

from __future__ import annotations

import codecs
import copy
import logging
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from crosstok.byteview.graph import ByteScore
from crosstok.byteview.reader import EXACT, NoRoomError, Pruning, Reader, as_bytes, check_fits
from crosstok.byteview.scoring import byte_logprobs, outcome_logprobs, score_texts
from crosstok.byteview.stream import ByteStream
from crosstok.choices import Target

__all__ = ["EXACT", "STOP", "ByteModel", "ByteScore", "ByteStream", "Pruning", "Target"]

log = logging.getLogger(__name__)

STOP = 256
"""Index of the end of the text among the 257 outcomes."""

_DEFAULT = Pruning()
_SPACE = ord(" ")


class ByteModel:
    """A causal language model as a distribution over bytes.

    A text comes after the start tokens; a space that the tokenizer puts before every text is not
    part of it. Any special token ends the text. Ids without a token (gaps, rows that pad the
    matrix) are left out, and the probabilities of the others are normalised.

    Attributes:
        target: which token sequences count.
        pruning: which of them are left out; `EXACT` for none.
    """

    def __init__(  # noqa: PLR0913 (how the model is read)
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        target: Target = "all",
        pruning: Pruning = _DEFAULT,
        start_ids: Sequence[int] | None = None,
        stop_ids: Sequence[int] | None = None,
        max_length: int | None = None,
        share_kv: bool | None = None,
        name: str | None = None,
    ) -> None:
        """Prepare a model; it is put in evaluation mode.

        Args:
            model: a causal language model of transformers.
            tokenizer: its fast tokenizer.
            target: which token sequences count for a text.
            pruning: which sequences are left out. The default follows a few sequences and reports
                how much probability was lost.
            start_ids: tokens before every text, such as a chat up to the answer; by default the
                start of a document (bos, else eos).
            stop_ids: tokens that end a text; by default all special tokens. Other special tokens
                get no probability.
            max_length: most tokens that the model reads; by default its number of positions.
            share_kv: evaluate branches on one shared cache. Otherwise each is read from its start,
                which is slower. By default where the model gives the same on a shared cache.
            name: the model's name in errors; by default its own name or class.

        Raises:
            ValueError: an argument is out of range, the tokenizer has neither bos nor eos or has
                ids that the model has no rows for, or `share_kv` is True and the model cannot
                share a cache between branches.
        """
        self.target, self.pruning = target, pruning
        self._reader = Reader(
            model,
            tokenizer,
            target=target,
            start_ids=start_ids,
            stop_ids=stop_ids,
            max_length=max_length,
            share_kv=share_kv,
            name=name,
        )

    @property
    def max_length(self) -> int:
        """Number of bytes that always fit, even if each takes one token."""
        return self._reader.max_length - len(self._reader.start_ids) + 1

    @property
    def separates_words(self) -> bool:
        """Whether a space at the end of a text is only the mark of a word's end (``</w>``)."""
        return bool(self._reader.vocab.word_ends)

    def starting_with(self, start_ids: Sequence[int]) -> ByteModel:
        """The same model after other start tokens, such as a chat up to the answer.

        Raises:
            ValueError: there are none, one is not an id of the tokenizer, or they take all of the
                model's positions.
        """
        other = copy.copy(self)
        other._reader = self._reader.starting_with(start_ids)
        return other

    def prefill(self, prompt: bytes | str = b"", *, ahead: bytes | str = b"") -> ByteStream:
        """Read a prompt, which may end anywhere, also in the middle of a character.

        Args:
            prompt: the beginning of the text; may be empty.
            ahead: bytes by which the stream will be advanced, which is cheaper if they are known.

        Raises:
            ValueError: the vocabulary cannot spell the prompt (names the byte and its position),
                the target excludes it, or it does not fit (says how many bytes do).
        """
        stream = ByteStream(self._reader, self.pruning)
        stream.start_with(as_bytes(prompt), as_bytes(ahead))
        return stream

    def check_prompt(self, prompt: bytes | str) -> None:
        """Check that a prompt can be continued, without running the model.

        Raises:
            ValueError: the vocabulary cannot spell it, or it leaves no room for another byte (says
                how many bytes fit).
        """
        check_fits(self._reader.spell(as_bytes(prompt)), self._reader, is_prompt=True)

    def score(self, texts: Sequence[bytes | str]) -> list[ByteScore]:
        """Score whole texts, each after the start tokens, in a few forward passes.

        Raises:
            ValueError: `texts` is a single text; or see `prefill`.
        """
        if isinstance(texts, bytes | str):
            raise ValueError("score takes a list of texts; pass [text].")
        return score_texts(self._reader, self.pruning, [as_bytes(text) for text in texts])

    def byte_logprobs(self, texts: Sequence[bytes | str]) -> list[Float[np.ndarray, " n"]]:
        """Log-probability of every byte of whole texts after the bytes before it.

        For each text they sum to the `logprob` that `score` returns.

        Raises:
            ValueError: the target is not "all"; the other targets are defined for whole texts only.
                Or see `score`.
        """
        self._check_per_byte()
        contents = [as_bytes(text) for text in texts]
        return byte_logprobs(self._reader, self.pruning, contents)

    def outcome_logprobs(
        self, texts: Sequence[bytes | str], firsts: Sequence[int] | None = None
    ) -> list[Float[np.ndarray, "n 258"]]:
        """Log-probabilities of all outcomes at every byte of whole texts.

        The outcomes are the 256 bytes, the end of the text (`STOP`) and, at index 257, everything
        that was pruned, whatever its byte. Their probabilities sum to 1, and the entries of the
        texts' own bytes are `byte_logprobs`.

        Args:
            texts: the texts.
            firsts: the index of the first byte to score in each text; by default 0.

        Raises:
            ValueError: see `byte_logprobs`.
        """
        self._check_per_byte()
        contents = [as_bytes(text) for text in texts]
        firsts = [0] * len(contents) if firsts is None else firsts
        return outcome_logprobs(self._reader, self.pruning, contents, firsts)

    def _check_per_byte(self) -> None:
        if self.target != "all":
            raise ValueError(
                f"target is {self.target!r}; it must be 'all' for scores of single bytes."
            )

    def logprob(self, text: bytes | str, prompt: bytes | str = b"") -> float:
        """Log-probability, in nats, that `text` comes after `prompt`, which may end anywhere.

        For the target "canonical", both sums are over canonical sequences only.

        Raises:
            ValueError: see `prefill`.
        """
        before, content = as_bytes(prompt), as_bytes(text)
        if not before:
            return self.score([content])[0].logprob
        given, both = self.score([before, before + content])
        return both.logprob - given.logprob

    def generate(
        self,
        prompt: bytes | str = b"",
        *,
        max_new_bytes: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        on_text: Callable[[str], None] | None = None,
    ) -> bytes:
        """Continue a prompt byte by byte, until the end of the text or `max_new_bytes`.

        It stops with a warning if the model has no position left.

        Args:
            prompt: the text to continue; may end anywhere.
            max_new_bytes: most new bytes; the last character may be cut.
            temperature: temperature of the sampling of bytes; 0 takes the most likely each time.
            seed: seed of the sampling.
            on_text: receives the continuation as it is generated, in whole characters. Bytes that
                are not UTF-8 become U+FFFD, and so does the first character if the prompt ended
                inside it.

        Returns:
            The new bytes.

        Raises:
            ValueError: `max_new_bytes` is below 1, or the temperature is negative; or see
                `prefill`.
        """
        if temperature < 0 or max_new_bytes < 1:
            raise ValueError(
                f"temperature is {temperature} and max_new_bytes {max_new_bytes}; the first must "
                "be at least 0 (greedy), the second at least 1."
            )
        stream = self.prefill(prompt)
        random = np.random.default_rng(seed)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        made, is_held = bytearray(), False
        while len(made) < max_new_bytes:
            byte = _draw(stream, temperature, random)
            if byte == STOP:
                break
            try:
                stream.advance(byte)
            except NoRoomError as error:
                log.warning("stopped after %d new bytes: %s", len(made), error)
                break
            made.append(byte)
            _send(decoder.decode(b" " * is_held), on_text)
            is_held = byte == _SPACE and self.separates_words
            _send(decoder.decode(bytes([byte] * (not is_held))), on_text)
        if is_held:
            made.pop()
        _send(decoder.decode(b"", final=True), on_text)
        return bytes(made)


def _draw(stream: ByteStream, temperature: float, random: np.random.Generator) -> int:
    logprobs = stream.next_byte_logprobs()
    if temperature == 0:
        return int(logprobs.argmax())
    weights = np.exp((logprobs - logprobs.max()) / temperature)
    return int(random.choice(len(weights), p=weights / weights.sum()))


def _send(text: str, on_text: Callable[[str], None] | None) -> None:
    if text and on_text is not None:
        on_text(text)
