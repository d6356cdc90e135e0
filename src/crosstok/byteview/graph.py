"""The graph of all ways to spell a text, and the sums over it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int64

from crosstok.byteview.canonical import Key
from crosstok.byteview.contexts import Context
from crosstok.byteview.reader import logsumexp


@dataclass(frozen=True)
class ByteScore:
    """The byte view's score of one text.

    Attributes:
        logprob: log-probability, in nats, that a text begins with these bytes.
        lower_bound: the same without the branches that were merged into the trunk: at most the
            exact sum. Without pruning it equals `logprob`, and both are exact.
        trunk_logprob: log-probability of all canonical tokens but the last, followed by any token
            that begins with the remaining bytes.
        dropped: sum of the shares of the branches that were not read.
        merged: sum of the shares of the branches that were merged into the trunk.
        num_bytes: bytes of the text.
        num_tokens: canonical tokens of the text.
        num_branch_tokens: further tokens that the model read.
    """

    logprob: float
    lower_bound: float
    trunk_logprob: float
    dropped: float
    merged: float
    num_bytes: int
    num_tokens: int
    num_branch_tokens: int


@dataclass(frozen=True, eq=False)
class NextBytes:
    """Probabilities of the next byte within the next token of one node.

    Attributes:
        at: index of the byte in the text.
        values: [C] the possible bytes.
        masses: [C] their probabilities, each times the probability of the bytes since the node.
        stop: probability that the text ends here; 0 inside a token.
    """

    at: int
    values: Int64[np.ndarray, " C"]
    masses: Float[np.ndarray, " C"]
    stop: float


@dataclass(eq=False)
class Node:
    """A token sequence that spells `content[:at]`, with the edges that lead to it."""

    text: Text
    at: int
    weight: float = -math.inf  # log-probability along its own tokens
    key: Key = ()
    context: Context | None = None
    next: Node | None = None  # on the trunk
    token: int = -1  # the trunk's token to there
    is_encoded: bool = False  # and whether the encoder wrote it
    into: list[tuple[Node, float, bool]] = field(default_factory=list)  # from, logprob, merged
    final: float = -math.inf  # log-mass of the next tokens that spell all the rest
    masses: dict[int, float] = field(default_factory=dict)  # that spell at least up to a byte
    outcomes: list[NextBytes] = field(default_factory=list)


@dataclass(eq=False)
class Text:
    """A text with the token sequences that spell a beginning of it."""

    content: bytes
    outcomes_from: int | None = None  # index of the first byte whose outcomes are kept
    nodes: list[Node] = field(default_factory=list)
    trunk: dict[int, Node] = field(default_factory=dict)  # by the byte where a token ends
    totals: dict[int, float] = field(default_factory=lambda: {0: 0.0})  # log-mass up to a byte
    dropped: float = 0.0
    merged: float = 0.0
    num_tokens: int = 0
    num_branches: int = 0

    def total(self, at: int) -> float:
        """Log-mass of the bytes up to `at`, or up to the nearest known place before it."""
        while at not in self.totals:
            at -= 1
        return self.totals[at]


def score_of(text: Text) -> ByteScore:
    """The score of a whole text."""
    logprob, lower = _total(text, merged=True), _total(text, merged=False)
    _check_possible(text, logprob)
    trunk = [node for node in text.nodes if node.at == 0 or text.trunk.get(node.at) is node]
    last = trunk[-1]
    return ByteScore(
        logprob=logprob if text.content else 0.0,
        lower_bound=lower if text.content else 0.0,
        trunk_logprob=last.weight + last.final if text.content else 0.0,
        dropped=text.dropped,
        merged=text.merged,
        num_bytes=len(text.content),
        num_tokens=text.num_tokens,
        num_branch_tokens=text.num_branches,
    )


def _check_possible(text: Text, logprob: float) -> None:
    if logprob == -math.inf and text.content:
        raise ValueError(
            f"the text {text.content[:40]!r} has probability 0: the target excludes every way to "
            "spell it that was tried; use target='all'."
        )


def byte_logprobs_of(text: Text) -> Float[np.ndarray, " n"]:
    """Log-probability of every byte after the bytes before it."""
    return np.diff(_log_totals(text, _weights(text, merged=True)))


def outcome_logprobs_of(text: Text) -> Float[np.ndarray, "n 258"]:
    """Log-probabilities of the 256 bytes, the end and everything pruned, at every byte."""
    weights = _weights(text, merged=True)
    totals = _log_totals(text, weights)
    first = text.outcomes_from or 0
    table = np.zeros((len(text.content) - first, 258))
    for node in text.nodes:
        for found in node.outcomes:
            share = math.exp(weights[id(node)] - totals[found.at])
            table[found.at - first, found.values] += share * found.masses
            table[found.at - first, 256] += share * found.stop
    table[:, 257] = np.maximum(0.0, 1.0 - table.sum(axis=1))
    with np.errstate(divide="ignore"):
        return np.log(table)


def _log_totals(text: Text, weights: dict[int, float]) -> list[float]:
    """Log-probability that a text begins with the bytes up to each place."""
    terms: list[list[float]] = [[] for _ in range(len(text.content) + 1)]
    terms[0] = [0.0]
    for node in text.nodes:
        for end, mass in node.masses.items():
            terms[end].append(weights[id(node)] + mass)
    totals = [logsumexp(parts) for parts in terms]
    _check_possible(text, totals[-1])
    return totals


def _total(text: Text, *, merged: bool) -> float:
    """Sum over all paths through the graph."""
    weights = _weights(text, merged=merged)
    return logsumexp([weights[id(node)] + node.final for node in text.nodes])


def _weights(text: Text, *, merged: bool) -> dict[int, float]:
    """Log-mass of all paths to every node, from left to right."""
    weights: dict[int, float] = {}
    for node in sorted(text.nodes, key=lambda node: (node.at, len(node.into) > 0)):
        into = [
            weights[id(before)] + logprob
            for before, logprob, is_merged in node.into
            if merged or not is_merged
        ]
        is_start = node.at == 0 and not node.into
        weights[id(node)] = 0.0 if is_start else logsumexp(into)
    return weights
