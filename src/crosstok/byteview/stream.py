"""Predict the next byte after the bytes so far, one byte at a time.

A state is a token sequence that spells the first of the bytes, with the node of the trie whose
tokens begin with the remaining ones. Its weight is the probability of the sequence times the mass
below the node. A byte moves every state to a child node; where a token ends there, the sequence
with this token becomes a new state at the root. This is the sum over all covers of the bytes
(Vieira et al. 2024, arXiv 2412.03719; Hayase et al. 2025, arXiv 2506.14123), regrouped.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from crosstok.byteview.canonical import Key
from crosstok.byteview.contexts import Context
from crosstok.byteview.reader import (
    NoRoomError,
    Path,
    Pruning,
    Reader,
    Spelling,
    as_bytes,
    check_fits,
    logsumexp,
)
from crosstok.byteview.trie import Node, child_masses

_TAIL = 32
"""With pruning, number of bytes at the end of a prompt that are read byte by byte; the bytes before
them are read as canonical tokens, in one pass."""


@dataclass(frozen=True, eq=False)
class _State:
    """A path with the node of its next tokens, or with the next `token`, which is not yet read."""

    log_weight: float
    at: int  # bytes read
    path: Path
    node: Node | None
    token: int | None = None

    @property
    def begin(self) -> int:
        return self.at if self.token is not None else self.path.begin


class ByteStream:
    """Bytes that a model has read, and its distribution over the next byte.

    `ByteModel.prefill` makes streams. Forks share the model's cache.
    """

    def __init__(self, reader: Reader, pruning: Pruning) -> None:
        self._reader, self._pruning = reader, pruning
        self._contexts = reader.contexts()
        [chain] = self._contexts.extend([(None, reader.start_ids)])
        [logprobs] = reader.logprobs(chain[-1:])
        path = reader.path(chain[-1], logprobs, (), 0.0, 0)
        self._bytes = bytearray()
        self._aside: list[_State] = []
        self._states: list[_State] = []
        self._dropped = 0.0
        self._log_lost = 0.0
        root = path.trie.root
        if root.open > root.first:  # the first token is the prefix space, not part of the text
            self._settle(self._arrive(path, root, 0))
        else:
            self._states = [_State(0.0, 0, path, root)]

    @property
    def content(self) -> bytes:
        """The bytes read so far."""
        return bytes(self._bytes)

    @property
    def num_states(self) -> int:
        """Number of token sequences that are followed at present."""
        return len(self._states)

    @property
    def num_evaluated(self) -> int:
        """Number of tokens that the model has read, for this stream and its forks."""
        return self._contexts.num_evaluated

    @property
    def dropped(self) -> float:
        """Bound on what was pruned: the sum over all bytes of the shares that were set aside.

        It bounds the total variation distance between the distribution over texts that these steps
        sample from and the exact one, and so, on average, the error of a next-byte probability.
        """
        return self._dropped

    @property
    def logprob(self) -> float:
        """Log-probability, in nats, that a text begins with the bytes so far.

        Pruned shares count as if they continued like the others. Without pruning this is the exact
        sum (for the target "canonical", over canonical sequences). The part of a long prompt that
        `prefill` reads in one pass is scored by its canonical tokens alone.
        """
        return self.lower_bound - self._log_lost

    @property
    def lower_bound(self) -> float:
        """Log-probability of the followed token sequences: at most the exact one."""
        if not self._bytes:
            return 0.0  # whatever the target excludes later
        return logsumexp([state.log_weight for state in self._states])

    def fork(self) -> ByteStream:
        """Copy the stream; the copy advances independently."""
        other = copy.copy(self)
        other._bytes = bytearray(self._bytes)
        other._aside, other._states = list(self._aside), list(self._states)
        return other

    def next_byte_logprobs(self) -> Float[np.ndarray, " 257"]:
        """Log-probabilities, in nats, of the 256 bytes and, at index 256, of the end of the text.

        The probabilities sum to 1. With pruning, a byte whose spellings were all set aside has
        -inf; `advance` accepts it nevertheless, and restores the spellings that it needs.
        """
        total = np.zeros(257)
        top = max(state.log_weight for state in self._states)
        for state in self._states:
            path, node = state.path, state.node
            assert node is not None
            scale = math.exp(path.log_weight - top)
            total[node.next_bytes] += scale * child_masses(node, path.masses)
            if node.depth == 0:
                total[256] += scale * path.stop
        with np.errstate(divide="ignore"):
            return np.log(total / total.sum())  # type: ignore[no-any-return]

    def advance(self, byte: int) -> None:
        """Read one byte.

        Raises:
            ValueError: `byte` is not a byte, the vocabulary cannot spell it here, or the model has
                no position left; the stream is then unchanged.
        """
        if isinstance(byte, bool) or not isinstance(byte, int | np.integer) or not 0 <= byte < 256:
            raise ValueError(f"byte is {byte!r}; it must be an integer from 0 to 255.")
        at, aside = len(self._bytes) + 1, self._aside
        self._bytes.append(int(byte))
        try:
            arrived = self._consume(self._states, int(byte), at)
            self._settle(self._heal(arrived, at))
        except ValueError:
            self._bytes.pop()
            self._aside = aside
            raise

    def extend(self, content: bytes | str) -> None:
        """Read several bytes; a string is read as UTF-8."""
        for byte in as_bytes(content):
            self.advance(byte)

    def logprob_of(self, suffix: bytes | str) -> float:
        """Log-probability, in nats, that these bytes come next; the stream is not advanced.

        Raises:
            ValueError: see `advance`.
        """
        ahead = self.fork()
        ahead.extend(suffix)
        return ahead.logprob - self.logprob

    # From bytes to states.

    def _arrive(self, path: Path, node: Node, at: int) -> list[_State]:
        """The states at a node: one for longer tokens, and one for each token that ends here."""
        arrived = []
        inner = float(path.masses[node.open : node.last].sum()) + (
            path.stop if node.depth == 0 else 0.0
        )
        if inner > 0:
            arrived.append(_State(path.log_weight + math.log(inner), at, path, node))
        for place in range(node.first, node.open):
            mass = float(path.masses[place])
            if mass > 0:
                token = int(path.trie.ids[place])
                arrived.append(_State(path.log_weight + math.log(mass), at, path, None, token))
        return arrived

    def _consume(self, states: Sequence[_State], byte: int, at: int) -> list[_State]:
        arrived = []
        for state in states:
            assert state.node is not None
            child = state.node.child(byte)
            if child is not None:
                arrived += self._arrive(state.path, child, at)
        return arrived

    def _read(self, states: Sequence[_State]) -> list[_State]:
        """Let the model read the tokens that have ended."""
        unread = [state for state in states if state.token is not None]
        known = [self._known(state) for state in unread]
        new = [state for state, context in zip(unread, known, strict=True) if context is None]
        self._check_room(new)
        chains = iter(
            self._contexts.extend([(s.path.context, [s.token]) for s in new]) if new else []  # type: ignore[list-item]
        )
        contexts = [context or next(chains)[0] for context in known]
        read = [state for state in states if state.token is None]
        for state, context, logprobs in zip(
            unread, contexts, self._reader.logprobs(contexts), strict=True
        ):
            assert state.token is not None
            key = self._reader.then(state.path.key, state.token)
            path = self._reader.path(context, logprobs, key, state.log_weight, state.at)
            read.append(_State(state.log_weight, state.at, path, path.trie.root))
        return read

    def _known(self, state: _State) -> Context | None:
        following = state.path.context.following
        return following if following is not None and following.token == state.token else None

    def _check_room(self, states: Sequence[_State]) -> None:
        limit = self._reader.max_length
        if not all(map(self._fits, states)):
            raise NoRoomError(
                f"{self._reader.name} has {limit} positions, {len(self._reader.start_ids)} of them "
                f"for the start: {len(self._bytes) - 1} bytes of this text fit; shorten it."
            )

    def _fits(self, state: _State) -> bool:
        return state.token is None or state.path.context.length < self._reader.max_length

    # Pruning.

    def _settle(self, arrived: list[_State]) -> None:
        """Keep the states with the largest weights, and read the tokens that have ended."""
        arrived.sort(key=lambda state: -state.log_weight)
        total = logsumexp([state.log_weight for state in arrived])
        size = self._pruning.max_states or len(arrived)
        kept = [
            state
            for place, state in enumerate(arrived)
            if place == 0
            or (place < size and math.exp(state.log_weight - total) >= self._pruning.min_share)
        ]
        if not self._pruning.is_exact and kept and self._fits(kept[0]):
            kept = [state for state in kept if self._fits(state)]
        held = set(map(id, kept))
        aside = [state for state in arrived if id(state) not in held]
        states = self._read(kept)  # may raise, so nothing is changed before this
        if aside:
            share = sum(math.exp(state.log_weight - total) for state in aside)
            self._dropped += share
            self._log_lost += math.log1p(-min(share, 1 - 1e-12))
        self._states = states
        # States set aside within tokens that have not ended may be needed again.
        oldest = min(state.begin for state in states)
        self._aside = [state for state in self._aside + aside if state.at >= oldest]

    def _heal(self, arrived: list[_State], at: int) -> list[_State]:
        """Restore states that were set aside and may outweigh all remaining ones."""
        total = logsumexp([state.log_weight for state in arrived])
        while back := [state for state in self._aside if state.log_weight > total]:
            self._aside = [state for state in self._aside if state.log_weight <= total]
            for state in self._read(back):
                arrived = arrived + self._catch_up(state, at)
            total = logsumexp([state.log_weight for state in arrived])
        if not arrived:
            self._explain()
        return arrived

    def _catch_up(self, state: _State, at: int) -> list[_State]:
        """Read the bytes up to `at`; tokens that end before it are set aside in turn."""
        states = [state]
        for place in range(state.at, at):
            arrived = self._consume(states, self._bytes[place], place + 1)
            if place + 1 == at:
                return arrived
            ended = [found for found in arrived if found.token is not None]
            self._aside = self._aside + ended
            states = [found for found in arrived if found.token is None]
        return []

    def _explain(self) -> None:
        self._reader.spell(bytes(self._bytes))  # raises if no tokens spell them
        name, byte, place = self._reader.name, self._bytes[-1], len(self._bytes) - 1
        reason = (
            "the target excludes" if self._pruning.is_exact else "pruning or the target removed"
        )
        raise ValueError(
            f"{name}: byte 0x{byte:02X} at position {place} has probability 0: {reason} every "
            "spelling of it. Use target='all', or, with a ByteModel of your own, prune less (a "
            "smaller min_share)."
        )

    # Whole prompts.

    def start_with(self, content: bytes, ahead: bytes = b"") -> None:
        """Read a prompt into a fresh stream, most of it in one forward pass.

        `ahead` is what will be read next: the model reads it in the same pass, the stream does not.
        """
        if not content + ahead:
            return
        spelling = self._reader.spell(content + ahead)
        check_fits(spelling, self._reader, is_prompt=not ahead)
        steps = zip(spelling.ids, spelling.ends, strict=True)
        whole = [token for token, end in steps if end < len(content + ahead)]
        if whole:
            context = self._states[0].path.context
            [chain] = self._contexts.extend([(context, whole)])
            context.following = chain[0]
            if not self._pruning.is_exact:
                self._jump(chain, spelling, content)
        self.extend(content[len(self._bytes) :])

    def _jump(self, chain: Sequence[Context], spelling: Spelling, content: bytes) -> None:
        """Begin after the last canonical token that ends at least `_TAIL` bytes before the end."""
        reader, ids, ends = self._reader, spelling.ids, spelling.ends
        count = sum(end <= len(content) - _TAIL for end in ends[: len(chain)])
        if not count:
            return
        contexts = [self._states[0].path.context, *chain[:count]]
        key: Key = ()
        weight, begin = 0.0, 0
        for step, logprobs in enumerate(reader.logprobs(contexts)):
            if step == count:
                break
            weight += reader.token_logprob(logprobs, key, ids[step], is_start=step == 0)
            key, begin = reader.then(key, ids[step]), ends[step]
        path = reader.path(contexts[count], logprobs, key, weight, begin)
        self._states = [_State(weight, begin, path, path.trie.root)]
        self._aside, self._dropped, self._log_lost = [], 0.0, 0.0
        self._bytes = bytearray(content[:begin])
