"""Pages for a browser: one self-contained file each. Computes nothing.

The pages are made from the same values as the JSON and the terminal's tables; Jinja escapes every
text. A page has no scripts and loads nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from crosstok.reports.chunk_view import ChunkCell, ChunkView
from crosstok.reports.curves import Curve, RunCurves
from crosstok.reports.examination_tables import advice_command, examination_figures
from crosstok.reports.svg import curve_svg
from crosstok.reports.tables import (
    Labels,
    is_held_out,
    label_and_form,
    outcome_figures,
    pair_figures,
)

LEVELS = (0.25, 1.0, 2.0, 4.0)
"""Gaps in nats at which the colour becomes stronger."""

_NUMBER_ROWS = 12  # of the table with the curves in numbers
_NUM_HIGHLIGHTS = 4
_HIGHLIGHTS = (
    "chunk_gap_nats", "bits_per_byte", "coverage", "loss", "tokens_per_second", "steps",
)  # fmt: skip


@dataclass(frozen=True)
class RunNumbers:
    """Contents of the page of a training run.

    Attributes:
        title: title of the page.
        summary: one sentence.
        metrics: the final metrics.
        counts: where the embedding rows came from; empty if nothing was transplanted.
        curves: the curves; None if nothing was logged.
        views: a few texts with their likelihood gaps.
        note: explanation of the gaps.
        settings: the recipe.
        environment: hardware, versions, date.
        labels: labels and format strings of the objectives' metrics.
    """

    title: str
    summary: str
    metrics: Mapping[str, float]
    counts: Mapping[str, Any]
    curves: RunCurves | None
    views: Sequence[ChunkView]
    note: str
    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    labels: Labels = field(default_factory=dict)


def pair_page(
    numbers: Mapping[str, Any], source: str, target: str, views: Sequence[ChunkView]
) -> str:
    """Make the page of two tokenizers: numbers of ``PairReport.as_json``, and texts under both."""
    return _render(
        "pair.html",
        title=f"{_short(source)} → {_short(target)}",
        figures=pair_figures(numbers, source, target),
        numbers=numbers,
        views=views,
    )


def examination_page(numbers: Mapping[str, Any]) -> str:
    """Make the page of a teacher and a student, from ``Examination.as_json``."""
    return _render(
        "examination.html",
        title=f"{_short(numbers['teacher'])} teaches {_short(numbers['student'])}",
        tables=examination_figures(numbers),
        command=advice_command(numbers["advice"]),
        numbers=numbers,
        views=[_view(view) for view in numbers["texts"]],
    )


def run_page(run: RunNumbers) -> str:
    """Make the page of a training run: curves, figures, settings, chunks before and after."""
    return _render(
        "run.html",
        title=run.title,
        run=run,
        highlights=_highlights(run),
        tables=outcome_figures(run.counts, run.metrics, run.labels),
        number_tables=_number_tables(run.curves),
    )


def write_page(file: str | Path, page: str) -> None:
    """Write a page as UTF-8, creating its folder."""
    path = Path(file).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("crosstok.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"LEVELS": LEVELS, "curve_svg": _curve_svg}
    environment.filters |= {"gap": _gap, "level": _level, "in_words": _in_words, "code": _code}
    return environment


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


def _view(values: Mapping[str, Any]) -> ChunkView:
    """Restore a view from plain values."""
    return ChunkView(**{**values, "cells": [ChunkCell(**cell) for cell in values["cells"]]})


def _short(name: str) -> str:
    """The last part of a hub name or folder."""
    return name.rstrip("/").rpartition("/")[2] or name


def _code(text: str) -> Markup:
    """Mark text between backticks as code."""
    parts = [
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part)
        for i, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


def _gap(nats: float) -> str:
    """Write a gap in few characters."""
    if abs(nats) < 0.05:
        return "0"
    shown = f"{abs(nats):.1f}" if abs(nats) < 9.95 else f"{abs(nats):.0f}"
    return f"{'+' if nats > 0 else '−'}{shown}"


def _level(nats: float) -> str:
    """Class of a gap's colour: p if the target's likelihood is too low, n if too high."""
    strength = sum(abs(nats) >= least for least in LEVELS)
    return f"{'p' if nats > 0 else 'n'}{strength}" if strength else "z"


def _in_words(nats: float, names: tuple[str, str]) -> str:
    source, target = names
    factor = math.exp(min(abs(nats), 700.0))
    shown = f"{factor:,.1f}" if factor < 1000 else f"{factor:.0e}"
    return f"{source if nats > 0 else target} gives it {shown} times the likelihood"


def _highlights(run: RunNumbers) -> list[tuple[str, str, str]]:
    """Label, number and unit of the most important metrics."""
    shown = []
    for name in (name for name in _HIGHLIGHTS if name in run.metrics):
        label, form = label_and_form(name, run.labels)
        number, _, unit = form.format(run.metrics[name]).partition(" ")
        shown.append((label, number, unit))
    return shown[:_NUM_HIGHLIGHTS]


def _curve_svg(curve: Curve, run: RunCurves) -> Markup:
    first, last = (curve.form.format(number) for number in (curve.first, curve.last))
    steps = f"steps {run.first_step:,} to {run.last_step:,}"
    return curve_svg(curve, run, f"{curve.label}, {steps}: from {first} to {last}")


def _number_tables(run: RunCurves | None) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Means of the curves at some of the points, as tables."""
    curves = () if run is None else run.curves
    parts = [
        ("Means of neighbouring log lines", [c for c in curves if not is_held_out(c.name)]),
        ("Held-out texts", [c for c in curves if is_held_out(c.name)]),
    ]
    return [(title, _number_rows(part)) for title, part in parts if part]


def _number_rows(curves: Sequence[Curve]) -> list[tuple[str, ...]]:
    """Rows of the curves with the most points, after a header."""
    steps = max((curve.steps for curve in curves), key=len)
    whole = [curve for curve in curves if curve.steps == steps]
    number = min(_NUMBER_ROWS, len(steps))
    picked = [(i + 1) * len(steps) // number - 1 for i in range(number)]
    header = ("step", *(curve.label for curve in whole))
    return [header] + [
        (f"{steps[i]:,}", *(f"{curve.means[i]:.4g}" for curve in whole)) for i in picked
    ]
