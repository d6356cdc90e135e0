"""Curves of a run from its log: a limited number of points, and axes with round numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from crosstok.reports.tables import (
    NO_LABELS,
    Labels,
    in_order,
    is_held_out,
    is_reference,
    label_and_form,
)

MAX_POINTS = 240
_NOT_CURVES = {"step", "epoch", "tokens_seen", "bytes_seen"}
_LOG_RANGE = 20.0  # a curve whose values span more than this factor has a logarithmic axis
_NUM_TICKS = 4


@dataclass(frozen=True)
class Curve:
    """One metric over a run, as points: each is the mean of some neighbouring log lines.

    Attributes:
        name: name in the log.
        label: name on the page.
        form: format string of its values.
        steps: step of each point, from the last of its log lines.
        means: mean of the log lines of each point.
        lows: smallest value of the log lines of each point.
        highs: largest value of the log lines of each point.
        first: first logged value.
        last: last logged value.
        is_log: whether the vertical axis is logarithmic.
        ticks: ticks of the vertical axis.
    """

    name: str
    label: str
    form: str
    steps: tuple[int, ...]
    means: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    first: float
    last: float
    is_log: bool
    ticks: tuple[float, ...]


@dataclass(frozen=True)
class StepTick:
    """A round number of steps, and the tokens and bytes read by then (None: not logged)."""

    step: int
    tokens_seen: int | None
    bytes_seen: int | None


@dataclass(frozen=True)
class RunCurves:
    """All curves of a run over one horizontal axis.

    ``num_logged`` is the number of log lines of training, without those of held-out texts.
    """

    first_step: int
    last_step: int
    num_logged: int
    ticks: tuple[StepTick, ...]
    curves: tuple[Curve, ...]


def run_curves(
    log_history: Sequence[Mapping[str, Any]], labels: Labels = NO_LABELS
) -> RunCurves | None:
    """Make the curves of every number in the training log; None if nothing was logged.

    Args:
        log_history: as in transformers' ``TrainerState``; lines with neither a loss nor metrics of
            held-out texts (the summary at the end) are left out, and so are values that are not
            finite numbers.
        labels: labels and format strings of the objectives' metrics.
    """
    lines = [line for line in log_history if "step" in line and _is_of_curves(line)]
    num_logged = sum("loss" in line for line in lines)
    if not num_logged:
        return None
    names = in_order(dict.fromkeys(name for line in lines for name in line), labels)
    curves = [_curve(name, lines, labels) for name in names if not _is_left_out(name)]
    first, last = int(lines[0]["step"]), int(lines[-1]["step"])
    return RunCurves(
        first, last, num_logged, _step_ticks(lines), tuple(c for c in curves if c is not None)
    )


def _is_left_out(name: str) -> bool:
    return name in _NOT_CURVES or is_reference(name)


def _is_of_curves(line: Mapping[str, Any]) -> bool:
    return "loss" in line or any(map(is_held_out, line))


def _curve(name: str, lines: Sequence[Mapping[str, Any]], labels: Labels) -> Curve | None:
    pairs = [(int(line["step"]), line[name]) for line in lines if _is_number(line.get(name))]
    if not pairs:
        return None
    steps, values = (np.array(column) for column in zip(*pairs, strict=True))
    values = values.astype(np.float64)
    groups = np.array_split(np.arange(len(values)), min(MAX_POINTS, len(values)))
    lows, highs = (
        tuple(float(pick(values[group])) for group in groups) for pick in (np.min, np.max)
    )
    low, high = float(values.min()), float(values.max())
    if low == high:  # a constant curve is drawn against zero
        low, high = min(low, 0.0), max(high, 0.0)
    is_log = low > 0 and high / low > _LOG_RANGE
    label, form = label_and_form(name, labels)
    return Curve(
        name=name,
        label=label,
        form=form,
        steps=tuple(int(steps[group[-1]]) for group in groups),
        means=tuple(float(values[group].mean()) for group in groups),
        lows=lows,
        highs=highs,
        first=float(values[0]),
        last=float(values[-1]),
        is_log=is_log,
        ticks=tuple(_powers(low, high) if is_log else round_ticks(low, high)),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _step_ticks(lines: Sequence[Mapping[str, Any]]) -> tuple[StepTick, ...]:
    first, last = int(lines[0]["step"]), int(lines[-1]["step"])
    ticks = [round(tick) for tick in round_ticks(first, last) if tick == round(tick)]
    inside = [tick for tick in ticks if first <= tick <= last] or [last]
    seen = [_seen(name, lines, inside) for name in ("tokens_seen", "bytes_seen")]
    return tuple(StepTick(*row) for row in zip(inside, *seen, strict=True))


def _seen(
    name: str, lines: Sequence[Mapping[str, Any]], steps: Sequence[int]
) -> list[int] | list[None]:
    """Tokens or bytes read at these steps, interpolated between log lines."""
    known = [line for line in lines if _is_number(line.get(name))]
    if not known:
        return [None] * len(steps)
    places, sums = ([float(line[key]) for line in known] for key in ("step", name))
    return [round(value) for value in np.interp([float(s) for s in steps], places, sums).tolist()]


def round_ticks(low: float, high: float) -> list[float]:
    """Choose about four round numbers, from at most ``low`` to at least ``high``.

    Example: 0.13 and 0.88 give 0, 0.2, 0.4, 0.6, 0.8, 1.
    """
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        half = abs(low) / 2 or 0.5
        low, high = low - half, high + half
    rough = (high - low) / _NUM_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    width = next(w * power for w in (1, 2, 2.5, 5, 10) if w * power >= rough * 0.999)
    start, end = math.floor(low / width + 1e-9), math.ceil(high / width - 1e-9)
    return [float(f"{i * width:.10g}") for i in range(start, end + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten, from the last below ``low`` to the first above ``high``; at most six."""
    start, end = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, math.ceil((end - start) / 5))
    end = start + stride * math.ceil((end - start) / stride)
    return [float(f"1e{i}") for i in range(start, end + 1, stride)]


def as_array(values: Sequence[float], *, is_log: bool) -> Float[np.ndarray, " N"]:
    """Return the values as placed on the axis: logarithms if it is logarithmic."""
    array = np.asarray(values, dtype=np.float64)
    return np.log10(array) if is_log else array
