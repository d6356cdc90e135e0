"""MinED's map between real vocabularies: seconds, and what the tokens map to.

    python benchmarks/mined_map.py --tokenizers gpt2 qwen2.5 tinyllama --workers 2

For every ordered pair: the time to map all source ids (also CPU time, which other programs on the
machine disturb less), the share of ids that are the same token on the other side, and examples of
the rest. Names are folders in ../shared/data/tokenizers,
or anything that crosstok loads. Prints Markdown.
"""

import argparse
import itertools
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from crosstok.alignment import nearest_tokens
from crosstok.tokenizers import ByteVocab, load_tokenizer

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "tokenizers"
NUM_EXAMPLES = 6


def read(name: str) -> ByteVocab:
    folder = SHARED / name
    return ByteVocab.from_tokenizer(load_tokenizer(str(folder) if folder.is_dir() else name))


def line(name: str, source: ByteVocab, other: str, target: ByteVocab, workers: int) -> str:
    start, cpu_start = time.perf_counter(), time.process_time()
    found = nearest_tokens(source, target, workers=workers)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    mapped = [i for i in np.flatnonzero(~found.is_exact) if source.token_bytes[i] is not None]
    some = mapped[:: len(mapped) // NUM_EXAMPLES + 1]
    examples = ", ".join(f"{shown(source, i)} → {shown(target, found.ids[i])}" for i in some)
    times = f"{seconds:.1f} | {cpu_seconds:.1f}"
    return f"| {name} | {other} | {times} | {found.is_exact.mean():.1%} | {examples} |"


def shown(vocab: ByteVocab, index: int) -> str:
    text = (vocab.token_bytes[index] or b"").decode("utf-8", "backslashreplace")
    return f"`{text!r}`".replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizers", nargs="+", default=["gpt2", "qwen2.5", "tinyllama"])
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    vocabs = {name: read(name) for name in options.tokenizers}
    print(
        f"rapidfuzz {version('rapidfuzz')}, Python {platform.python_version()}, "
        f"{platform.machine()}, {options.workers} worker(s), {os.cpu_count()} cores.\n"
    )
    sizes = ", ".join(f"{name} {len(vocab):,}" for name, vocab in vocabs.items())
    print(f"Ids: {sizes}.\n")
    print("| source | target | seconds | CPU seconds | same token | some of the others |")
    print("|---|---|---:|---:|---:|---|")
    for one, other in itertools.permutations(vocabs, 2):
        print(line(one, vocabs[one], other, vocabs[other], options.workers), flush=True)


if __name__ == "__main__":
    main()
