"""Conversations under two encoders: aligned, and what of them is covered."""

from __future__ import annotations

import re

import numpy as np

from crosstok.alignment import align_batch
from crosstok.chats import parse_example, shared_examples
from tests.chats.chat_shapes import REAL, real_encoder, shape_encoder
from tests.texts import PIECES

# SentencePiece reads a typed ▁ as a space, and Unigram a typed <0x0A> as a byte: text that these
# tokenizers do not keep, in a chat or out of it.
LOST = re.compile(r"▁|<0x[0-9A-F]{2}>")
KEPT = [piece for piece in PIECES if not LOST.search(piece)]


def encoder_of(name, shared):
    return real_encoder(shared, name) if name in REAL else shape_encoder(name)


def conversations():
    """Conversations over text in many scripts, with and without a system message."""
    rows = []
    for first in range(0, len(KEPT) - 8, 4):
        parts = ["".join(KEPT[first + i : first + i + 5]) or "x" for i in range(5)]
        roles = ("system", "user", "assistant", "user", "assistant")
        messages = [{"role": r, "content": p} for r, p in zip(roles, parts, strict=True)]
        rows.append({"messages": messages[(first // 4) % 2 :]})
    typed = "I write <|im_end|>, </s>, <|eot_id|>, <end_of_turn> and [/INST]. "
    rows.append(
        {"messages": [{"role": "user", "content": typed}, {"role": "assistant", "content": typed}]}
    )
    return [parse_example(row, f"row {number}") for number, row in enumerate(rows)]


def aligned(left, right, examples):
    examples = shared_examples(examples, left, right)
    one = left(examples, loss_on="assistant")
    two = right(examples, loss_on="assistant")
    found = align_batch(one, two, left.encoder.byte_vocab, right.encoder.byte_vocab)
    return examples, one, two, found


def covered_of_assistant(example, alignment) -> tuple[int, int]:
    covered = np.zeros(alignment.num_bytes + 1, dtype=bool)
    for start, end in zip(alignment.chunk_starts, alignment.chunk_ends, strict=True):
        covered[start:end] = True
    begin = num_covered = num_bytes = 0
    for message, content in zip(example.messages, example.contents, strict=True):
        end = begin + len(content.encode())
        if message["role"] == "assistant":
            num_covered += int(covered[begin:end].sum())
            num_bytes += end - begin
        begin = end
    return num_covered, num_bytes


def unmatched_ends(spans, chunk_ids) -> int:
    return sum(
        role == "end_of_turn" and bool(spans.loss_mask[token]) and chunk_ids[token] < 0
        for token, role in spans.specials
    )
