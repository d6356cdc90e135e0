"""Find the ids of two vocabularies that stand for the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from crosstok.tokenizers import ByteVocab


@dataclass(frozen=True)
class VocabOverlap:
    """Pairs of ids with equal bytes, one pair for each byte string, in order of source id.

    Special tokens have no bytes: they are included only if requested by role, after all other
    pairs. No id is in two pairs.
    """

    source_ids: Int[np.ndarray, " overlap"]
    target_ids: Int[np.ndarray, " overlap"]

    def __len__(self) -> int:
        return len(self.source_ids)


ENDS_OF_TEXTS = ("eos", "end_of_turn")
"""Roles from which a model learns when to stop. The end of a document comes first, because an id
with both roles is paired only once."""

ENDS_OF_CHATS = ("end_of_turn", "eos")
"""The same for chats: the end of a turn comes first."""


def overlapping_tokens(
    source: ByteVocab, target: ByteVocab, *, roles: Sequence[str] = ()
) -> VocabOverlap:
    """Find the tokens that hold the same bytes in both vocabularies.

    If a vocabulary has a byte string twice (SentencePiece has both ``a`` and ``<0x61>``), the id
    that its encoder emits is used.

    Example: ``Ġthe`` of a byte-level BPE and ``▁the`` of SentencePiece are both ``b" the"``.

    Args:
        source: one vocabulary.
        target: the other.
        roles: roles whose (first) ids are also paired if both sides have them, such as
            ``ENDS_OF_TEXTS``. "eos" means the end of a document (:attr:`ByteVocab.document_end`).
    """
    source_ids = _canonical_ids(source)
    target_ids = _canonical_ids(target)
    shared = sorted(source_ids.keys() & target_ids.keys(), key=source_ids.__getitem__)
    pairs = [(source_ids[token], target_ids[token]) for token in shared]
    taken_source, taken_target = {one for one, _ in pairs}, {other for _, other in pairs}
    for role in roles:
        one, other = first_id(source, role), first_id(target, role)
        if one is None or other is None or one in taken_source or other in taken_target:
            continue
        pairs.append((one, other))
        taken_source.add(one)
        taken_target.add(other)
    return VocabOverlap(
        np.array([one for one, _ in pairs], dtype=np.int64),
        np.array([other for _, other in pairs], dtype=np.int64),
    )


def first_id(vocab: ByteVocab, role: str) -> int | None:
    """Return the first id of a role; for "eos", the id that ends a document.

    For "end_of_turn" it is the id with which a model ends its answer: if a template ends the last
    turn differently from earlier turns, the id that ends the last turn.
    """
    if role == "eos":
        return vocab.document_end
    ids = vocab.roles.get(role, ())
    if role == "end_of_turn":
        ids = vocab.roles.get("end_of_chat", ids)
    return ids[0] if ids else None


def _canonical_ids(vocab: ByteVocab) -> dict[bytes, int]:
    distinct = {token for token in vocab.token_bytes if token is not None}
    return {token: vocab.ids_of(token)[0] for token in distinct}
