"""Numbers about a pair of tokenizers on real text."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from jaxtyping import Bool, Int

from crosstok.alignment import Alignment, align_batch, overlapping_tokens
from crosstok.tokenizers import Spans, TextEncoder, shared_texts

_BATCH = 64


@dataclass
class PairCounts:
    """Sums over texts; the shares are computed from them."""

    num_bytes: int = 0
    covered_bytes: int = 0
    comparable_bytes: int = 0
    num_chunks: int = 0
    num_one_to_one: int = 0
    source_tokens: int = 0
    target_tokens: int = 0

    def add(self, source: Spans, target: Spans, alignment: Alignment) -> None:
        """Add one text, encoded without special tokens."""
        source_sizes = _tokens_per_chunk(alignment.source_chunk_ids, alignment.num_chunks)
        target_sizes = _tokens_per_chunk(alignment.target_chunk_ids, alignment.num_chunks)
        self.num_bytes += alignment.num_bytes
        self.covered_bytes += alignment.covered_bytes
        self.comparable_bytes += _comparable_bytes(source, target)
        self.num_chunks += alignment.num_chunks
        self.num_one_to_one += int(((source_sizes == 1) & (target_sizes == 1)).sum())
        self.source_tokens += len(source.ids)
        self.target_tokens += len(target.ids)

    @classmethod
    def sum(cls, parts: Iterable["PairCounts"]) -> "PairCounts":
        """Add up the counts of all parts."""
        parts = list(parts)
        names = [f.name for f in fields(cls)]
        return cls(**{name: sum(getattr(part, name) for part in parts) for name in names})

    @property
    def coverage(self) -> float:
        """Share of bytes in chunks; 1.0 if there are no bytes."""
        return self.covered_bytes / self.num_bytes if self.num_bytes else 1.0

    @property
    def comparable(self) -> float:
        """Share of bytes that neither tokenizer's normaliser changed; 1.0 if there are no bytes.

        Unknown tokens count as changed.
        """
        return self.comparable_bytes / self.num_bytes if self.num_bytes else 1.0

    @property
    def one_to_one_share(self) -> float:
        """Share of chunks with one token on both sides; 0.0 if there are no chunks."""
        return self.num_one_to_one / self.num_chunks if self.num_chunks else 0.0


@dataclass
class PairReport:
    """Numbers of a pair, in total and by file."""

    overlapping_tokens: int
    by_file: dict[str, PairCounts] = field(default_factory=dict)

    @property
    def total(self) -> PairCounts:
        """Counts over all files."""
        return PairCounts.sum(self.by_file.values())

    def as_json(self) -> dict[str, object]:
        """Return plain values; shares are of bytes, except ``one_to_one_share`` (of chunks)."""
        total = self.total
        return {
            "coverage": total.coverage,
            "coverage_by_file": {name: counts.coverage for name, counts in self.by_file.items()},
            "comparable": total.comparable,
            "comparable_by_file": {name: c.comparable for name, c in self.by_file.items()},
            "chunks": total.num_chunks,
            "source_tokens": total.source_tokens,
            "target_tokens": total.target_tokens,
            "bytes": total.num_bytes,
            "overlapping_tokens": self.overlapping_tokens,
            "one_to_one_share": total.one_to_one_share,
        }


def compare_tokenizers(
    source: TextEncoder, target: TextEncoder, files: Mapping[str, Iterable[str]]
) -> PairReport:
    """Align every text of every file, and count.

    Args:
        source: encoder of the source side.
        target: encoder of the target side.
        files: texts by file name.
    """
    report = PairReport(len(overlapping_tokens(source.byte_vocab, target.byte_vocab)))
    for name, texts in files.items():
        counts = report.by_file.setdefault(name, PairCounts())
        for batch in _batches(texts):
            batch = shared_texts(batch, source, target)
            sources = source(batch, add_start=False, add_end=False)
            targets = target(batch, add_start=False, add_end=False)
            alignments = align_batch(sources, targets, source.byte_vocab, target.byte_vocab)
            for triple in zip(sources, targets, alignments, strict=True):
                counts.add(*triple)
    return report


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _tokens_per_chunk(chunk_ids: Int[np.ndarray, " T"], num_chunks: int) -> Int[np.ndarray, " C"]:
    return np.bincount(chunk_ids[chunk_ids >= 0], minlength=num_chunks)


def _comparable_bytes(source: Spans, target: Spans) -> int:
    if source.exact.all() and target.exact.all():
        return source.num_bytes
    return int((_exact_bytes(source) & _exact_bytes(target)).sum())


def _exact_bytes(spans: Spans) -> Bool[np.ndarray, " bytes"]:
    """For each byte of the text, whether its token spells it as it was written."""
    if not len(spans.ids):
        return np.zeros(spans.num_bytes, dtype=np.bool_)  # every byte of the text was dropped
    return np.repeat(spans.exact, spans.ends - spans.starts)
