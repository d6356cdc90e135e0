"""Shared by several benchmarks: runs in separate processes, cells of tables, headings."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "tokenizers")
SHARED = Path("../shared")
"""Default folder of the tokenizers, corpora and models that some tables need."""
NOTES = "\n## Notes"  # from here on a results file is written by hand, and kept


def check_folder(parser: argparse.ArgumentParser, flag: str, folder: Path) -> None:
    """Stop the command where a folder is missing that is not part of the repository."""
    if not folder.is_dir():
        parser.error(
            f"argument {flag}: there is no folder {str(folder)!r}. This table needs tokenizers, "
            "corpora or models that are not part of the repository; name the folder that holds "
            "them. docs/results.md says which tables need only a checkout."
        )


def run_each(runs: Sequence[Sequence[str]], jobs: int) -> None:
    """Run this command with ``--one`` for each run, ``jobs`` at a time, on one thread each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def start(which: Sequence[str]) -> None:
        command = [sys.executable, *sys.argv, "--one", *which]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        tail = done.stderr[-2000:] if done.returncode else ""
        print("-".join(which), "failed" if done.returncode else "done", tail, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(start, runs))


def made_by(command: str, setting: str = "one thread a run") -> str:
    """The heading of a results file: command, commit, date, versions, hardware."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Command: `{command}`. Commit {commit}, {date.today()}, {packages}, Python "
        f"{platform.python_version()}, {platform.machine()} CPU ({processor()}), {setting}."
    )


def processor() -> str:
    """The processor's name."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write_results(file: Path, text: str) -> None:
    """Rewrite a results file, keeping the notes at its end."""
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    _, heading, notes = before.partition(NOTES)
    file.write_text(text.rstrip("\n") + "\n" + heading + notes, encoding="utf-8")
    print(f"wrote {file}")


def shown(values: Sequence[float], digits: int = 3) -> str:
    """Mean and, after ±, standard deviation over seeds."""
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read the rows of a `.jsonl` file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_rows(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as a `.jsonl` file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def save_picture(figure: Any, file: Path) -> None:
    """Save as SVG and PNG, with equal bytes for equal figures."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "crosstok"
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(file.with_suffix(".png"), dpi=160)
    plt.close(figure)
    print(f"wrote {file}.svg and .png")
