"""For every token of one vocabulary the token of another that is spelled most alike (MinED).

MinED, minimum edit distance, is the vocabulary map of FuseLLM (arXiv 2401.10491, section 3.1).
Spellings are compared as text, a space being a character like others. Bytes that are no UTF-8, such
as a piece of a Chinese character, stand as one character each.
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
_LONGEST = 254  # distances are held in one byte, 255 being "too far"


@dataclass(frozen=True)
class NearestTokens:
    """A target id for every source id.

    Attributes:
        ids: target id; -1 only for a gap (an id that no token has).
        is_exact: same bytes, or a special with the same role or the same name.
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

    In this order: the same bytes (the id that the target's encoder emits for them); for specials
    the first of ``roles`` that the source id plays and the target has, then the special of the same
    name; else the target token at the least Levenshtein distance, and among several of them the one
    with the lowest id. Specials take part in that as the text of their name on the source side, and
    not at all on the target side: no text ever becomes an end of sequence.

    Args:
        source: vocabulary whose every id gets a partner (MinED: the teacher's).
        target: vocabulary of the partners (MinED: the student's).
        roles: roles that make two specials the same.
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
    """Target special by source special: by role, else by name."""
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
    """Ids of the target's nearest tokens, the lowest id among equals.

    Two strings are at least as far apart as their lengths, so lengths are visited from the query's
    own outwards, and a query is done when the next length is farther than what it has found.
    """
    ids = [target.ids_of(token)[0] for token in {t for t in target.token_bytes if t}]
    if not ids:
        raise ValueError("the target vocabulary has no token with bytes, so nothing can be mapped.")
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
    """The nearest target ids of queries that all have the same length."""
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
