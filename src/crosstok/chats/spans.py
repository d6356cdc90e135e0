"""Map the tokens of a rendered conversation to byte spans in its shared texts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from crosstok.chats.conversations import Text
from crosstok.chats.marks import (
    BEGIN_OF_THOUGHT,
    END_OF_TURN,
    OF_ASSISTANT,
    OWN_THOUGHT,
    TOOL_CALL,
)
from crosstok.chats.structure import EncodedString
from crosstok.tokenizers.byte_vocab import ByteVocab
from crosstok.tokenizers.spans import TEMPLATE, Spans

# Words of the assistant that are in no chunk, since each template spells them differently.
_UNMATCHED = (TOOL_CALL, OWN_THOUGHT)


@dataclass(frozen=True)
class Learned:
    """What of a conversation the loss covers.

    Attributes:
        turns: messages whose content, thoughts, calls and end it covers; None: every token.
        excluded: messages that it does not cover even then.
    """

    turns: Collection[int] | None
    excluded: Collection[int] = ()

    @property
    def is_everything(self) -> bool:
        """Whether the loss covers every token, so that no mask is needed."""
        return self.turns is None and not self.excluded

    def of(self, messages: Sequence[int | None]) -> Bool[np.ndarray, " P"]:
        """Return whether it covers what each of these messages writes."""
        return np.array([self.covers(message) for message in messages], dtype=np.bool_)

    def covers(self, message: int | None) -> bool:
        """Return whether it covers what a message writes (None: the template)."""
        return message not in self.excluded and (self.turns is None or message in self.turns)


@dataclass(frozen=True)
class StructuredPiece:
    """A stretch of a rendered conversation.

    Attributes:
        text: the text as it is encoded.
        role: its role; None for a shared text (a content, thoughts).
        message: the message it belongs to, or None.
        number: which of the shared texts it is; None for text of the template.
        skipped: bytes of the shared text that the template left out before it.
    """

    text: str
    role: str | None
    message: int | None
    number: int | None = None
    skipped: int = 0


@dataclass(frozen=True)
class _Line:
    """The pieces of a rendering: their bytes in it, and their places in the joined shared texts.

    Attributes:
        bounds: first byte of every piece in the rendering, and the end.
        is_content: whether a piece is a shared text.
        begins: first byte of such a piece in the shared texts; for other pieces, their place there.
        stops: one past the last byte of the text it is; for other pieces, their place.
        roles: role of every piece; "" for shared texts.
        own: the message that writes a piece (a shared text, or the assistant's words and end); None
            for what the template writes.
    """

    bounds: Int64[np.ndarray, " P+1"]
    is_content: Bool[np.ndarray, " P"]
    begins: Int64[np.ndarray, " P"]
    stops: Int64[np.ndarray, " P"]
    roles: Sequence[str]
    own: Sequence[int | None]


def spans_of_pieces(
    encoded: EncodedString,
    pieces: Sequence[StructuredPiece],
    texts: Sequence[Text],
    vocab: ByteVocab,
    learned: Learned,
    appended_end: int | None,
) -> Spans:
    """Find the spans of a rendering's tokens in the joined texts.

    A token that reaches from the template into the start of a content covers the content's bytes; a
    token of the template is zero-width, at its place between the contents. Bytes that the template
    left out, or that one of its tokens swallowed, belong to the next token of text, which is then
    not exact.

    Args:
        encoded: the tokens of the joined pieces.
        pieces: the pieces; only shared texts may be empty.
        texts: the texts that all tokenizers share.
        vocab: the bytes of the tokens.
        learned: what the loss covers.
        appended_end: id of an end of turn that the template does not write, or None.
    """
    payload = "".join(text.string for text in texts).encode()
    line = _line(pieces, texts)
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
            TEMPLATE if line.roles[piece[token]] in _UNMATCHED else line.roles[piece[token]],
        )
        for token in np.flatnonzero(~is_text)
    ]
    mask = None if learned.is_everything else learned.of(line.own)[piece]
    spans = Spans(ids, all_starts, text_ends, exact, tuple(specials), len(payload), mask)
    if appended_end is None:
        return spans
    return _with_end(spans, appended_end, learned.covers(texts[-1].message))


def _line(pieces: Sequence[StructuredPiece], texts: Sequence[Text]) -> _Line:
    sizes = [len(text.string.encode()) for text in texts]
    origins = [0, *np.cumsum(sizes).tolist()]
    first: dict[int, int] = {}  # where the texts of a message begin
    for text, origin in zip(texts, origins, strict=False):
        first.setdefault(text.message, origin)
    begins, stops, own = [], [], []
    after = 0  # end of the text before
    for piece in pieces:
        message, number = piece.message, piece.number
        if number is not None:
            begin, after = origins[number] + piece.skipped, origins[number + 1]
            begins.append(begin)
            stops.append(after)
        else:
            # A header comes before its content, even if the contents before it are left out.
            role = piece.role or ""
            is_before = role.startswith("header") or role == BEGIN_OF_THOUGHT
            place = max(after, first[message]) if is_before and message is not None else after
            begins.append(place)
            stops.append(place)
        own.append(message if piece.role is None or piece.role in OF_ASSISTANT else None)
    lengths = [len(piece.text.encode()) for piece in pieces]
    return _Line(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array([piece.role is None for piece in pieces], dtype=np.bool_),
        np.array(begins, dtype=np.int64),
        np.array(stops, dtype=np.int64),
        [piece.role or "" for piece in pieces],
        own,
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
