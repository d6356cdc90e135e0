"""Byte spans of a text that the tokenizer changed before cutting it.

A normaliser, an unknown token or dropped white space breaks the equality of the tokens' bytes with
the text's, so that the cuts must come from the encoder's character offsets. These are repaired
here: they may overlap, leave gaps, and lump several tokens on the same characters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

TokenBytes = Sequence[bytes | None]


def char_to_byte(text: str) -> Int64[np.ndarray, " chars+1"]:
    """Byte offset of every character of a text, and of its end."""
    if text.isascii():
        return np.arange(len(text) + 1, dtype=np.int64)
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    widths = 1 + (codes >= 0x80) + (codes >= 0x800).astype(np.int64) + (codes >= 0x10000)
    return np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)


def cut_by_offsets(
    token_bytes: TokenBytes,
    offsets: Sequence[tuple[int, int]],
    text: str,
    may_drop_space: Bool[np.ndarray, " T"],
) -> tuple[Int64[np.ndarray, " T"], Bool[np.ndarray, " T"]]:
    """Ends of the byte spans of the tokens of one text, and which of them are exact.

    Tokens whose characters overlap form a cluster. A cluster covers the bytes from the end of the
    one before to the end of its last character, so that dropped white space belongs to what
    follows it. Where the bytes of a cluster's tokens are the bytes it covers, it is cut exactly;
    otherwise from both sides as far as the bytes agree, and of the tokens between the first takes
    what is left of the characters they share.

    Args:
        token_bytes: Bytes of every token, None for the unknown token.
        offsets: Half-open character offsets of every token into `text`, in the encoder's order.
        text: The original text.
        may_drop_space: Whether a token's first space may be one that the tokenizer put there.

    Returns:
        The ends, non-decreasing, the last one the number of bytes (a token starts where the one
        before it ends); and whether the token's bytes are those of its span.
    """
    payload, to_byte = text.encode(), char_to_byte(text)
    reach = np.maximum.accumulate(to_byte[np.array([end for _, end in offsets], dtype=np.int64)])
    begins = to_byte[np.array([start for start, _ in offsets], dtype=np.int64)]
    reach[-1] = len(payload)
    first = np.concatenate([[0], 1 + np.flatnonzero(begins[1:] >= reach[:-1])])
    last = np.concatenate([first[1:], [len(offsets)]])
    known = np.array([piece is not None for piece in token_bytes])
    joined = b"".join(piece or b"" for piece in token_bytes)
    joined_ends = np.cumsum([len(piece or b"") for piece in token_bytes])
    joined_starts = np.concatenate([[0], joined_ends[:-1]])

    low = np.concatenate([[0], reach[last[:-1] - 1]])
    high = reach[last - 1]
    extra = joined_ends[last - 1] - joined_starts[first] - (high - low)
    drop = ((extra == 1) & may_drop_space[first]).astype(np.int64)
    fits = (extra == drop) & np.logical_and.reduceat(known, first)
    ends, exact = reach.copy(), np.zeros(len(offsets), dtype=np.bool_)
    for cluster, (one, past) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        begin, stop = int(low[cluster]), int(high[cluster])
        origin, skip = int(joined_starts[one]), int(drop[cluster])
        if fits[cluster] and _agrees(joined, origin, skip, payload[begin:stop]):
            cuts = begin + joined_ends[one:past] - origin - skip
            ends[one:past] = np.maximum(cuts, begin)
            exact[one:past] = True
        elif past - one > 1:
            _cut_from_both_sides(
                token_bytes, payload, (one, past), (begin, stop), bool(may_drop_space[one]),
                ends, exact,
            )  # fmt: skip
    return ends, exact


def _agrees(joined: bytes, origin: int, skip: int, covered: bytes) -> bool:
    if skip and joined[origin] != 0x20:
        return False
    return joined.startswith(covered, origin + skip)


def _is_character_start(payload: bytes, place: int) -> bool:
    return place >= len(payload) or payload[place] & 0xC0 != 0x80


def _cut_from_both_sides(
    token_bytes: TokenBytes,
    payload: bytes,
    tokens: tuple[int, int],
    region: tuple[int, int],
    may_drop_space: bool,
    ends: Int64[np.ndarray, " T"],
    exact: Bool[np.ndarray, " T"],
) -> None:
    """Cut a cluster whose bytes do not all agree; writes into `ends` and `exact`.

    Only cuts between characters count as agreement: a byte in common inside two different
    characters means nothing.
    """
    (one, past), (low, high) = tokens, region
    cuts: list[int] = []
    left, left_end = one, low
    for token in range(one, past):
        piece, place = token_bytes[token], cuts[-1] if cuts else low
        if piece is None:
            break
        dummy = token == one and may_drop_space and piece[:1] == b" "
        if dummy and not payload.startswith(piece, place, high):
            piece = piece[1:]
        if not payload.startswith(piece, place, high):
            break
        cuts.append(place + len(piece))
        if _is_character_start(payload, cuts[-1]):
            left, left_end = token + 1, cuts[-1]
    ends[one:left] = cuts[: left - one]
    exact[one:left] = True

    cuts = [high]
    right, right_start = past, high
    for token in range(past - 1, left - 1, -1):
        piece, place = token_bytes[token], cuts[-1]
        if not piece or not payload.endswith(piece, left_end, place):
            break
        cuts.append(place - len(piece))
        if _is_character_start(payload, cuts[-1]):
            right, right_start = token, cuts[-1]
    ends[right:past] = cuts[: past - right][::-1]
    exact[right:past] = True
    _share_the_rest((left, right, past), (left_end, right_start), ends, exact)


def _share_the_rest(
    tokens: tuple[int, int, int],
    region: tuple[int, int],
    ends: Int64[np.ndarray, " T"],
    exact: Bool[np.ndarray, " T"],
) -> None:
    """Give the bytes on which no token agrees to tokens `left` to `right`; none is exact."""
    (left, right, past), (low, high) = tokens, region
    if left < right:
        ends[left:right] = np.clip(ends[left:right], low, high)
        ends[right - 1] = high
    elif low < high:  # bytes that no token stands for: they belong to what follows
        exact[min(right, past - 1)] = False
        if right == past:
            ends[past - 1] = high
