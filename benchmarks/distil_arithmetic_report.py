"""The tables of distil_arithmetic.py, from the figures that its runs wrote."""

import argparse
import json
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from common import made_by, shown

Figures = dict[str, list[dict[str, Any]]]  # method -> a run by seed
BASE = "cross_entropy"


def report(
    arguments: argparse.Namespace,
    methods: Sequence[str],
    rate: float,
    tuned: dict[str, dict[float, float]] | None,
) -> str:
    """The text of the results file."""
    runs = read_runs(arguments, methods, rate)
    teacher, student = (
        json.loads((arguments.work / name / "training.json").read_text())
        for name in ("teacher", "student")
    )
    lines = [
        "# Small-scale maths distillation: arithmetic and word problems",
        "",
        *about(arguments, runs, teacher, student),
        "",
        *rate_lines(rate, tuned),
        "",
        "## Answers",
        "",
        *answers_table(runs, teacher, student),
        "",
        *ranking(runs),
        "",
        "## By kind of question, right in %",
        "",
        *kinds_table(runs, teacher, student),
        "",
        "## Cost",
        "",
        *cost_table(runs),
    ]
    return "\n".join(lines) + "\n"


def read_runs(arguments: argparse.Namespace, methods: Sequence[str], rate: float) -> Figures:
    """The finished runs at this rate, in the order of the methods."""
    found: Figures = {}
    for file in sorted((arguments.work / "runs").glob("*/figures.json")):
        run = json.loads(file.read_text())
        if run["rate"] == rate and run["seed"] in arguments.seeds:
            found.setdefault(run["method"], []).append(run)
    return {method: found[method] for method in methods if method in found}


def about(
    arguments: argparse.Namespace,
    runs: Figures,
    teacher: dict[str, Any],
    student: dict[str, Any],
) -> list[str]:
    """Command, versions and hardware of the runs."""
    one = next(iter(runs.values()))[0]
    return [
        made_by(
            f"python benchmarks/distil_arithmetic.py --jobs {arguments.jobs}",
            f"one thread a run, {arguments.jobs} runs at a time",
        ),
        "Recipe: `recipes/distil/arithmetic.yaml`.",
        "",
        f"Teacher: {described(teacher)}, byte-level BPE with up to three digits a token, ChatML. "
        f"Student: {described(student)}, SentencePiece-like BPE with single digits, turns as "
        f"Gemma's. GSM8K in the teacher's data: {'yes' if teacher['gsm8k'] else 'no'}.",
        "",
        f"Each run: {one['steps']} steps of {one['batch_size']} worked problems, each seen once, "
        "the same for every objective; another set and another order for every seed. Loss on the "
        "assistant's turn. AdamW, linear decay.",
    ]


def described(training: dict[str, Any]) -> str:
    schedule = training["schedule"]
    return (
        f"{training['parameters'] / 1e6:.2f}M parameters, {training['vocabulary']:,} tokens, "
        f"{schedule['steps']} steps of {schedule['batch_size']} rows from nothing"
    )


def rate_lines(rate: float, tuned: dict[str, dict[float, float]] | None) -> list[str]:
    """How the learning rate was chosen."""
    if tuned is None:
        return [f"Learning rate {rate:g}, given."]
    rates = list(next(iter(tuned.values())))
    lines = [
        f"Learning rate {rate:g} for every objective: the best mean of those tried, by validation "
        "answers right in %, a data set and a seed of their own. The objectives that are not in "
        "this table had no rate of their own chosen.",
        "",
        "| | " + " | ".join(f"{r:g}" for r in rates) + " |",
        "|---|" + "---|" * len(rates),
    ]
    for method, by_rate in tuned.items():
        cells = " | ".join(f"{100 * by_rate[r]:.1f}" for r in rates)
        lines.append(f"| {method} | {cells} |")
    return lines


def answers_table(runs: Figures, teacher: dict[str, Any], student: dict[str, Any]) -> list[str]:
    """Accuracy, best first."""
    lines = ["| | right, % | by seed | ended by the model, % |", "|---|---|---|---|"]
    for name, training in (("teacher", teacher), ("student alone", student)):
        exam = training["exam"]
        lines.append(f"| {name} | {percent(exam['accuracy'])} | | {percent(exam['stopped'])} |")
    for method in ranked(runs):
        exams = [run["exam"] for run in runs[method]]
        right = [100 * exam["accuracy"] for exam in exams]
        stopped = mean(exam["stopped"] for exam in exams)
        seeds = ", ".join(f"{value:.1f}" for value in right)
        lines.append(f"| {method} | {shown(right, 1)} | {seeds} | {percent(stopped)} |")
    return lines


def ranking(runs: Figures) -> list[str]:
    """Methods that differ from cross-entropy by more than the spread over seeds."""
    if BASE not in runs:
        return []
    base = accuracies(runs[BASE])
    better, worse, same = [], [], []
    for method in ranked(runs):
        if method == BASE:
            continue
        values = accuracies(runs[method])
        difference = mean(values) - mean(base)
        error = ((variance(values) / len(values)) + variance(base) / len(base)) ** 0.5
        place = same if abs(difference) <= 2 * error else better if difference > 0 else worse
        place.append(f"{method} ({difference:+.1f})")
    lists = {"Above": better, "Below": worse, "Not told apart from": same}
    return [
        "Against cross_entropy, in points; told apart where the means differ by more than two "
        "standard errors of the difference (over seeds; few seeds, so a rough rule):",
        "",
        *(f"- {label}: {', '.join(names) or 'none'}." for label, names in lists.items()),
    ]


def kinds_table(runs: Figures, teacher: dict[str, Any], student: dict[str, Any]) -> list[str]:
    """Mean accuracy by kind of question."""
    kinds = list(teacher["exam"]["by_kind"])
    lines = ["| | " + " | ".join(kinds) + " |", "|---|" + "---|" * len(kinds)]
    rows = {"teacher": [teacher["exam"]], "student alone": [student["exam"]]}
    rows |= {method: [run["exam"] for run in runs[method]] for method in ranked(runs)}
    for name, exams in rows.items():
        cells = [percent(mean(exam["by_kind"][kind] for exam in exams)) for kind in kinds]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def cost_table(runs: Figures) -> list[str]:
    """Time and memory."""
    lines = [
        "Seconds of training a step, mean and standard deviation over seeds, and peak memory of "
        "the process above what it held after its imports (models, optimizer and data included).",
        "",
        "| | seconds a step | x cross_entropy | peak, MB | CPU seconds of the job |",
        "|---|---|---|---|---|",
    ]
    base = mean(run["seconds_a_step"] for run in runs[BASE]) if BASE in runs else None
    for method, of_method in runs.items():
        seconds = [run["seconds_a_step"] for run in of_method]
        memory = [run["peak_megabytes"] - run["imports_megabytes"] for run in of_method]
        cpu = mean(run["job_cpu_seconds"] for run in of_method)
        ratio = f"{mean(seconds) / base:.2f}" if base else "–"
        lines.append(
            f"| {method} | {shown(seconds, 3)} | {ratio} | {shown(memory, 0)} | {cpu:.0f} |"
        )
    return lines


def ranked(runs: Figures) -> list[str]:
    """Methods by mean accuracy, best first."""
    return sorted(runs, key=lambda method: -mean(accuracies(runs[method])))


def accuracies(of_method: list[dict[str, Any]]) -> list[float]:
    """In percent, by seed."""
    return [100 * run["exam"]["accuracy"] for run in of_method]


def variance(values: Sequence[float]) -> float:
    return stdev(values) ** 2 if len(values) > 1 else 0.0


def percent(share: float) -> str:
    return f"{100 * share:.1f}"
