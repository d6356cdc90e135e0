"""Bits per byte of chats: what a model needs to encode the parts that the loss covers.

    bits per byte = - sum of log2 p(token | tokens before) / bytes of those tokens

Every chat is one row, under the model's own chat template, cut at the scorer's `max_length`. Only
tokens of the covered text count (`Spans.loss_mask`): not the special tokens around it, such as the
end of a turn, which other templates write in other ways.
"""

import math
from collections.abc import Sequence

import numpy as np

from crosstok.evaluation.bits_per_byte import BitsPerByte
from crosstok.inference.scoring import Scorer, TokenRow
from crosstok.tokenizers import Spans


def bits_per_byte_of_chats(scorer: Scorer, chats: Sequence[Spans]) -> BitsPerByte:
    """Bits per byte of a model on encoded chats; see the module.

    Args:
        scorer: the model; its `max_length` is where chats are cut.
        chats: chats as `crosstok.chats.ExampleEncoder` encodes them for this model.

    Raises:
        ValueError: the chats hold no byte that counts.
    """
    rows = [TokenRow(spans.ids[: scorer.max_length], 1) for spans in chats if len(spans) > 1]
    scores = iter(scorer.score(rows))
    bits = 0.0
    counts = np.zeros(4, dtype=np.int64)  # bytes, tokens, unscored bytes, exact bytes
    for spans in chats:
        counted = counted_tokens(spans, scorer.max_length)
        if len(spans) > 1:
            logprobs = next(scores).logprobs
            bits -= float(logprobs[counted[1 : len(logprobs) + 1]].sum()) / math.log(2)
        widths = spans.ends - spans.starts
        num_bytes = int(widths[counted].sum())
        unscored = int(widths[_in_loss(spans)].sum()) - num_bytes
        counts += (num_bytes, counted.sum(), unscored, widths[counted & spans.exact].sum())
    num_bytes, num_tokens, num_unscored, num_exact = (int(count) for count in counts)
    if not num_bytes:
        raise ValueError(
            f"{len(chats)} chats hold no byte that {scorer.name} can score; give longer ones."
        )
    return BitsPerByte(bits, num_bytes, num_tokens, num_unscored, num_exact, len(chats))


def counted_tokens(spans: Spans, max_length: int) -> np.ndarray:
    """Which tokens of a chat count: those of covered text, within the window, but for the first."""
    counted = _in_loss(spans)
    counted[:1] = False  # nothing predicts it
    counted[max_length:] = False
    return counted


def _in_loss(spans: Spans) -> np.ndarray:
    mask = np.ones(len(spans), dtype=np.bool_) if spans.loss_mask is None else spans.loss_mask
    in_loss: np.ndarray = mask & (spans.ends > spans.starts)
    return in_loss
