"""Which ids of two vocabularies stand for the same bytes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from crosstok.tokenizers import ByteVocab


@dataclass(frozen=True)
class VocabOverlap:
    """Pairs of ids with equal bytes, one pair for each byte string, in order of source id.

    Special tokens have roles, not bytes, and are never in it.
    """

    source_ids: Int[np.ndarray, " overlap"]
    target_ids: Int[np.ndarray, " overlap"]

    def __len__(self) -> int:
        return len(self.source_ids)


def overlapping_tokens(source: ByteVocab, target: ByteVocab) -> VocabOverlap:
    """Find the tokens that hold the same bytes in both vocabularies.

    Where one vocabulary spells a byte string twice (SentencePiece has both ``a`` and ``<0x61>``),
    the id that its encoder emits stands for it.

    Example: ``Ġthe`` of a byte-level BPE and ``▁the`` of SentencePiece are both ``b" the"``.
    """
    source_ids = _canonical_ids(source)
    target_ids = _canonical_ids(target)
    shared = sorted(source_ids.keys() & target_ids.keys(), key=source_ids.__getitem__)
    return VocabOverlap(
        np.array([source_ids[token] for token in shared], dtype=np.int64),
        np.array([target_ids[token] for token in shared], dtype=np.int64),
    )


def _canonical_ids(vocab: ByteVocab) -> dict[bytes, int]:
    distinct = {token for token in vocab.token_bytes if token is not None}
    return {token: vocab.ids_of(token)[0] for token in distinct}
