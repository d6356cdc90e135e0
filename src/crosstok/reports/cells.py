"""A text under two tokenizers: cells in the order of the text, with readable tokens."""

import unicodedata
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
    """Collect every token of both sides, in the order of the text."""
    ours = _tokens_by_chunk(alignment.source_chunk_ids, alignment.num_chunks)
    theirs = _tokens_by_chunk(alignment.target_chunk_ids, alignment.num_chunks)
    pairs = enumerate(zip(alignment.chunk_ends, ours[1:], theirs[1:], strict=True))
    placed = [(int(end), Cell(above, below, i)) for i, (end, above, below) in pairs]
    placed += [(int(source.ends[t]), Cell([t], [], -1)) for t in ours[0]]
    placed += [(int(target.ends[t]), Cell([], [t], -1)) for t in theirs[0]]
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
