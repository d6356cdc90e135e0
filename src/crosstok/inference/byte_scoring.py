"""The probability of whole texts, all of their tokens in a few forward passes.

The bytes are known, so which token sequences spell them is known too: at every place only tokens
that are a beginning of the rest count. The canonical tokens, the trunk, are read in one pass. A
token that leaves the trunk begins a branch; branches are read in waves, each one pass for all
branches of all texts, on the cache of the trunk. What remains is a sum over a graph.

With pruning a branch is read only if its share of the probability of the bytes up to there is large
enough, and where it comes back to the end of a token of the trunk, it is taken for the trunk from
there on: both have read the same bytes. So a branch costs the few tokens that it is apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from crosstok.inference.byte_view import Pruning, Reader, Spelling, check_fits, logsumexp
from crosstok.inference.canonical import Canonicality, Key
from crosstok.inference.contexts import Context, Contexts

# Tokens of texts that are read together. Attention is over all of them, which costs a CPU more than
# it saves.
_TOKENS_PER_GROUP = {"cpu": 256}
_TOKENS_PER_GROUP_ACCELERATOR = 2048


@dataclass(frozen=True)
class ByteScore:
    """What the byte view says of one text.

    Attributes:
        logprob: Log-probability, in nats, that a text begins with these bytes.
        lower_bound: The same without the branches that were taken for the trunk: not above the
            exact sum. Without pruning it equals `logprob`, and both are exact.
        trunk_logprob: Log-probability of the canonical tokens but for the last, and of all tokens
            that may come then because they begin with the rest.
        dropped: Sum of the shares of the branches that were not read.
        merged: Sum of the shares of the branches that were taken for the trunk.
        num_bytes: Bytes of the text.
        num_tokens: Canonical tokens.
        num_branch_tokens: Tokens that the model read beyond those.
    """

    logprob: float
    lower_bound: float
    trunk_logprob: float
    dropped: float
    merged: float
    num_bytes: int
    num_tokens: int
    num_branch_tokens: int


@dataclass(eq=False)
class _Node:
    """A token sequence that spells `content[:at]`, with the edges that lead to it."""

    text: _Text
    at: int
    weight: float = -math.inf  # log-probability along its own tokens
    key: Key = ()
    context: Context | None = None
    next: _Node | None = None  # on the trunk
    token: int = -1  # the trunk's token to there
    is_encoded: bool = False  # and whether the encoder wrote it
    into: list[tuple[_Node, float, bool]] = field(default_factory=list)  # from, logprob, merged
    final: float = -math.inf  # log-mass of the next tokens that spell all the rest
    masses: dict[int, float] = field(default_factory=dict)  # that spell at least up to a byte


@dataclass(eq=False)
class _Text:
    content: bytes
    nodes: list[_Node] = field(default_factory=list)
    trunk: dict[int, _Node] = field(default_factory=dict)  # by the byte where a token ends
    totals: dict[int, float] = field(default_factory=lambda: {0: 0.0})  # log-mass up to a byte
    dropped: float = 0.0
    merged: float = 0.0
    num_tokens: int = 0
    num_branches: int = 0

    def total(self, at: int) -> float:
        """Log-mass that begins with the bytes up to there, or up to the nearest known before."""
        while at not in self.totals:
            at -= 1
        return self.totals[at]


@dataclass(frozen=True)
class _Candidate:
    parent: _Node
    token: int
    logprob: float
    at: int

    @property
    def weight(self) -> float:
        return self.parent.weight + self.logprob


def score_texts(reader: Reader, pruning: Pruning, contents: Sequence[bytes]) -> list[ByteScore]:
    """Score texts, short ones together.

    Raises:
        ValueError: A text cannot be spelt, does not fit into the model's positions, or the target
            leaves out every spelling of it.
    """
    return [_score(text) for text in _read_all(reader, pruning, contents)]


def byte_logprobs(
    reader: Reader, pruning: Pruning, contents: Sequence[bytes]
) -> list[Float[np.ndarray, " n"]]:
    """Log-probability of every byte given those before it; they sum to the text's `logprob`.

    Raises:
        ValueError: As `score_texts`.
    """
    return [_byte_logprobs(text) for text in _read_all(reader, pruning, contents, per_byte=True)]


def _read_all(
    reader: Reader, pruning: Pruning, contents: Sequence[bytes], *, per_byte: bool = False
) -> list[_Text]:
    spelt = [reader.spell(content) for content in contents]
    for spelling in spelt:
        check_fits(spelling, reader)
    texts: list[_Text] = []
    room = _TOKENS_PER_GROUP.get(reader.model.device.type, _TOKENS_PER_GROUP_ACCELERATOR)
    first = 0
    while first < len(contents):
        last, size = first, 0
        while last < len(contents) and (last == first or size + len(spelt[last].ids) <= room):
            size += len(spelt[last].ids)
            last += 1
        scoring = _Scoring(reader, pruning, per_byte=per_byte)
        texts += scoring.run(contents[first:last], spelt[first:last])
        first = last
    return texts


class _Scoring:
    def __init__(self, reader: Reader, pruning: Pruning, *, per_byte: bool) -> None:
        self._reader, self._pruning, self._per_byte = reader, pruning, per_byte
        self._contexts: Contexts = reader.contexts()

    def run(self, contents: Sequence[bytes], spelt: Sequence[Spelling]) -> list[_Text]:
        texts = [_Text(content) for content in contents]
        self._read_trunks(texts, spelt)
        candidates = self._explore([node for text in texts for node in text.nodes])
        while chosen := self._choose(candidates):
            candidates = self._explore(self._read_branches(chosen))
        return texts

    def _read_trunks(self, texts: Sequence[_Text], spelt: Sequence[Spelling]) -> None:
        """One pass over the canonical tokens of all texts."""
        start_ids = self._reader.start_ids  # of every text anew: that saves a pass
        requests = []
        for text, spelling in zip(texts, spelt, strict=True):
            text.num_tokens = len(spelling.ids)
            steps = list(zip(spelling.ids, spelling.ends, strict=True))
            inside = [token for token, end in steps if end < len(text.content)]
            requests.append((None, [*start_ids, *inside]))
            node = _Node(text, 0, weight=0.0)
            text.nodes.append(node)
            for place, (token, end) in enumerate(steps):
                is_encoded = place < spelling.num_encoded
                node.next = _Node(text, end, token=token, is_encoded=is_encoded)
                if end < len(text.content):
                    text.nodes.append(node.next)
                    text.trunk[end] = node.next
                node = node.next
        for text, chain in zip(texts, self._contexts.extend(requests), strict=True):
            for node, context in zip(text.nodes, chain[len(start_ids) - 1 :], strict=True):
                node.context = context

    def _explore(self, nodes: Sequence[_Node]) -> list[_Candidate]:
        """The tokens that may come next; the trunk's own edges are put in on the way."""
        contexts = [node.context for node in nodes if node.context is not None]
        found: list[_Candidate] = []
        for node, logprobs in zip(nodes, self._reader.logprobs(contexts), strict=True):
            found += self._edges(node, logprobs)
        return found if self._reader.rule is None else self._canonical(found, self._reader.rule)

    def _canonical(self, candidates: Sequence[_Candidate], rule: Canonicality) -> list[_Candidate]:
        """Those that the encoder might write, and behind which it might write on as the text does.

        The second is what tells a branch from the trunk: " t" is a canonical beginning of " the",
        but no token that goes on with "he" is one behind it.
        """
        allowed = rule.each([(c.parent.key, c.token) for c in candidates])
        left = [c for c, is_allowed in zip(candidates, allowed, strict=True) if is_allowed]
        steps: list[tuple[Key, int]] = []
        owners: list[int] = []
        for place, candidate in enumerate(left):
            key, content = (
                rule.then(candidate.parent.key, candidate.token),
                candidate.parent.text.content,
            )
            for node in self._reader.trie.walk(content, candidate.at):
                is_last = candidate.at + node.depth == len(content)
                ids = self._reader.trie.ids[node.first : node.last if is_last else node.open]
                steps += [(key, token) for token in ids.tolist()]
                owners += [place] * len(ids)
        leads_on = np.zeros(len(left), dtype=np.bool_)
        np.logical_or.at(leads_on, owners, rule.each(steps))
        return [c for c, leads in zip(left, leads_on, strict=True) if leads]

    def _edges(self, node: _Node, logprobs: Float[np.ndarray, " V"]) -> list[_Candidate]:
        text, reader = node.text, self._reader
        assert node.context is not None
        if node.weight == -math.inf:
            return []
        trie = reader.trie_at(node.at, node.context)
        scale = self._log_scale(node, logprobs, trie.ids)
        found: list[tuple[int, int]] = []  # token, end
        walked = [(trie.root, node.at)] if trie.root.open > trie.root.first else []
        walked += [(below, node.at + below.depth) for below in trie.walk(text.content, node.at)]
        for below, end in walked:
            if self._per_byte and end > node.at:
                tokens = trie.ids[below.first : below.last]
                node.masses[end] = self._mass(node, logprobs, tokens) - scale
            if end == len(text.content):
                node.final = self._mass(node, logprobs, trie.ids[below.first : below.last]) - scale
                continue
            ended = [(token, end) for token in trie.ids_at(below)]
            found += ended
            if node.next is not None and ended and end < node.next.at:
                tokens = trie.ids[below.first : below.last]
                text.totals[end] = node.weight + _logsumexp(logprobs[tokens]) - scale
        candidates = []
        for token, end in found:
            logprob = float(logprobs[token]) - scale
            onward = node.next
            if onward is not None and token == onward.token and end == onward.at:
                if reader.rule and not (onward.is_encoded or _allows(reader.rule, node, token)):
                    continue
                onward.weight = node.weight + logprob
                onward.key = reader.then(node.key, token)
                onward.into.append((node, logprob, False))
                text.totals[end] = onward.weight
            else:
                candidates.append(_Candidate(node, token, logprob, end))
        return candidates

    def _mass(self, node: _Node, logprobs: Float[np.ndarray, " V"], ids: np.ndarray) -> float:
        if self._reader.rule is not None:
            ids = ids[self._reader.rule.may_follow(node.key, ids)]
        return _logsumexp(logprobs[ids])

    def _log_scale(self, node: _Node, logprobs: Float[np.ndarray, " V"], ids: np.ndarray) -> float:
        if self._reader.target != "canonical_renormalized":
            return 0.0
        stop = _logsumexp(logprobs[self._reader.stop_ids])
        return logsumexp([self._mass(node, logprobs, ids), stop])

    def _choose(self, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """The branches to be read; those that come back to the trunk end there."""
        if self._pruning.is_exact:
            return list(candidates)
        chosen = []
        for candidate in candidates:
            text = candidate.parent.text
            onward = text.trunk.get(candidate.at)
            if onward is not None and onward.into:
                onward.into.append((candidate.parent, candidate.logprob, True))
                text.merged += _share(candidate.weight - onward.weight)
                continue
            share = math.exp(min(0.0, candidate.weight - text.total(candidate.at)))
            if share >= self._pruning.min_share and self._fits(candidate):
                chosen.append(candidate)
            else:
                text.dropped += share
        return chosen

    def _fits(self, candidate: _Candidate) -> bool:
        assert candidate.parent.context is not None
        return candidate.parent.context.length < self._reader.max_length

    def _read_branches(self, chosen: Sequence[_Candidate]) -> list[_Node]:
        if not all(map(self._fits, chosen)):
            raise ValueError(
                f"some ways to spell the text take more tokens than the model's "
                f"{self._reader.max_length} positions hold; shorten it, or allow pruning."
            )
        chains = self._contexts.extend([(c.parent.context, [c.token]) for c in chosen])
        nodes = []
        for candidate, [context] in zip(chosen, chains, strict=True):
            text = candidate.parent.text
            key = self._reader.then(candidate.parent.key, candidate.token)
            node = _Node(text, candidate.at, candidate.weight, key, context)
            node.into.append((candidate.parent, candidate.logprob, False))
            text.nodes.append(node)
            text.num_branches += 1
            nodes.append(node)
        return nodes


def _allows(rule: Canonicality, node: _Node, token: int) -> bool:
    return bool(rule.each([(node.key, token)])[0])


def _score(text: _Text) -> ByteScore:
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


def _check_possible(text: _Text, logprob: float) -> None:
    if logprob == -math.inf and text.content:
        raise ValueError(
            f"the text {text.content[:40]!r} has probability 0: the target leaves out every way to "
            "spell it that was looked at; take target='all'."
        )


def _byte_logprobs(text: _Text) -> Float[np.ndarray, " n"]:
    weights = _weights(text, merged=True)
    terms: list[list[float]] = [[] for _ in range(len(text.content) + 1)]
    terms[0] = [0.0]
    for node in text.nodes:
        for end, mass in node.masses.items():
            terms[end].append(weights[id(node)] + mass)
    _check_possible(text, logsumexp(terms[-1]))
    return np.diff([logsumexp(parts) for parts in terms])


def _total(text: _Text, *, merged: bool) -> float:
    """Sum over all ways through the graph."""
    weights = _weights(text, merged=merged)
    return logsumexp([weights[id(node)] + node.final for node in text.nodes])


def _weights(text: _Text, *, merged: bool) -> dict[int, float]:
    """Log-mass of all ways to every node, from left to right."""
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


def _share(log_ratio: float) -> float:
    """What a branch has of itself and the trunk."""
    return 1.0 / (1.0 + math.exp(min(-log_ratio, 700.0)))


def _logsumexp(values: Float[np.ndarray, " n"]) -> float:
    if not len(values):
        return -math.inf
    top = float(values.max())
    if top == -math.inf:
        return top
    return top + math.log(float(np.exp(values - top).sum(dtype=np.float64)))
