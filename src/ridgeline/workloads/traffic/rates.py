"""Rates of arrivals over time, by what they add up to: the expected number Λ(t) and its inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError

Floats = NDArray[np.float64]

_MOST_BURSTS = 10_000_000
_CHUNK = 1 << 20


class Rate(Protocol):
    """A rate over time, by what it adds up to. Times are in seconds from 0."""

    @property
    def mean_per_s(self) -> float:
        """Its average, over a period or in the end."""
        ...

    def expected(self, time_s: float) -> float:
        """Λ: how many arrivals are expected up to that time."""
        ...

    def times(self, expected: Floats) -> Floats:
        """The inverse of Λ, element by element; `expected` rises."""
        ...


@dataclass(frozen=True, slots=True)
class Flat:
    """The same rate always."""

    mean_per_s: float

    def expected(self, time_s: float) -> float:
        """See Rate."""
        return self.mean_per_s * time_s

    def times(self, expected: Floats) -> Floats:
        """See Rate."""
        return np.asarray(expected / self.mean_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """From one rate to another in a straight line over a time, and then as at its end."""

    start_per_s: float
    mean_per_s: float
    over_s: float

    @property
    def _at_end(self) -> float:
        return (self.start_per_s + self.mean_per_s) / 2 * self.over_s

    def expected(self, time_s: float) -> float:
        """See Rate."""
        t = min(time_s, self.over_s)
        slope = (self.mean_per_s - self.start_per_s) / self.over_s
        return self.start_per_s * t + slope * t * t / 2 + self.mean_per_s * max(time_s - self.over_s, 0.0)

    def times(self, expected: Floats) -> Floats:
        """See Rate."""
        slope = (self.mean_per_s - self.start_per_s) / self.over_s
        inside = np.minimum(expected, self._at_end)
        # The root of the quadratic in the form that loses no digits when the slope is small.
        root = np.sqrt(np.maximum(self.start_per_s**2 + 2 * slope * inside, 0.0))
        t = np.divide(2 * inside, self.start_per_s + root, out=np.zeros_like(inside), where=inside > 0)
        return np.asarray(t + np.maximum(expected - self._at_end, 0.0) / self.mean_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diurnal:
    """A sinusoid that is lowest at time 0: mean (1 - depth cos(2 pi t / period))."""

    mean_per_s: float
    depth: float
    period_s: float

    def expected(self, time_s: float) -> float:
        """See Rate."""
        phase = 2 * math.pi * time_s / self.period_s
        return self.mean_per_s * self.period_s / (2 * math.pi) * (phase - self.depth * math.sin(phase))

    def times(self, expected: Floats) -> Floats:
        """See Rate. Kepler's equation: a table gives the cell, Newton's steps within it the digits."""
        grid = np.linspace(0, 2 * np.pi, 4097)
        known = grid - self.depth * np.sin(grid)
        result = np.empty_like(expected)
        for begin in range(0, len(expected), _CHUNK):
            cycles, rest = np.divmod(expected[begin : begin + _CHUNK] / (self.mean_per_s * self.period_s), 1.0)
            wanted = rest * 2 * np.pi
            cell = np.clip(np.searchsorted(known, wanted, side="right") - 1, 0, len(grid) - 2)
            low, high = grid[cell], grid[cell + 1]
            phase = low + (wanted - known[cell]) / (known[cell + 1] - known[cell]) * (high - low)
            for _ in range(4):
                slope = np.maximum(1 - self.depth * np.cos(phase), 1e-9)
                phase = np.clip(phase - (phase - self.depth * np.sin(phase) - wanted) / slope, low, high)
            result[begin : begin + _CHUNK] = (cycles + phase / (2 * np.pi)) * self.period_s
        return result


class Steps:
    """Rates that hold for a while each, again from the start after the last."""

    __slots__ = ("_ends", "_sums", "mean_per_s")

    def __init__(self, rates_per_s: Floats, lasting_s: Floats) -> None:
        """Rates [k] >= 0, not all 0, and how long each holds [k] > 0."""
        self._ends = np.concatenate([[0.0], np.cumsum(lasting_s)])
        self._sums = np.concatenate([[0.0], np.cumsum(rates_per_s * lasting_s)])
        self.mean_per_s = float(self._sums[-1] / self._ends[-1])

    def expected(self, time_s: float) -> float:
        """See Rate."""
        cycles, rest = divmod(time_s, float(self._ends[-1]))
        return float(cycles * self._sums[-1] + np.interp(rest, self._ends, self._sums))

    def times(self, expected: Floats) -> Floats:
        """See Rate."""
        cycles, rest = np.divmod(expected, self._sums[-1])
        # Where a rate is 0 the sum stands still, and arrivals fall on its end: `side` picks the later of equal sums.
        cell = np.clip(np.searchsorted(self._sums, rest, side="right") - 1, 0, len(self._sums) - 2)
        width, rise = np.diff(self._ends), np.diff(self._sums)
        share = np.divide(rest - self._sums[cell], rise[cell], out=np.zeros_like(rest), where=rise[cell] > 0)
        return np.asarray(cycles * self._ends[-1] + self._ends[cell] + share * width[cell])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """A rate that jumps between quiet and busy after times that are exponential (MMPP with two states)."""

    mean_per_s: float
    peak: float
    on_s: float
    off_s: float

    def path(self, rng: np.random.Generator, total: float, until_s: float) -> Steps:
        """One path of the rate, with at least `total` expected arrivals or up to a time; it starts quiet."""
        quiet = self.mean_per_s * (self.on_s + self.off_s) / (self.on_s * self.peak + self.off_s)
        pairs = int(min(total / (self.mean_per_s * (self.on_s + self.off_s)), until_s / (self.on_s + self.off_s)))
        if pairs > _MOST_BURSTS:
            fix = "give longer bursts or a shorter duration"
            raise DomainError(f"more than {_MOST_BURSTS:,} bursts", at="burst", got=pairs, fix=fix)
        parts: list[Floats] = []
        passed = reached = 0.0
        while passed <= until_s and reached <= total:
            lasting = rng.standard_exponential((pairs // 4 + 16, 2)) * (self.off_s, self.on_s)
            parts.append(lasting)
            passed += float(lasting.sum())
            reached += float((lasting * (quiet, quiet * self.peak)).sum())
        lasting = np.maximum(np.concatenate(parts).ravel(), 1e-12)
        return Steps(np.tile([quiet, quiet * self.peak], len(lasting) // 2), lasting)
