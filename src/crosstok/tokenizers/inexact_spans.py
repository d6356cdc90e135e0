"""Byte spans of a text that the tokenizer changed before cutting it.

After a normaliser, an unknown token or dropped white space, the bytes of the tokens no longer join
to the text, so the cuts must come from the encoder's character offsets. These may overlap, leave
gaps, or put several tokens on the same characters; they are repaired here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from jaxtyping import Bool, Int64

TokenBytes = Sequence[bytes | None]


def char_to_byte(text: str) -> Int64[np.ndarray, " chars+1"]:
    """Return the byte offset of every character of a text, and of its end."""
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
    """Find the ends of the byte spans of one text's tokens, and which spans are exact.

    Tokens whose characters overlap form a cluster. A cluster covers the bytes from the end of the
    cluster before it to the end of its last character, so that dropped white space belongs to the
    text after it; other dropped characters belong to the text before them. A cluster whose tokens'
    bytes are the bytes it covers is cut exactly. Otherwise it is cut from both sides as far as the
    bytes agree, and the first of the tokens between takes the remaining bytes.

    Args:
        token_bytes: bytes of every token, None for the unknown token.
        offsets: half-open character offsets of every token into `text`, in the encoder's order.
        text: the original text.
        may_drop_space: whether a token's first space may be one that the tokenizer added.

    Returns:
        The ends, non-decreasing, the last one the number of bytes (a token starts where the token
        before it ends); and whether each token's bytes are the bytes of its span.
    """
    payload, to_byte, size = text.encode(), char_to_byte(text), len(offsets)
    edges = np.fromiter(chain.from_iterable(offsets), np.int64, 2 * size).reshape(size, 2)
    begins, reach = to_byte[edges[:, 0]], to_byte[_reach(edges[:, 0], edges[:, 1], text)]
    reach[-1] = len(payload)
    first = np.concatenate([[0], 1 + np.flatnonzero(begins[1:] >= reach[:-1])])
    last = np.concatenate([first[1:], [size]])
    low, high = np.concatenate([[0], reach[last[:-1] - 1]]), reach[last - 1]
    joined_ends = np.cumsum([0, *(len(piece or b"") for piece in token_bytes)])
    origin, drop, agrees = _compare(
        token_bytes, joined_ends, payload, (first, last), (low, high), may_drop_space
    )

    cluster = np.repeat(np.arange(len(first)), last - first)
    cuts = low[cluster] + joined_ends[1:] - (origin + drop)[cluster]
    exact = agrees[cluster]
    ends = np.where(exact, np.maximum(cuts, low[cluster]), reach)
    for index in np.flatnonzero(~agrees & (last - first > 1)).tolist():
        tokens, region = (first[index], last[index]), (low[index], high[index])
        may_drop = bool(may_drop_space[first[index]])
        _cut_from_both_sides(token_bytes, payload, tokens, region, may_drop, ends, exact)
    return ends, exact


def _reach(
    begins: Int64[np.ndarray, " T"], ends: Int64[np.ndarray, " T"], text: str
) -> Int64[np.ndarray, " T"]:
    """Find the furthest character end up to every token, dropped marks included.

    Characters that no token covers, up to the first white space, go with the token before them: an
    accent that was composed with its letter, or stripped from it.
    """
    reach: Int64[np.ndarray, " T"] = np.maximum.accumulate(ends)
    for token in np.flatnonzero(reach[:-1] < begins[1:]).tolist():
        place, stop = int(reach[token]), int(begins[token + 1])
        while place < stop and not text[place].isspace():
            place += 1
        reach[token] = place
    return reach


def _compare(
    token_bytes: TokenBytes,
    joined_ends: Int64[np.ndarray, " T+1"],
    payload: bytes,
    tokens: tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " K"]],
    region: tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " K"]],
    may_drop_space: Bool[np.ndarray, " T"],
) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " K"], Bool[np.ndarray, " K"]]:
    """Compare the bytes of K clusters of tokens with the bytes of the text that they cover.

    Returns:
        The place where each cluster begins in the joined bytes of the tokens; the number of spaces
        to leave out at its start (0 or 1); and whether the rest equals the bytes it covers.
    """
    (first, last), (low, high) = tokens, region
    joined = b"".join(piece or b"" for piece in token_bytes)
    known = np.logical_and.reduceat([piece is not None for piece in token_bytes], first)
    origin, past = joined_ends[first], joined_ends[last]
    extra = past - origin - (high - low)
    leading = np.frombuffer(joined + b"\0", dtype=np.uint8)[origin]
    drop = ((extra == 1) & may_drop_space[first] & (leading == 0x20)).astype(np.int64)
    agrees = known & (extra == drop)
    places = [bounds[agrees].tolist() for bounds in (origin + drop, past, low, high)]
    agrees[agrees] = [
        joined[begin:end] == payload[start:stop]
        for begin, end, start, stop in zip(*places, strict=True)
    ]
    return origin, drop, agrees


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

    Only cuts between characters count as agreement: two different characters may share a byte by
    chance.
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
    """Give the bytes that match no token to tokens `left` to `right`, none of which is exact."""
    (left, right, past), (low, high) = tokens, region
    if left < right:
        ends[left:right] = np.clip(ends[left:right], low, high)
        ends[right - 1] = high
    elif low < high:  # bytes that no token stands for: they belong to the token after them
        exact[min(right, past - 1)] = False
        if right == past:
            ends[past - 1] = high
