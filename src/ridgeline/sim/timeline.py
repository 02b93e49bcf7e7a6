"""Quantities that change over time: integrals and means over windows, how many were inside, Little's law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError


def window_integrals(
    times_s: ArrayLike, values: ArrayLike, edges_s: ArrayLike, *, linear: bool = False
) -> NDArray[np.float64]:
    """The integral of a quantity over each window.

    Args:
        times_s: shape (n,), never falling; two equal times are a jump.
        values: shape (n,). Each holds from its time until the next one, and the last one for ever; with `linear` the
            quantity goes straight from one to the next instead.
        edges_s: shape (m + 1,), never falling, not before the first time: m windows that touch.
        linear: see `values`.
    Returns:
        Unit of the values times seconds, shape (m,). The windows add up to the whole, whatever their edges.
    """
    times, heights, edges = _checked(times_s, values, edges_s)
    gaps = np.diff(times)
    areas = gaps * ((heights[:-1] + heights[1:]) / 2 if linear else heights[:-1])
    until = np.concatenate([[0.0], np.cumsum(areas)])
    at = np.searchsorted(times, edges, side="right") - 1
    past = edges - times[at]
    inside = until[at] + heights[at] * past
    if linear:
        # From the last time on there is nowhere to go: no gap, no rise.
        gap, rise = (np.append(column, 0.0)[at] for column in (gaps, np.diff(heights)))
        inside += rise * past / 2 * np.divide(past, gap, out=np.zeros_like(past), where=gap > 0)
    return np.diff(inside)


def window_means(
    times_s: ArrayLike, values: ArrayLike, edges_s: ArrayLike, *, linear: bool = False
) -> NDArray[np.float64]:
    """The mean over time of a quantity in each window, shape (m,); arguments as of `window_integrals`.

    Raises:
        DomainError: also for a window without length.
    """
    widths = np.diff(np.asarray(edges_s, np.float64))
    if not (widths > 0).all():
        raise DomainError("a mean over time needs windows of some length", at="edges_s", got=edges_s)
    return window_integrals(times_s, values, edges_s, linear=linear) / widths


def population(arrivals_s: ArrayLike, departures_s: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many are inside over time.

    Args:
        arrivals_s: one per visit, in any order.
        departures_s: of the same visits; infinite for those that never left.
    Returns:
        Times at which the number changes, and the number from then on; both may hold several entries for one time, of
        which the last counts. Arrivals go before departures of the same time, so the number is never negative.
    """
    arrivals, departures = _visits(arrivals_s, departures_s)
    departures = departures[np.isfinite(departures)]
    times = np.concatenate([arrivals, departures])
    changes = np.concatenate([np.ones(arrivals.size), -np.ones(departures.size)])
    order = np.argsort(times, kind="stable")
    return times[order], np.cumsum(changes[order])


@dataclass(frozen=True, slots=True, kw_only=True)
class Little:
    """Both sides of Little's law over a window.

    Attributes:
        inside: mean number inside over time.
        rate_per_s: arrivals in the window per second.
        stay_s: mean stay of those arrivals.
        gap: |inside - rate * stay| as a share of the larger side. It holds the visits that cross the window's ends, so
            it falls as the window grows; that of a steady system goes to 0.
    """

    inside: float
    rate_per_s: float
    stay_s: float
    gap: float


def littles_law(arrivals_s: ArrayLike, departures_s: ArrayLike, start_s: float, end_s: float) -> Little:
    """Check Little's law on recorded visits: the number inside is counted, the stay is averaged, and they must agree.

    Every visit that touches the window has to be among those given.

    Source: Little, Operations Research 9(3), 1961.
    """
    arrivals, departures = _visits(arrivals_s, departures_s)
    if not start_s < end_s < np.inf:
        raise DomainError("the window ends after it starts", at="end_s", got=(start_s, end_s))
    times, inside = population(arrivals, departures)
    times, inside = np.concatenate([[np.min(times, initial=start_s)], times]), np.concatenate([[0.0], inside])
    mean = float(window_means(times, inside, [start_s, end_s])[0])
    within = (arrivals >= start_s) & (arrivals < end_s)
    rate = int(np.count_nonzero(within)) / (end_s - start_s)
    stay = float((departures[within] - arrivals[within]).mean()) if within.any() else 0.0
    larger = max(mean, rate * stay)
    gap = 0.0 if larger == 0 else 1.0 if larger == np.inf else abs(mean - rate * stay) / larger
    return Little(inside=mean, rate_per_s=rate, stay_s=stay, gap=gap)


def _visits(arrivals_s: ArrayLike, departures_s: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    arrivals, departures = np.asarray(arrivals_s, np.float64), np.asarray(departures_s, np.float64)
    if arrivals.ndim != 1 or arrivals.shape != departures.shape:
        raise DomainError("one departure per arrival", at="departures_s", got=(arrivals.shape, departures.shape))
    if not np.isfinite(arrivals).all():
        raise DomainError("arrivals are finite", at="arrivals_s", got=arrivals[~np.isfinite(arrivals)][0])
    early = ~(departures >= arrivals)
    if early.any():
        raise DomainError("nobody departs before arriving", at="departures_s", got=departures[early][0])
    return arrivals, departures


def _checked(
    times_s: ArrayLike, values: ArrayLike, edges_s: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    times, heights, edges = (np.asarray(column, np.float64) for column in (times_s, values, edges_s))
    if times.ndim != 1 or times.shape != heights.shape or times.size == 0:
        raise DomainError("one value per time, at least one", at="values", got=(times.shape, heights.shape))
    for column, at in ((times, "times_s"), (edges, "edges_s")):
        if column.ndim != 1 or not (np.isfinite(column).all() and (np.diff(column) >= 0).all()):
            raise DomainError("times are finite and in order", at=at, got=column)
    if not np.isfinite(heights).all():
        raise DomainError("values are finite", at="values", got=heights[~np.isfinite(heights)][0])
    if edges.size and edges[0] < times[0]:
        raise DomainError(f"no window begins before the first time, {times[0]!r} s", at="edges_s", got=edges[0])
    return times, heights, edges
