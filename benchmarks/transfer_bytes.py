"""Byte transfers of a small pretrained Llama: the paper's ablation on a small scale.

Trains on Wikipedia only; measures bits per byte on Wikipedia, books, code and sums, and BLiMP, for
the teacher, the untrained transplant, next-token cross-entropy, ALM and both, each with and without
hidden-state matching and with and without input expansion, and for ALM without debiasing, at equal
steps. The main rows have three seeds. Needs the folder of tokenizers, corpora and the model beside
the checkout (--shared).

    python benchmarks/transfer_bytes.py --jobs 2        # all runs; finished ones are skipped
    python benchmarks/transfer_bytes.py --report        # only write the table again
"""

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import SHARED, check_folder, made_by, run_each, shown, write_results
from held_out import DOMAINS, measure, write_held_out

RECIPE = Path("recipes/transfer/llama6m_bytes.yaml")
RESULTS = Path("benchmarks/transfer_bytes_cpu_202611.md")


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    name: str
    objective: str
    expansion: bool = False
    debias: bool = True
    hidden_weight: float | None = None
    """Fixed weight of the hidden states, the other objective's being 1; None for GradMag."""
    num_seeds: int = 1

    @property
    def flags(self) -> dict[str, Any]:
        """Options that it changes in the recipe."""
        biased = {"options": {"alm": {"debias": False, "min_boundary_mass": 0.0}}}
        undone = {} if self.debias else biased
        given = {"objective": self.objective, "input_expansion": self.expansion, **undone}
        if self.hidden_weight is None:
            return given
        first = self.objective.split("+")[0]
        weights = {first: 1.0, "hidden_states": self.hidden_weight}
        return {**given, "weighting": "fixed", "weights": weights}


def _cells() -> list[Cell]:
    cells = []
    for method in ("cross_entropy", "alm", "alm+cross_entropy"):
        hidden = f"{method}+hidden_states"
        cells += [
            Cell(method, method, num_seeds=3),
            Cell(f"{method}, hidden states", hidden),
            Cell(f"{method}, expansion", method, expansion=True),
            Cell(f"{method}, hidden states, expansion", hidden, expansion=True, num_seeds=3),
        ]
    return [
        *cells,
        Cell("alm without debiasing", "alm", debias=False, num_seeds=3),
        Cell("alm without debiasing, hidden states", "alm+hidden_states", debias=False),
        Cell("alm, hidden states at weight 0.1", "alm+hidden_states", hidden_weight=0.1),
    ]


CELLS = {cell.name: cell for cell in _cells()}
UNTRAINED = ("teacher", "transplant")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--output", type=Path, default=Path("out/transfer_bytes"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("ROW", "SEED"))
    arguments = parser.parse_args()
    check_folder(parser, "--shared", arguments.shared)
    if arguments.one:
        run(arguments, *arguments.one)
        return
    if not arguments.report:
        write_held_out(arguments.shared / "data", arguments.output / "test")
        run_all(arguments)
    write_results(RESULTS, report(arguments))


def run_all(arguments: argparse.Namespace) -> None:
    """Do every run in a separate process; first seeds first."""
    runs = [(name, "0") for name in UNTRAINED]
    for seed in range(3):
        runs += [(cell.name, str(seed)) for cell in CELLS.values() if seed < cell.num_seeds]
    run_each(runs, arguments.jobs)


def folder_of(arguments: argparse.Namespace, name: str, seed: int) -> Path:
    words = name.replace(",", "").replace(" ", "-")
    return Path(arguments.output) / f"{words}-{seed}"


def run(arguments: argparse.Namespace, name: str, seed: str) -> None:
    """Train (or transplant, or neither) and measure one model."""
    from crosstok.jobs.transfer import transfer
    from crosstok.jobs.transplant import transplant
    from crosstok.recipes import TransferRecipe, TransplantRecipe, load_recipe

    folder = folder_of(arguments, name, int(seed))
    figures = folder / "figures.json"
    if figures.is_file():
        return
    model = arguments.shared / "models/llama-6m-bpe4k"
    common = {"model": str(model), "output": str(folder), "overwrite": True}
    training: dict[str, float] = {}
    if name == "transplant":
        transplant(TransplantRecipe(**common, tokenizer="bytes"))
    elif name != "teacher":
        values = {**common, "seed": seed, **CELLS[name].flags}
        training = transfer(load_recipe(TransferRecipe, RECIPE, values)).metrics
    result = measure(
        model if name == "teacher" else folder,
        arguments.output / "test",
        ["blimp"],
        trust_remote_code=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    figures.write_text(json.dumps({**result, "training": training}, indent=2) + "\n")


def report(arguments: argparse.Namespace) -> str:
    """The text of the results file: a line per row, means and standard deviations over seeds."""
    rows = {name: read_figures(arguments, name) for name in (*UNTRAINED, *CELLS)}
    lines = [
        "# A 6M Llama turned into a byte-level model, trained on Wikipedia only",
        "",
        made_by("python benchmarks/transfer_bytes.py --jobs 2"),
        "",
        "Batches of 8 x 420 bytes, AdamW 1e-3, linear decay, 100 steps: 0.34 MB of text. Mean and, "
        "behind ±, standard deviation over seeds (rows without ± are one seed). Bits per byte: "
        "lower is better; BLiMP in %: higher is better (1,000 pairs, standard error 1.6).",
        "",
        "| | seeds | Wikipedia | books | code | sums | outside, mean | BLiMP | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, columns in rows.items():
        digits = {"blimp": 1, "seconds": 0}
        cells = [shown(values, digits.get(column, 3)) for column, values in columns.items()]
        lines.append(f"| {name} | {len(columns['blimp'])} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *effects(rows)]) + "\n"


def effects(rows: dict[str, dict[str, list[float]]]) -> list[str]:
    """The effect of each ingredient, other things equal, over the seeds that both rows have."""
    lines = ["Change in bits per byte that one ingredient makes (mean over common seeds):", ""]
    lines += ["| added | to | Wikipedia | outside, mean |", "|---|---|---|---|"]
    for name, cell in CELLS.items():
        for added, before in ingredients(name, cell):
            if before not in rows or not rows[before]["blimp"] or not rows[name]["blimp"]:
                continue
            common = min(len(rows[before]["blimp"]), len(rows[name]["blimp"]))
            changes = [
                statistics.mean(rows[name][column][:common])
                - statistics.mean(rows[before][column][:common])
                for column in ("wikipedia", "outside")
            ]
            cells = " | ".join(f"{change:+.3f}" for change in changes)
            lines.append(f"| {added} | {before} | {cells} |")
    return lines


def ingredients(name: str, cell: Cell) -> list[tuple[str, str]]:
    """Names of a row's ingredients, each with the row that differs only in it."""
    found = []
    if ", hidden states at weight" in name:
        found.append(("hidden states at weight 0.1", "alm"))
    elif ", hidden states" in name:
        found.append(("hidden states", name.replace(", hidden states", "")))
    if cell.expansion:
        found.append(("expansion", name.replace(", expansion", "")))
    if name in ("alm", "alm, hidden states"):
        found.append(("debiasing", name.replace("alm", "alm without debiasing")))
    return found


def read_figures(arguments: argparse.Namespace, name: str) -> dict[str, list[float]]:
    """Read the values over seeds by column."""
    columns: dict[str, list[float]] = {
        column: [] for column in (*DOMAINS, "outside", "blimp", "seconds")
    }
    for seed in range(3):
        file = folder_of(arguments, name, seed) / "figures.json"
        if not file.is_file():
            continue
        figures = json.loads(file.read_text())
        values = [figures["data"][column]["bits_per_byte"] for column in DOMAINS]
        for column, value in zip(DOMAINS, values, strict=True):
            columns[column].append(value)
        columns["outside"].append(statistics.mean(values[1:]))
        columns["blimp"].append(100 * figures["exams"]["blimp"]["accuracy"])
        columns["seconds"].append(figures["training"].get("seconds", 0.0))
    return columns


if __name__ == "__main__":
    main()
