"""Line charts as inline SVG, without scripts and without anything fetched; every text is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 70, 16, 30, 44
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
MOST_POINTS = 600
"""Of a line; longer ones are thinned out, keeping their ends."""
MOST_DOTS = 5000
"""Of points that are not joined; more are thinned out."""
LEAST_TICKS = 3
"""Of a logarithmic axis."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """A line of a chart: a name and points; NaN leaves a gap. With `dots` its points are drawn, and not joined."""

    name: str
    x: ArrayLike
    y: ArrayLike
    dots: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A vertical line at `x`, dashed, in the colour of the line with that number."""

    name: str
    x: float
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis: what it shows, how its numbers read, and whether it is logarithmic."""

    label: str
    text: Callable[[float], str] = "{:g}".format
    log: bool = False


@dataclass(frozen=True, slots=True)
class _Scale:
    """Data to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values inside; a logarithmic axis that is too short for powers of ten has equal steps."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            few = len(powers) <= 4
            inside = self._inside([m * 10.0**p for p in powers for m in ((1, 2, 5) if few else (1,))])
            if len(inside) >= LEAST_TICKS:
                return inside
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(m for m in (1, 2, 5, 10) if (self.high - self.low) / (step * m) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return self._inside([i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)])

    def _inside(self, ticks: Sequence[float]) -> list[float]:
        return [tick for tick in ticks if self.low * (1 - 1e-9) <= tick <= self.high * (1 + 1e-9)]


def line_chart(title: str, lines: Sequence[Line], *, x: Axis, y: Axis, marks: Sequence[Mark] = ()) -> str:
    """The chart as one <svg> element; lines without a finite point are left out of the picture, not of the legend."""
    points = [_points(line, x.log, y.log) for line in lines]
    seen = np.concatenate([np.empty((0, 2)), *points])
    seen = seen[np.isfinite(seen).all(axis=1)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="11" role="img" aria-label="{html.escape(title)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{html.escape(title)}</text>',
    ]
    if not seen.size:
        return "\n".join([*parts, f'<text x="{LEFT}" y="{HEIGHT / 2}" fill="#666">nothing to show</text>', "</svg>"])
    shown = [mark for mark in marks if math.isfinite(mark.x) and (mark.x > 0 or not x.log)]
    across, up = _scales(seen, shown, x, y)
    parts += _grid(across, up, x, y)
    for i, each in enumerate(points):
        if lines[i].dots:
            parts += _dots(each, across, up, _colour(i))
            continue
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{_colour(i)}" stroke-width="1.5"/>'
            for path in _paths(each, across, up)
        ]
    for mark in shown:
        at, colour = f"{across(mark.x):.1f}", _colour(mark.line)
        parts.append(
            f'<line x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{colour}" stroke-dasharray="4 3">'
            f"<title>{html.escape(mark.name)}: {html.escape(x.text(mark.x))}</title></line>"
        )
    return "\n".join([*parts, *_legend(lines), "</svg>"])


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _points(line: Line, x_log: bool, y_log: bool) -> NDArray[np.float64]:
    """(x, y) rows, thinned out; what a logarithmic axis cannot show is left out."""
    points = np.column_stack([np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)])
    points[~np.isfinite(points).all(axis=1), 1] = np.nan
    if x_log:
        points = points[points[:, 0] > 0]
    if y_log:
        points = points[~(points[:, 1] <= 0)]
    most = MOST_DOTS if line.dots else MOST_POINTS
    if len(points) > most:
        points = points[np.unique(np.linspace(0, len(points) - 1, most).astype(int))]
    return points


def _scales(seen: NDArray[np.float64], marks: Sequence[Mark], x: Axis, y: Axis) -> tuple[_Scale, _Scale]:
    xs = [*seen[:, 0].tolist(), *(mark.x for mark in marks)]
    low, high = _apart(min(xs), max(xs), x.log)
    lowest, highest = float(seen[:, 1].min()), float(seen[:, 1].max()) * 1.05
    bottom, top = _apart(lowest / 1.05 if y.log else min(lowest, 0.0), highest, y.log)
    return (
        _Scale(low, high, LEFT, WIDTH - RIGHT, x.log),
        _Scale(bottom, top, HEIGHT - BOTTOM, TOP, y.log),
    )


def _apart(low: float, high: float, log: bool) -> tuple[float, float]:
    """Two ends that are not the same."""
    if high > low * (1 + 1e-9) if log else high - low > 1e-12 * max(abs(low), abs(high), 1e-300):
        return low, high
    return (low / 2, low * 2) if log else (low, low + max(abs(low), 1.0))


def _grid(across: _Scale, up: _Scale, x: Axis, y: Axis) -> list[str]:
    parts = []
    for tick in across.ticks():
        at = f"{across(tick):.1f}"
        parts.append(f'<line x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#eee"/>')
        text = html.escape(x.text(tick))
        parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{text}</text>')
    for tick in up.ticks():
        at = f"{up(tick):.1f}"
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}" stroke="#eee"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at}" dy="4" text-anchor="end">{html.escape(y.text(tick))}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - BOTTOM + 30}" text-anchor="middle" fill="#444">{html.escape(x.label)}</text>'
    )
    return parts


def _paths(points: NDArray[np.float64], across: _Scale, up: _Scale) -> list[str]:
    """Stretches without a gap, as lists of pixels."""
    gone = np.isnan(points[:, 1])
    stretches = np.split(points, np.flatnonzero(gone))
    kept = [stretch[~np.isnan(stretch[:, 1])] for stretch in stretches]
    return [" ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in each.tolist()) for each in kept if len(each)]


def _dots(points: NDArray[np.float64], across: _Scale, up: _Scale, colour: str) -> list[str]:
    kept = points[~np.isnan(points[:, 1])]
    places = (f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="2.5"/>' for a, b in kept.tolist())
    return [f'<g fill="{colour}" fill-opacity="0.7">', *places, "</g>"]


def _legend(lines: Sequence[Line]) -> list[str]:
    if len(lines) < 2:
        return []
    parts, x = [], float(LEFT)
    for i, line in enumerate(lines):
        name = line.name if len(line.name) <= 24 else line.name[:23] + "…"
        if x + 14 + 6.2 * len(name) > WIDTH - RIGHT - 50:
            parts.append(f'<text x="{x:.0f}" y="{HEIGHT - 7}">{len(lines) - i} more</text>')
            break
        parts.append(f'<rect x="{x:.0f}" y="{HEIGHT - 12}" width="10" height="3" fill="{_colour(i)}"/>')
        parts.append(f'<text x="{x + 14:.0f}" y="{HEIGHT - 7}">{html.escape(name)}</text>')
        x += 26 + 6.2 * len(name)
    return parts
