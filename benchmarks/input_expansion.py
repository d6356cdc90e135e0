"""What input expansion costs a byte model: tables, look-up, training step and generation.

Look-ups are timed on batches of 16 x 2048 bytes of Wikipedia; steps and generation on the small
Llama with its own tokenizer, with and without expansion, interleaved; medians of CPU time, one
thread. Needs the folder of tokenizers, corpora and the model beside the checkout (--shared).

    OMP_NUM_THREADS=1 python benchmarks/input_expansion.py
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from common import SHARED, check_folder
from torch import Tensor

from crosstok.corpora import load_corpus
from crosstok.models import expand_inputs, load_model, subword_lookup
from crosstok.tokenizers import ByteVocab, TextEncoder, byte_tokenizer, load_tokenizer
from crosstok.transplants import transplant

TOKENIZERS = ("small-bytelevel-bpe-4k", "tinyllama", "gpt2", "cl100k_base", "qwen2.5")
MODEL = "llama-6m-bpe4k"
BATCH, LENGTH = 16, 2048
STEP_BATCH, STEP_LENGTH, NEW_BYTES = 4, 512, 64
RESULTS = Path("benchmarks/input_expansion_cpu_202611.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    check_folder(parser, "--shared", arguments.shared)
    torch.set_num_threads(1)
    corpus = arguments.shared / "data/corpora/english_wikipedia_2019/validation.jsonl.xz"
    text = "\n\n".join(load_corpus(str(corpus)).texts()).encode()[: BATCH * LENGTH]
    ids = torch.tensor(list(text)).view(BATCH, LENGTH)
    tables = [look_up(arguments, name, ids) for name in TOKENIZERS]
    RESULTS.write_text(report(arguments, tables, run_models(arguments, ids)))
    print(RESULTS.read_text())


def look_up(arguments: argparse.Namespace, name: str, ids: Tensor) -> str:
    """Measure one line of the first table."""
    tokenizer = load_tokenizer(str(arguments.shared / "data/tokenizers" / name))
    vocab = ByteVocab.from_tokenizer(tokenizer)
    byte_vocab = ByteVocab.from_tokenizer(byte_tokenizer(tokenizer))
    vocab.ids_of(b"a")  # the table of ids by bytes is made before the clock starts
    begin = time.process_time()
    find = subword_lookup(vocab, byte_vocab)
    built = time.process_time() - begin
    tables = (find.id_bytes, find.id_subwords, find.edge_keys, find.state_subwords)
    size = sum(table.numel() * table.element_size() for table in tables)
    seconds = median(lambda: find(ids), arguments.repeats)
    lengths = [len(vocab.token_bytes[i] or b"") for i in find(ids).flatten().tolist() if i >= 0]
    return (
        f"| {name} | {len(vocab):,} | {find.longest} | {len(find.edge_keys):,} | {size / 1e6:.1f} "
        f"| {built:.2f} | {1e3 * seconds:.0f} | {1e9 * seconds / ids.numel():.0f} "
        f"| {statistics.mean(lengths):.2f} |"
    )


def run_models(arguments: argparse.Namespace, ids: Tensor) -> list[str]:
    """Measure the lines of the second table: a training step, and greedy generation by bytes."""
    models = {"plain": byte_model(arguments, False), "expanded": byte_model(arguments, True)}
    batch = ids.flatten()[: STEP_BATCH * STEP_LENGTH].view(STEP_BATCH, STEP_LENGTH)
    times: dict[str, dict[str, list[float]]] = {n: {"step": [], "generate": []} for n in models}
    for _ in range(arguments.repeats):
        for name, model in models.items():
            found = {"expansion_ids": model.lookup(batch)} if name == "expanded" else {}
            for job, action in (("step", step), ("generate", write)):
                begin = time.process_time()
                action(model, batch, found)
                times[name][job].append(time.process_time() - begin)
    lines = []
    for name, model in models.items():
        trained = sum(p.numel() for p in model.parameters())
        held = [*model.parameters(), *model.buffers()]
        size = sum(tensor.numel() * tensor.element_size() for tensor in held)
        step_time, write_time = (statistics.median(times[name][job]) for job in times[name])
        lines.append(
            f"| {name} | {trained / 1e6:.2f} | {size / 1e6:.1f} | {1e3 * step_time:.0f} "
            f"| {1e3 * write_time / NEW_BYTES:.1f} |"
        )
    return lines


def byte_model(arguments: argparse.Namespace, expanded: bool) -> Any:
    """The small Llama over bytes, untrained."""
    folder = str(arguments.shared / "models" / MODEL)
    source = TextEncoder(load_tokenizer(folder))
    target = TextEncoder(byte_tokenizer(source.tokenizer))
    model = load_model(folder).float()
    original = model.get_input_embeddings().weight.detach()
    transplant(model, source, target, untie=True)
    if expanded:
        return expand_inputs(model, original, source.byte_vocab, target.byte_vocab)
    return model


def step(model: Any, batch: Tensor, found: dict[str, Tensor]) -> None:
    """One forward and backward pass, with subwords found beforehand as in training."""
    model.zero_grad()
    model(input_ids=batch, labels=batch, use_cache=False, **found).loss.backward()


def write(model: Any, batch: Tensor, _found: dict[str, Tensor]) -> None:
    """Continue one text byte by byte."""
    model.generate(
        batch[:1, :64], max_new_tokens=NEW_BYTES, min_new_tokens=NEW_BYTES, do_sample=False
    )


def median(action: Callable[[], Any], repeats: int) -> float:
    """Median CPU time, in seconds."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        action()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def report(arguments: argparse.Namespace, tables: list[str], models: list[str]) -> str:
    """The text of the results file."""
    head = "| tokenizer | ids | longest | edges | tables MB | built s | batch ms | ns/byte | mean |"
    return f"""# What input expansion costs a byte model

`OMP_NUM_THREADS=1 python benchmarks/input_expansion.py --repeats {arguments.repeats}`, \
{date.today()}, {platform.machine()} CPU, one thread, CPU time, medians.

Look-up in a batch of {BATCH} x {LENGTH:,} bytes of Wikipedia (in training: in the data workers).
`longest` and `mean`: bytes of the longest subword of the vocabulary, and of those found.

{head}
|---|---|---|---|---|---|---|---|---|
{chr(10).join(tables)}

{MODEL} over bytes, fp32. Weights and buffers in MB; a forward and backward pass of \
{STEP_BATCH} x {STEP_LENGTH} bytes; greedy generation of {NEW_BYTES} bytes behind 64, one text.

| model | trained parameters M | held MB | step ms | generation ms/byte |
|---|---|---|---|---|
{chr(10).join(models)}
"""


if __name__ == "__main__":
    main()
