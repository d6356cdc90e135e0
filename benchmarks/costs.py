"""What a stored teacher costs and saves: bytes per token on disk, time and memory of short runs.

Two jobs, each without a cache, filling one, and reading one: a transfer of the shipped model of 2.4
million parameters, whose teacher is as small as the student, and a distillation into it from a
teacher of 42 million with random weights (which take as long as trained ones). Every run is a
separate process on one thread. Needs only a checkout.

The other ways to store a teacher are implemented here with numpy, for random logits: a whole row in
float16, and the top k as DistillKit packs them (the two settings that its README recommends).

    python benchmarks/costs.py --repeats 2
    python benchmarks/costs.py --repeats 2 --report      # only write the tables again
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import shipped_pair
from common import made_by, run_each, shown, write_results, write_rows

RESULTS = Path("benchmarks/costs_cpu_202611.md")
JOBS = {"transfer": 30, "distil": 6}
"""Steps of each, of 4 windows of 256 tokens."""
WAYS = ("without", "filling", "reading")
VOCABULARIES = {"4k": 4096, "50k (GPT-2)": 50_257, "152k (Qwen2.5)": 151_936}
NUM_ROWS = 32
LARGE = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 12}
COMMON = {**shipped_pair.COMMON, "precision": "fp32"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("out/costs"))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("JOB", "WAY", "REPEAT"))
    arguments = parser.parse_args()
    output = arguments.output
    if arguments.one:
        run(output, *arguments.one)
        return
    repeats = [str(i) for i in range(arguments.repeats)]
    if not arguments.report:
        shutil.rmtree(output, ignore_errors=True)
        prepare(output)
        run_each([(job, way, i) for i in repeats for job in JOBS for way in WAYS], jobs=1)
    found = {
        (job, way): [json.loads((output / f"{job}-{way}-{i}.json").read_text()) for i in repeats]
        for job in JOBS
        for way in WAYS
    }
    write_results(RESULTS, report(found, stored_bytes()))


def prepare(output: Path) -> None:
    """Write text in long documents, a tokenizer, and a teacher with random weights that uses it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from crosstok.demo.corpus import load_domain
    from crosstok.demo.target_tokenizer import build_target_tokenizer

    texts = load_domain("code").train[:6000]
    tokenizer = build_target_tokenizer(texts)
    tokenizer.save_pretrained(str(output / "tokenizer"))
    tokenizer.save_pretrained(str(output / "large"))
    joined = ["\n".join(texts[i : i + 20]) for i in range(0, len(texts), 20)]
    write_rows(output / "train.jsonl", [{"text": text} for text in joined])
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), num_attention_heads=8, **LARGE)
    LlamaForCausalLM(config).save_pretrained(output / "large")


def run(output: Path, job: str, way: str, repeat: str) -> None:
    """Do one run in this process; its figures go to a file."""
    work = job_of(output, job, way, repeat)
    start = time.process_time()
    metrics = work()
    cache = output / f"cache-{job}-{repeat}"
    sizes = {
        suffix: sum(file.stat().st_size for file in cache.rglob(f"*.{suffix}"))
        for suffix in ("scores", "index")
    }
    figures = {
        "cpu_seconds": time.process_time() - start,
        "peak_mib": peak_mib(),
        "metrics": metrics,
        "sizes": sizes if way != "without" else {},
    }
    (output / f"{job}-{way}-{repeat}.json").write_text(json.dumps(figures, indent=2) + "\n")


def job_of(output: Path, job: str, way: str, repeat: str) -> Callable[[], dict[str, float]]:
    """Prepare the job: everything imported, nothing loaded."""
    from crosstok.demo.run import MODEL
    from crosstok.jobs.distil import distil
    from crosstok.jobs.transfer import transfer
    from crosstok.recipes import DistilRecipe, TransferRecipe

    values: dict[str, Any] = {
        **COMMON,
        "max_steps": JOBS[job],
        "data": str(output / "train.jsonl"),
        "output": str(output / "model"),
        "teacher_cache": None if way == "without" else str(output / f"cache-{job}-{repeat}"),
    }
    if job == "transfer":
        names = {"model": str(MODEL), "tokenizer": str(output / "tokenizer")}
        return lambda: transfer(TransferRecipe(**names, **values)).metrics
    sides = {"teacher": [str(output / "large")], "student": str(MODEL)}
    return lambda: distil(DistilRecipe(**sides, **values)).metrics


def peak_mib() -> float:
    """Peak memory of this process (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def stored_bytes() -> dict[str, dict[str, float]]:
    """Bytes per token of other ways to store a teacher, by vocabulary, from files written here."""
    generator = np.random.default_rng(0)
    found: dict[str, dict[str, float]] = {}
    for name, size in VOCABULARIES.items():
        logits = 3 * generator.standard_normal((NUM_ROWS, size), dtype=np.float32)
        ways = {
            "whole row, float16": [logits.astype(np.float16)],
            "top 128 of DistillKit (recommended)": packed_top(logits, 128, 16, 6),
            "top 50 of DistillKit (budget)": packed_top(logits, 50, 1, 3),
        }
        for way, arrays in ways.items():
            found.setdefault(way, {})[name] = written(arrays) / NUM_ROWS
    return found


def packed_top(logits: np.ndarray, k: int, exact: int, terms: int) -> list[np.ndarray]:
    """The k most likely tokens of each row, in the layout of DistillKit 1.0 without residuals.

    Args:
        logits: [N V].
        k: how many.
        exact: how many of them are stored with their log-probability, in bfloat16.
        terms: coefficients in float32 of a curve through the others: powers of the rank, the last
            of them its root.

    Returns:
        Ids with as many bits as the vocabulary needs, packed row by row; values; coefficients.
    """
    num_bits = int(np.ceil(np.log2(logits.shape[1])))
    ids = np.argsort(-logits, axis=1)[:, :k]
    logprobs = np.take_along_axis(logits, ids, 1)
    logprobs -= np.log(np.exp(logits).sum(1, keepdims=True))
    bits = (ids[:, :, None] >> np.arange(num_bits)) & 1
    packed = np.packbits(bits.astype(np.uint8).reshape(len(ids), -1), axis=1)
    values = np.ascontiguousarray(logprobs[:, :exact], np.float32)
    bfloat16 = (values.view(np.uint32) >> 16).astype(np.uint16)
    rank = np.arange(k - exact) / k
    curve = np.stack([rank**power for power in (*range(terms - 1), 0.5)], 1)
    coefficients = np.linalg.lstsq(curve, logprobs[:, exact:].T, rcond=None)[0].T
    return [packed, bfloat16, coefficients.astype(np.float32)]


def written(arrays: list[np.ndarray]) -> int:
    """Bytes that the arrays take in a file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "arrays"
        with file.open("wb") as out:
            for array in arrays:
                array.tofile(out)
        return os.path.getsize(file)


def report(
    found: dict[tuple[str, str], list[dict[str, Any]]], stored: dict[str, dict[str, float]]
) -> str:
    """The text of the results file."""
    repeats = len(found["transfer", "without"])
    own = found["transfer", "filling"][0]["sizes"]
    num_tokens = own["scores"] // 8
    each = (own["scores"] + own["index"]) / num_tokens
    table = {"crosstok, as written": dict.fromkeys(VOCABULARIES, each), **stored}
    disk = [
        f"| {way} | " + " | ".join(f"{sizes[name]:,.1f}" for name in VOCABULARIES) + " |"
        for way, sizes in table.items()
    ]
    minutes = sum(r["cpu_seconds"] for runs in found.values() for r in runs) / 60
    several = f"means and standard deviations of {repeats} runs" if repeats > 1 else "one run each"
    runs = [row(job, way, found[job, way]) for job in JOBS for way in WAYS]
    return "\n".join(
        [
            "# What a stored teacher costs and saves",
            "",
            made_by(f"python benchmarks/costs.py --repeats {repeats}"),
            f"Its runs took {minutes:.1f} minutes on the CPU, imports and preparation aside.",
            "",
            "## Bytes a token on disk",
            "",
            f"By size of the teacher's vocabulary. crosstok's line is from the files of a transfer "
            f"({num_tokens:,} tokens in {own['index'] // 32:,} rows): two float32 a token and 32 "
            "bytes a row, whatever the vocabulary. It serves ALM only; whole rows and top k serve "
            "objectives that compare distributions, too, and say nothing of tokens outside the "
            "top k.",
            "",
            f"| stored | {' | '.join(VOCABULARIES)} |",
            "|---|" + "---|" * len(VOCABULARIES),
            *disk,
            "",
            "## Seconds and memory of a run",
            "",
            f"{JOBS['transfer']} steps of transfer, {JOBS['distil']} of distillation, 4 x 256 "
            f"tokens each, fp32. CPU seconds of the job with loading, reports and saving, without "
            f"imports; peak memory of the whole process, Python and torch included; {several}. "
            "Rows that are found while the cache is filled are those of the run's report, which "
            "are looked at before and after.",
            "",
            "| job | teacher cache | CPU seconds | peak memory, MiB | rows found, % |",
            "|---|---|---|---|---|",
            *runs,
            "",
            f"Losses of the three ways are {'equal' if losses_are_equal(found) else 'NOT equal'} "
            "to the last digit in both jobs.",
            "",
            "What the loss itself costs beside others is measured elsewhere: "
            "[against TRL](gold_vs_trl_cpu_202611.md), [log-probabilities without logits]"
            "(linear_logprobs_cpu_202611.md), [a whole step](step_cpu_202611.md).",
        ]
    )


def row(job: str, way: str, runs: list[dict[str, Any]]) -> str:
    """One line of the table of runs."""
    teacher = {"transfer": "2.4M", "distil": "42M"}[job]
    hits = runs[0]["metrics"].get("teacher_cache_hits")
    return (
        f"| {job}, teacher of {teacher} | {way} | {shown([r['cpu_seconds'] for r in runs], 1)} | "
        f"{shown([r['peak_mib'] for r in runs], 0)} | "
        f"{'–' if hits is None else f'{100 * hits:.1f}'} |"
    )


def losses_are_equal(found: dict[tuple[str, str], list[dict[str, Any]]]) -> bool:
    return all(
        len({r["metrics"]["loss"] for way in WAYS for r in found[job, way]}) == 1 for job in JOBS
    )


if __name__ == "__main__":
    main()
