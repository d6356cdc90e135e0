"""Bits per byte: what a model needs to encode a text, in a unit independent of the tokenizer.

    bits per byte = - sum of log2 p(token | tokens before) / bytes of those tokens

Every text is cut into windows of `max_length` tokens, each after the document start (bos, else
eos). Windows do not overlap unless `overlap` is set: then the first `overlap` tokens of a window
repeat the end of the previous one, as context only. Only the text counts, not the end of the
document. Without a start token nothing predicts the first token of a window: it is left out of both
sums and reported as unscored.

A start token within a text wrongly marks the beginning of a document, which costs a model a little
(1.5 % with windows of 256). Many models do badly without one, however, so all are treated alike.
With `start_every_window=False` only the text begins with it, and every later window begins with (at
least) the last token of the previous one.

Byte views and ensembles have no tokens to cut at: they get windows of bytes
(`crosstok.evaluation.byte_windows`), as do the models that they are compared with.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crosstok.inference.language_model import LanguageModel
from crosstok.inference.scoring import Scorer, TokenRow, groups
from crosstok.tokenizers import Spans

_WINDOWS_PER_GROUP = 64


@dataclass(frozen=True)
class BitsPerByte:
    """Sums over texts."""

    bits: float
    num_bytes: int  # of the original text, under the scored tokens
    num_tokens: int  # scored; bytes, of a model that is read byte by byte
    num_unscored_bytes: int  # under tokens with nothing before them
    num_exact_bytes: int | None  # under tokens that spell the original bytes, not a normalised form
    num_texts: int

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of the original text."""
        return self.bits / self.num_bytes

    def as_json(self) -> dict[str, float | int]:
        """The figures of the `evaluate` command."""
        figures = {
            "bits_per_byte": self.bits_per_byte,
            "bytes": self.num_bytes,
            "tokens": self.num_tokens,
            "bytes_per_token": self.num_bytes / self.num_tokens,
            "unscored_bytes": self.num_unscored_bytes,
            "texts": self.num_texts,
        }
        if self.num_exact_bytes is not None:
            figures["exact_share"] = self.num_exact_bytes / self.num_bytes
        return figures


def bits_per_byte(
    scorer: Scorer,
    texts: Iterable[str],
    *,
    overlap: int = 0,
    start_every_window: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> BitsPerByte:
    """Bits per byte of a model on texts.

    Where the tokenizer normalises (lower-cases, strips accents), the bytes of the original text are
    still counted, so the figure flatters it; `exact_share` is the share of bytes left unchanged.

    Args:
        scorer: the model; its `max_length` is the window.
        texts: the documents.
        overlap: tokens of a window that repeat the end of the previous one.
        start_every_window: put the start token before every window, not only before every text.
        on_progress: called with the number of texts done.

    Raises:
        ValueError: `overlap` leaves no new token in a window, or the texts hold no scored byte.
    """
    room = scorer.max_length - scorer.num_start
    if not 0 <= overlap < room:
        raise ValueError(
            f"overlap is {overlap}; it must be from 0 to {room - 1}, so that each window of "
            f"{scorer.max_length} tokens has room for a new one."
        )
    bits = 0.0
    counts = np.zeros(4, dtype=np.int64)  # bytes, tokens, unscored bytes, exact bytes
    num_texts = 0
    for group in groups(texts):
        encoded = scorer.encode(group)
        windows = [
            window
            for spans in encoded
            for window in _windows(scorer, spans, overlap, start_every_window)
        ]
        scores = scorer.score([row for row, _ in windows if row is not None])
        bits -= sum(float(score.logprobs.sum()) for score in scores) / math.log(2)
        counts += np.sum([count for _, count in windows], axis=0, dtype=np.int64)
        num_texts += len(group)
        if on_progress is not None:
            on_progress(len(group))
    num_bytes, num_tokens, num_unscored, num_exact = (int(count) for count in counts)
    if not num_bytes:
        raise ValueError(
            f"{num_texts} texts hold no byte that {scorer.name} can score; give longer texts."
        )
    return BitsPerByte(bits, num_bytes, num_tokens, num_unscored, num_exact, num_texts)


def bits_per_byte_of_windows(
    model: LanguageModel,
    windows: Sequence[str],
    *,
    on_progress: Callable[[int], None] | None = None,
) -> BitsPerByte:
    """Bits per byte of any language model on texts that fit, each after the document start.

    The number of exact bytes is not known for such a model.

    Raises:
        ValueError: a text does not fit, or there is no byte to score.
    """
    bits, num_bytes, num_units = 0.0, 0, 0
    for first in range(0, len(windows), _WINDOWS_PER_GROUP):
        group = windows[first : first + _WINDOWS_PER_GROUP]
        for score in model.text_logprobs(group):
            bits -= score.logprob / math.log(2)
            num_bytes += score.num_bytes
            num_units += score.num_units
        if on_progress is not None:
            on_progress(len(group))
    if not num_bytes:
        raise ValueError(f"{len(windows)} texts hold no byte for {model.name}; give longer texts.")
    return BitsPerByte(bits, num_bytes, num_units, 0, None, len(windows))


def _windows(
    scorer: Scorer, spans: Spans, overlap: int, start_every_window: bool
) -> Iterator[tuple[TokenRow | None, np.ndarray]]:
    """Rows and their counts of scored bytes, tokens, unscored bytes and exact bytes."""
    widths = spans.ends - spans.starts
    done = 0
    while done < len(spans.ids):
        has_start = start_every_window or done == 0
        begin = max(0, done - (overlap if has_start else max(1, overlap)))
        end = min(begin + scorer.max_length - scorer.num_start * has_start, len(spans.ids))
        make = scorer.row if has_start else scorer.row_without_start
        row = make(spans.ids[begin:end], done - begin)
        first = end if row is None else end - (len(row.ids) - row.first)
        scored = slice(first, end)
        exact_bytes = widths[scored][spans.exact[scored]].sum()
        unscored_bytes = widths[done:first].sum()
        yield row, np.array([widths[scored].sum(), end - first, unscored_bytes, exact_bytes])
        done = end
