"""The tokens that several vocabularies share, as one list of outcomes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstok.inference.token_model import TokenModel
from crosstok.tokenizers import ByteVocab

log = logging.getLogger(__name__)

_FEW = 0.5
"""There is a warning if less than this share of a member's text tokens is shared."""


@dataclass(frozen=True, eq=False)
class SharedVocabulary:
    """Text tokens that all members have, sorted by their bytes, and after them the stop.

    The stop is a single outcome for all of a member's stop tokens (end of document, end of turn).
    No other special token is an outcome. Each member's distribution is first restricted to these
    outcomes and renormalised.

    Attributes:
        contents: [U] bytes of the shared tokens.
        ids: [k][U] each member's ids for them; where several have the same bytes, the one that its
            encoder emits.
        stop_ids: [k] each member's stop tokens.
        shares: [k] share of each member's distinct text tokens that is shared.
    """

    contents: tuple[bytes, ...]
    ids: tuple[Int[Tensor, " U"], ...]
    stop_ids: tuple[Int[Tensor, " stops"], ...]
    shares: tuple[float, ...]

    @property
    def stop(self) -> int:
        """The outcome that ends a text."""
        return len(self.contents)

    def logprobs(self, logits: Float[Tensor, "N V"], member: int) -> Float[Tensor, "N U+1"]:
        """A member's log-probabilities of the outcomes."""
        stop = logits[:, self.stop_ids[member]].logsumexp(dim=-1, keepdim=True)
        shared = logits.index_select(1, self.ids[member])
        return torch.cat([shared, stop], dim=-1).log_softmax(dim=-1)

    def outcomes_of(
        self, ids: Int[np.ndarray, " T"], member: int, num_ids: int
    ) -> Int[np.ndarray, " T"]:
        """Outcomes of a member's text tokens; -1 for tokens that are not shared."""
        own = self.ids[member].cpu().numpy()
        outcome_of = np.full(num_ids, -1, dtype=np.int64)
        outcome_of[own] = np.arange(len(own))
        return outcome_of[ids]  # type: ignore[no-any-return]

    def word_ends(self, vocab: ByteVocab) -> frozenset[int]:
        """The outcomes that end a word with a mark, in the vocabulary of the first member."""
        ids = self.ids[0].tolist()
        return frozenset(place for place, index in enumerate(ids) if index in vocab.word_ends)


def share_vocabulary(members: Sequence[TokenModel]) -> SharedVocabulary:
    """Find the tokens that all members have; warns if they are few.

    Raises:
        ValueError: there are none.
    """
    own: list[dict[bytes, int]] = []
    for member in members:
        stops = set(member.stop_ids)
        contents = {content for content in member.vocab.token_bytes if content}
        ids = {content: member.vocab.ids_of(content)[0] for content in contents}
        own.append({content: index for content, index in ids.items() if index not in stops})
    shared = sorted(set(own[0]).intersection(*own[1:]))
    names = ", ".join(member.name for member in members)
    if not shared:
        raise ValueError(
            f"{names} have no token in common, so they cannot be averaged token by token. Move "
            "them to one tokenizer (`crosstok transfer`), or combine them byte by byte "
            "(bytes-mixture, bytes-product)."
        )
    shares = tuple(len(shared) / len(tokens) for tokens in own)
    if min(shares) < _FEW:
        parts = [
            f"{share:.0%} of the {len(tokens)} of {member.name}"
            for share, tokens, member in zip(shares, own, members, strict=True)
        ]
        log.warning(
            "the members share %d text tokens (%s); the others are never generated, and a text "
            "that needs them cannot be scored",
            len(shared),
            ", ".join(parts),
        )
    return SharedVocabulary(
        tuple(shared),
        tuple(
            torch.tensor([tokens[content] for content in shared], device=member.model.device)
            for tokens, member in zip(own, members, strict=True)
        ),
        tuple(
            torch.tensor(member.stop_ids, dtype=torch.long, device=member.model.device)
            for member in members
        ),
        shares,
    )
