"""The parts of the byte view of one model: its tries, its distributions and its limits.

`Pruning` and `Target` say what is computed. `Reader` has the model with its vocabulary sorted by
bytes and turns a token sequence into masses in that order. Streams and scores are built on it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from crosstok.byteview.canonical import Canonicality, Key, adds_prefix_space, canonicality
from crosstok.byteview.contexts import (
    Context,
    Contexts,
    can_share,
    check_sharing,
    log_probabilities,
)
from crosstok.byteview.trie import ByteTrie
from crosstok.choices import Target
from crosstok.models import check_vocabulary_fits, output_head
from crosstok.tokenizers import ByteVocab
from crosstok.tokenizers.encoding import probe_ids
from crosstok.tokenizers.spans import text_backend


class NoRoomError(ValueError):
    """The model has no positions left."""


_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Pruning:
    """Which token sequences are left out.

    Attributes:
        min_share: sequences whose share of the probability of the bytes so far is below this are
            set aside. 0 keeps all of them; for the target "all" their number grows exponentially.
        max_states: most sequences to keep; None for any number.
    """

    min_share: float = 0.1
    max_states: int | None = 16

    def __post_init__(self) -> None:
        if not 0 <= self.min_share < 1:
            raise ValueError(f"min_share is {self.min_share}; it must be from 0 to below 1.")
        if self.max_states is not None and self.max_states < 1:
            raise ValueError(f"max_states is {self.max_states}; it must be at least 1, or None.")

    @property
    def is_exact(self) -> bool:
        """Whether nothing is left out."""
        return self.min_share == 0 and self.max_states is None


EXACT = Pruning(min_share=0.0, max_states=None)


@dataclass(frozen=True, eq=False)
class Path:
    """A token sequence, and the distribution of its next token.

    Attributes:
        context: the model's state.
        key: its key for the canonicality rule.
        log_weight: log-probability of the sequence.
        begin: number of bytes that it spells.
        trie: trie whose order `masses` has.
        masses: [n] probability of every next token; 0 for tokens that the target excludes.
        stop: probability that the text ends here.
    """

    context: Context
    key: Key
    log_weight: float
    begin: int
    trie: ByteTrie
    masses: Float[np.ndarray, " n"]
    stop: float


@dataclass(frozen=True)
class Spelling:
    """Tokens that write a text.

    Attributes:
        ids: the tokens.
        ends: number of bytes up to the end of each.
        num_encoded: number of first tokens that the encoder wrote.
    """

    ids: list[int]
    ends: list[int]
    num_encoded: int


class Reader:
    """A model whose distributions are read in the order of the tokens' bytes."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        target: Target,
        start_ids: Sequence[int] | None,
        stop_ids: Sequence[int] | None,
        max_length: int | None,
        share_kv: bool | None,
        name: str | None = None,
    ) -> None:
        if target not in get_args(Target):
            raise ValueError(
                f"target is {target!r}; it must be one of {', '.join(get_args(Target))}."
            )
        self.model, self.tokenizer, self.target = model.eval(), tokenizer, target
        self.vocab = ByteVocab.from_tokenizer(tokenizer)
        self.name = name or getattr(model, "name_or_path", "") or type(model).__name__
        check_vocabulary_fits(model, self.vocab.num_rows_needed, self.name)
        self.head = output_head(model)
        self.start_ids = _start_ids(self.vocab, start_ids)
        self.share_kv = can_share(model, self.name) if share_kv is None else share_kv
        if share_kv:
            check_sharing(model)
        self.max_length = self._max_length(max_length)
        self._set_vocabulary(stop_ids)
        self.rule: Canonicality | None = None
        if target != "all":
            self.rule = canonicality(tokenizer, self.vocab)

    def starting_with(self, start_ids: Sequence[int]) -> Reader:
        """The same model after other start tokens."""
        other = copy.copy(self)
        other.start_ids = _start_ids(self.vocab, start_ids)
        if len(other.start_ids) >= self.max_length:
            fitting = other.start_ids[: self.max_length - 1]
            num_bytes = sum(len(self.vocab.token_bytes[index] or b"") for index in fitting)
            raise NoRoomError(
                f"the start (a chat up to the answer) has {len(other.start_ids)} tokens, and "
                f"{self.name} has {self.max_length} positions: {num_bytes} bytes of it fit with "
                "another byte after it; shorten it."
            )
        return other

    def _max_length(self, asked: int | None) -> int:
        positions = self.contexts().max_length
        if asked is not None and not len(self.start_ids) < asked <= positions:
            raise ValueError(
                f"max_length is {asked}; it must be more than the {len(self.start_ids)} start ids "
                f"and at most the model's {positions} positions."
            )
        return asked or positions

    def _set_vocabulary(self, stop_ids: Sequence[int] | None) -> None:
        rows = self.head.weight.shape[0]
        specials = self.vocab.with_rows(rows).special_ids
        stops = sorted(specials if stop_ids is None else set(stop_ids))
        wrong = [i for i in stops if not 0 <= i < len(self.vocab)]
        if wrong:
            raise ValueError(f"stop_ids holds {wrong[0]}; ids go from 0 to {len(self.vocab) - 1}.")
        self.stop_ids = np.array(stops, dtype=np.int64)
        self._backend = text_backend(self.tokenizer.backend_tokenizer, self.vocab)
        self.strips_space = adds_prefix_space(self._backend, self.vocab)
        spelt = [content or None for content in self.vocab.token_bytes]
        for stop in stops:
            spelt[stop] = None
        self.trie = self.start_trie = ByteTrie(spelt)
        if self.strips_space:
            self.start_trie = ByteTrie([c.removeprefix(b" ") if c else None for c in spelt])
        self.token_bytes = spelt
        valid = self.vocab.token_mask(rows)
        silent = [i for i, content in enumerate(spelt[:rows]) if content is None]
        valid[silent] = False  # special tokens without text that do not end one
        valid[self.stop_ids] = True
        device = self.head.weight.device
        self._valid = None if valid.all() else torch.from_numpy(valid).to(device)

    def contexts(self) -> Contexts:
        """An empty cache of token sequences."""
        return Contexts(self.model, share_kv=self.share_kv)

    def logprobs(self, contexts: Sequence[Context]) -> Iterator[Float[np.ndarray, " V"]]:
        """Log-probabilities of the next token for each context, computed in blocks of contexts.

        They are float32, or float64 for a model in float64.
        """
        rows = max(1, _BLOCK_BYTES // (8 * self.head.weight.shape[0]))
        for first in range(0, len(contexts), rows):
            block = contexts[first : first + rows]
            yield from log_probabilities(self.head, block, self._valid).cpu().numpy()

    def masses(
        self, logprobs: Float[np.ndarray, " V"], key: Key, trie: ByteTrie
    ) -> tuple[Float[np.ndarray, " n"], float]:
        """Probabilities of text tokens under the target, in the trie's order, and of the end."""
        masses = np.exp(logprobs[trie.ids].astype(np.float64))
        stop = float(np.exp(logprobs[self.stop_ids].astype(np.float64)).sum())
        if self.rule is None:
            return masses, stop
        masses[~self.rule.may_follow(key, trie.ids)] = 0.0
        if self.target == "canonical_renormalized":
            total = masses.sum() + stop
            return masses / total, stop / float(total)
        return masses, stop

    def then(self, key: Key, token: int) -> Key:
        """The rule's key after one more token."""
        return () if self.rule is None else self.rule.then(key, token)

    def path(
        self,
        context: Context,
        logprobs: Float[np.ndarray, " V"],
        key: Key,
        log_weight: float,
        begin: int,
    ) -> Path:
        """A token sequence with its distribution."""
        trie = self.trie_at(begin, context)
        masses, stop = self.masses(logprobs, key, trie)
        return Path(context, key, log_weight, begin, trie, masses, stop)

    def trie_at(self, begin: int, context: Context) -> ByteTrie:
        """The trie after this context; at the start of a text, without the prefix space."""
        is_start = begin == 0 and context.length == len(self.start_ids)
        return self.start_trie if is_start else self.trie

    def token_logprob(
        self, logprobs: Float[np.ndarray, " V"], key: Key, token: int, *, is_start: bool
    ) -> float:
        """Log-probability of one next token under the target; -inf if it excludes the token."""
        if self.rule is None:
            return float(logprobs[token])
        if not self.rule.may_follow(key, np.array([token]))[0]:
            return -math.inf
        found = float(logprobs[token])
        if self.target == "canonical_renormalized":
            masses, _ = self.masses(logprobs, key, self.start_trie if is_start else self.trie)
            # The masses are normalised, so the token's own mass has the factor.
            order = self.start_trie.ids if is_start else self.trie.ids
            found = math.log(masses[order == token][0])
        return found

    def spell(self, content: bytes) -> Spelling:
        """Find tokens that spell the bytes: the encoder's, if it keeps the text.

        The last token may continue beyond the bytes if nothing else spells them (a prompt that ends
        in the middle of a character); its end is then above `len(content)`.

        Raises:
            ValueError: the vocabulary cannot spell them.
        """
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            text = content[: error.start].decode()
        ids = (probe_ids(self._backend, text) or []) if text else []
        pieces = [self.token_bytes[i] if i < len(self.token_bytes) else None for i in ids]
        joined, sizes = b"".join(piece or b"" for piece in pieces), [len(p or b"") for p in pieces]
        if self.strips_space and joined.startswith(b" "):
            joined, sizes[0] = joined[1:], sizes[0] - 1
        if joined == text.encode() + b" " == content + b" " and ids[-1] in self.vocab.word_ends:
            return Spelling(ids, np.cumsum(sizes).tolist(), len(ids))
        if None in pieces or joined != text.encode():
            return Spelling(*self._without_encoder(content), 0)
        more, ends = self._fewest_tokens(content, len(joined), self.start_trie)
        return Spelling([*ids, *more], [*np.cumsum(sizes).tolist(), *ends], len(ids))

    def _without_encoder(self, content: bytes) -> tuple[list[int], list[int]]:
        """The fewest tokens; a text that begins with a space comes after the bare prefix space."""
        root = self.start_trie.root
        if root.open > root.first and content.startswith(b" "):
            ids, ends = self._fewest_tokens(content, 0, self.trie)
            return [int(self.start_trie.ids[root.first]), *ids], [0, *ends]
        return self._fewest_tokens(content, 0, self.start_trie)

    def _fewest_tokens(
        self, content: bytes, first: int, start_trie: ByteTrie
    ) -> tuple[list[int], list[int]]:
        try:
            return _fewest_tokens(content, first, start_trie, self.trie)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None


def _start_ids(vocab: ByteVocab, given: Sequence[int] | None) -> list[int]:
    if given is None:
        given = [] if vocab.document_start is None else [vocab.document_start]
    if not len(given):
        raise ValueError(
            "nothing comes before the text: this tokenizer has no bos or eos, and a model gives no "
            "probability to a first token. Read the model token by token, or, with a ByteModel of "
            "your own, pass start_ids, for example the ids of a prompt."
        )
    wrong = [index for index in given if not 0 <= index < len(vocab)]
    if wrong:
        raise ValueError(f"start_ids holds {wrong[0]}; ids go from 0 to {len(vocab) - 1}.")
    return list(given)


def _fewest_tokens(
    content: bytes, first: int, start_trie: ByteTrie, trie: ByteTrie
) -> tuple[list[int], list[int]]:
    """The fewest tokens that spell `content[first:]`; the last may continue beyond it."""
    size = len(content)
    best: dict[int, tuple[int, int, int]] = {first: (0, -1, -1)}  # end -> tokens, begin, id
    reached = first
    for begin in range(first, size):
        if begin not in best:
            continue
        order = start_trie if begin == 0 else trie
        for node in order.walk(content, begin):
            end = begin + node.depth
            reached = max(reached, end)
            ends_here = node.open > node.first
            if not ends_here and end < size:
                continue
            place = end if ends_here else size + 1
            found = (best[begin][0] + 1, begin, int(order.ids[node.first]))
            best[place] = min(best.get(place, found), found)
    end = size if size in best else size + 1
    if end not in best:
        raise ValueError(
            f"no tokens spell byte 0x{content[min(reached, size - 1)]:02X} at position "
            f"{min(reached, size - 1)} (after {content[max(0, reached - 20) : reached]!r}): the "
            "vocabulary has no token that fits. Leave the byte out, or use a tokenizer that has "
            "all bytes."
        )
    ids, ends = [], []
    while end != first:
        _, begin, token = best[end]
        ids.append(token)
        ends.append(end)
        end = begin
    return ids[::-1], ends[::-1]


def as_bytes(content: bytes | str) -> bytes:
    """Encode a string as UTF-8; bytes are returned unchanged.

    Raises:
        ValueError: it holds half a character, or is neither bytes nor a string.
    """
    if isinstance(content, str):
        try:
            return content.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text holds the lone surrogate U+{ord(content[error.start]):04X} at character "
                f"{error.start}, which is half of a character and has no bytes; repair the text."
            ) from None
    if not isinstance(content, bytes | bytearray | memoryview):
        raise ValueError(f"the text is {type(content).__name__}; pass bytes or a string.")
    return bytes(content)


def check_fits(spelling: Spelling, reader: Reader, *, is_prompt: bool = False) -> None:
    """Check that the model has positions for a text, or for a prompt and one more byte.

    Raises:
        NoRoomError: it does not; says how many bytes fit.
    """
    room = reader.max_length - len(reader.start_ids)
    room += not is_prompt  # the last token of a text is not read
    ends = spelling.ends
    if len(ends) > room:
        raise NoRoomError(
            f"the {'prompt' if is_prompt else 'text'} has {ends[-1]} bytes in {len(ends)} tokens, "
            f"and {reader.name} has {reader.max_length} positions, {len(reader.start_ids)} of them "
            f"for the start: {ends[room - 1]} bytes fit. Shorten it"
            + ("." if is_prompt else ", or score it in windows (window_bytes of an evaluation).")
        )


def logsumexp(values: Sequence[float]) -> float:
    """Log of the sum of exponentials; -inf for no values."""
    top = max(values, default=-math.inf)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(value - top) for value in values))
