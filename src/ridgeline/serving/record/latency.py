"""Latencies of simulated requests: means and percentiles with intervals, promises kept, and where warm-up ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ridgeline.serving.record.gaps import Gaps
from ridgeline.serving.record.played import DONE, Column, Played
from ridgeline.sim.histogram import LogHistogram
from ridgeline.sim.statistics import (
    BATCHES,
    Estimate,
    Percentile,
    mean_interval,
    percentiles,
    sample_size,
    warm_up_fraction,
    warm_up_mser,
)

LEVELS = (0.5, 0.9, 0.95, 0.99)

BEYOND = 10
"""A percentile's interval is taken over batches where each batch would have so many values beyond it; with fewer, the
interval is that of independent values, from order statistics."""


USUAL_SHARE = 0.1
"""Of the requests: warm-up where the run does not tell."""


class Objectives(Protocol):
    """What is promised to a class of requests; inf: nothing."""

    @property
    def name(self) -> str:
        """Of the class."""

    @property
    def ttft_s(self) -> float:
        """Arrival to first token."""

    @property
    def tpot_s(self) -> float:
        """Mean time between tokens of a request, the first left out."""

    @property
    def e2e_s(self) -> float:
        """Arrival to last token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A plain form of `Objectives`."""

    name: str
    ttft_s: float = math.inf
    tpot_s: float = math.inf
    e2e_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """One latency over many requests, s: mean with its interval by batch means, percentiles of `LEVELS` with theirs."""

    mean: Estimate
    percentiles: tuple[Percentile, ...]

    def at(self, level: float) -> Percentile:
        """The percentile of that level."""
        return next(found for found in self.percentiles if found.level == level)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers; null where there is no bound."""
        mean = {"mean": self.mean.value, "low": self.mean.low, "high": self.mean.high, "count": self.mean.count}
        told: dict[str, object] = {name: finite(value) for name, value in mean.items()}
        told["independent_batches"] = self.mean.independent
        for found in self.percentiles:
            ends = {"value": finite(found.value), "low": finite(found.low), "high": finite(found.high)}
            told[f"p{100 * found.level:g}"] = {**ends, "indicative": found.indicative, "needed": found.needed}
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """What was left out as warm-up.

    Attributes:
        until_s: arrivals before this time do not count in the steady state.
        requests: how many those are.
        how: which rule.
        settled: whether the run seems long enough to tell where it ends.
    """

    until_s: float
    requests: int
    how: str
    settled: bool


def finite(value: float) -> float | None:
    """The value, or None where JSON has no number for it."""
    return float(value) if math.isfinite(value) else None


def latency_of(values: Column, confidence: float) -> Latency | None:
    """Mean and percentiles of a latency; None without values.

    Args:
        values: in order of arrival, finite.
        confidence: of the two-sided intervals.
    """
    if not values.size:
        return None
    found = []
    for level in LEVELS:
        together = values.size * (1 - level) >= BEYOND * BATCHES[-1]
        (one,) = percentiles(values, (level,), confidence=confidence, correlated=together)
        found.append(_not_negative(one))
    return Latency(mean=mean_interval(values, confidence=confidence), percentiles=tuple(found))


def _not_negative(found: Percentile) -> Percentile:
    """A time is not negative, whatever Student says of a few batches."""
    ends = {"low": max(found.low, 0.0), "high": found.high}
    return Percentile(
        level=found.level,
        value=found.value,
        confidence=found.confidence,
        count=found.count,
        needed=found.needed,
        indicative=found.indicative,
        **ends,
    )


def gap_latency(gaps: Gaps, requests: int, confidence: float) -> Latency | None:
    """The same of times between tokens, weighted by token; None without gaps.

    Intervals come from stretches of equal time, since gaps of one iteration are one observation and not many. For the
    mark of a small sample, requests count and not gaps.
    """
    if not gaps.number:
        return None
    edges = np.linspace(gaps.at_s.min(), np.nextafter(gaps.at_s.max(), np.inf), BATCHES[-1] + 1)
    place = np.clip(np.searchsorted(edges, gaps.at_s, side="right") - 1, 0, BATCHES[-1] - 1)
    every, parts = LogHistogram(), []
    for i in range(BATCHES[-1]):
        part = LogHistogram()
        gaps.rows(place == i).add_to(part)
        every.merge(part)
        parts += [part] if part.count else []
    means = np.array([part.mean for part in parts])
    quantiles = np.array([part.quantiles(LEVELS) for part in parts])
    mean, at = gaps.total_s / gaps.number, gaps.quantiles(LEVELS, every)
    spread = mean_interval(means, confidence=confidence, batches=len(parts) if len(parts) > 1 else None)
    found = []
    for i, level in enumerate(LEVELS):
        half = (
            mean_interval(quantiles[:, i], confidence=confidence, batches=spread.batches).half_width
            if (spread.batches > 1)
            else math.inf
        )
        needed = sample_size(level)
        found.append(
            Percentile(
                level=level,
                value=at[i],
                low=max(at[i] - half, 0.0),
                high=at[i] + half,
                confidence=confidence,
                count=requests,
                needed=needed,
                indicative=requests < needed,
            )
        )
    estimate = Estimate(
        value=mean,
        low=max(mean - spread.half_width, 0.0),
        high=mean + spread.half_width,
        confidence=confidence,
        count=round(gaps.number),
        batches=spread.batches,
        independent=spread.independent,
    )
    return Latency(mean=estimate, percentiles=tuple(found))


def tpot_of(played: Played) -> Column:
    """Mean time between tokens of each request; NaN for a single token or one that did not end."""
    gaps = np.where(played.output_tokens > 1, played.output_tokens - 1, 1)
    mean = (played.last_s - played.first_s) / gaps
    tpot: Column = np.where((played.end == DONE) & (played.output_tokens > 1), mean, np.nan)
    return tpot


def kept(played: Played, classes: Sequence[Objectives], code: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which requests completed within all objectives of their class."""
    limits = np.array([[each.ttft_s, each.tpot_s, each.e2e_s] for each in classes])[code]
    ttft, e2e = played.first_s - played.arrival_s, played.last_s - played.arrival_s
    tpot = np.nan_to_num(tpot_of(played))
    within: NDArray[np.bool_] = (played.end == DONE) & (ttft <= limits[:, 0]) & (e2e <= limits[:, 2])
    within &= tpot <= limits[:, 1]
    return within


def warm_up_of(played: Played, share: float | None) -> WarmUp:
    """Where warm-up ends: by MSER-5 on TTFT and on TPOT, the later of both; or a share of the requests.

    A cut past the middle only says that the run does not tell; then it is `USUAL_SHARE` of the requests.
    """
    done = np.flatnonzero(played.end == DONE)
    if not done.size:
        return WarmUp(until_s=0.0, requests=0, how="nothing completed", settled=False)
    if share is None:
        tpot = tpot_of(played)[done]
        several = np.flatnonzero(np.isfinite(tpot))
        first = warm_up_mser((played.first_s - played.arrival_s)[done])
        second = warm_up_mser(tpot[several]) if several.size else first
        drop = max(first.drop, int(several[min(second.drop, several.size - 1)]) if several.size else 0)
        how, settled = "MSER-5 on TTFT and TPOT, the later of both", 2 * drop <= done.size
        if not settled:
            drop = warm_up_fraction(done.size, USUAL_SHARE).drop
            how = f"the first {USUAL_SHARE:.0%}, since MSER-5 finds no steady state"
    else:
        drop, settled, how = warm_up_fraction(done.size, share).drop, True, f"the first {share:.0%} of requests"
    if drop <= 0:
        return WarmUp(until_s=0.0, requests=0, how=how, settled=settled)
    until = float(played.arrival_s[done[min(drop, done.size - 1)]])
    before = int(np.count_nonzero(played.arrival_s < until))
    return WarmUp(until_s=until, requests=before, how=how, settled=settled)
