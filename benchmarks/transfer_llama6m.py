"""Real transfers of a small pretrained Llama: what each objective keeps, in its domain and outside.

Trains on Wikipedia only; measures bits per byte on Wikipedia, books, code and sums, the share of
sums answered right (greedy, four shots) and BLiMP, for the teacher, the untrained transplant,
next-token cross-entropy, ALM, and both together, at equal steps, by several seeds. Needs the folder
of tokenizers, corpora and the model beside the checkout (--shared).

    python benchmarks/transfer_llama6m.py --jobs 2        # all runs; finished ones are skipped
    python benchmarks/transfer_llama6m.py --report        # only write the table again
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

RECIPE = Path("recipes/transfer/llama6m_wikipedia.yaml")
TARGETS = ("small-spm-bpe-bytefallback-8k", "gpt2")
STEPS = {"small-spm-bpe-bytefallback-8k": 250, "gpt2": 40}  # 50k rows cost five times as much
METHODS = ("cross_entropy", "alm", "alm+cross_entropy")
DATA = ("wikipedia", "books", "code", "sums")
EXAMS = ("sums_four_shots", "blimp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--output", type=Path, default=Path("out/transfer_llama6m"))
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--flags", default="", help="further flags of crosstok transfer")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("TARGET", "METHOD", "SEED"))
    arguments = parser.parse_args()
    if arguments.one:
        run(arguments, *arguments.one)
        return
    write_test_files(arguments.shared / "data", arguments.output / "test")
    if not arguments.report:
        run_all(arguments)
    results = Path("benchmarks/transfer_llama6m_cpu_202611.md")
    results.write_text(report(arguments))
    print(f"wrote {results}")


def run_all(arguments: argparse.Namespace) -> None:
    """Every run in a process of its own, on one thread."""
    runs = [("source", "teacher", "0")]
    for target in arguments.targets:
        runs.append((target, "transplant", "0"))
        for seed in arguments.seeds:
            runs += [(target, method, str(seed)) for method in arguments.methods]
    run_each(runs, arguments.jobs)


def run_each(runs: Sequence[Sequence[str]], jobs: int) -> None:
    """This command with ``--one`` and the words of each run, so many at a time."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def start(which: Sequence[str]) -> None:
        command = [sys.executable, *sys.argv, "--one", *which]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        tail = done.stderr[-2000:] if done.returncode else ""
        print("-".join(which), "failed" if done.returncode else "done", tail, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(start, runs))


def run(arguments: argparse.Namespace, target: str, method: str, seed: str) -> None:
    """Train (or transplant, or neither) and measure one model."""
    from crosstok.evaluation import EvaluationOptions, evaluate
    from crosstok.recipes import TransferRecipe, TransplantRecipe, load_recipe
    from crosstok.transfer import transfer, transplant_only

    folder = arguments.output / f"{target}-{method}-{seed}"
    figures = folder / "figures.json"
    if figures.is_file():
        return
    model = arguments.shared / "models/llama-6m-bpe4k"
    common = {
        "model": str(model),
        "tokenizer": str(arguments.shared / "data/tokenizers" / target),
        "output": str(folder),
        "overwrite": True,
    }
    training = {}
    if method == "transplant":
        transplant_only(TransplantRecipe(**common))
    elif method != "teacher":
        flags = dict(pair.split("=") for pair in arguments.flags.split())
        recipe = load_recipe(
            TransferRecipe,
            RECIPE,
            {
                **common,
                "objective": method,
                "seed": seed,
                "max_steps": STEPS[target],
                "warmup_steps": STEPS[target] // 10,
                **flags,
            },
        )
        training = transfer(recipe).metrics
    test = arguments.output / "test"
    result = evaluate(
        [str(model if method == "teacher" else folder)],
        [str(test / f"{name}.jsonl") for name in DATA],
        [str(test / f"{name}.jsonl") for name in EXAMS],
        options=EvaluationOptions(max_length=256),
        show_progress=False,
    )["models"][0]
    folder.mkdir(parents=True, exist_ok=True)
    figures.write_text(json.dumps({**result, "training": training}, indent=2) + "\n")


def write_test_files(data: Path, folder: Path) -> None:
    """Held-out texts and exams, drawn the same way every time."""
    from crosstok.corpora import load_corpus, read_rows

    folder.mkdir(parents=True, exist_ok=True)
    corpora = data / "corpora"
    wikipedia = load_corpus(str(corpora / "english_wikipedia_2019/test.jsonl.xz")).texts(30)
    books = load_corpus(str(corpora / "public_domain_books/validation.jsonl.xz")).texts()
    code = list(load_corpus(str(corpora / "python_stdlib_3.11/stdlib.jsonl.xz")).texts())
    draw = random.Random(0)
    texts = {
        "wikipedia": [text[:4000] for text in wikipedia],
        "books": [text[:20000] for text in books],
        "code": [text[:4000] for text in code[:: len(code) // 20]][:20],
        "sums": ["".join(f"{sum_of(draw)}\n" for _ in range(40)) for _ in range(25)],
    }
    for name, documents in texts.items():
        write_rows(folder / f"{name}.jsonl", [{"text": text} for text in documents])
    sums = []
    for _ in range(200):
        shots = [sum_of(draw) for _ in range(5)]
        question, answer = shots[4].split(" = ")
        context = "\n".join(shots[:4]) + f"\n{question} ="
        sums.append({"context": context, "continuation": f" {answer}"})
    write_rows(folder / "sums_four_shots.jsonl", sums)
    blimp = read_rows(str(data / "evals/minimal_pairs/blimp.jsonl.xz"))
    write_rows(folder / "blimp.jsonl", blimp[:: len(blimp) // 2000][:2000])


def sum_of(draw: random.Random) -> str:
    """A sum as in the model's training: two operands below 100, no negative result."""
    left, right = draw.randrange(100), draw.randrange(100)
    if draw.random() < 0.5:
        return f"{left} + {right} = {left + right}"
    left, right = max(left, right), min(left, right)
    return f"{left} - {right} = {left - right}"


def write_rows(file: Path, rows: list[dict[str, object]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def report(arguments: argparse.Namespace) -> str:
    """The results file: a table for each target, means and spreads over seeds."""
    import torch
    import transformers

    command = "python benchmarks/transfer_llama6m.py --jobs 2"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    lines = [
        "# Transfers of a 6M Llama to other tokenizers, trained on Wikipedia only",
        "",
        f"Command: `{command}` (recipe `{RECIPE}`). Commit {commit}, {date.today()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, Python "
        f"{platform.python_version()}, {platform.machine()} CPU, one thread a run, two runs at "
        "a time.",
        "",
        "Batches of 4 x 256 tokens, AdamW 5e-4, linear decay. Mean and, behind ±, "
        f"standard deviation over {len(arguments.seeds)} seeds. Bits per byte: lower is better; "
        "sums answered (four shots, greedy) and BLiMP in %: higher is better.",
    ]
    teacher = read_figures(arguments, "source", "teacher", [0])
    for target in arguments.targets:
        transplant = read_figures(arguments, target, "transplant", [0])
        rows = {"teacher": teacher, "transplant": transplant}
        for method in arguments.methods:
            rows[method] = read_figures(arguments, target, method, arguments.seeds)
        lines += [
            "",
            f"## To {target}, {STEPS[target]} steps",
            "",
            *table(rows),
            "",
            *conclusions(rows),
        ]
    return "\n".join(lines) + "\n"


def read_figures(
    arguments: argparse.Namespace, target: str, method: str, seeds: list[int]
) -> dict[str, list[float]]:
    """Values over seeds by column."""
    columns: dict[str, list[float]] = {name: [] for name in (*DATA, *EXAMS, "seconds")}
    for seed in seeds:
        file = arguments.output / f"{target}-{method}-{seed}" / "figures.json"
        if not file.is_file():
            continue
        figures = json.loads(file.read_text())
        for name in DATA:
            columns[name].append(figures["data"][name]["bits_per_byte"])
        for name in EXAMS:
            columns[name].append(100 * figures["exams"][name]["accuracy"])
        columns["seconds"].append(figures["training"].get("seconds", 0.0))
    return columns


def table(rows: dict[str, dict[str, list[float]]]) -> list[str]:
    """One line a model."""
    head = "| | Wikipedia | books | code | sums | sums answered | BLiMP | seconds |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for name, columns in rows.items():
        cells = [
            shown(values, 3 if column in DATA else 1 if column in EXAMS else 0)
            for column, values in columns.items()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def shown(values: list[float], digits: int) -> str:
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def conclusions(rows: dict[str, dict[str, list[float]]]) -> list[str]:
    """Bits per byte lost against the teacher, in and outside the domain of training."""
    lines = ["Bits per byte above the teacher (mean over seeds):", ""]
    lines += ["| | Wikipedia | books | code | sums | outside, mean |", "|---|---|---|---|---|---|"]
    for name, columns in rows.items():
        if name == "teacher" or not columns["wikipedia"]:
            continue
        lost = [statistics.mean(columns[d]) - rows["teacher"][d][0] for d in DATA]
        cells = [f"{value:+.3f}" for value in (*lost, statistics.mean(lost[1:]))]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
