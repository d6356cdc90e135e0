"""A text under two tokenizers: cells in the order of the text, with readable tokens."""

import unicodedata
from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from rich.cells import cell_len

from crosstok.alignment import Alignment
from crosstok.tokenizers import ByteVocab, Spans

_BLANKS = str.maketrans({" ": "␣", "\n": "⏎", "\t": "⇥"})


@dataclass(frozen=True)
class Cell:
    """Tokens in one column of the picture: those of a chunk, or a token in no chunk."""

    source: list[int]
    target: list[int]
    chunk: int  # -1: in no chunk

    @property
    def is_chunk(self) -> bool:
        """Whether both sides have the same bytes here."""
        return self.chunk >= 0


def cells(source: Spans, target: Spans, alignment: Alignment) -> list[Cell]:
    """Collect every token of both sides; on each side they keep the order of the ids."""
    ours = _tokens_by_chunk(alignment.source_chunk_ids, alignment.num_chunks)
    theirs = _tokens_by_chunk(alignment.target_chunk_ids, alignment.num_chunks)
    free_ours, free_theirs = _Queue(ours[0], source.ends), _Queue(theirs[0], target.ends)
    found: list[Cell] = []
    for i, (above, below) in enumerate(zip(ours[1:], theirs[1:], strict=True)):
        found += _merge_uncovered(free_ours.take(above[0]), free_theirs.take(below[0]))
        found.append(Cell(above, below, i))
    return found + _merge_uncovered(
        free_ours.take(len(source.ids)), free_theirs.take(len(target.ids))
    )


class _Queue:
    """Tokens of one side that are in no chunk, with the byte each ends at."""

    def __init__(self, tokens: list[int], ends: Int[np.ndarray, " T"]) -> None:
        self._waiting = deque((int(ends[token]), token) for token in tokens)

    def take(self, before: int) -> list[tuple[int, int]]:
        """Take out the tokens that come before this one."""
        taken = []
        while self._waiting and self._waiting[0][1] < before:
            taken.append(self._waiting.popleft())
        return taken


def _merge_uncovered(above: list[tuple[int, int]], below: list[tuple[int, int]]) -> list[Cell]:
    """A cell for each token, in the order of the text."""
    placed = [(end, Cell([token], [], -1)) for end, token in above]
    placed += [(end, Cell([], [token], -1)) for end, token in below]
    return [cell for _, cell in sorted(placed, key=lambda pair: pair[0])]


def spell_tokens(spans: Spans, tokens: list[int], vocab: ByteVocab) -> list[str]:
    """Spell each token in visible characters, and special tokens by their role."""
    roles = dict(spans.specials)
    return [
        f"<{roles[token]}>" if token in roles else _readable(vocab.token_bytes[spans.ids[token]])
        for token in tokens
    ]


def _tokens_by_chunk(chunk_ids: Int[np.ndarray, " T"], num_chunks: int) -> list[list[int]]:
    """Group tokens: first the tokens in no chunk, then the tokens of each chunk."""
    tokens: list[list[int]] = [[] for _ in range(num_chunks + 1)]
    for token, chunk in enumerate(chunk_ids.tolist()):
        tokens[chunk + 1].append(token)
    return tokens


def _readable(token: bytes | None) -> str:
    r"""Make blanks visible; other invisible bytes and characters become ``\x..``, ``\u....``."""
    if token is None:
        return "<unk>"
    text = token.decode("utf-8", errors="backslashreplace").translate(_BLANKS)
    return "".join(char if _can_be_seen(char) else _escaped(char) for char in text)


def _can_be_seen(char: str) -> bool:
    return char.isprintable() and not unicodedata.combining(char) and cell_len(char) > 0


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
