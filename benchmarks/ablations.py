"""Ablations of ALM: temperature, merging threshold, debiasing, divergence, hidden states, weights.

The shipped model of 2.4 million parameters, moved to another tokenizer on code only, with one
setting changed at a time. Needs only a checkout.

    python benchmarks/ablations.py --jobs 2        # all runs; finished ones are skipped
    python benchmarks/ablations.py --report        # only write the table again
"""

import argparse
from pathlib import Path
from typing import Any

from common import made_by, run_each, shown, write_results
from shipped_pair import prepare, read_figures, run_transfer

RESULTS = Path("benchmarks/ablations_cpu_202611.md")
STEPS = 150
SETTINGS: dict[str, dict[str, Any]] = {
    "cross-entropy": {"objective": "cross_entropy"},
    "ALM, as it is by default": {},
    "temperature 1": {"options": {"alm": {"temperature": 1}}},
    "temperature 5": {"options": {"alm": {"temperature": 5}}},
    "temperature inf, the limit": {"options": {"alm": {"temperature": "inf"}}},
    "no merging (threshold 0)": {"options": {"alm": {"min_boundary_mass": 0}}},
    "merging threshold 0.99": {"options": {"alm": {"min_boundary_mass": 0.99}}},
    "no debiasing": {"options": {"alm": {"debias": False, "min_boundary_mass": 0}}},
    "total variation": {"options": {"alm": {"divergence": "total_variation"}}},
    "with hidden states, GradMag": {"objective": "alm+hidden_states"},
    "with hidden states, weight 0.1": {
        "objective": "alm+hidden_states",
        "weighting": "fixed",
        "weights": {"alm": 1.0, "hidden_states": 0.1},
    },
    "with cross-entropy, GradMag": {"objective": "alm+cross_entropy"},
    "with cross-entropy, weights 1 : 1": {
        "objective": "alm+cross_entropy",
        "weighting": "fixed",
        "weights": {"alm": 1.0, "cross_entropy": 1.0},
    },
}
"""Rows of the table, each with what it changes in the recipe."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("out/ablations"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("ROW", "SEED"))
    arguments = parser.parse_args()
    if arguments.one:
        row, seed = arguments.one
        values = {"max_steps": STEPS, "seed": seed, **SETTINGS[row]}
        run_transfer(arguments.output, arguments.output / f"{folder_name(row)}-{seed}", values)
        return
    if not arguments.report:
        prepare(arguments.output)
        run_each([(row, str(s)) for s in arguments.seeds for row in SETTINGS], arguments.jobs)
    write_results(RESULTS, report(arguments))


def folder_name(row: str) -> str:
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in row)


def report(arguments: argparse.Namespace) -> str:
    """The text of the results file: one line per setting."""
    lines = [
        "# What changes ALM: one thing at a time",
        "",
        made_by("python benchmarks/ablations.py --jobs 2"),
        "",
        f"The shipped Llama of 2.4M parameters to a 3k SentencePiece-style BPE, {STEPS} steps of "
        "4 x 256 tokens on code only, AdamW 1e-3, bf16. Bits per byte of held-out documents, mean "
        "and, behind ±, standard deviation over seeds; lower is better. Recovered: the share of "
        "what the untrained transplant lost.",
        "",
        "| | seeds | code (trained on) | prose (never) | recovered, code % | recovered, prose % "
        "| CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    ends = {name: read_figures(arguments.output, name, [0]) for name in ("teacher", "transplant")}
    for name, row in ends.items():
        cells = [shown(row[domain], 3) for domain in ("code", "prose")]
        lines.append(f"| {name} | | {cells[0]} | {cells[1]} | | | |")
    for name in SETTINGS:
        row = read_figures(arguments.output, folder_name(name), arguments.seeds)
        cells = [shown(row[domain], 3) for domain in ("code", "prose")]
        for domain in ("code", "prose"):
            best, worst = ends["teacher"][domain][0], ends["transplant"][domain][0]
            cells.append(shown([100 * (worst - v) / (worst - best) for v in row[domain]], 1))
        cells.append(shown(row["cpu_seconds"], 0))
        lines.append(f"| {name} | {len(row['code'])} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
