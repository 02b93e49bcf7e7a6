"""The report of `ridgeline validate`: on a screen, as JSON, as a page with scatter plots, as the page of the docs."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from ridgeline.api.accuracy.validate import Points, lines_apart, lines_of, worst
from ridgeline.core import units
from ridgeline.costs.validate import Line

CELL = ("chip", "runtime", "version", "dtype")
REGIMES = ("calibrated", "physics", "datasheet", "extrapolated")
NUMBERS = ("rows", "median", "p90", "bias", "covered")
PLOTTED = 600
"""Points drawn per picture: every row of a table would make a page that no browser likes."""
SIDE, MARGIN = 300, 45
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")

TARGETS: Mapping[str, tuple[float, float]] = {
    "gemm": (0.08, 0.15),
    "attention_prefill": (0.10, 0.18),
    "attention_decode": (0.10, 0.18),
    "moe": (0.12, 0.20),
    "collectives": (0.10, 0.20),
    "power": (0.08, 0.20),
}
"""Median errors that the project set itself: on a calibrated chip, and with the datasheet alone."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Kernels, whole systems, and power and energy of serving beside their measurements."""

    kernels: Sequence[Points]
    systems: Sequence[Points]
    energy: Sequence[Points] = ()

    @property
    def points(self) -> list[Points]:
        """All, power of kernels as one kind."""
        return [*self.kernels, *self.systems, *self.energy]

    @property
    def left_out(self) -> list[Points]:
        """The regime in which whole families of shapes were left out of the fits."""
        return [each for each in self.kernels if each.regime == "extrapolated"]

    def to_dict(self, count: int = 20) -> dict[str, Any]:
        """Every line, what stands apart, what was refused, and the worst rows, as plain values for JSON."""
        lines = [*lines_of(self.points), *lines_of(self.points, ("chip",)), *lines_of(self.kernels, CELL)]
        lines += [*lines_of(self.points, ("size",)), *lines_of(self.left_out, ("shapes",))]
        return {
            "lines": [asdict(line) for line in lines],
            "apart": [{"reason": reason, **asdict(line)} for reason, line in lines_apart(self.kernels)],
            "refused": refused(self.points),
            "worst": [worst_row(points, row) for points, row in worst(calibrated(self.kernels), count)],
        }

    def __rich__(self) -> RenderableType:
        """The tables of a terminal."""
        return Group(
            _screen("medians by kind and regime", lines_of(self.points), ()),
            _screen("by chip", lines_of(self.points, ("chip",)), ("chip",)),
            _screen("by size class", lines_of(self.kernels, ("size",)), ("size",)),
            *([_screen("by shapes left out", lines_of(self.left_out, ("shapes",)), ("shapes",))] * bool(self.left_out)),
            _worst_screen(worst(calibrated(self.kernels))),
        )


def calibrated(points: Iterable[Points]) -> list[Points]:
    """The times that `predict` itself would give."""
    return [each for each in points if each.regime == "calibrated" and each.kind != "power"]


def refused(points: Iterable[Points]) -> list[dict[str, Any]]:
    """Rows without a prediction, by kind and regime, with the most common reason."""
    found = []
    for each in points:
        if each.refused:
            reason = max(each.refused, key=lambda message: each.refused[message])
            rows = sum(each.refused.values())
            found.append({"kind": each.kind, "regime": each.regime, "rows": rows, "mostly": reason})
    return found


def worst_row(points: Points, row: int) -> dict[str, Any]:
    """One point with what was predicted and why."""
    labels = {name: str(points.labels[name][row]) for name in (*CELL, "case", "bound", "kernel")}
    measured, predicted = float(points.measured[row]), float(points.predicted[row])
    return {"kind": points.kind, **labels, "measured": measured, "predicted": predicted, "ratio": predicted / measured}


def _screen(title: str, lines: Sequence[Line], by: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("kind", "regime", *by):
        table.add_column(name)
    for name in NUMBERS:
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(line.kind, line.regime, *(getattr(line, name) for name in by), *_numbers(line))
    return table


def _worst_screen(rows: Sequence[tuple[Points, int]]) -> Table:
    table = Table(title="furthest off", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("kind", "chip", "runtime", "dtype", "case", "measured", "predicted", "bound", "kernel"):
        table.add_column(name, overflow="fold")
    for points, row in rows:
        table.add_row(*_worst_cells(points, row))
    return table


def _worst_cells(points: Points, row: int) -> tuple[str, ...]:
    told = worst_row(points, row)
    times = (units.duration(told["measured"]), units.duration(told["predicted"]))
    labels = tuple(str(told[name]) for name in ("kind", "chip", "runtime", "dtype", "case"))
    return (*labels, *times, told["bound"], told["kernel"])


def _numbers(line: Line) -> tuple[str, ...]:
    return (f"{line.count:,}", f"{line.median:.1%}", f"{line.p90:.1%}", f"{line.bias:+.1%}", share(line.covered))


def share(value: float | None) -> str:
    """A share in percent, or a dash where there is none."""
    return "-" if value is None else f"{value:.0%}"


def html_page(accuracy: Accuracy) -> str:
    """One self-contained page: tables, then predicted over measured as pictures; no script, nothing fetched."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>ridgeline validate</title><style>",
        "body{font-family:sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}table{border-collapse:collapse}",
        "td,th{padding:2px 12px 2px 0;text-align:left}td.n{text-align:right}figure{display:inline-block;margin:8px}",
        "figcaption{font-size:13px}</style></head><body><h1>Predictions beside measurements</h1>",
        _html_lines("By kind and regime", lines_of(accuracy.points), ()),
        "<h2>Predicted over measured</h2>",
        *(_scatter(points) for points in accuracy.points if points.predicted.size),
        _html_lines("By chip", lines_of(accuracy.points, ("chip",)), ("chip",)),
        _html_lines("By size class", lines_of(accuracy.kernels, ("size",)), ("size",)),
        _html_lines("By shapes left out of the fit", lines_of(accuracy.left_out, ("shapes",)), ("shapes",)),
        _html_lines("By chip, runtime and format", lines_of(accuracy.kernels, CELL), CELL),
        _html_worst(worst(calibrated(accuracy.kernels))),
        "</body></html>",
    ]
    return "\n".join(parts)


def _html_lines(title: str, lines: Sequence[Line], by: Sequence[str]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("kind", "regime", *by, *NUMBERS))
    rows = []
    for line in lines:
        texts = (line.kind, line.regime, *(getattr(line, name) for name in by))
        cells = "".join(f"<td>{html.escape(text)}</td>" for text in texts)
        rows.append(f"<tr>{cells}{''.join(f'<td class=n>{number}</td>' for number in _numbers(line))}</tr>")
    return f"<h2>{html.escape(title)}</h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def _html_worst(rows: Sequence[tuple[Points, int]]) -> str:
    names = ("kind", "chip", "runtime", "dtype", "case", "measured", "predicted", "bound", "kernel")
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in _worst_cells(points, row))}</tr>"
        for points, row in rows
    )
    return f"<h2>Furthest off</h2><table><tr>{head}</tr>{body}</table>"


def _scatter(points: Points) -> str:
    """Predicted over measured on logarithmic axes, one colour per chip, the diagonal and a factor of two around it."""
    step = max(points.predicted.size // PLOTTED, 1)
    chosen = slice(None, None, step)
    x, y = np.log10(points.measured[chosen]), np.log10(points.predicted[chosen])
    low, high = float(min(x.min(), y.min())) - 0.1, float(max(x.max(), y.max())) + 0.1
    scale = (SIDE - 2 * MARGIN) / (high - low)
    chips = points.labels["chip"][chosen]
    colour = {str(chip): COLOURS[place % len(COLOURS)] for place, chip in enumerate(np.unique(chips))}
    dots = "".join(
        f'<circle cx="{MARGIN + (a - low) * scale:.1f}" cy="{SIDE - MARGIN - (b - low) * scale:.1f}" r="1.6" '
        f'fill="{colour[str(chip)]}" fill-opacity="0.5"/>'
        for a, b, chip in zip(x, y, chips, strict=True)
    )
    lines = "".join(_diagonal(low, high, scale, shift) for shift in (0.0, math.log10(2.0), -math.log10(2.0)))
    ticks = "".join(_tick(power, low, scale) for power in range(math.ceil(low), math.floor(high) + 1))
    names = ", ".join(f"<span style='color:{shade}'>{html.escape(chip)}</span>" for chip, shade in colour.items())
    title = html.escape(f"{points.kind}, {points.regime}")
    return (
        f'<figure><svg viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" font-family="sans-serif" font-size="10">'
        f'<rect width="{SIDE}" height="{SIDE}" fill="white"/>{ticks}{lines}{dots}'
        f'<text x="{SIDE / 2}" y="{SIDE - 8}" text-anchor="middle">measured</text>'
        f'<text x="12" y="{SIDE / 2}" text-anchor="middle" transform="rotate(-90 12 {SIDE / 2})">predicted</text>'
        f"</svg><figcaption><b>{title}</b><br>{names}</figcaption></figure>"
    )


def _diagonal(low: float, high: float, scale: float, shift: float) -> str:
    start, end = low + max(-shift, 0.0), high - max(shift, 0.0)
    ends = [
        (MARGIN + (at - low) * scale, SIDE - MARGIN - (min(max(at + shift, low), high) - low) * scale)
        for at in (start, end)
    ]
    dash = "" if shift == 0.0 else ' stroke-dasharray="3 3"'
    (x1, y1), (x2, y2) = ends
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#999"{dash}/>'


def _tick(power: int, low: float, scale: float) -> str:
    place = (power - low) * scale
    label = f"1e{power}"
    return (
        f'<text x="{MARGIN + place:.1f}" y="{SIDE - MARGIN + 14}" text-anchor="middle">{label}</text>'
        f'<text x="{MARGIN - 4}" y="{SIDE - MARGIN - place + 3:.1f}" text-anchor="end">{label}</text>'
    )


def by_kind(lines: Iterable[Line]) -> dict[str, dict[str, Line]]:
    """Kind -> regime -> its line; kinds in the order in which they came."""
    found: dict[str, dict[str, Line]] = {}
    for line in lines:
        found.setdefault(line.kind, {})[line.regime] = line
    return found


__all__ = ["TARGETS", "Accuracy", "by_kind", "calibrated", "html_page", "refused", "share", "worst_row"]
