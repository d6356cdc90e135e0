"""The transfer table: what each method keeps of a small pretrained Llama in another tokenizer.

A Llama that knows Wikipedia, books, code and sums is moved to another subword tokenizer and to
bytes by training on Wikipedia only, by eight methods at equal steps and three seeds. Measured: bits
per byte in the domain of training and outside, the share of sums answered (four shots, greedy),
BLiMP, LAMBADA and ARC easy. Needs the folder of tokenizers, corpora and the model beside the
checkout (--shared).

    python benchmarks/transfer_methods.py --jobs 2        # all runs; finished ones are skipped
    python benchmarks/transfer_methods.py --report        # only write the tables again
"""

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from common import SHARED, check_folder, made_by, run_each, shown, write_results
from held_out import DOMAINS, WINDOW_BYTES, measure, write_held_out

RESULTS = Path("benchmarks/transfer_methods_cpu_202611.md")
MODEL = "models/llama-6m-bpe4k"
METHODS = {
    "cross_entropy": "cross_entropy",
    "mined": "mined",
    "uld": "uld+cross_entropy",
    "dskd": "dskd+cross_entropy",
    "gold": "gold",
    "strict": "strict",
    "alm": "alm",
    "alm+cross_entropy": "alm+cross_entropy",
}
"""Rows of the table with their objectives: ULD and DSKD beside next tokens, as in their papers."""
MAIN = ("cross_entropy", "alm", "alm+cross_entropy")
EXAMS = ("sums_four_shots", "blimp", "lambada", "arc_easy")


@dataclass(frozen=True)
class Target:
    """A tokenizer to move to."""

    title: str
    tokenizer: str  # under data/tokenizers, or "bytes"
    recipe: str
    max_steps: int
    methods: tuple[str, ...]
    exams: tuple[str, ...] = EXAMS
    once: tuple[str, ...] = ()
    """Methods that find next to nothing to compare: one seed shows it."""


TARGETS = {
    "subword": Target(
        "To an 8k SentencePiece BPE",
        "small-spm-bpe-bytefallback-8k",
        "recipes/transfer/llama6m_wikipedia.yaml",
        200,
        tuple(METHODS),
    ),
    "bytes": Target(
        "To bytes",
        "bytes",
        "recipes/transfer/llama6m_bytes.yaml",
        100,
        tuple(METHODS),
        EXAMS[:3],
        once=("gold", "strict"),
    ),
    "gpt2": Target(
        "To gpt2's 50k byte-level BPE",
        "gpt2",
        "recipes/transfer/llama6m_wikipedia.yaml",
        40,
        MAIN,
    ),
}
COLUMNS = {
    "wikipedia": ("Wikipedia", 3),
    "books": ("books", 3),
    "code": ("code", 3),
    "sums": ("sums", 3),
    "outside": ("outside, mean", 3),
    "sums_four_shots": ("sums answered", 1),
    "blimp": ("BLiMP", 1),
    "lambada": ("LAMBADA", 3),
    "arc_easy": ("ARC easy", 1),
    "seconds": ("CPU s", 0),
}
"""Columns: heading and decimals."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--output", type=Path, default=Path("out/transfer_methods"))
    parser.add_argument("--targets", nargs="+", default=["subword", "bytes"], choices=TARGETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("TARGET", "METHOD", "SEED"))
    arguments = parser.parse_args()
    check_folder(parser, "--shared", arguments.shared)
    if arguments.one:
        run(arguments, *arguments.one)
        return
    if not arguments.report:
        write_held_out(arguments.shared / "data", arguments.output / "test")
        run_each(runs_of(arguments), arguments.jobs)
    write_results(RESULTS, report(arguments))


def runs_of(arguments: argparse.Namespace) -> list[tuple[str, str, str]]:
    """All runs, one seed of all targets before the next."""
    runs = [("source", "original", "0")]
    runs += [(target, "transplant", "0") for target in arguments.targets]
    for seed in arguments.seeds:
        for target in arguments.targets:
            goal, first = TARGETS[target], arguments.seeds[0]
            methods = [m for m in goal.methods if m not in goal.once or seed == first]
            runs += [(target, method, str(seed)) for method in methods]
    return runs


def run(arguments: argparse.Namespace, target: str, method: str, seed: str) -> None:
    """Train (or transplant, or neither) and measure one model, unless its figures exist."""
    folder = arguments.output / f"{target}-{method}-{seed}"
    model = arguments.shared / MODEL
    if method != "original":
        if not (folder / "model.safetensors").is_file():
            make(arguments, target, method, seed, folder)
        model = folder
    figures = folder / "figures.json"
    if not figures.is_file():
        exams = EXAMS if target == "source" else TARGETS[target].exams
        measured = measure(model, arguments.output / "test", exams)
        folder.mkdir(parents=True, exist_ok=True)
        figures.write_text(json.dumps(measured, indent=2) + "\n")


def make(arguments: argparse.Namespace, target: str, method: str, seed: str, folder: Path) -> None:
    """Make one transfer, or the transplant alone."""
    import time

    from crosstok.jobs.transfer import transfer
    from crosstok.jobs.transplant import transplant
    from crosstok.recipes import TransferRecipe, TransplantRecipe, load_recipe

    goal = TARGETS[target]
    tokenizer = goal.tokenizer
    if tokenizer != "bytes":
        tokenizer = str(arguments.shared / "data/tokenizers" / tokenizer)
    common = {
        "model": str(arguments.shared / MODEL),
        "tokenizer": tokenizer,
        "output": str(folder),
        "overwrite": True,
    }
    if method == "transplant":
        transplant(TransplantRecipe(**common))
        return
    steps = {"max_steps": goal.max_steps, "warmup_steps": goal.max_steps // 10}
    values = {**common, **steps, "objective": METHODS[method], "seed": seed}
    start = time.process_time()
    transfer(load_recipe(TransferRecipe, goal.recipe, values))
    (folder / "cpu_seconds.json").write_text(json.dumps(time.process_time() - start))


def report(arguments: argparse.Namespace) -> str:
    """The text of the results file: a table per target, means and spreads over seeds."""
    lines = [
        "# Transfers of a 6M Llama to other tokenizers, trained on Wikipedia only",
        "",
        made_by("python benchmarks/transfer_methods.py --jobs 2"),
        "",
        "Subword targets: batches of 4 x 256 tokens, AdamW 5e-4. Bytes: 8 x 420 bytes, AdamW 1e-3. "
        "bf16, linear decay. Mean and, behind ±, standard deviation over seeds. Texts in windows "
        f"of {WINDOW_BYTES} bytes, the same for all. Bits per byte (Wikipedia, books, code, sums, "
        "and of LAMBADA's last words): lower is better. Sums answered (four shots, greedy, 200), "
        "BLiMP (1,000 pairs, standard error 1.6, chance 50) and ARC easy (1,000 questions, "
        "standard error 1.4, chance 25) in %: higher is better.",
    ]
    original = read_figures(arguments, "source", "original")
    for name in arguments.targets:
        goal = TARGETS[name]
        rows = {"original": original, "transplant": read_figures(arguments, name, "transplant")}
        rows |= {method: read_figures(arguments, name, method) for method in goal.methods}
        lines += ["", f"## {goal.title}, {goal.max_steps} steps", "", *table(rows)]
    return "\n".join(lines) + "\n"


def read_figures(arguments: argparse.Namespace, target: str, method: str) -> dict[str, list[float]]:
    """Read the values over seeds by column; a column that was not measured is empty."""
    columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for seed in arguments.seeds:
        folder = arguments.output / f"{target}-{method}-{seed}"
        if not (folder / "figures.json").is_file():
            continue
        figures = json.loads((folder / "figures.json").read_text())
        bits = [figures["data"][name]["bits_per_byte"] for name in DOMAINS]
        for name, value in zip(DOMAINS, bits, strict=True):
            columns[name].append(value)
        columns["outside"].append(statistics.mean(bits[1:]))
        for name, exam in figures["exams"].items():
            of_words = name == "lambada"
            columns[name].append(exam["bits_per_byte"] if of_words else 100 * exam["accuracy"])
        if (folder / "cpu_seconds.json").is_file():
            columns["seconds"].append(json.loads((folder / "cpu_seconds.json").read_text()))
    return columns


def table(rows: dict[str, dict[str, list[float]]]) -> list[str]:
    """One line per model; columns without values are left out."""
    columns = {
        name: style for name, style in COLUMNS.items() if any(row[name] for row in rows.values())
    }
    if not any(row["arc_easy"] for name, row in rows.items() if name != "original"):
        columns.pop("arc_easy", None)
    lines = ["| | seeds | " + " | ".join(title for title, _ in columns.values()) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for name, row in rows.items():
        cells = [shown(row[column], digits) for column, (_, digits) in columns.items()]
        lines.append(f"| {name} | {len(row['wikipedia'])} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
