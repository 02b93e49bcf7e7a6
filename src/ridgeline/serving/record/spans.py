"""Intervals of time: how much of the time they cover, who is inside when, and fair shares among those inside.

Everything is a few sorts and sums over columns; an interval holds its begin and not its end, so that what ends at an
instant has left when something else begins there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spans:
    """Disjoint intervals in order of time."""

    begin_s: Column
    end_s: Column

    @property
    def total_s(self) -> float:
        """Time that they cover."""
        return float((self.end_s - self.begin_s).sum())

    def until(self, times_s: Column | float) -> Column:
        """Time that they cover before each of `times_s`, same shape."""
        times = np.asarray(times_s, np.float64)
        if not self.begin_s.size:
            return np.zeros_like(times)
        before = np.concatenate([[0.0], np.cumsum(self.end_s - self.begin_s)])
        at = np.searchsorted(self.begin_s, times, side="right")
        last = np.maximum(at - 1, 0)
        inside = np.minimum(times, self.end_s[last]) - self.begin_s[last]
        return np.where(at > 0, before[last] + inside, 0.0)


def union(begin_s: Column, end_s: Column) -> Spans:
    """The time that is inside at least one of the intervals."""
    order = np.argsort(begin_s, kind="stable")
    begin, end = begin_s[order], np.maximum(end_s, begin_s)[order]
    if not begin.size:
        return Spans(begin_s=begin, end_s=end)
    reach = np.maximum.accumulate(end)
    opens = np.concatenate([[True], begin[1:] > reach[:-1]])
    closes = np.concatenate([opens[1:], [True]])
    return Spans(begin_s=begin[opens], end_s=reach[closes])


def present(times_s: Column, begin_s: Column, end_s: Column, weights: Column | None = None) -> Column:
    """Weight (1 each without) of the intervals that hold each of `times_s`; weights in whole numbers are exact."""
    return _passed(times_s, begin_s, weights) - _passed(times_s, end_s, weights)


def _passed(times_s: Column, marks_s: Column, weights: Column | None) -> Column:
    """Weight of the marks at or before each time."""
    if weights is None:
        passed: Column = np.searchsorted(np.sort(marks_s), times_s, side="right").astype(np.float64)
        return passed
    order = np.argsort(marks_s, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(weights[order])])
    summed: Column = sums[np.searchsorted(marks_s[order], times_s, side="right")]
    return summed


def spread(
    times_s: Column, amounts: Column, begin_s: Column, end_s: Column, weights: Column | None = None
) -> tuple[Column, float]:
    """Divide what is spent at instants among those inside, by weight.

    Args:
        times_s: shape (n,): when something is spent, in order of time.
        amounts: how much.
        begin_s: shape (m,): since when each is inside.
        end_s: when it leaves.
        weights: whole numbers; 1 each without.
    Returns: the share of each, shape (m,); and what was spent while nobody was inside.
    """
    inside = present(times_s, begin_s, end_s, weights)
    shared = inside > 0.5
    each = np.divide(amounts, inside, out=np.zeros_like(amounts), where=shared)
    sums = np.concatenate([[0.0], np.cumsum(each)])
    to, since = (np.searchsorted(times_s, marks, side="left") for marks in (end_s, begin_s))
    shares: Column = np.where(to > since, sums[to] - sums[since], 0.0)
    return shares if weights is None else shares * weights, float(amounts[~shared].sum())


def shared_time(begin_s: Column, end_s: Column) -> Column:
    """The time of each interval, every instant divided by how many are inside; sums to the time of their union."""
    marks = np.concatenate([begin_s, end_s])
    change = np.concatenate([np.ones(begin_s.size), -np.ones(end_s.size)])
    order = np.argsort(marks, kind="stable")
    times, inside = marks[order], np.cumsum(change[order])
    lasting = np.diff(times, append=times[-1:])
    each = np.divide(lasting, inside, out=np.zeros_like(lasting), where=inside > 0.5)
    sums = np.concatenate([[0.0], np.cumsum(each)])
    place = np.empty(marks.size, np.intp)
    place[order] = np.arange(marks.size)
    shares: Column = sums[place[begin_s.size :]] - sums[place[: begin_s.size]]
    return shares
