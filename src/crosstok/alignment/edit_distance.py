"""Map every token of one vocabulary to the token of another with the nearest spelling (MinED).

MinED, minimum edit distance, is the vocabulary map of FuseLLM (arXiv 2401.10491, section 3.1).
Spellings are compared as text, in which a space is an ordinary character. Bytes that are not UTF-8,
such as part of a Chinese character, count as one character each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from crosstok.alignment.vocab_map import ENDS_OF_TEXTS, first_id
from crosstok.tokenizers import ByteVocab

_QUERIES_PER_BLOCK = 512
_LONGEST = 254  # distances are stored in one byte, in which 255 means "too far"


@dataclass(frozen=True)
class NearestTokens:
    """A target id for every source id.

    Attributes:
        ids: target id; -1 only for a gap (an id that no token has).
        is_exact: whether it has the same bytes, or is a special with the same role or name.
    """

    ids: Int[np.ndarray, " source"]
    is_exact: Bool[np.ndarray, " source"]


def nearest_tokens(
    source: ByteVocab,
    target: ByteVocab,
    *,
    roles: Sequence[str] = (*ENDS_OF_TEXTS, "bos"),
    workers: int = 1,
) -> NearestTokens:
    """Map every source id to a target id.

    The first of these rules that applies decides: the token with the same bytes (the id that the
    target's encoder emits for them); for specials, the special with the same role (the first of
    ``roles`` that both sides have), then the special with the same name; else the target token at
    the smallest Levenshtein distance, the lowest id among equals. In the last rule a source special
    is compared by its name, and target specials are left out, so that no text is ever mapped to an
    end of sequence.

    Args:
        source: vocabulary whose ids are mapped (MinED: the teacher's).
        target: vocabulary that they are mapped to (MinED: the student's).
        roles: roles by which specials are matched.
        workers: threads that compute distances; -1: all cores.

    Raises:
        ValueError: the target has no token with bytes.
    """
    ids = np.full(len(source), -1, dtype=np.int64)
    if source.same_as(target):
        real = [i for i in range(len(source)) if _spelling(source, i) is not None]
        ids[real] = real
        return NearestTokens(ids, ids >= 0)
    for index, token in enumerate(source.token_bytes):
        twins = () if token is None else target.ids_of(token)
        if twins:
            ids[index] = twins[0]
    for index, twin in _same_specials(source, target, roles).items():
        ids[index] = twin
    is_exact = ids >= 0
    spellings = {i: _spelling(source, i) for i in np.flatnonzero(~is_exact).tolist()}
    queries = {i: spelling for i, spelling in spellings.items() if spelling is not None}
    if queries:
        ids[list(queries)] = _nearest(list(queries.values()), target, workers)
    return NearestTokens(ids, is_exact)


def _same_specials(source: ByteVocab, target: ByteVocab, roles: Sequence[str]) -> dict[int, int]:
    """Map source specials to target specials: by role, else by name."""
    by_name = {name: index for index, name in target.special_tokens.items()}
    found = {
        index: by_name[name] for index, name in source.special_tokens.items() if name in by_name
    }
    by_role: dict[int, int] = {}
    for role in roles:
        one, other = first_id(source, role), first_id(target, role)
        if one in source.special_ids and one is not None and other is not None:
            by_role.setdefault(one, other)
    return found | by_role


def _spelling(vocab: ByteVocab, index: int) -> str | None:
    token = vocab.token_bytes[index]
    if token is None:
        return vocab.special_tokens.get(index)
    return token.decode("utf-8", "surrogateescape")


def _nearest(queries: list[str], target: ByteVocab, workers: int) -> Int[np.ndarray, " queries"]:
    """Find the ids of the target's nearest tokens, the lowest id among equals.

    The distance of two strings is at least the difference of their lengths. Lengths are therefore
    visited in order of their difference from the query's own, and a query is done when the next
    difference exceeds the distance already found.
    """
    ids = [target.ids_of(token)[0] for token in {t for t in target.token_bytes if t}]
    if not ids:
        raise ValueError(
            "the target vocabulary has no token with bytes, so no token can be mapped to it. "
            "Check the target's tokenizer."
        )
    by_length = _by_length([(_spelling(target, i) or "", i) for i in sorted(ids)])
    nearest = np.full(len(queries), -1, dtype=np.int64)
    for length, block in _by_length([(query, i) for i, query in enumerate(queries)]).items():
        for start in range(0, len(block), _QUERIES_PER_BLOCK):
            part = block[start : start + _QUERIES_PER_BLOCK]
            found = _nearest_of_length([text for text, _ in part], length, by_length, workers)
            nearest[[place for _, place in part]] = found
    return nearest


def _by_length(items: list[tuple[str, int]]) -> dict[int, list[tuple[str, int]]]:
    groups: dict[int, list[tuple[str, int]]] = {}
    for text, index in items:
        groups.setdefault(len(text), []).append((text, index))
    return groups


def _nearest_of_length(
    queries: list[str], length: int, by_length: dict[int, list[tuple[str, int]]], workers: int
) -> Int[np.ndarray, " queries"]:
    """Find the nearest target ids of queries that all have the same length."""
    best_id = np.full(len(queries), np.iinfo(np.int64).max)
    best = np.full(len(queries), np.iinfo(np.int64).max)
    for other in sorted(by_length, key=lambda n: (abs(n - length), n)):
        active = np.flatnonzero(best >= abs(other - length))
        if not len(active):
            break
        choices = by_length[other]
        worst = int(best[active].max())
        distances = process.cdist(
            [queries[i] for i in active],
            [text for text, _ in choices],
            scorer=Levenshtein.distance,
            score_cutoff=None if worst > _LONGEST else worst,
            dtype=np.uint8 if max(length, other) <= _LONGEST else np.int32,
            workers=workers,
        )
        column = distances.argmin(axis=1)
        found = distances[np.arange(len(active)), column].astype(np.int64)
        ids = np.array([choices[c][1] for c in column.tolist()])
        better = (found < best[active]) | ((found == best[active]) & (ids < best_id[active]))
        best[active[better]], best_id[active[better]] = found[better], ids[better]
    return best_id
