"""The bytes of a vocabulary as a trie whose nodes are ranges of one sorted list.

In a list sorted by bytes, the tokens that begin with the same bytes are adjacent. A node is such a
range, so the probability of "the token begins with these bytes" is the sum of a slice of the
probabilities in that order, and the sums of all its children are one `np.add.reduceat`. Nodes are
made when they are first visited: most nodes of a large vocabulary never are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int64


class Node:
    """The tokens `[first, last)` of the sorted list, which share their first `depth` bytes.

    Attributes:
        first: the first token of the range.
        open: the first token that is longer than `depth`; `[first, open)` end here.
        last: one past the last token.
        depth: number of shared bytes.
        starts: first token of every child, ascending.
        next_bytes: the byte that leads to every child, ascending.
    """

    __slots__ = ("_children", "_keys", "depth", "first", "last", "next_bytes", "open", "starts")

    def __init__(self, keys: Sequence[bytes], first: int, last: int, depth: int) -> None:
        self._keys = keys
        self.first, self.last, self.depth = first, last, depth
        self.open = first
        while self.open < last and len(keys[self.open]) == depth:
            self.open += 1
        column = np.fromiter((keys[i][depth] for i in range(self.open, last)), dtype=np.int64)
        self.next_bytes, places = np.unique(column, return_index=True)
        self.starts: Int64[np.ndarray, " C"] = places + self.open
        self._children: dict[int, Node] = {}

    def child(self, byte: int) -> Node | None:
        """The tokens that continue with this byte, or None."""
        found = self._children.get(byte)
        if found is None:
            place = int(np.searchsorted(self.next_bytes, byte))
            if place == len(self.next_bytes) or self.next_bytes[place] != byte:
                return None
            last = self.last if place + 1 == len(self.starts) else int(self.starts[place + 1])
            found = Node(self._keys, int(self.starts[place]), last, self.depth + 1)
            self._children[byte] = found
        return found


class ByteTrie:
    """A vocabulary sorted by bytes.

    Several ids may have the same bytes; ids without bytes are left out. The empty string is
    allowed: such tokens end at the root.

    Attributes:
        ids: [n] token ids in the order of their bytes.
        max_length: bytes of the longest token.
        root: all tokens.
    """

    def __init__(self, token_bytes: Sequence[bytes | None]) -> None:
        """Sort a vocabulary.

        Args:
            token_bytes: the bytes of every id; None for ids without text.
        """
        entries = sorted(
            (content, index) for index, content in enumerate(token_bytes) if content is not None
        )
        self._keys = [content for content, _ in entries]
        self.ids: Int64[np.ndarray, " n"] = np.array([index for _, index in entries], np.int64)
        self.max_length = max(map(len, self._keys), default=0)
        self.root = Node(self._keys, 0, len(entries), 0)

    def walk(self, content: bytes, start: int = 0) -> Iterator[Node]:
        """Nodes below the root along `content[start:]`, until the bytes or the tokens end."""
        node = self.root
        for place in range(start, min(len(content), start + self.max_length)):
            child = node.child(content[place])
            if child is None:
                return
            yield child
            node = child

    def ids_at(self, node: Node) -> list[int]:
        """Ids of the tokens that end at a node."""
        return self.ids[node.first : node.open].tolist()  # type: ignore[no-any-return]


def child_masses(node: Node, masses: Float[np.ndarray, " n"]) -> Float[np.ndarray, " C"]:
    """Sum of the masses below every child, each slice summed separately.

    Differences of a running sum would be faster, but would lose small masses: next to a sum of 1,
    masses below 1e-16 vanish.
    """
    if not len(node.starts):
        return np.zeros(0)
    return np.add.reduceat(masses[: node.last], node.starts)
