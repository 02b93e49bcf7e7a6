"""What a simulated series says, and how surely: warm-up, means and percentiles with intervals.

A series of a simulation is correlated: one long wait follows another. Formulas for independent samples then give
intervals that are far too narrow, so means use batches, and percentiles can.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError
from ridgeline.sim._distributions import binomial_ranks, fraction, normal_quantile, student_half_width

BATCHES = (40, 20, 10)
"""Numbers of batches to try, most first; beyond 10 to 30 more gain little (Schmeiser, Operations Research 1982)."""

CORRELATION_QUANTILE = 0.9
"""Batches count as correlated when their lag-1 correlation is above this quantile of what independent ones show."""

MLPERF_CONFIDENCE = 0.99
MLPERF_MARGIN_SHARE = 1 / 20
MLPERF_MULTIPLE = 1 << 13


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Where the warm-up of a series ends.

    Attributes:
        drop: how many leading values belong to it.
        settled: whether the series seems long enough to tell; false when the best cut lies past its middle.
    """

    drop: int
    settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        low, high: ends of the two-sided interval; infinite when fewer than two values were given.
        count: how many values the mean is taken over.
        batches: how many batches the interval rests on.
        independent: whether the batches seem uncorrelated; if not, the interval is too narrow: run for longer.
    """

    value: float
    low: float
    high: float
    confidence: float
    count: int
    batches: int
    independent: bool

    @property
    def half_width(self) -> float:
        """Half the interval."""
        return (self.high - self.low) / 2

    @property
    def relative(self) -> float:
        """Half the interval as a share of the mean's size; infinite around a mean of 0, but 0 if it has no width."""
        if self.half_width == 0.0:
            return 0.0
        return self.half_width / abs(self.value) if self.value else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """A percentile with its interval.

    Attributes:
        level: the share of values at or below it, as 0.99.
        low, high: the interval; infinite where the sample is too small to bound the percentile on that side.
        count: size of the sample.
        needed: the sample that MLPerf asks for at this level, see `sample_size`.
        indicative: whether the sample is smaller than that.
    """

    level: float
    value: float
    low: float
    high: float
    confidence: float
    count: int
    needed: int
    indicative: bool


def warm_up_mser(values: ArrayLike, *, batch: int = 5) -> WarmUp:
    """The cut that minimises the standard error of the mean of what remains (MSER-5 with batches of five).

    Args:
        values: shape (n,), in order of time.
        batch: how many neighbours are averaged first.
    Source: White, Simulation 69(6), 1997; batches of five: White, Cobb and Spratt, Winter Simulation Conference 2000.
    """
    series = _series(values)
    batch = whole(batch, "batch")
    means = series[: series.size // batch * batch].reshape(-1, batch).mean(axis=1)
    if means.size < 2:
        return WarmUp(drop=0, settled=False)
    means = means - means.mean()  # the spread around any cut is then a difference of small numbers
    left = np.arange(means.size, 0, -1)
    sums, squares = (np.cumsum(column[::-1])[::-1] for column in (means, means**2))
    error = np.maximum(squares - sums**2 / left, 0.0) / left.astype(np.float64) ** 2
    # A handful of last values may agree by chance, so cuts that leave fewer than five batches are not asked.
    cut = int(np.argmin(error[: max(means.size - 5, 1)]))
    return WarmUp(drop=cut * batch, settled=2 * cut <= means.size)


def warm_up_fraction(count: int, share: float = 0.1) -> WarmUp:
    """The rule of thumb: a fixed share of a series of `count` values is warm-up."""
    if not 0.0 <= share < 1.0:
        raise DomainError("the warm-up is a share of the series, at least 0 and below 1", at="share", got=share)
    return WarmUp(drop=math.ceil(whole(count, "count", least=0) * share), settled=True)


def mean_interval(values: ArrayLike, *, confidence: float = 0.95, batches: int | None = None) -> Estimate:
    """The mean of a correlated series with an interval by batch means.

    The series is cut into 40 batches; while their means are correlated from one to the next, into 20, then 10 longer
    ones. Values left over by the cut are in the mean and not in the interval.

    Args:
        values: shape (n,), in order of time, without warm-up.
        confidence: of the two-sided interval.
        batches: a fixed number of batches instead; the length of the series for independent values.
    Source: Law and Kelton, Simulation Modeling and Analysis, 2000, 9.5.3; the check is von Neumann's.
    """
    series = _series(values)
    fraction(confidence, "confidence")
    mean = float(series.mean())
    if series.size < 2:
        return Estimate(
            value=mean, low=-math.inf, high=math.inf, confidence=confidence, count=1, batches=1, independent=False
        )
    means, independent = _batched(series, batches, lambda parts: parts.mean(axis=1))
    half = _half_width(means, confidence)
    return Estimate(
        value=mean,
        low=mean - half,
        high=mean + half,
        confidence=confidence,
        count=series.size,
        batches=means.size,
        independent=independent,
    )


def sample_size(level: float, *, confidence: float = MLPERF_CONFIDENCE) -> int:
    """How many samples MLPerf asks for to report a percentile: 24,576 for p90, 270,336 for p99.

    The margin is a twentieth of the distance to 1; the number is rounded up to a multiple of 2^13.

    Source: MLPerf Inference rules, statistical confidence (mlcommons/inference_policies, inference_rules.adoc).
    """
    margin = (1 - fraction(level, "level")) * MLPERF_MARGIN_SHARE
    z = normal_quantile(0.5 + fraction(confidence, "confidence") / 2)
    return math.ceil(z**2 * level * (1 - level) / margin**2 / MLPERF_MULTIPLE) * MLPERF_MULTIPLE


def percentiles(
    values: ArrayLike,
    levels: Sequence[float] = (0.5, 0.9, 0.95, 0.99),
    *,
    confidence: float = 0.95,
    correlated: bool = False,
    batches: int | None = None,
) -> tuple[Percentile, ...]:
    """Percentiles with their intervals, each marked when the sample is smaller than MLPerf asks for.

    The value is the smallest one with at least that share of the sample at or below it. The interval is free of any
    assumption on the distribution: two order statistics, for independent values; with `correlated`, Student's interval
    over the percentiles of batches, whose number is chosen as in `mean_interval`.

    Args:
        values: shape (n,); infinite ones (never answered) are allowed, NaN is not; in order of time if `correlated`.
        levels: shares between 0 and 1, in any order.
        confidence: of each two-sided interval.
        correlated: whether neighbours depend on each other, as waits in a queue do.
        batches: a fixed number of batches, for `correlated`.
    """
    series = _series(values, finite=correlated)
    fraction(confidence, "confidence")
    spans = [rank_span(series.size, level, confidence) for level in levels]
    wanted = sorted({min(max(rank, 1), series.size) - 1 for span in spans for rank in span})
    ordered = np.partition(series, wanted) if wanted else series
    ranked = {rank: float(ordered[rank - 1]) for rank in (index + 1 for index in wanted)}
    ranked |= {0: -math.inf, series.size + 1: math.inf}
    found = []
    for level, (low, at, high) in zip(levels, spans, strict=True):
        value, ends = ranked[at], (ranked[low], ranked[high])
        if correlated:
            ends = _batch_interval(series, level, value, confidence, batches)
        found.append(percentile_of(level, value, *ends, confidence=confidence, count=series.size))
    return tuple(found)


def percentile_of(level: float, value: float, low: float, high: float, *, confidence: float, count: int) -> Percentile:
    """A percentile from its parts, marked when the sample is too small."""
    needed = sample_size(level)
    return Percentile(
        level=level,
        value=value,
        low=low,
        high=high,
        confidence=confidence,
        count=count,
        needed=needed,
        indicative=count < needed,
    )


def rank_span(count: int, level: float, confidence: float) -> tuple[int, int, int]:
    """The ranks (from 1) of a percentile's lower end, value and upper end; 0 and count + 1 mean no bound."""
    low, high = binomial_ranks(count, fraction(level, "level"), confidence)
    # 0.07 * 100 is a little above 7 in floating point; that must not be rank 8.
    at = min(max(math.ceil(count * level * (1 - 1e-12)), 1), count)
    return low, at, high


def whole(number: int, at: str, *, least: int = 1) -> int:
    """A whole number of at least `least`."""
    try:
        value = operator.index(number)
    except TypeError:
        value = least - 1
    if value < least:
        raise DomainError(f"a whole number >= {least}", at=at, got=number)
    return value


def _series(values: ArrayLike, *, finite: bool = True) -> NDArray[np.float64]:
    series = np.asarray(values, np.float64)
    if series.ndim != 1 or series.size == 0:
        raise DomainError("a series has one dimension and at least one value", at="values", got=series.shape)
    if np.isnan(series).any() or (finite and np.isinf(series).any()):
        raise DomainError("a series holds finite numbers", at="values", got=series[~np.isfinite(series)][0])
    return series


def _batched(
    series: NDArray[np.float64], batches: int | None, summary: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> tuple[NDArray[np.float64], bool]:
    """One figure per batch of equal length, and whether they seem uncorrelated; a few first values may be left out."""
    if batches is not None and not 2 <= whole(batches, "batches") <= series.size:
        raise DomainError("at least two batches, and no more than there are values", at="batches", got=batches)
    tries = [count for count in BATCHES if 2 * count <= series.size] or [series.size]
    for count in tries if batches is None else [batches]:
        length = series.size // count
        figures = summary(series[series.size - count * length :].reshape(count, length))
        if _uncorrelated(figures):
            return figures, True
    return figures, False


def _uncorrelated(figures: NDArray[np.float64]) -> bool:
    """Von Neumann's test on successive differences, as a lag-1 correlation that is 0 on average if independent."""
    apart = figures - figures.mean()
    total, count = float(apart @ apart), figures.size
    if total == 0.0:
        return True
    lag = float(apart[1:] @ apart[:-1] + (apart[0] ** 2 + apart[-1] ** 2) / 2) / total
    return lag <= normal_quantile(CORRELATION_QUANTILE) * math.sqrt((count - 2) / (count**2 - 1))


def _half_width(figures: NDArray[np.float64], confidence: float) -> float:
    spread = float(figures.std(ddof=1)) / math.sqrt(figures.size)
    return student_half_width(figures.size - 1, confidence) * spread


def _batch_interval(
    series: NDArray[np.float64], level: float, value: float, confidence: float, batches: int | None
) -> tuple[float, float]:
    """The ends of a percentile's interval over batches."""
    if series.size < 2:
        return -math.inf, math.inf

    def of_each(parts: NDArray[np.float64]) -> NDArray[np.float64]:
        rank = rank_span(parts.shape[1], level, confidence)[1] - 1
        return np.partition(parts, rank, axis=1)[:, rank]

    half = _half_width(_batched(series, batches, of_each)[0], confidence)
    return value - half, value + half
