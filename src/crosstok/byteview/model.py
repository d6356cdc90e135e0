"""Any subword model, read byte by byte: exact next-byte probabilities without training.

A text has many token sequences. The probability that a text begins with some bytes is the sum over
all *covers* of the bytes: the shortest sequences whose own bytes begin with them (the last token
may go on). `ByteModel` sums them: over all of them, over those that the encoder would write, or
over those of a model that can write no others (`Target`). So a prompt may end in the middle of a
token or of a character, and nothing depends on where the encoder would have cut it.

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


class ByteModel:
    """A causal language model as a distribution over bytes.

    A text stands behind the start tokens; a space that the tokenizer puts in front of every text is
    no part of it. The end of the text is any special token. Ids that stand for nothing (gaps, rows
    that pad the matrix) are left out, and the others scaled to 1.

    Attributes:
        target: which token sequences count.
        pruning: what is left out; `EXACT` for nothing.
    """

    def __init__(  # noqa: PLR0913 (how it is read, and what it is called)
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        target: Target = "all",
        pruning: Pruning = _DEFAULT,
        start_ids: Sequence[int] | None = None,
        stop_ids: Sequence[int] | None = None,
        max_length: int | None = None,
        share_kv: bool = True,
        name: str | None = None,
    ) -> None:
        """Prepare a model; it is put in evaluation mode.

        Args:
            model: a causal language model of transformers.
            tokenizer: the model's.
            target: which token sequences count for a text.
            pruning: what is left out. The default follows few sequences and reports what it lost.
            start_ids: tokens in front of every text, such as those of a chat up to the answer; by
                default the start of a document (bos, else eos).
            stop_ids: tokens that end a text; by default all special ones. Special tokens that are
                not among them are left out.
            max_length: tokens that the model may read; by default all of its positions.
            share_kv: evaluate branches on one shared cache. Without, each is read from its start.
            name: what the model is called in errors; by default its own name or class.

        Raises:
            ValueError: an argument is out of range, the tokenizer has ids that the model has not or
                neither bos nor eos, or the model cannot share a cache between branches.
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
        """Bytes that fit whatever they are: each may take a token of its own."""
        return self._reader.max_length - len(self._reader.start_ids) + 1

    def starting_with(self, start_ids: Sequence[int]) -> ByteModel:
        """The same model behind other start tokens, such as those of a chat up to the answer.

        Raises:
            ValueError: there are none, they are no ids of the tokenizer, or they fill the model.
        """
        other = copy.copy(self)
        other._reader = self._reader.starting_with(start_ids)
        return other

    def prefill(self, prompt: bytes | str = b"", *, ahead: bytes | str = b"") -> ByteStream:
        """Read a prompt, which may end anywhere, also in the middle of a character.

        Args:
            prompt: may be empty: what follows then begins the text.
            ahead: bytes that the stream will be advanced by, which are cheaper if they are known.

        Raises:
            ValueError: the vocabulary cannot spell the prompt (says the byte and its position), the
                target leaves it out, or it does not fit (says how many bytes do).
        """
        stream = ByteStream(self._reader, self.pruning)
        stream.start_with(as_bytes(prompt), as_bytes(ahead))
        return stream

    def check_prompt(self, prompt: bytes | str) -> None:
        """Find out whether a prompt can be continued, without the model.

        Raises:
            ValueError: the vocabulary cannot spell it, or it leaves no room for another byte (says
                how many bytes fit).
        """
        check_fits(self._reader.spell(as_bytes(prompt)), self._reader, is_prompt=True)

    def score(self, texts: Sequence[bytes | str]) -> list[ByteScore]:
        """Score whole texts, each behind the start tokens, in a few forward passes.

        Raises:
            ValueError: as `prefill`; or `texts` is a single text.
        """
        if isinstance(texts, bytes | str):
            raise ValueError("score takes a list of texts; pass [text].")
        return score_texts(self._reader, self.pruning, [as_bytes(text) for text in texts])

    def byte_logprobs(self, texts: Sequence[bytes | str]) -> list[Float[np.ndarray, " n"]]:
        """Log-probability of every byte of whole texts given those before it, as `score` finds it.

        For each text they sum to its `logprob`.

        Raises:
            ValueError: as `score`; or the target is not "all", as others leave out what leads on to
                another text and so are sums over whole texts only.
        """
        self._check_per_byte()
        contents = [as_bytes(text) for text in texts]
        return byte_logprobs(self._reader, self.pruning, contents)

    def outcome_logprobs(
        self, texts: Sequence[bytes | str], firsts: Sequence[int] | None = None
    ) -> list[Float[np.ndarray, "n 258"]]:
        """Log-probabilities of all that may come at every byte of whole texts.

        Of the 256 bytes, the end of the text (`STOP`), and at index 257 of what pruning left out,
        whatever byte it goes on with; they sum to 1, and those of the texts' own bytes are
        `byte_logprobs`.

        Args:
            texts: the texts.
            firsts: the byte of each text to begin with; by default the first.

        Raises:
            ValueError: as `byte_logprobs`.
        """
        self._check_per_byte()
        contents = [as_bytes(text) for text in texts]
        firsts = [0] * len(contents) if firsts is None else firsts
        return outcome_logprobs(self._reader, self.pruning, contents, firsts)

    def _check_per_byte(self) -> None:
        if self.target != "all":
            raise ValueError(f"target is {self.target!r}; per byte there is 'all' only.")

    def logprob(self, text: bytes | str, prompt: bytes | str = b"") -> float:
        """Log-probability, in nats, that `text` comes next behind `prompt`, which may end anywhere.

        For the target "canonical", of sums without the sequences that it leaves out.

        Raises:
            ValueError: as `prefill`.
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

        Where the model's positions end, it stops with a warning.

        Args:
            prompt: may end anywhere.
            max_new_bytes: at most so many; the last character may be cut.
            temperature: of the bytes; 0 takes the likeliest each time.
            seed: of the sampling.
            on_text: receives the continuation as it comes, in whole characters; what is no UTF-8
                comes as U+FFFD, and so does the first character if the prompt ended inside it.

        Returns:
            The new bytes.

        Raises:
            ValueError: as `prefill`; no new byte is asked for, or the temperature is negative.
        """
        if temperature < 0 or max_new_bytes < 1:
            raise ValueError(
                f"temperature is {temperature} and max_new_bytes {max_new_bytes}; the first must "
                "be at least 0 (greedy), the second at least 1."
            )
        stream = self.prefill(prompt)
        random = np.random.default_rng(seed)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        made = bytearray()
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
            _tell(decoder.decode(bytes([byte])), on_text)
        _tell(decoder.decode(b"", final=True), on_text)
        return bytes(made)


def _draw(stream: ByteStream, temperature: float, random: np.random.Generator) -> int:
    logprobs = stream.next_byte_logprobs()
    if temperature == 0:
        return int(logprobs.argmax())
    weights = np.exp((logprobs - logprobs.max()) / temperature)
    return int(random.choice(len(weights), p=weights / weights.sum()))


def _tell(text: str, on_text: Callable[[str], None] | None) -> None:
    if text and on_text is not None:
        on_text(text)
