"""The table of an evaluation's figures."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from crosstok.evaluation.contenders import drop_folders


def render_table(result: dict[str, list[dict[str, Any]]]) -> Table:
    """Show the figures of `evaluate`, a column for each model, the best of each row in bold."""
    models = result["models"]
    table = Table(title=None)
    table.add_column("")
    for entry in models:
        table.add_column(escape(drop_folders(entry["model"])), justify="right")
    for row in (*_rows(models), *_task_rows(models)):
        known = [cell.value for cell in row.cells if cell is not None]
        best = row.best(known) if row.best is not None and len(known) > 1 else None
        table.add_row(escape(row.label), *(_text(cell, row.digits, best) for cell in row.cells))
    return table


@dataclass(frozen=True)
class _Cell:
    value: float
    stderr: float | None = None


@dataclass(frozen=True)
class _Row:
    label: str
    cells: list[_Cell | None]  # of each model
    digits: int
    best: Callable[[Iterable[float]], float] | None


# section, key, label, scale, digits, best
_ROWS: tuple[tuple[str, str, str, float, int, Callable[[Iterable[float]], float]], ...] = (
    ("data", "bits_per_byte", "bits per byte", 1.0, 3, min),
    ("exams", "accuracy", "accuracy, %", 100.0, 1, max),
    ("fidelity", "chunk_divergence", "chunk divergence, nats", 1.0, 4, min),
    ("fidelity", "agreement", "agreement with teacher, %", 100.0, 1, max),
)


def _rows(models: list[dict[str, Any]]) -> Iterator[_Row]:
    for section, key, label, scale, digits, best in _ROWS:
        for name in _names(models, section):
            cells: list[_Cell | None] = []
            for entry in models:
                figure = entry.get(section, {}).get(name)
                if figure is None:
                    cells.append(None)
                    continue
                stderr = figure.get("stderr")
                spread = None if stderr is None else stderr * scale
                cells.append(_Cell(figure[key] * scale, spread))
            yield _Row(f"{name}: {label}", cells, digits, best)


def _task_rows(models: list[dict[str, Any]]) -> Iterator[_Row]:
    """A row for each metric of each task; the tasks of a group are in the JSON only."""
    for name in _names(models, "tasks"):
        figures = [entry.get("tasks", {}).get(name) for entry in models]
        known = [figure for figure in figures if figure is not None]
        if known[0]["group"] is not None:
            continue
        for metric, first in known[0]["metrics"].items():
            found = [
                None if figure is None else figure["metrics"].get(metric) for figure in figures
            ]
            cells = [
                None if value is None else _Cell(value["value"], value["stderr"]) for value in found
            ]
            best = {True: max, False: min}.get(first["higher_is_better"])
            yield _Row(f"{name}: {metric}", cells, 3, best)


def _text(cell: _Cell | None, digits: int, best: float | None) -> str:
    if cell is None:
        return "–"
    spread = "" if cell.stderr is None else f" ± {cell.stderr:.{digits}f}"
    text = f"{cell.value:.{digits}f}{spread}"
    return f"[bold]{text}[/bold]" if cell.value == best else text


def _names(models: list[dict[str, Any]], section: str) -> list[str]:
    """The data sets, exams or tasks for which any model has figures, in order."""
    return list(dict.fromkeys(name for entry in models for name in entry.get(section, {})))
