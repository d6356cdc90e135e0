"""Alignment of every ordered pair of real tokenizers on real text: coverage, and equal bytes.

    python benchmarks/alignment_coverage.py --output benchmarks/alignment_coverage_202611.md

Every text is encoded once by every tokenizer and aligned for all ordered pairs. On every 50th text
the bytes of each chunk are compared the slow way too, from the vocabularies alone: what the tokens
of one side spell, what those of the other side spell, and what the text says.
"""

import argparse
import importlib.metadata
import itertools
import os
import platform
import shlex
import subprocess
import sys
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crosstok.alignment import Alignment, align_batch, overlapping_tokens
from crosstok.corpora import load_corpora
from crosstok.reports import PairCounts
from crosstok.tokenizers import ByteVocab, Spans, TextEncoder, load_tokenizer

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CORPORA = tuple(str(SHARED / "corpora" / n) for n in ("multilingual_ntrex", "python_stdlib_3.11"))
BATCH = 64
CHECK_EVERY = 50
LOSSLESS = 0.9999  # tokenizers that spell this share of bytes as written; the rest normalise

Pair = tuple[str, str]


@dataclass
class Coverage:
    """Counts of one corpus."""

    files: dict[tuple[Pair, str], PairCounts] = field(default_factory=dict)
    exact_bytes: dict[str, int] = field(default_factory=dict)  # by tokenizer
    num_texts: int = 0
    num_bytes: int = 0
    num_checked_chunks: int = 0

    def total(self, pair: Pair) -> PairCounts:
        """Counts of a pair over all files."""
        return PairCounts.sum(counts for (p, _), counts in self.files.items() if p == pair)

    def lowest(self, pair: Pair) -> tuple[float, str]:
        """The file of this pair with the lowest coverage."""
        return min((counts.coverage, file) for (p, file), counts in self.files.items() if p == pair)

    def exact_share(self, name: str) -> float:
        """Share of the bytes that the tokenizer's tokens spell as they are written."""
        return self.exact_bytes[name] / self.num_bytes

    def is_lossless(self, *names: str) -> bool:
        """Whether all of these spell nearly every byte as it is written."""
        return all(self.exact_share(name) >= LOSSLESS for name in names)


def check_chunks(
    text: str, source: Spans, target: Spans, alignment: Alignment, vocabs: Sequence[ByteVocab]
) -> int:
    """Compare the bytes of every chunk on both sides; the number of chunks.

    A token may have one space in front that the text has not: a tokenizer's own prefix. Nothing
    else may differ, and where all tokens of a chunk are exact, both sides spell the text.

    Raises:
        AssertionError: the bytes of a chunk differ.
    """
    payload = text.encode()
    spelled = [b""] * alignment.num_chunks, [b""] * alignment.num_chunks
    exact = [True] * alignment.num_chunks
    sides = (source, alignment.source_chunk_ids), (target, alignment.target_chunk_ids)
    for (spans, chunk_ids), vocab, side in zip(sides, vocabs, spelled, strict=True):
        for token, chunk in enumerate(chunk_ids.tolist()):
            if chunk >= 0:
                piece = vocab.token_bytes[spans.ids[token]]
                assert piece is not None, f"a token without bytes in chunk {chunk} of {text[:80]!r}"
                width = int(spans.ends[token] - spans.starts[token])
                is_prefixed = spans.exact[token] and len(piece) == width + 1
                side[chunk] += piece.removeprefix(b" ") if is_prefixed else piece
                exact[chunk] &= bool(spans.exact[token])
    bounds = zip(alignment.chunk_starts.tolist(), alignment.chunk_ends.tolist(), strict=True)
    for ours, theirs, is_exact, (start, end) in zip(*spelled, exact, bounds, strict=True):
        said = f"{ours!r} and {theirs!r} at bytes {start} to {end} of {text[:80]!r}"
        assert ours == theirs, said
        assert not is_exact or ours == payload[start:end], said
    return alignment.num_chunks


def cover_texts(
    coverage: Coverage, name: str, texts: Sequence[str], encoders: dict[str, TextEncoder]
) -> None:
    """Add a batch of texts of one file to the counts."""
    spans = {t: encode(texts, add_start=False, add_end=False) for t, encode in encoders.items()}
    for tokenizer, rows in spans.items():
        exact = sum(int((row.ends - row.starts)[row.exact].sum()) for row in rows)
        coverage.exact_bytes[tokenizer] = coverage.exact_bytes.get(tokenizer, 0) + exact
    checked = [i for i in range(len(texts)) if (coverage.num_texts + i) % CHECK_EVERY == 0]
    for pair in itertools.permutations(encoders, 2):
        sources, targets = (spans[tokenizer] for tokenizer in pair)
        vocabs = [encoders[tokenizer].byte_vocab for tokenizer in pair]
        alignments = align_batch(sources, targets, *vocabs)
        counts = coverage.files.setdefault((pair, name), PairCounts())
        for row in zip(sources, targets, alignments, strict=True):
            counts.add(*row)
        coverage.num_checked_chunks += sum(
            check_chunks(texts[i], sources[i], targets[i], alignments[i], vocabs) for i in checked
        )
    coverage.num_texts += len(texts)
    coverage.num_bytes += sum(len(text.encode()) for text in texts)


def cover(source: str, encoders: dict[str, TextEncoder], every: int, nfc: bool) -> Coverage:
    """Count every pair on every file of a folder."""
    coverage = Coverage()
    corpora = load_corpora(source)
    for number, corpus in enumerate(corpora, start=1):
        texts = list(corpus.texts())[::every]
        texts = [unicodedata.normalize("NFC", text) for text in texts] if nfc else texts
        for start in range(0, len(texts), BATCH):
            cover_texts(coverage, corpus.name, texts[start : start + BATCH], encoders)
        print(f"{source}: {number} of {len(corpora)} files, {corpus.name}", file=sys.stderr)
    return coverage


def report_corpus(name: str, coverage: Coverage, encoders: dict[str, TextEncoder]) -> list[str]:
    """The tables of one corpus."""
    pairs = {pair: coverage.total(pair) for pair in itertools.permutations(encoders, 2)}
    files = len({file for _, file in coverage.files})
    lossless = [pair for pair in pairs if coverage.is_lossless(*pair)]
    lines = [
        f"## {name}",
        "",
        f"{files} file(s), {coverage.num_texts:,} texts, {coverage.num_bytes:,} bytes. No pair "
        f"raised. Bytes of {coverage.num_checked_chunks:,} chunks compared the slow way: all "
        "equal.",
        "",
    ]
    if lossless:
        worst = min(lossless, key=lambda pair: pairs[pair].coverage)
        low, file, pair = min((*coverage.lowest(pair), pair) for pair in lossless)
        lines += [
            f"Lowest coverage of the {len(lossless)} ordered pairs of lossless tokenizers: "
            f"**{pairs[worst].coverage:.4%}** ({' → '.join(worst)}); lowest in one file: {low:.4%} "
            f"({' → '.join(pair)}, {file}).",
            "",
        ]
    lines += ["| tokenizer | bytes spelled as written | tokens |", "|---|---:|---:|"]
    for tokenizer in encoders:
        tokens = next(c.source_tokens for (source, _), c in pairs.items() if source == tokenizer)
        lines.append(f"| {tokenizer} | {coverage.exact_share(tokenizer):.4%} | {tokens:,} |")
    lines += [
        "",
        "| source → target | coverage | comparable | of comparable | lowest file | chunks "
        "| one-to-one |",
        "|---|---:|---:|---:|---|---:|---:|",
    ]
    for pair, counts in pairs.items():
        low, file = coverage.lowest(pair)
        lines.append(
            f"| {' → '.join(pair)} | {counts.coverage:.4%} | {counts.comparable:.4%} "
            f"| {counts.coverage / max(counts.comparable, 1e-12):.2%} | {low:.4%} {file} "
            f"| {counts.num_chunks:,} | {counts.one_to_one_share:.1%} |"
        )
    return [*lines, ""]


def report_overlap(encoders: dict[str, TextEncoder]) -> list[str]:
    """Tokens with equal bytes, for every unordered pair."""
    lines = ["## Overlapping tokens", "", "| | " + " | ".join(encoders) + " |"]
    lines.append("|---|" + "---:|" * len(encoders))
    vocabs = {name: encoder.byte_vocab for name, encoder in encoders.items()}
    for name, vocab in vocabs.items():
        row = [f"{len(overlapping_tokens(vocab, other)):,}" for other in vocabs.values()]
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return [*lines, ""]


def report_setting(every: int, nfc: bool, seconds: float) -> list[str]:
    """Command, versions, commit and hardware."""
    versions = [f"{n} {importlib.metadata.version(n)}" for n in ("tokenizers", "transformers")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    thinned = "every text" if every == 1 else f"text 1, {every + 1}, {2 * every + 1}, ... of a file"
    thinned += "; all texts brought to NFC before" if nfc else ""
    return [
        "# Coverage of every tokenizer pair",
        "",
        f"`python {shlex.join(sys.argv)}`, {seconds / 60:.1f} minutes on one thread; {thinned}.",
        f"crosstok {commit}, {', '.join(versions)}, Python {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} cores.",
        "",
        "Coverage is the share of bytes that lie in a chunk. Comparable is the share that neither "
        "tokenizer's normaliser changed (nor replaced by its unknown token): no more can be "
        "covered, and less is where a tokenizer's token spans both a comparable byte and another. "
        f"Tokenizers that spell at least {LOSSLESS:.2%} of the bytes as written count as lossless.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokenizers", default=str(SHARED / "tokenizers"), help="folder of them")
    parser.add_argument("--data", nargs="+", default=CORPORA, help="files or folders")
    parser.add_argument("--every", type=int, default=1, help="use every Nth text of each file")
    parser.add_argument("--nfc", action="store_true", help="bring all texts to NFC before")
    parser.add_argument("--output", type=Path, help="Markdown file; standard output without it")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folders = sorted(path for path in Path(options.tokenizers).glob("*") if path.is_dir())
    if len(folders) < 2:
        parser.error(f"--tokenizers {options.tokenizers} must hold two or more tokenizer folders")
    encoders = {folder.name: TextEncoder(load_tokenizer(str(folder))) for folder in folders}
    start = time.perf_counter()
    lines = report_overlap(encoders)
    for source in options.data:
        coverage = cover(source, encoders, options.every, options.nfc)
        lines += report_corpus(Path(source).name, coverage, encoders)
    seconds = time.perf_counter() - start
    text = "\n".join(report_setting(options.every, options.nfc, seconds) + lines)
    if options.output is None:
        print(text)
    else:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
