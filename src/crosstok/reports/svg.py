"""A curve as inline SVG: the line of means, and the band from lowest to highest value."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from crosstok.reports.curves import Curve, RunCurves, as_array

WIDTH, HEIGHT = 380, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 40


def curve_svg(curve: Curve, run: RunCurves, description: str) -> Markup:
    """Draw a curve; the description is its accessible name."""
    low, high = as_array((curve.ticks[0], curve.ticks[-1]), is_log=curve.is_log)
    span = max(1, run.last_step - run.first_step)

    def x(steps: Sequence[float]) -> list[float]:
        share = (np.asarray(steps, dtype=np.float64) - run.first_step) / span
        return _rounded(_LEFT + share * (WIDTH - _LEFT - _RIGHT))

    def y(values: Sequence[float]) -> list[float]:
        share = (as_array(values, is_log=curve.is_log) - low) / (high - low)
        return _rounded(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM))

    across = x(curve.steps)
    band = [*zip(across, y(curve.highs), strict=True)]
    band += [*zip(across[::-1], y(curve.lows[::-1]), strict=True)]
    line = [*zip(across, y(curve.means), strict=True)]
    parts = [
        _left_axis(curve, y(curve.ticks)),
        _bottom_axis(run, x([tick.step for tick in run.ticks])),
        f'<polygon class="band" points="{_points(band)}"/>' if len(line) > 1 else "",
        f'<polyline class="line" points="{_points(line)}"/>' if len(line) > 1 else "",
        f'<circle class="dot" cx="{line[-1][0]:g}" cy="{line[-1][1]:g}" r="3"/>',
    ]
    name = escape(description)
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">') + Markup(
        "".join(parts) + "</svg>"
    )


def short(value: float) -> str:
    """Write a number for an axis: 12 M or 1.5 k or 0.05 or 1e-06."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.4g}"


def _left_axis(curve: Curve, ys: list[float]) -> str:
    right = WIDTH - _RIGHT
    lines = [f'<path class="grid" d="M{_LEFT} {y:g}H{right}"/>' for y in ys]
    texts = [
        f'<text class="left" x="{_LEFT - 7}" y="{y + 4:g}">{short(tick)}</text>'
        for tick, y in zip(curve.ticks, ys, strict=True)
    ]
    return "".join(lines + texts)


def _bottom_axis(run: RunCurves, xs: list[float]) -> str:
    """Steps, and below them the bytes read by then."""
    base = HEIGHT - _BOTTOM
    texts = []
    for tick, x in zip(run.ticks, xs, strict=True):
        place = "start" if x < _LEFT + 14 else "end" if x > WIDTH - _RIGHT - 14 else "middle"
        texts.append(f'<text text-anchor="{place}" x="{x:g}" y="{base + 16}">{tick.step:,}</text>')
        if tick.bytes_seen is not None:
            texts.append(
                f'<text class="seen" text-anchor="{place}" x="{x:g}" y="{base + 31}">'
                f"{_in_bytes(tick.bytes_seen)}</text>"
            )
    return "".join(texts)


def _in_bytes(number: int) -> str:
    return f"{short(number)}B" if number >= 1000 else f"{number} B"


def _rounded(values: np.ndarray) -> list[float]:
    return [round(value, 1) for value in values.tolist()]


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in pairs)
