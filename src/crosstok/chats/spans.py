"""Map the tokens of a rendered conversation to byte spans in its contents."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from crosstok.chats.marks import END_OF_TURN, TOOL_CALL
from crosstok.chats.structure import EncodedString
from crosstok.tokenizers.byte_vocab import ByteVocab
from crosstok.tokenizers.spans import TEMPLATE, Spans


@dataclass(frozen=True)
class StructuredPiece:
    """A stretch of a rendered conversation.

    Attributes:
        text: the text as it is encoded.
        role: its role; None for the content of a message.
        message: the message it belongs to, or None.
        skipped: bytes of the content that the template left out before it.
    """

    text: str
    role: str | None
    message: int | None
    skipped: int = 0


@dataclass(frozen=True)
class _Line:
    """The pieces of a rendering: their bytes in it, and their places in the contents.

    Attributes:
        bounds: first byte of every piece in the rendering, and the end.
        is_content: whether a piece is a message's content.
        begins: first byte of a content piece in the contents; for other pieces, their place there.
        stops: one past the last byte of the message in the contents; for other pieces, their place.
        roles: role of every piece; "" for contents.
        trained: whether the loss covers the tokens of a piece.
    """

    bounds: Int64[np.ndarray, " P+1"]
    is_content: Bool[np.ndarray, " P"]
    begins: Int64[np.ndarray, " P"]
    stops: Int64[np.ndarray, " P"]
    roles: Sequence[str]
    trained: Bool[np.ndarray, " P"]


def spans_of_pieces(
    encoded: EncodedString,
    pieces: Sequence[StructuredPiece],
    contents: Sequence[str],
    vocab: ByteVocab,
    trained: Collection[int] | None,
    appended_end: int | None,
) -> Spans:
    """Find the spans of a rendering's tokens in the joined contents.

    A token that reaches from the template into the start of a content covers the content's bytes; a
    token of the template is zero-width, at its place between the contents. Bytes that the template
    left out, or that one of its tokens swallowed, belong to the next token of text, which is then
    not exact.

    Args:
        encoded: the tokens of the joined pieces.
        pieces: the pieces; only contents may be empty.
        contents: the contents of all messages.
        vocab: the bytes of the tokens.
        trained: messages whose content, end and tool calls the loss covers; None: no mask.
        appended_end: id of an end of turn that the template does not write, or None.
    """
    payload = "".join(contents).encode()
    line = _line(pieces, contents, trained or ())
    ids, ends = encoded.ids, encoded.ends
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    piece, reach = _piece_of_tokens(starts, ends, encoded, line, vocab)
    is_text = line.is_content[piece]

    # A token ends inside its content, or where the message ends.
    place = line.begins[piece] + ends - line.bounds[piece]
    inside = is_text & (ends < line.bounds[piece + 1])
    text_ends = np.where(inside, np.minimum(place, line.stops[piece]), line.stops[piece])
    text_ends = np.where(is_text, text_ends, line.begins[piece])
    tokens = np.flatnonzero(is_text)
    exact = np.where(is_text, encoded.exact, True)
    if len(tokens):
        text_ends[tokens[-1]] = len(payload)
    text_ends = np.maximum.accumulate(text_ends)
    all_starts = text_ends.copy()
    if len(tokens):
        all_starts[tokens] = np.concatenate([[0], text_ends[tokens[:-1]]])
        for token in _edges_of_contents(tokens, piece):
            held = vocab.in_context(ids[max(0, token - 1) : token + 1].tolist())[-1]
            covered = payload[all_starts[token] : text_ends[token]]
            ends_here = held is not None and held.endswith(covered)
            exact[token] = ends_here and reach[token] == piece[token]
    specials = [
        (
            int(token),
            TEMPLATE if line.roles[piece[token]] == TOOL_CALL else line.roles[piece[token]],
        )
        for token in np.flatnonzero(~is_text)
    ]
    mask = None if trained is None else line.trained[piece]
    spans = Spans(ids, all_starts, text_ends, exact, tuple(specials), len(payload), mask)
    if appended_end is None:
        return spans
    return _with_end(spans, appended_end, trained is None or len(contents) - 1 in trained)


def _line(
    pieces: Sequence[StructuredPiece], contents: Sequence[str], trained: Collection[int]
) -> _Line:
    sizes = [len(content.encode()) for content in contents]
    origins = [0, *np.cumsum(sizes).tolist()]
    begins, stops, learned = [], [], []
    after = 0  # end of the content before
    for piece in pieces:
        message = piece.message
        if piece.role is None and message is not None:
            begin, after = origins[message] + piece.skipped, origins[message + 1]
            begins.append(begin)
            stops.append(after)
        else:
            # A header comes before its content, even if the contents before it are left out.
            is_header = message is not None and (piece.role or "").startswith("header")
            place = max(after, origins[message]) if is_header and message is not None else after
            begins.append(place)
            stops.append(place)
        learned.append(message in trained and piece.role in (None, END_OF_TURN, TOOL_CALL))
    lengths = [len(piece.text.encode()) for piece in pieces]
    return _Line(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array([piece.role is None for piece in pieces], dtype=np.bool_),
        np.array(begins, dtype=np.int64),
        np.array(stops, dtype=np.int64),
        [piece.role or "" for piece in pieces],
        np.array(learned, dtype=np.bool_),
    )


def _piece_of_tokens(
    starts: Int64[np.ndarray, " T"],
    ends: Int64[np.ndarray, " T"],
    encoded: EncodedString,
    line: _Line,
    vocab: ByteVocab,
) -> tuple[Int64[np.ndarray, " T"], Int64[np.ndarray, " T"]]:
    """Find the piece that each token belongs to, and the last piece that it reaches into.

    A token belongs to the last content of which it holds a byte, a special token to the template.
    An empty token belongs to the piece that begins there, or to the piece of the token before it if
    several tokens share its characters.
    """
    inner = line.bounds[1:-1]
    first = np.searchsorted(inner, starts, side="right")
    last = np.where(ends > starts, np.searchsorted(inner, ends, side="left"), first)
    piece = first.copy()
    special = np.array([vocab.token_bytes[index] is None for index in encoded.ids], dtype=np.bool_)
    for token in np.flatnonzero((first != last) | (special & line.is_content[first])).tolist():
        held = range(int(first[token]), int(last[token]) + 1)
        want = not special[token]
        piece[token] = next(
            (p for p in (reversed(held) if want else held) if line.is_content[p] == want),
            first[token],
        )
    for token in np.flatnonzero((ends == starts) & ~encoded.exact).tolist():
        piece[token] = piece[token - 1] if token else piece[token]
    return piece, last


def _edges_of_contents(
    tokens: Int64[np.ndarray, " N"], piece: Int64[np.ndarray, " T"]
) -> list[int]:
    """Find the first and the last token of every content."""
    new = np.flatnonzero(piece[tokens[1:]] != piece[tokens[:-1]])
    return [*tokens[:1].tolist(), *tokens[new].tolist(), *tokens[new + 1].tolist(), int(tokens[-1])]


def _with_end(spans: Spans, end: int, is_trained: bool) -> Spans:
    def appended(values: np.ndarray, value: int | bool) -> np.ndarray:
        return np.append(values, np.array(value, dtype=values.dtype))

    return Spans(
        appended(spans.ids, end),
        appended(spans.starts, spans.num_bytes),
        appended(spans.ends, spans.num_bytes),
        appended(spans.exact, True),
        (*spans.specials, (len(spans.ids), END_OF_TURN)),
        spans.num_bytes,
        None if spans.loss_mask is None else appended(spans.loss_mask, is_trained),
    )
