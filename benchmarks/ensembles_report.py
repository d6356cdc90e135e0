"""The tables of ensembles.py, from the figures that its runs wrote."""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any, Protocol

from common import made_by, shown

COLUMNS = ("mixed", "wikipedia", "books", "code", "sums")

TITLES = {
    "single": "one model, its own tokenizer",
    "transferred": "one model, moved to the first one's tokenizer",
    "tokens": "all three, tokens, two of them moved",
    "mined": "all three, tokens, mapped by MinED",
    "token pairs": "two models, tokens, moved",
    "byte view": "one model, read byte by byte",
    "bytes": "all three, bytes, untrained",
}

Table = dict[str, dict[int, dict[str, float]]]  # row -> seed -> column -> bits per byte, seconds


class Row(Protocol):
    """As in ensembles.py."""

    group: str
    members: tuple[str, ...]
    combine: str | None
    name: str


def report(arguments: argparse.Namespace, rows: Sequence[Row]) -> str:
    """The text of the results file."""
    table = read_figures(arguments, rows)
    lines = [
        "# Ensembles of three small models with different tokenizers and mixtures",
        "",
        *about(arguments),
        "",
        "## Bits per byte of held-out text",
        "",
        *main_table(rows, table),
        "",
        "## What was to hold",
        "",
        *claims(rows, table),
        "",
        "## Models and transfers",
        "",
        *training_table(arguments),
    ]
    return "\n".join(lines) + "\n"


def read_figures(arguments: argparse.Namespace, rows: Sequence[Row]) -> Table:
    """Read the columns of every measured row by seed."""
    table: Table = {}
    for row in rows:
        for seed in arguments.seeds:
            file = arguments.output / "figures" / f"{row.name}-{seed}.json"
            if file.is_file():
                table.setdefault(row.name, {})[seed] = columns_of(json.loads(file.read_text()))
    return table


def columns_of(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Bits per byte of each domain, their mean, and seconds per kB."""
    columns = {}
    for domain, found in figures.items():
        columns[domain] = sum(found["nats"]) / math.log(2) / sum(found["bytes"])
    columns["mixed"] = mean(columns.values())
    seconds = sum(found["seconds"] for found in figures.values())
    columns["seconds"] = 1000 * seconds / sum(sum(found["bytes"]) for found in figures.values())
    return columns


def about(arguments: argparse.Namespace) -> list[str]:
    """Command, versions, hardware and data of the runs."""
    held_out = (arguments.output / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    num_bytes = sum(len(json.loads(line)["text"].encode()) for line in held_out)
    return [
        made_by(
            f"python benchmarks/ensembles.py --jobs 2 --bytes {arguments.bytes}",
            "one thread a process, on two cores that others used as well",
        ),
        "Recipes: `recipes/distil/zoo.yaml` by `recipes/zoo/train.py`, and "
        "`recipes/transfer/zoo.yaml`.",
        "",
        f"Held out: {len(held_out)} pieces of documents, {num_bytes:,} bytes, a quarter of each "
        "domain (Wikipedia articles; books; Python; sums and word problems), each piece within 254 "
        "tokens of every tokenizer and read alone behind the start of a document. All rows score "
        "the same bytes. Mean and, behind ±, standard deviation over "
        f"{len(arguments.seeds)} seeds; a seed draws weights, training texts and their order. "
        '"Mixed" is the mean of the four domains, so each counts alike. Lower is better. CPU '
        "seconds a kB are of scoring, in fp32, loading left out.",
    ]


def main_table(rows: Sequence[Row], table: Table) -> list[str]:
    """One line per row, under the title of its group."""
    lines = [
        "| | mixed | Wikipedia | books | code | sums | s a kB |",
        "|---|---|---|---|---|---|---|",
    ]
    group = ""
    for row in rows:
        if row.name not in table:
            continue
        if row.group != group:
            group = row.group
            lines.append(f"| *{TITLES[group]}* | | | | | | |")
        by_seed = list(table[row.name].values())
        cells = [shown([columns[name] for columns in by_seed]) for name in COLUMNS]
        cells.append(f"{mean(columns['seconds'] for columns in by_seed):.2f}")
        lines.append(f"| {label(row)} | " + " | ".join(cells) + " |")
    singles = [table[row.name] for row in rows if row.group == "single" and row.name in table]
    if singles:
        lines += ["| *for comparison* | | | | | | |", chosen_by_domain(singles)]
    return lines


def chosen_by_domain(singles: Sequence[dict[int, dict[str, float]]]) -> str:
    """The best single model of each domain, as if the domain were known."""
    best = [
        {name: min(single[seed][name] for single in singles) for name in COLUMNS[1:]}
        for seed in singles[0]
    ]
    cells = [shown([mean(columns.values()) for columns in best])]
    cells += [shown([columns[name] for columns in best]) for name in COLUMNS[1:]]
    return "| the best single model of each domain | " + " | ".join(cells) + " | |"


def label(row: Row) -> str:
    """A row's name in the tables: an arrow for a model that was moved."""
    names = [
        member.rpartition("/")[2] + ("→" if member.startswith("transferred") else "")
        for member in row.members
    ]
    if row.combine == "mined":
        return f"mined, tokens of {names[0]}"
    if row.combine is None or row.group.endswith("pairs"):
        return " + ".join(names)
    return row.combine


def claims(rows: Sequence[Row], table: Table) -> list[str]:
    """Each ensemble against the best single model and the best MinED, seed by seed."""
    by_group: dict[str, list[Row]] = {}
    for row in rows:
        if row.name in table:
            by_group.setdefault(row.group, []).append(row)
    lines = [
        "Mixed bits per byte less those of the best in each group (the best of the same seed): "
        "mean over seeds, and the worst seed behind it. Below zero: the ensemble is better.",
        "",
        "| | best single model | best MinED | verdict |",
        "|---|---|---|---|",
    ]
    for row in (*by_group.get("tokens", ()), *by_group.get("bytes", ())):
        cells, wins = [], []
        for group in ("single", "mined"):
            best = [
                table[row.name][seed]["mixed"]
                - min(table[other.name][seed]["mixed"] for other in by_group[group])
                for seed in table[row.name]
            ] if by_group.get(group) else [math.nan]  # fmt: skip
            cells.append(f"{mean(best):+.3f} ({max(best):+.3f})")
            wins.append(max(best) < 0)
        verdict = "beats both" if all(wins) else "does not beat both"
        lines.append(f"| {row.group}: {label(row)} | " + " | ".join(cells) + f" | {verdict} |")
    return lines


def training_table(arguments: argparse.Namespace) -> list[str]:
    """Figures at the end of each run, on its own training texts."""
    lines = ["| | steps | bits per byte, own mixture, last tenth | minutes |", "|---|---|---|---|"]
    for kind in ("models", "transferred"):
        found: dict[str, list[dict[str, Any]]] = {}
        for folder in sorted((arguments.output / kind).glob("*-*")):
            name, _, seed = folder.name.rpartition("-")
            file = folder / "training.json"
            if file.is_file() and int(seed) in arguments.seeds:
                found.setdefault(name, []).append(json.loads(file.read_text()))
        for name, runs in found.items():
            arrow = "→" if kind == "transferred" else ""
            minutes = mean(run["seconds"] for run in runs) / 60
            losses = shown([run["bits_per_byte"] for run in runs])
            lines.append(f"| {name}{arrow} | {runs[0]['steps']:g} | {losses} | {minutes:.1f} |")
    return lines
