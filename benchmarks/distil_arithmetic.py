"""Maths distillation on a small scale: which objective teaches arithmetic best, at equal tokens?

A teacher was trained on worked arithmetic and word problems. A smaller student with another
tokenizer and another chat template can answer some of them (recipes/distil/arithmetic). There is
one training set for every seed, the same for all objectives. The student answers by greedy
generation questions that no model has seen. Every run is a separate process with its own peak
memory.

    python benchmarks/distil_arithmetic.py --jobs 2      # everything; what is finished is skipped
    python benchmarks/distil_arithmetic.py --report      # only write the tables again

Stages, all cached in --work (out/arithmetic):

1. data, tokenizers, teacher, student: `prepare` of recipes/distil/arithmetic/prepare.py;
2. learning rate: cross_entropy and alm at each of RATES, seed 100, on the validation questions;
   the rate with the best mean of the two is used for every objective;
3. every objective of METHODS by every seed, on the test questions: a file figures.json in the
   folder runs/METHOD-RATE-SEED;
4. benchmarks/distil_arithmetic_cpu_202611.md, from those files alone (distil_arithmetic_report.py).

To do one run by hand: --one METHOD RATE SEED. To add an objective: one line of METHODS.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from common import write_results

RECIPE = Path("recipes/distil/arithmetic.yaml")
RESULTS = Path("benchmarks/distil_arithmetic_cpu_202611.md")
sys.path.insert(0, "recipes/distil/arithmetic")  # the experiment's own modules

# Name in the table -> keys of the recipe. Objectives are combined as in their papers, or by
# gradient magnitude, the default, where the paper is ALM's or says nothing.
METHODS: dict[str, dict[str, Any]] = {
    "cross_entropy": {"objective": "cross_entropy"},
    "alm": {"objective": "alm"},
    "alm+cross_entropy": {"objective": "alm+cross_entropy"},
    "strict": {"objective": "strict"},
    "strict+cross_entropy": {"objective": "strict+cross_entropy"},
    "gold": {"objective": "gold"},
    "uld+cross_entropy": {
        "objective": "uld+cross_entropy",
        "weighting": "fixed",
        "weights": {"uld": 1.5, "cross_entropy": 1.0},
    },
    "uld+cross_entropy, by bytes": {
        "objective": "uld+cross_entropy",
        "options": {"uld": {"alignment": "bytes"}},
        "weighting": "fixed",
        "weights": {"uld": 1.5, "cross_entropy": 1.0},
    },
    "mined": {"objective": "mined"},
    "dskd+cross_entropy, cma": {
        "objective": "dskd+cross_entropy",
        "options": {"dskd": {"variant": "cma"}},
        "weighting": "fixed",
        "weights": {"dskd": 0.5, "cross_entropy": 0.5},
    },
    "dskd+cross_entropy, v2": {
        "objective": "dskd+cross_entropy",
        "options": {"dskd": {"variant": "v2"}},
        "weighting": "fixed",
        "weights": {"dskd": 0.5, "cross_entropy": 0.5},
    },
    "alm+hidden_states": {"objective": "alm+hidden_states"},
}
RATES = (1e-3, 3e-3)
TUNED = ("cross_entropy", "alm")
TUNING_SEED = 100

Run = tuple[str, float, int]  # method, learning rate, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("out/arithmetic"))
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--gsm8k", action="store_true", help="also show the teacher GSM8K")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rate", type=float, help="take this rate instead of choosing one")
    parser.add_argument("--steps", type=int, help="other than the recipe's")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "RATE", "SEED"))
    arguments = parser.parse_args()
    if arguments.gsm8k and not arguments.shared.is_dir():
        parser.error(f"--gsm8k reads {arguments.shared / 'data'}, which is missing; leave it out.")
    if arguments.one:
        method, rate, seed = arguments.one
        run(arguments, (method, float(rate), int(seed)))
        return
    if not arguments.report:
        run_everything(arguments)
    from distil_arithmetic_report import report

    tuned = None if arguments.rate else tuning_table(arguments.work)
    write_results(RESULTS, report(arguments, list(METHODS), chosen_rate(arguments), tuned))


def run_everything(arguments: argparse.Namespace) -> None:
    """Prepare what the runs need, choose a learning rate, and do the runs."""
    from prepare import GSM8K, make_student_rows, prepare

    prepare(arguments.work, arguments.shared / GSM8K if arguments.gsm8k else None)
    for seed in (TUNING_SEED, *arguments.seeds):
        make_student_rows(arguments.work, seed)
    if not arguments.rate:
        start(arguments, [(m, rate, TUNING_SEED) for m in TUNED for rate in RATES])
    rate = chosen_rate(arguments)
    print(f"learning rate {rate:g}", flush=True)
    start(arguments, [(m, rate, seed) for seed in arguments.seeds for m in arguments.methods])


def start(arguments: argparse.Namespace, runs: list[Run]) -> None:
    """Start every unfinished run in a separate process."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }

    def one(which: Run) -> None:
        if (folder_of(arguments.work, which) / "figures.json").is_file():
            return
        command = [sys.executable, *sys.argv, "--one", *map(str, which)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        failed = f"failed\n{done.stderr[-2000:]}" if done.returncode else done.stdout.strip()
        print(*which, failed, flush=True)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(one, runs))


def run(arguments: argparse.Namespace, which: Run) -> None:
    """Distil, measure, and let the student answer."""
    import torch
    import transformers
    from exam import take_exam
    from prepare import read_rows

    from crosstok.jobs.distil import distil
    from crosstok.recipes import DistilRecipe, load_recipe

    torch.set_num_threads(1)
    method, rate, seed = which
    folder = folder_of(arguments.work, which)
    recipe = load_recipe(
        DistilRecipe,
        RECIPE,
        {
            "teacher": [str(arguments.work / "teacher")],
            "student": str(arguments.work / "student"),
            "data": str(arguments.work / f"data/student-{seed}.jsonl"),
            "output": str(folder / "model"),
            "overwrite": True,
            "learning_rate": rate,
            "seed": seed,
            **({"max_steps": arguments.steps} if arguments.steps else {}),
            **METHODS[method],
        },
    )
    before, wall, cpu = peak_megabytes(), time.monotonic(), time.process_time()
    metrics = distil(recipe).metrics
    figures = {
        "method": method,
        "rate": rate,
        "seed": seed,
        "steps": recipe.max_steps,
        "batch_size": recipe.batch_size,
        "seconds_a_step": metrics["seconds"] / recipe.max_steps,
        "job_seconds": time.monotonic() - wall,
        "job_cpu_seconds": time.process_time() - cpu,
        "peak_megabytes": peak_megabytes(),
        "imports_megabytes": before,
        "training": metrics,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    split = "validation" if seed == TUNING_SEED else "test"
    exam = asdict(take_exam(model, tokenizer, read_rows(arguments.work / f"data/{split}.jsonl")))
    figures |= {"split": split, "exam": exam}
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{100 * exam['accuracy']:.1f} % in {figures['job_seconds']:.0f} s")


def folder_of(work: Path, which: Run) -> Path:
    method, rate, seed = which
    return work / "runs" / f"{method.replace(', ', '-').replace(' ', '_')}-{rate:g}-{seed}"


def peak_megabytes() -> float:
    """Peak memory of this process (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def chosen_rate(arguments: argparse.Namespace) -> float:
    """The rate with the best mean validation accuracy over the objectives that chose it."""
    if arguments.rate:
        return float(arguments.rate)
    table = tuning_table(arguments.work)
    return max(RATES, key=lambda rate: mean(table[method][rate] for method in TUNED))


def tuning_table(work: Path) -> dict[str, dict[float, float]]:
    """Validation accuracy by method and rate."""
    return {method: {rate: _validation(work, (method, rate, TUNING_SEED)) for rate in RATES}
            for method in TUNED}  # fmt: skip


def _validation(work: Path, which: Run) -> float:
    file = folder_of(work, which) / "figures.json"
    return float(json.loads(file.read_text())["exam"]["accuracy"])


if __name__ == "__main__":
    main()
