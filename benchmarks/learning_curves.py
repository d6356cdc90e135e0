"""Quality against training tokens: every objective on held-out text during a run.

The shipped model of 2.4 million parameters, moved to another tokenizer on code only; bits per byte
of held-out code and prose are measured while it trains (`--eval-data`). The objectives that lead
have three seeds, the others one. Needs only a checkout.

    python benchmarks/learning_curves.py --jobs 2        # all runs, the table and the pictures
    python benchmarks/learning_curves.py --report        # only write table and pictures again
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from common import made_by, read_rows, run_each, save_picture, shown, write_results
from shipped_pair import DOMAINS, prepare, run_transfer

RESULTS = Path("benchmarks/learning_curves_cpu_202611.md")
PICTURE = Path("docs/images/learning_curves")
STEPS, EVERY = 400, 50
OBJECTIVES = {
    "alm": "alm",
    "alm+cross_entropy": "alm+cross_entropy",
    "cross_entropy": "cross_entropy",
    "mined": "mined",
    "dskd": "dskd+cross_entropy",
    "uld": "uld+cross_entropy",
    "strict": "strict",
    "gold": "gold",
}
"""Curves, each with its objective: ULD and DSKD beside next tokens, as in their papers."""
LEADING = ("alm", "alm+cross_entropy", "cross_entropy", "mined")
COLORS = {
    "alm": "#d55e00",
    "alm+cross_entropy": "#e69f00",
    "cross_entropy": "#0072b2",
    "mined": "#009e73",
    "dskd": "#cc79a7",
    "uld": "#56b4e9",
    "strict": "#999999",
    "gold": "#8c6d1f",
}
"""Told apart by the colour-blind (Okabe and Ito's colours, and two greys)."""
Point = tuple[int, list[float]]
"""Tokens the student has read, and bits per byte by seed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("out/learning_curves"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("CURVE", "SEED"))
    arguments = parser.parse_args()
    output = arguments.output
    if arguments.one:
        name, seed = arguments.one
        held_out = [str(output / f"{domain}.jsonl") for domain in DOMAINS]
        values = {"eval_data": held_out, "eval_every": EVERY, "log_every": EVERY, "seed": seed}
        values |= {"max_steps": STEPS, "objective": OBJECTIVES[name]}
        run_transfer(output, output / f"{name}-{seed}", values, keep=(name, seed) == ("alm", "0"))
        return
    if not arguments.report:
        prepare(output)
        runs = [(name, "0") for name in OBJECTIVES]
        runs += [(name, str(seed)) for seed in (1, 2) for name in LEADING]
        run_each(runs, arguments.jobs)
    curves = {name: read_curve(output, name) for name in OBJECTIVES}
    original = json.loads((output / "teacher-0" / "figures.json").read_text())
    write_results(RESULTS, report(curves, original))
    draw(curves, original)


def read_curve(output: Path, name: str) -> dict[str, list[Point]]:
    """Read the points of each domain from the logs of the runs of one objective."""
    found: dict[str, dict[int, list[float]]] = {domain: {} for domain in DOMAINS}
    tokens: dict[int, int] = {}
    for log in sorted(output.glob(f"{name}-[0-9]/log.jsonl")):
        for line in read_rows(log):
            for domain in DOMAINS:
                value = line.get(f"eval_{domain}_bits_per_byte")
                if value is not None:
                    tokens.setdefault(line["step"], int(line.get("tokens_seen", 0)))
                    found[domain].setdefault(line["step"], []).append(value)
    return {
        domain: [(tokens[step], values) for step, values in sorted(points.items())]
        for domain, points in found.items()
    }


def report(curves: dict[str, dict[str, list[Point]]], original: dict[str, float]) -> str:
    """The text of the results file: per domain, a line per objective, a column per token count."""
    lines = [
        "# Held-out quality against tokens spent",
        "",
        made_by("python benchmarks/learning_curves.py --jobs 2"),
        "",
        f"The shipped Llama of 2.4M parameters to a 3k SentencePiece-style BPE, {STEPS} steps of "
        "4 x 256 tokens on code only, AdamW 1e-3, linear decay to the end of the run, bf16. Bits "
        "per byte of held-out documents along the way; mean and, behind ±, standard deviation over "
        "seeds (rows without ± are one seed); lower is better. Columns are thousands of tokens "
        "that the student has read (of seed 0).",
    ]
    for domain, of_what in zip(
        DOMAINS, ("code, trained on", "prose, never trained on"), strict=True
    ):
        steps = curves["alm"][domain][:: max(1, 100 // EVERY)]
        lines += ["", f"## Held-out {of_what}", ""]
        lines.append("| | " + " | ".join(f"{tokens / 1000:.0f}k" for tokens, _ in steps) + " |")
        lines.append("|---" * (len(steps) + 1) + "|")
        lines.append(f"| teacher | {original[domain]:.3f} |" + " |" * (len(steps) - 1))
        for name, curve in curves.items():
            cells = [shown(values, 3) for _, values in curve[domain][:: max(1, 100 // EVERY)]]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(curves: dict[str, dict[str, list[Point]]], original: dict[str, float]) -> None:
    """Draw the picture: a panel per domain, with bands of one standard deviation."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    titles = ("code, trained on", "prose, never trained on")
    for panel, domain, title in zip(panels, DOMAINS, titles, strict=True):
        for name, curve in curves.items():
            draw_curve(panel, name, curve[domain])
        panel.axhline(original[domain], color="black", linestyle=":", linewidth=1)
        panel.annotate("teacher", (0, original[domain]), (2, 3), textcoords="offset points")
        panel.set_title(f"Held-out {title}", loc="left", fontsize=11)
        panel.set_xlabel("thousand tokens that the student has read")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", alpha=0.25)
    panels[0].set_ylabel("bits per byte")
    panels[0].legend(frameon=False, fontsize=9)
    save_picture(figure, PICTURE)


def draw_curve(panel: Any, name: str, points: list[Point]) -> None:
    """Draw one objective, in bold if it has several seeds."""
    if not points:
        return
    tokens = [count / 1000 for count, _ in points]
    means = [statistics.mean(values) for _, values in points]
    leads = name in LEADING
    [line] = panel.plot(
        tokens,
        means,
        label=name,
        color=COLORS[name],
        linewidth=2.2 if leads else 1.2,
        linestyle="-" if leads else "--",
    )
    if all(len(values) > 1 for _, values in points):
        spread = [statistics.stdev(values) for _, values in points]
        low, high = ([m + sign * s for m, s in zip(means, spread, strict=True)] for sign in (-1, 1))
        panel.fill_between(tokens, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


if __name__ == "__main__":
    main()
