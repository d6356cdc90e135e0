"""Time of alignment and collation against plain tokenization, on Wikipedia text, in one run.

The texts of both sides are tokenized in either case; measured is what bytes, spans, chunks and
padding add. Interleaved repeats; ratio of medians; one thread, as in a data loader's worker.

    TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 python benchmarks/collation.py
"""

import argparse
import statistics
import time
from pathlib import Path

from common import SHARED, check_folder, made_by, write_results

from crosstok.chats import ExampleEncoder
from crosstok.corpora import load_corpus
from crosstok.tokenizers import TextEncoder, load_tokenizer
from crosstok.training import AlignedCollator
from crosstok.training.windows import window_starts

PAIRS = (
    ("small-bytelevel-bpe-4k", "small-spm-bpe-bytefallback-8k"),
    ("small-bytelevel-bpe-4k", "gpt2"),
    ("tinyllama", "gpt2"),
    ("gpt2", "qwen2.5"),
)
RESULTS = Path("benchmarks/collation_cpu_202611.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    check_folder(parser, "--shared", arguments.shared)
    folder = arguments.shared / "data/corpora/english_wikipedia_2019"
    texts = list(load_corpus(str(folder / "validation.jsonl.xz")).texts())
    rows = [measure(arguments, texts, *pair, length) for pair in PAIRS for length in (256, 1024)]
    write_results(RESULTS, report(arguments, rows))
    print(RESULTS.read_text())


def measure(
    arguments: argparse.Namespace, texts: list[str], source: str, target: str, length: int
) -> str:
    """Measure one line of the table."""
    folder = arguments.shared / "data/tokenizers"
    plain = [load_tokenizer(str(folder / name)).backend_tokenizer for name in (source, target)]
    student = TextEncoder(load_tokenizer(str(folder / target)))
    teacher = TextEncoder(load_tokenizer(str(folder / source)))
    collator = AlignedCollator(ExampleEncoder(student), (ExampleEncoder(teacher),), length)
    windows = [text[a : a + 4 * length] for text in texts for a in window_starts(text, 4 * length)]
    windows = windows[: arguments.batches * arguments.batch_size]
    size = arguments.batch_size
    batches = [windows[i : i + size] for i in range(0, len(windows), size)]
    batches = [batch for batch in batches if len(batch) == size]
    tokenize_seconds, collate_seconds = [], []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        for batch in batches:
            for backend in plain:
                [encoding.ids for encoding in backend.encode_batch(batch)]
        middle = time.perf_counter()
        for batch in batches:
            collator([{"text": text, "row": 0, "is_end": True} for text in batch])
        tokenize_seconds.append(middle - start)
        collate_seconds.append(time.perf_counter() - middle)
    tokenize, collate = map(statistics.median, (tokenize_seconds, collate_seconds))
    per = 1000 / len(batches)
    return (
        f"| {source} → {target} | {size} x {length} | {tokenize * per:.1f} | {collate * per:.1f} | "
        f"{(collate - tokenize) / tokenize:+.2f} |"
    )


def report(arguments: argparse.Namespace, rows: list[str]) -> str:
    head = [
        "# Alignment and collation against tokenization",
        "",
        made_by(
            "TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 python benchmarks/collation.py",
            "one thread",
        ),
        "",
        "Tokenization is `encode_batch` of both tokenizers as transformers calls it; collation is "
        "the whole collator: both encodings, byte spans, chunks, the cut at one byte, padded "
        "tensors. Milliseconds a batch, medians of interleaved repeats. *Added* is what "
        "collation costs beyond tokenization, relative to it (target: at most 0.3; below 0 because "
        "encoding without character offsets is faster than with them).",
        "",
        "| pair | batch | tokenization | collation | added |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    main()
