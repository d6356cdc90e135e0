"""Chunks: the shortest runs of tokens that spell the same bytes under both tokenizers.

Both tokenizations are cut at bytes of the *same* text (``Spans``), so a chunk ends wherever a token
of each side ends at the same byte (ALM, arXiv 2503.20083, section 3; greedy, shortest first).
No token strings are compared and nothing is searched: the cost is linear in bytes.

Byte counts alone are wrong in three cases, each of which has a rule:

* Specials (bos, end of turn, ...) have no bytes. They are matched by place and role; a special
  that only one side has is in no chunk and does not affect the others.
* A dummy prefix space (SentencePiece) is not in the text. Its token is zero-width and joins the
  chunk after it; every other zero-width token joins the chunk that it ends.
* A normaliser may have changed the text for one side. A chunk with such a token is kept only if
  both sides still hold the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int

from crosstok.tokenizers import TEMPLATE, ByteVocab, Spans


@dataclass(frozen=True)
class Alignment:
    """Chunk ids of one text under two tokenizers; ids rise along the text on both sides."""

    source_chunk_ids: Int[np.ndarray, " Ts"]  # -1: in no chunk
    target_chunk_ids: Int[np.ndarray, " Tt"]  # -1: in no chunk
    chunk_starts: Int[np.ndarray, " C"]  # bytes of the text, half-open with chunk_ends
    chunk_ends: Int[np.ndarray, " C"]
    chunk_is_special: Bool[np.ndarray, " C"]  # a role (bos, eos, ...) that both sides have
    num_bytes: int  # of the text

    @property
    def num_chunks(self) -> int:
        """Number of chunks of text and of specials."""
        return len(self.chunk_ends)

    @property
    def covered_bytes(self) -> int:
        """Number of bytes of the text that lie in a chunk."""
        return int((self.chunk_ends - self.chunk_starts).sum())

    @property
    def coverage(self) -> float:
        """Share of the text's bytes that lie in a chunk; 1.0 for an empty text."""
        return self.covered_bytes / self.num_bytes if self.num_bytes else 1.0


def align(
    source: Spans, target: Spans, source_vocab: ByteVocab, target_vocab: ByteVocab
) -> Alignment:
    """Align two tokenizations of one text; see :func:`align_batch`."""
    return align_batch([source], [target], source_vocab, target_vocab)[0]


def align_batch(
    sources: Sequence[Spans],
    targets: Sequence[Spans],
    source_vocab: ByteVocab,
    target_vocab: ByteVocab,
) -> list[Alignment]:
    """Align each source with the target of the same index, in one pass over the whole batch.

    Raises:
        ValueError: a pair does not tokenize the same text (byte counts differ).
    """
    _check_same_texts(sources, targets)
    if not sources:
        return []
    widths = np.array([spans.num_bytes + 1 for spans in sources], dtype=np.int64)
    # text i owns bytes [origins[i], origins[i+1])
    origins = np.concatenate([[0], np.cumsum(widths)])
    source, target = _Side.join(sources, origins), _Side.join(targets, origins)

    is_cut = source.marks_ends(int(origins[-1])) & target.marks_ends(int(origins[-1]))
    cuts = np.flatnonzero(is_cut)
    first_cut_of_text = np.searchsorted(cuts, origins)
    is_first = np.zeros(len(cuts), dtype=bool)
    is_first[first_cut_of_text[:-1][first_cut_of_text[:-1] < first_cut_of_text[1:]]] = True
    text_of_cut = np.repeat(np.arange(len(sources)), np.diff(first_cut_of_text))
    cut_starts = np.where(
        is_first, origins[text_of_cut], np.concatenate([[0], cuts[:-1]])[: len(cuts)]
    )

    source_chunks, target_chunks = source.chunks(cuts), target.chunks(cuts)
    _drop_unequal(source, source_chunks, target, target_chunks, source_vocab, target_vocab)

    alignments = []
    for i in range(len(sources)):
        text_cuts = slice(first_cut_of_text[i], first_cut_of_text[i + 1])
        alignments.append(
            _number_chunks(
                sources[i],
                targets[i],
                source_chunks[source.tokens_of(i)] - first_cut_of_text[i],
                target_chunks[target.tokens_of(i)] - first_cut_of_text[i],
                cut_starts[text_cuts] - origins[i],
                cuts[text_cuts] - origins[i],
            )
        )
    return alignments


def tokens_that_fit(
    alignment: Alignment,
    source: Spans,
    target: Spans,
    max_source_tokens: int,
    max_target_tokens: int,
) -> tuple[int, int]:
    """Find how many tokens of each side to keep so that both sides are cut at the same byte.

    Returns the whole lengths of both sides if they fit, else the lengths up to the last chunk end
    at which neither side exceeds its maximum. Specials after the cut are left out.
    """
    if len(source.ids) <= max_source_tokens and len(target.ids) <= max_target_tokens:
        return len(source.ids), len(target.ids)
    kept_source = tokens_up_to_chunks(alignment.source_chunk_ids, alignment.num_chunks)
    kept_target = tokens_up_to_chunks(alignment.target_chunk_ids, alignment.num_chunks)
    fits = (kept_source <= max_source_tokens) & (kept_target <= max_target_tokens)
    if not fits.any():
        return 0, 0
    last = np.flatnonzero(fits)[-1]
    return int(kept_source[last]), int(kept_target[last])


@dataclass(frozen=True)
class _Side:
    """The tokens of one side of a batch, with all texts joined into one range of bytes."""

    ids: Int[np.ndarray, " N"]
    starts: Int[np.ndarray, " N"]
    ends: Int[np.ndarray, " N"]
    exact: Bool[np.ndarray, " N"]
    is_text: Bool[np.ndarray, " N"]
    is_leading: Bool[np.ndarray, " N"]  # zero-width at the start of a run: joins what follows
    limits: Int[np.ndarray, " N"]  # last byte of the token's text
    offsets: Int[np.ndarray, " B1"]  # first token of each text
    is_first: Bool[np.ndarray, " N"]  # first token of its text

    @classmethod
    def join(cls, batch: Sequence[Spans], origins: Int[np.ndarray, " B1"]) -> "_Side":
        lengths = np.array([len(spans.ids) for spans in batch], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        shift = np.repeat(origins[:-1], lengths)
        starts = np.concatenate([spans.starts for spans in batch]) + shift
        ends = np.concatenate([spans.ends for spans in batch]) + shift
        is_text = np.ones(len(ends), dtype=bool)
        special_tokens = [
            offsets[i] + index for i, spans in enumerate(batch) for index, _ in spans.specials
        ]
        is_text[np.array(special_tokens, dtype=np.int64)] = False
        is_leading = np.zeros(len(ends), dtype=bool)
        for first in [*offsets[:-1], *(index + 1 for index in special_tokens)]:
            token = int(first)
            while token < len(ends) and is_text[token] and starts[token] == ends[token]:
                is_leading[token] = True
                token += 1
        return cls(
            ids=np.concatenate([spans.ids for spans in batch]),
            starts=starts,
            ends=ends,
            exact=np.concatenate([spans.exact for spans in batch]),
            is_text=is_text,
            is_leading=is_leading,
            limits=np.repeat(origins[1:] - 1, lengths),
            offsets=offsets,
            is_first=np.isin(np.arange(len(ends)), offsets[:-1]),
        )

    def tokens_of(self, text: int) -> slice:
        return slice(self.offsets[text], self.offsets[text + 1])

    def marks_ends(self, num_bytes: int) -> Bool[np.ndarray, " bytes"]:
        marks = np.zeros(num_bytes + 1, dtype=bool)
        marks[self.ends[self.is_text & ~self.is_leading]] = True
        return marks

    def chunks(self, cuts: Int[np.ndarray, " cuts"]) -> Int[np.ndarray, " N"]:
        """Return the index of the cut that ends each token's chunk; -1 for specials and tails."""
        chunks: np.ndarray = np.searchsorted(cuts, self.ends + self.is_leading)
        beyond = np.append(cuts, np.iinfo(np.int64).max)[chunks] > self.limits
        chunks[beyond | ~self.is_text] = -1
        return chunks


def _check_same_texts(sources: Sequence[Spans], targets: Sequence[Spans]) -> None:
    if len(sources) != len(targets):
        raise ValueError(
            f"align_batch got {len(sources)} source texts and {len(targets)} target texts; "
            "each source needs the target spans of the same text."
        )
    for i, (source, target) in enumerate(zip(sources, targets, strict=True)):
        if source.num_bytes != target.num_bytes:
            raise ValueError(
                f"text {i} has {source.num_bytes} bytes on the source side and "
                f"{target.num_bytes} on the target side; both sides must come from the same text. "
                "Encode the same strings."
            )


def _drop_unequal(
    source: _Side,
    source_chunks: Int[np.ndarray, " Ns"],
    target: _Side,
    target_chunks: Int[np.ndarray, " Nt"],
    source_vocab: ByteVocab,
    target_vocab: ByteVocab,
) -> None:
    """Set to -1, in place, the chunks whose two sides do not hold the same bytes.

    Only chunks with a token that is not exact can differ, so only these are compared.
    """
    suspects = np.union1d(source_chunks[~source.exact], target_chunks[~target.exact])
    suspects = suspects[suspects >= 0]
    source_tokens = _tokens_of_chunks(source_chunks, suspects)
    target_tokens = _tokens_of_chunks(target_chunks, suspects)
    unequal = []
    for i, chunk in enumerate(suspects):
        source_bytes = _chunk_bytes(source, source_tokens[i], source_vocab)
        if source_bytes is None or source_bytes != _chunk_bytes(
            target, target_tokens[i], target_vocab
        ):
            unequal.append(chunk)
    source_chunks[np.isin(source_chunks, unequal)] = -1
    target_chunks[np.isin(target_chunks, unequal)] = -1


def _tokens_of_chunks(
    chunks: Int[np.ndarray, " N"], wanted: Int[np.ndarray, " n"]
) -> list[Int[np.ndarray, " m"]]:
    order = np.argsort(chunks, kind="stable")
    ordered = chunks[order]
    bounds = zip(
        np.searchsorted(ordered, wanted), np.searchsorted(ordered, wanted, "right"), strict=True
    )
    return [order[first:last] for first, last in bounds]


def _chunk_bytes(side: _Side, tokens: Int[np.ndarray, " n"], vocab: ByteVocab) -> bytes | None:
    """Return the bytes that a chunk's tokens stand for; None if a token has no bytes (unk)."""
    pieces = []
    for token in tokens:
        before = None if side.is_first[token] else int(side.ids[token - 1])
        [piece] = vocab.in_context([int(side.ids[token])], before)
        if piece is None:
            return None
        width = int(side.ends[token] - side.starts[token])
        if side.exact[token] and len(piece) > width:  # a dummy prefix space
            piece = piece[len(piece) - width :]
        pieces.append(piece)
    return b"".join(pieces)


def _number_chunks(
    source: Spans,
    target: Spans,
    source_cuts: Int[np.ndarray, " Ts"],
    target_cuts: Int[np.ndarray, " Tt"],
    cut_starts: Int[np.ndarray, " cuts"],
    cut_ends: Int[np.ndarray, " cuts"],
) -> Alignment:
    """Number the chunks of one text (from cuts and matched specials) in the order of the text."""
    kept = np.zeros(len(cut_ends), dtype=bool)
    kept[source_cuts[source_cuts >= 0]] = True
    specials = _match_specials(source, target)
    num_text = int(kept.sum())
    starts = np.concatenate([cut_starts[kept], [place for place, _, _ in specials]]).astype(
        np.int64
    )
    ends = np.concatenate([cut_ends[kept], [place for place, _, _ in specials]]).astype(np.int64)
    is_special = np.arange(len(ends)) >= num_text
    order = np.lexsort((is_special, ends))  # text that ends at byte b comes before a special at b
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))

    number_of_cut = np.full(len(kept) + 1, -1, dtype=np.int64)  # last entry: cut -1
    number_of_cut[:-1][kept] = number[:num_text]
    source_ids = number_of_cut[np.maximum(source_cuts, -1)]
    target_ids = number_of_cut[np.maximum(target_cuts, -1)]
    for chunk, (_, source_tokens, target_tokens) in zip(number[num_text:], specials, strict=True):
        source_ids[source_tokens] = chunk
        target_ids[target_tokens] = chunk
    return Alignment(
        source_ids, target_ids, starts[order], ends[order], is_special[order], source.num_bytes
    )


_Special: TypeAlias = tuple[int, str, list[int]]  # byte, role, tokens


def _match_specials(source: Spans, target: Spans) -> list[tuple[int, list[int], list[int]]]:
    """Match specials with the same role at the same byte on both sides: (byte, tokens, tokens).

    Adjacent tokens of one role (``<|end_header_id|>`` and two newlines) count as one special.
    """
    source_specials, target_specials = _special_groups(source), _special_groups(target)
    matched = []
    t = 0
    for place, role, tokens in source_specials:
        for candidate in range(t, len(target_specials)):
            other_place, other_role, other_tokens = target_specials[candidate]
            if other_place > place:
                break
            if (other_place, other_role) == (place, role):
                matched.append((place, tokens, other_tokens))
                t = candidate + 1
                break
    return matched


def _special_groups(spans: Spans) -> list[_Special]:
    groups: list[_Special] = []
    for index, role in spans.specials:
        if role == TEMPLATE:  # text of one template alone: never matched
            continue
        place = int(spans.starts[index])
        if groups and groups[-1][1] == role and groups[-1][2][-1] == index - 1:
            groups[-1][2].append(index)
        else:
            groups.append((place, role, [index]))
    return groups


def tokens_up_to_chunks(chunk_ids: Int[np.ndarray, " T"], num_chunks: int) -> Int[np.ndarray, " C"]:
    """Count the tokens up to and including the last token of each chunk."""
    counts = np.zeros(num_chunks, dtype=np.int64)
    placed = np.flatnonzero(chunk_ids >= 0)
    counts[chunk_ids[placed]] = placed + 1  # later tokens overwrite earlier ones
    return counts
