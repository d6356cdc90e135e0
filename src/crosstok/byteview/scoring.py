"""Score whole texts over all their token sequences, in a few forward passes.

The bytes are known, and so are the token sequences that spell them: at every place only tokens that
the remaining bytes begin with count. The canonical tokens, the trunk, are read in one pass. A token
that leaves the trunk begins a branch; branches are read in waves, each a single pass for all
branches of all texts, on the cache of the trunk. The score is then a sum over a graph.

With pruning a branch is read only if its share of the probability of the bytes up to there is large
enough. If it ends where a token of the trunk ends, it is merged into the trunk from there on, since
both have read the same bytes. So a branch costs only the few tokens in which it differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from crosstok.byteview.canonical import Canonicality, Key
from crosstok.byteview.contexts import Contexts
from crosstok.byteview.graph import (
    ByteScore,
    NextBytes,
    Node,
    Text,
    byte_logprobs_of,
    outcome_logprobs_of,
    score_of,
)
from crosstok.byteview.reader import Pruning, Reader, Spelling, check_fits, logsumexp
from crosstok.byteview.trie import ByteTrie, child_masses

# Tokens of texts that are read together. Attention is over all of them, so large groups are slower
# on a CPU.
_TOKENS_PER_GROUP = {"cpu": 256}
_TOKENS_PER_GROUP_ACCELERATOR = 2048


@dataclass(frozen=True)
class _Candidate:
    parent: Node
    token: int
    logprob: float
    at: int

    @property
    def weight(self) -> float:
        return self.parent.weight + self.logprob


def score_texts(reader: Reader, pruning: Pruning, contents: Sequence[bytes]) -> list[ByteScore]:
    """Score texts, short ones together.

    Raises:
        ValueError: a text cannot be spelt, does not fit into the model's positions, or the target
            excludes every spelling of it.
    """
    return [score_of(text) for text in _read_all(reader, pruning, contents)]


def byte_logprobs(
    reader: Reader, pruning: Pruning, contents: Sequence[bytes]
) -> list[Float[np.ndarray, " n"]]:
    """Log-probability of every byte after the bytes before it; they sum to the text's `logprob`.

    Raises:
        ValueError: see `score_texts`.
    """
    return [byte_logprobs_of(text) for text in _read_all(reader, pruning, contents, per_byte=True)]


def outcome_logprobs(
    reader: Reader, pruning: Pruning, contents: Sequence[bytes], firsts: Sequence[int]
) -> list[Float[np.ndarray, "n 258"]]:
    """Log-probabilities of all outcomes at every byte from `firsts` on; see `ByteModel`.

    Raises:
        ValueError: see `score_texts`.
    """
    texts = _read_all(reader, pruning, contents, per_byte=True, firsts=firsts)
    return [outcome_logprobs_of(text) for text in texts]


def _read_all(
    reader: Reader,
    pruning: Pruning,
    contents: Sequence[bytes],
    *,
    per_byte: bool = False,
    firsts: Sequence[int | None] | None = None,
) -> list[Text]:
    """Make the graphs of texts; `per_byte` with masses per byte, from `firsts` with outcomes."""
    firsts = firsts or [None] * len(contents)
    spelt = [reader.spell(content) for content in contents]
    for spelling in spelt:
        check_fits(spelling, reader)
    texts: list[Text] = []
    room = _TOKENS_PER_GROUP.get(reader.model.device.type, _TOKENS_PER_GROUP_ACCELERATOR)
    first = 0
    while first < len(contents):
        last, size = first, 0
        while last < len(contents) and (last == first or size + len(spelt[last].ids) <= room):
            size += len(spelt[last].ids)
            last += 1
        scoring = _Scoring(reader, pruning, per_byte=per_byte)
        group = slice(first, last)
        asked = [Text(*one) for one in zip(contents[group], firsts[group], strict=True)]
        scoring.run(asked, spelt[group])
        texts += asked
        first = last
    return texts


class _Scoring:
    def __init__(self, reader: Reader, pruning: Pruning, *, per_byte: bool) -> None:
        self._reader, self._pruning, self._per_byte = reader, pruning, per_byte
        self._contexts: Contexts = reader.contexts()

    def run(self, texts: Sequence[Text], spelt: Sequence[Spelling]) -> None:
        """Build the graphs of the texts."""
        self._read_trunks(texts, spelt)
        candidates = self._explore([node for text in texts for node in text.nodes])
        while chosen := self._choose(candidates):
            candidates = self._explore(self._read_branches(chosen))

    def _read_trunks(self, texts: Sequence[Text], spelt: Sequence[Spelling]) -> None:
        """One pass over the canonical tokens of all texts."""
        start_ids = self._reader.start_ids  # read anew for every text, which saves a pass
        requests = []
        for text, spelling in zip(texts, spelt, strict=True):
            text.num_tokens = len(spelling.ids)
            steps = list(zip(spelling.ids, spelling.ends, strict=True))
            inside = [token for token, end in steps if end < len(text.content)]
            requests.append((None, [*start_ids, *inside]))
            node = Node(text, 0, weight=0.0)
            text.nodes.append(node)
            for place, (token, end) in enumerate(steps):
                is_encoded = place < spelling.num_encoded
                node.next = Node(text, end, token=token, is_encoded=is_encoded)
                if end < len(text.content):
                    text.nodes.append(node.next)
                    text.trunk[end] = node.next
                node = node.next
        for text, chain in zip(texts, self._contexts.extend(requests), strict=True):
            for node, context in zip(text.nodes, chain[len(start_ids) - 1 :], strict=True):
                node.context = context

    def _explore(self, nodes: Sequence[Node]) -> list[_Candidate]:
        """Find the tokens that may come next, and add the edges of the trunk."""
        contexts = [node.context for node in nodes if node.context is not None]
        found: list[_Candidate] = []
        for node, logprobs in zip(nodes, self._reader.logprobs(contexts), strict=True):
            found += self._edges(node, logprobs)
        return found if self._reader.rule is None else self._canonical(found, self._reader.rule)

    def _canonical(self, candidates: Sequence[_Candidate], rule: Canonicality) -> list[_Candidate]:
        """Keep tokens that may be canonical and may be followed by canonical tokens of the text.

        The second condition rules branches out: " t" may be a canonical beginning of " the", but no
        token that continues with "he" is canonical after it.
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

    def _edges(self, node: Node, logprobs: Float[np.ndarray, " V"]) -> list[_Candidate]:
        text, reader = node.text, self._reader
        assert node.context is not None
        if node.weight == -math.inf:
            return []
        trie = reader.trie_at(node.at, node.context)
        scale = self._log_scale(node, logprobs, trie.ids)
        found: list[tuple[int, int]] = []  # token, end
        walked = [(trie.root, node.at)] if trie.root.open > trie.root.first else []
        walked += [(below, node.at + below.depth) for below in trie.walk(text.content, node.at)]
        if text.outcomes_from is not None:
            node.outcomes = self._outcomes(node, text.outcomes_from, logprobs, trie)
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

    def _outcomes(
        self, node: Node, first: int, logprobs: Float[np.ndarray, " V"], trie: ByteTrie
    ) -> list[NextBytes]:
        """All outcomes at every byte of the text within the node's next token."""
        masses, stop = self._reader.masses(logprobs, node.key, trie)
        content = node.text.content
        places = [(trie.root, node.at)]
        places += [(below, node.at + below.depth) for below in trie.walk(content, node.at)]
        return [
            NextBytes(at, below.next_bytes, child_masses(below, masses), stop * (at == node.at))
            for below, at in places
            if first <= at < len(content)
        ]

    def _mass(self, node: Node, logprobs: Float[np.ndarray, " V"], ids: np.ndarray) -> float:
        if self._reader.rule is not None:
            ids = ids[self._reader.rule.may_follow(node.key, ids)]
        return _logsumexp(logprobs[ids])

    def _log_scale(self, node: Node, logprobs: Float[np.ndarray, " V"], ids: np.ndarray) -> float:
        if self._reader.target != "canonical_renormalized":
            return 0.0
        stop = _logsumexp(logprobs[self._reader.stop_ids])
        return logsumexp([self._mass(node, logprobs, ids), stop])

    def _choose(self, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """Choose the branches to read; a branch that returns to the trunk ends there."""
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

    def _read_branches(self, chosen: Sequence[_Candidate]) -> list[Node]:
        if not all(map(self._fits, chosen)):
            raise ValueError(
                f"some ways to spell the text need more tokens than the model's "
                f"{self._reader.max_length} positions; shorten it, or allow pruning."
            )
        chains = self._contexts.extend([(c.parent.context, [c.token]) for c in chosen])
        nodes = []
        for candidate, [context] in zip(chosen, chains, strict=True):
            text = candidate.parent.text
            key = self._reader.then(candidate.parent.key, candidate.token)
            node = Node(text, candidate.at, candidate.weight, key, context)
            node.into.append((candidate.parent, candidate.logprob, False))
            text.nodes.append(node)
            text.num_branches += 1
            nodes.append(node)
        return nodes


def _allows(rule: Canonicality, node: Node, token: int) -> bool:
    return bool(rule.each([(node.key, token)])[0])


def _share(log_ratio: float) -> float:
    """The share of a branch in the sum of branch and trunk."""
    return 1.0 / (1.0 + math.exp(min(-log_ratio, 700.0)))


def _logsumexp(values: Float[np.ndarray, " n"]) -> float:
    if not len(values):
        return -math.inf
    top = float(values.max())
    if top == -math.inf:
        return top
    return top + math.log(float(np.exp(values - top).sum(dtype=np.float64)))
