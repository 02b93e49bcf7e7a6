"""Validation: how far prices are from measurements on shapes that no fit saw, by kind, chip, format and size.

A kind's scorer turns a measured table into `Scored` groups in three regimes: `physics` (the chip was measured, no
residual table), `calibrated` (with it) and `datasheet` (all rows of the chip left out of the fit). They are never
mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import UnknownNameError, did_you_mean
from ridgeline.costs.fits import gemm_scores
from ridgeline.costs.fits.gemm_scores import Scored
from ridgeline.costs.measurements import Measurements, read

SCORERS: Mapping[str, Callable[[Measurements], list[Scored]]] = {"gemm": gemm_scores.scored}
"""Per kind of table, what prices its rows. A kind joins by adding its scorer here."""
FILES: Mapping[str, str] = {"gemm": "gemm.parquet"}
ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Errors of one group, as shares: median and 90th percentile of the absolute error, and the median signed one.

    `covered` is the share of measurements inside the 80 % interval, of those that did not set it; `shapes` a family of
    shapes that was left out of the fit, `known` the median of the whole fit on the same rows.
    """

    kind: str
    regime: str
    chip: str = ALL
    runtime: str = ALL
    version: str = ALL
    dtype: str = ALL
    size: str = ALL
    count: int
    median: float
    p90: float
    bias: float
    covered: float | None = None
    known: float | None = None
    shapes: str = ALL

    @property
    def key(self) -> str:
        """How a baseline names the line."""
        return "/".join((self.kind, self.regime, self.chip, self.runtime, self.version, self.dtype, self.size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All lines: per chip and format, per size class, and per kind; groups whose host or power set the time apart."""

    lines: tuple[Line, ...]
    apart: tuple[Line, ...] = field(default=())

    def baseline(self) -> dict[str, float]:
        """Median errors by line, to be committed."""
        return {line.key: round(line.median, 4) for line in self.lines}


def validate(data: Path, kinds: Sequence[str] = ()) -> Report:
    """Score kinds (default: all that have a scorer) on the tables of folder `data`.

    Raises: UnknownNameError: a kind without a scorer.
    """
    lines: list[Line] = []
    apart: list[Line] = []
    for kind in kinds or tuple(SCORERS):
        if kind not in SCORERS:
            raise UnknownNameError(f"no scorer for {kind!r}", at="kind", fix=did_you_mean(kind, SCORERS))
        scored = SCORERS[kind](read(data / FILES[kind], kind))
        lines += summarise([group for group in scored if not group.apart])
        apart += by_cell([group for group in scored if group.apart])
    return Report(lines=tuple(lines), apart=tuple(apart))


def summarise(scored: Sequence[Scored]) -> list[Line]:
    """Lines per cell, per format and size class, and per kind."""
    return [*by_cell(scored), *by_size(scored), *by_kind(scored)]


def by_cell(scored: Iterable[Scored]) -> list[Line]:
    """One line per chip, runtime, version, format and regime."""
    return [
        _line([group], chip=group.chip, runtime=group.runtime, version=group.version, dtype=group.dtype)
        for group in scored
    ]


def by_size(scored: Sequence[Scored]) -> list[Line]:
    """One line per regime, format and size class."""
    lines = []
    for kind, regime, dtype in sorted({(g.kind, g.regime, g.dtype) for g in scored}):
        groups = [g for g in scored if (g.kind, g.regime, g.dtype) == (kind, regime, dtype)]
        sizes = sorted({str(label) for g in groups for label in np.unique(g.size)})
        lines += [_line([g.rows(g.size == size) for g in groups], dtype=dtype, size=size) for size in sizes]
    return lines


def by_kind(scored: Sequence[Scored]) -> list[Line]:
    """One line per kind and regime, and per format within."""
    lines = []
    for kind, regime in sorted({(g.kind, g.regime) for g in scored}):
        groups = [g for g in scored if (g.kind, g.regime) == (kind, regime)]
        lines.append(_line(groups))
        dtypes = sorted({g.dtype for g in groups})
        lines += [_line([g for g in groups if g.dtype == dtype], dtype=dtype) for dtype in dtypes]
    return lines


def regressions(report: Report, baseline: Mapping[str, float], allowed: float = 0.01) -> list[str]:
    """What got worse by more than `allowed` (absolute) in a median, or vanished from the report."""
    now = {line.key: line.median for line in report.lines}
    found = []
    for key, before in sorted(baseline.items()):
        if key not in now:
            found.append(f"{key}: no longer scored (was {before:.1%})")
        elif now[key] > before + allowed:
            found.append(f"{key}: median error {before:.1%} -> {now[key]:.1%}")
    return found


def covered(scored: Iterable[Scored], low: float, high: float) -> float:
    """Share of measurements between `low` and `high` times the price: 0.8 for an honest p10-p90 interval.

    Rows that set the intervals do not count.
    """
    parts = [group.rows(~group.sets_interval) for group in scored]
    ratio = np.concatenate([part.measured_s / part.priced_s for part in parts])
    return float(np.mean((ratio >= low) & (ratio <= high)))


def render(report: Report) -> str:
    """The report as text, one line per group."""
    rows = [_text(line) for line in report.lines]
    if report.apart:
        rows += ["", "apart: the host or a power-limited run set these times", *(_text(line) for line in report.apart)]
    head = f"{'regime':<11}{'chip':<16}{'runtime':<9}{'version':<11}{'dtype':<10}{'size':<9}{'rows':>8}"
    return "\n".join([f"{head}{'median':>9}{'p90':>8}{'bias':>8}", *rows]) + "\n"


def _text(line: Line) -> str:
    labels = f"{line.regime:<11}{line.chip:<16}{line.runtime:<9}{line.version:<11}{line.dtype:<10}{line.size:<9}"
    return f"{labels}{line.count:>8}{line.median:>9.1%}{line.p90:>8.1%}{line.bias:>8.1%}"


def _line(groups: Sequence[Scored], **labels: str) -> Line:
    ratio: NDArray[np.float64] = np.concatenate([group.priced_s / group.measured_s for group in groups]) - 1.0
    off = np.abs(ratio)
    return Line(
        kind=groups[0].kind,
        regime=groups[0].regime,
        count=int(off.size),
        median=float(np.median(off)),
        p90=float(np.quantile(off, 0.9)),
        bias=float(np.median(ratio)),
        covered=None,
        known=None,
        **labels,
    )
