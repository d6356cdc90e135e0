"""Pairs of BPE tokens that no merge across their boundary would have joined, for all followers.

Let l and r be two tokens that each encode to themselves. Encoding the bytes of l r merges inside l
and inside r as it does for each alone, unless a merge (a, b) across the boundary comes first: a is
the symbol that ends l at that moment, and b the symbol that begins r. Merges are done in the order
of their rank, and every merge has a higher rank than the merges that made its parts. So a ends l
from the moment it is made until the rank at which it is merged into a longer symbol of l, its
`death`, and likewise b in r. The pair is canonical unless some merge (a, b) has a rank below the
death of a and not above the death of b (of two equal merges the left one is done first).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from crosstok.tokenizers import ByteVocab

_KEPT = 512  # masks of followers
_NEVER = np.iinfo(np.int64).max

_Edge = list[tuple[str, int]]  # the successive symbols at one edge of a token, with their deaths


class MergePairs:
    """All merges of a tokenizer, prepared to find the followers of a token.

    Attributes:
        reachable: [V] whether merging an id's own bytes gives this id.
    """

    def __init__(self, pieces: Mapping[int, str], merges: Mapping[tuple[str, str], int]) -> None:
        self._size = 1 + max(pieces)
        self.reachable: Bool[np.ndarray, " V"] = np.zeros(self._size, dtype=np.bool_)
        self._right: dict[int, _Edge] = {}
        self._followers: dict[int, Bool[np.ndarray, " V"]] = {}
        begins: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, piece in pieces.items():
            edges = _edges(piece, merges)
            if edges is None:
                continue
            self.reachable[index] = True
            left, self._right[index] = edges
            for symbol, death in left:
                begins[symbol].append((index, death))
        self._begins = {
            symbol: (np.array([i for i, _ in found]), np.array([d for _, d in found]))
            for symbol, found in begins.items()
        }
        self._merges_of: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for (left_part, right_part), rank in merges.items():
            self._merges_of[left_part].append((right_part, rank))

    @classmethod
    def from_description(
        cls, description: Mapping[str, Any], vocab: ByteVocab
    ) -> MergePairs | None:
        """Read the merges of a tokenizer; None if pairs do not decide what is canonical.

        Pairs do not decide for models other than BPE, with byte fallback, with marks on pieces,
        with whole words that need no merges, or with merges that come before the merges that make
        their parts.
        """
        model = description["model"]
        marks = ("byte_fallback", "continuing_subword_prefix", "end_of_word_suffix", "dropout")
        if model.get("type") != "BPE" or any(model.get(mark) for mark in marks):
            return None
        if model.get("ignore_merges"):
            return None
        merges: dict[tuple[str, str], int] = {}
        for rank, merge in enumerate(model["merges"]):
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            merges[left, right] = rank
        born: dict[str, int] = {}
        for (left, right), rank in merges.items():
            born.setdefault(left + right, rank)
        late = (max(born.get(a, -1), born.get(b, -1)) >= rank for (a, b), rank in merges.items())
        if any(late):
            return None
        # Added tokens are found in the text before any merge, so no pair with them can merge.
        pieces = {
            index: piece
            for piece, index in model["vocab"].items()
            if index < len(vocab) and vocab.token_bytes[index] is not None
        }
        return cls(pieces, merges) if pieces else None

    def followers(self, index: int) -> Bool[np.ndarray, " V"]:
        """Ids that may follow an id inside a pre-token."""
        if index in self._followers:
            return self._followers[index]
        allowed = self.reachable.copy()
        for symbol, death in self._right.get(index, ()):
            for other, rank in self._merges_of.get(symbol, ()):
                if rank < death and other in self._begins:
                    ids, deaths = self._begins[other]
                    allowed[ids[deaths >= rank]] = False
        if len(self._followers) >= _KEPT:
            self._followers.clear()
        self._followers[index] = allowed
        return allowed


def _edges(piece: str, merges: Mapping[tuple[str, str], int]) -> tuple[_Edge, _Edge] | None:
    """The symbols that begin and end a piece during merging; None if merging does not give it."""
    symbols = list(piece)
    left, right = [symbols[0]], [symbols[-1]]
    left_deaths: list[int] = []
    right_deaths: list[int] = []
    while len(symbols) > 1:
        ranks = [merges.get((symbols[i], symbols[i + 1]), _NEVER) for i in range(len(symbols) - 1)]
        rank = min(ranks)
        if rank == _NEVER:
            return None
        at = ranks.index(rank)
        if at == 0:
            left_deaths.append(rank)
            left.append(symbols[0] + symbols[1])
        if at == len(symbols) - 2:
            right_deaths.append(rank)
            right.append(symbols[-2] + symbols[-1])
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    return (
        list(zip(left, [*left_deaths, _NEVER], strict=True)),
        list(zip(right, [*right_deaths, _NEVER], strict=True)),
    )
