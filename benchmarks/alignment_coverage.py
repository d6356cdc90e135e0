"""Alignment of every ordered pair of real tokenizers on real text: coverage, and equal bytes.

    python benchmarks/alignment_coverage.py --every 6 --output coverage.md

Every text is encoded by every tokenizer, once more in NFC where that differs, and aligned for all
ordered pairs; a pair reads NFC where one of its tokenizers composes characters, as in training. On
every 50th text the bytes of each chunk are also compared the slow way, from the vocabularies alone:
the bytes of the tokens on one side, of the tokens on the other side, and of the text.
"""

import argparse
import itertools
import os
import shlex
import sys
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common import check_folder, made_by

from crosstok.alignment import Alignment, align_batch, overlapping_tokens
from crosstok.corpora import load_corpora
from crosstok.reports import PairCounts
from crosstok.tokenizers import ByteVocab, Spans, TextEncoder, load_tokenizer, shared_texts

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CORPORA = tuple(str(SHARED / "corpora" / n) for n in ("multilingual_ntrex", "python_stdlib_3.11"))
BATCH = 64
CHECK_EVERY = 50
LOSSLESS = 0.9999  # tokenizers that spell this share of bytes of the text in NFC; others lose text

Pair = tuple[str, str]


@dataclass
class Spelled:
    """Bytes of some texts, and how many of them each tokenizer spells exactly."""

    num_bytes: int = 0
    exact_bytes: dict[str, int] = field(default_factory=dict)  # by tokenizer

    def add(self, texts: Sequence[str], spans: dict[str, dict[str, Spans]]) -> None:
        """Add texts, given each tokenizer's spans by text."""
        self.num_bytes += sum(len(text.encode()) for text in texts)
        for tokenizer, by_text in spans.items():
            rows = (by_text[text] for text in texts)
            exact = sum(int((row.ends - row.starts)[row.exact].sum()) for row in rows)
            self.exact_bytes[tokenizer] = self.exact_bytes.get(tokenizer, 0) + exact

    def share(self, tokenizer: str) -> float:
        """Share of the bytes that the tokenizer's tokens spell."""
        return self.exact_bytes[tokenizer] / self.num_bytes


@dataclass
class Coverage:
    """Counts of one corpus."""

    files: dict[tuple[Pair, str], PairCounts] = field(default_factory=dict)
    as_written: Spelled = field(default_factory=Spelled)
    in_nfc: Spelled = field(default_factory=Spelled)
    num_texts: int = 0
    num_not_nfc: int = 0
    num_checked_chunks: int = 0

    def total(self, pair: Pair) -> PairCounts:
        """Counts of a pair over all files."""
        return PairCounts.sum(counts for (p, _), counts in self.files.items() if p == pair)

    def lowest(self, pair: Pair) -> tuple[float, str]:
        """The file of this pair with the lowest coverage."""
        return min((counts.coverage, file) for (p, file), counts in self.files.items() if p == pair)

    def is_lossless(self, *names: str) -> bool:
        """Whether all these tokenizers spell nearly every byte of the text in NFC."""
        return all(self.in_nfc.share(name) >= LOSSLESS for name in names)


def check_chunks(
    text: str, source: Spans, target: Spans, alignment: Alignment, vocabs: Sequence[ByteVocab]
) -> int:
    """Compare the bytes of every chunk on both sides; returns the number of chunks.

    A token may begin with one space that the text does not have: a tokenizer's own prefix. Nothing
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


def encode_once(
    encode: TextEncoder, texts: Sequence[str], composed: Sequence[str]
) -> dict[str, Spans]:
    """Spans by text, for the texts and for their composed forms where these differ."""
    different = list(dict.fromkeys([*texts, *composed]))
    rows = encode(different, add_start=False, add_end=False)
    return dict(zip(different, rows, strict=True))


def cover_texts(
    coverage: Coverage, name: str, texts: Sequence[str], encoders: dict[str, TextEncoder]
) -> None:
    """Add a batch of texts of one file to the counts."""
    composed = [unicodedata.normalize("NFC", text) for text in texts]
    spans = {t: encode_once(encode, texts, composed) for t, encode in encoders.items()}
    coverage.as_written.add(texts, spans)
    coverage.in_nfc.add(composed, spans)
    checked = [i for i in range(len(texts)) if (coverage.num_texts + i) % CHECK_EVERY == 0]
    for pair in itertools.permutations(encoders, 2):
        read = shared_texts(texts, *(encoders[tokenizer] for tokenizer in pair))
        sources, targets = ([spans[tokenizer][text] for text in read] for tokenizer in pair)
        vocabs = [encoders[tokenizer].byte_vocab for tokenizer in pair]
        alignments = align_batch(sources, targets, *vocabs)
        counts = coverage.files.setdefault((pair, name), PairCounts())
        for row in zip(sources, targets, alignments, strict=True):
            counts.add(*row)
        coverage.num_checked_chunks += sum(
            check_chunks(read[i], sources[i], targets[i], alignments[i], vocabs) for i in checked
        )
    coverage.num_texts += len(texts)
    coverage.num_not_nfc += sum(a != b for a, b in zip(texts, composed, strict=True))


def cover(source: str, encoders: dict[str, TextEncoder], every: int) -> Coverage:
    """Count every pair on every file of a folder."""
    coverage = Coverage()
    corpora = load_corpora(source)
    for number, corpus in enumerate(corpora, start=1):
        texts = list(corpus.texts())[::every]
        for start in range(0, len(texts), BATCH):
            cover_texts(coverage, corpus.name, texts[start : start + BATCH], encoders)
        print(f"{source}: {number} of {len(corpora)} files, {corpus.name}", file=sys.stderr)
    return coverage


def report_corpus(name: str, coverage: Coverage, encoders: dict[str, TextEncoder]) -> list[str]:
    """The tables of one corpus."""
    pairs = {pair: coverage.total(pair) for pair in itertools.permutations(encoders, 2)}
    files = len({file for _, file in coverage.files})
    lines = [
        f"## {name}",
        "",
        f"{files} file(s), {coverage.num_texts:,} texts ({coverage.num_not_nfc:,} of them not in "
        f"NFC), {coverage.as_written.num_bytes:,} bytes. No pair raised. Bytes of "
        f"{coverage.num_checked_chunks:,} chunks compared the slow way: all equal.",
        "",
        "| tokenizer | bytes spelled as written | in NFC | tokens |",
        "|---|---:|---:|---:|",
    ]
    for tokenizer in encoders:
        tokens = next(c.source_tokens for (source, _), c in pairs.items() if source == tokenizer)
        shares = coverage.as_written.share(tokenizer), coverage.in_nfc.share(tokenizer)
        lines.append(f"| {tokenizer} | {shares[0]:.4%} | {shares[1]:.4%} | {tokens:,} |")
    lossless = {p: counts for p, counts in pairs.items() if coverage.is_lossless(*p)}
    lossy = {p: counts for p, counts in pairs.items() if p not in lossless}
    if lossless:
        worst = min(lossless, key=lambda pair: lossless[pair].coverage)
        low, file, pair = min((*coverage.lowest(pair), pair) for pair in lossless)
        lines += [
            "",
            f"### {name}: pairs of lossless tokenizers",
            "",
            f"Lowest coverage of the {len(lossless)} ordered pairs: "
            f"**{lossless[worst].coverage:.4%}** ({' → '.join(worst)}); lowest in one file: "
            f"{low:.4%} ({' → '.join(pair)}, {file}).",
            *report_pairs(lossless, coverage),
        ]
    if lossy:
        lines += [
            "",
            f"### {name}: pairs with a tokenizer that loses text",
            *report_pairs(lossy, coverage),
        ]
    return [*lines, ""]


def report_pairs(pairs: dict[Pair, PairCounts], coverage: Coverage) -> list[str]:
    """The table of some pairs."""
    lines = [
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
    return lines


def report_overlap(encoders: dict[str, TextEncoder]) -> list[str]:
    """The table of numbers of tokens with equal bytes, for every unordered pair."""
    lines = ["## Overlapping tokens", "", "| | " + " | ".join(encoders) + " |"]
    lines.append("|---|" + "---:|" * len(encoders))
    vocabs = {name: encoder.byte_vocab for name, encoder in encoders.items()}
    for name, vocab in vocabs.items():
        row = [f"{len(overlapping_tokens(vocab, other)):,}" for other in vocabs.values()]
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return [*lines, ""]


def report_setting(every: int, seconds: float) -> list[str]:
    """The heading: command, versions, commit and hardware."""
    thinned = "every text" if every == 1 else f"text 1, {every + 1}, {2 * every + 1}, ... of a file"
    return [
        "# Coverage of every tokenizer pair",
        "",
        made_by(f"python {shlex.join(sys.argv)}", f"{seconds / 60:.1f} minutes on one thread"),
        f"Read: {thinned}.",
        "",
        "Coverage is the share of bytes that lie in a chunk. Comparable is the share that neither "
        "tokenizer's normaliser changed (nor replaced by its unknown token). Less is covered where "
        "a token spans both a comparable byte and another, more where both sides change the text "
        "alike (bert and t5 both collapse white space, so indentation). "
        "A pair reads the text as it is written, or both in NFC where one of the two composes "
        "characters; its shares are of the bytes of what it reads. Tokenizers that "
        f"spell at least {LOSSLESS:.2%} of the text in NFC count as lossless.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokenizers", type=Path, default=SHARED / "tokenizers")
    parser.add_argument("--data", nargs="+", default=CORPORA, help="files or folders")
    parser.add_argument("--every", type=int, default=1, help="use every Nth text of each file")
    parser.add_argument("--output", type=Path, help="Markdown file; standard output without it")
    options = parser.parse_args()
    check_folder(parser, "--tokenizers", options.tokenizers)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folders = sorted(path for path in Path(options.tokenizers).glob("*") if path.is_dir())
    if len(folders) < 2:
        parser.error(f"--tokenizers {options.tokenizers} must hold two or more tokenizer folders")
    encoders = {folder.name: TextEncoder(load_tokenizer(str(folder))) for folder in folders}
    start = time.perf_counter()
    lines = report_overlap(encoders)
    for source in options.data:
        coverage = cover(source, encoders, options.every)
        lines += report_corpus(Path(source).name, coverage, encoders)
    seconds = time.perf_counter() - start
    text = "\n".join(report_setting(options.every, seconds) + lines)
    if options.output is None:
        print(text)
    else:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
