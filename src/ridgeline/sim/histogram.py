"""A histogram for any positive range that keeps no values: percentiles of a stream in bounded memory."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError
from ridgeline.sim._distributions import fraction
from ridgeline.sim.statistics import Percentile, percentile_of, rank_span

# The leading bits of a positive float, read as a whole number, grow with it: the exponent and 7 bits of the fraction
# make 128 bins per doubling, each at most 1/128 = 0.8 % wide, without a logarithm and equal on every machine.
SHIFT = 52 - 7
_FLOAT, _BITS = struct.Struct("<d"), struct.Struct("<q")


class LogHistogram:
    """Counts in bins that are at most 1 % wide, from 0 to the largest float.

    Count, sum, least and largest value are exact; a quantile lies in the bin of the exact one, so within 1 % of it
    (half a bin, 0.4 %, as a rule). Memory is 8 bytes per bin between the least and the largest value: some 20 kB from
    microseconds to minutes.

    Attributes:
        count: sum of weights.
        total: sum of weight times value.
        least, largest: of the values with some weight; infinite, with the wrong sign, while there are none.
    """

    __slots__ = ("_first", "_weights", "_zeros", "count", "largest", "least", "total")

    def __init__(self) -> None:
        self._first = 0
        self._weights = np.zeros(0)
        self._zeros = self.count = self.total = 0.0
        self.least, self.largest = math.inf, -math.inf

    @property
    def mean(self) -> float:
        """The exact mean; NaN while there are no values."""
        return self.total / self.count if self.count else math.nan

    def add(self, values: ArrayLike, weights: ArrayLike | None = None) -> None:
        """Count many values.

        Args:
            values: any shape, finite and >= 0.
            weights: broadcast against the values, finite and >= 0; 1 each without.
        """
        column = np.asarray(values, np.float64)
        weight = None
        if weights is not None:
            column, weight = (part.ravel() for part in np.broadcast_arrays(column, np.asarray(weights, np.float64)))
            if not (np.isfinite(weight) & (weight >= 0)).all():
                raise DomainError("weights are finite and not negative", at="weights", got=weights)
            column, weight = column[weight > 0], weight[weight > 0]
        column = column.ravel()
        if column.size == 0:
            return
        least, largest = float(column.min()), float(column.max())
        if not 0.0 <= least <= largest < math.inf:
            raise DomainError("values are finite and not negative", at="values", got=values)
        self.count += float(column.size if weight is None else weight.sum())
        self.total += float(column.sum() if weight is None else column @ weight)
        self.least, self.largest = min(self.least, least), max(self.largest, largest)
        above = column > 0
        if least == 0.0:
            self._zeros += float(np.count_nonzero(~above) if weight is None else weight[~above].sum())
            column, weight = column[above], None if weight is None else weight[above]
        if column.size:
            bins = column.view(np.int64) >> SHIFT
            start = int(bins.min())
            self._add(start, np.bincount(bins - start, weights=weight))

    def add_one(self, value: float, weight: float = 1.0) -> None:
        """Count one value, faster than `add` does."""
        if not (0.0 <= value < math.inf and 0.0 <= weight < math.inf):
            raise DomainError("values and weights are finite and not negative", at="value", got=(value, weight))
        if not weight:
            return
        self.count += weight
        self.total += weight * value
        self.least, self.largest = min(self.least, value), max(self.largest, value)
        if not value:
            self._zeros += weight
            return
        (bits,) = _BITS.unpack(_FLOAT.pack(value))
        place = (bits >> SHIFT) - self._first
        if not 0 <= place < self._weights.size:
            self._cover(bits >> SHIFT, 1)
            place = (bits >> SHIFT) - self._first
        self._weights[place] += weight

    def merge(self, other: LogHistogram) -> None:
        """Add what another histogram counted."""
        self._add(other._first, other._weights)
        self._zeros += other._zeros
        self.count += other.count
        self.total += other.total
        self.least, self.largest = min(self.least, other.least), max(self.largest, other.largest)

    def quantiles(self, levels: ArrayLike) -> NDArray[np.float64]:
        """The values below which these shares of the weight lie, same shape; each within 1 %.

        Raises:
            DomainError: no value yet, or a level outside 0 to 1.
        """
        wanted = np.asarray(levels, np.float64)
        if not ((wanted >= 0) & (wanted <= 1)).all():
            raise DomainError("a quantile's level lies between 0 and 1", at="levels", got=levels)
        # A level that is a multiple of 1/count may come out a little above it; see `rank_span`.
        return self._at(wanted * self.count * (1 - 1e-12))

    def percentiles(
        self, levels: Sequence[float] = (0.5, 0.9, 0.95, 0.99), *, confidence: float = 0.95
    ) -> tuple[Percentile, ...]:
        """Percentiles with intervals, as `ridgeline.sim.percentiles` gives them, each figure within 1 %.

        Weights have to be counts of independent values, or the interval means nothing.
        """
        fraction(confidence, "confidence")
        found = []
        for level in levels:
            count = max(round(self.count), 1)
            low, at, high = rank_span(count, level, confidence)
            ends = self._at(np.array([low, at, high], np.float64) * (1 - 1e-12))
            found.append(
                percentile_of(
                    level,
                    float(ends[1]),
                    -math.inf if low == 0 else float(ends[0]),
                    math.inf if high > count else float(ends[2]),
                    confidence=confidence,
                    count=count,
                )
            )
        return tuple(found)

    def _at(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The middle of the bins in which the running weight reaches these, within least and largest."""
        if not self.count:
            raise DomainError("a histogram without values has no quantiles", at="levels", fix="add values first")
        held = np.flatnonzero(self._weights)
        running = np.concatenate([[0.0], np.cumsum(self._weights[held])]) + self._zeros
        low, high = ((held + self._first + side << SHIFT).view(np.float64) for side in (0, 1))
        # Halves first, so that the last bin does not overflow; place 0 stands for the value 0.
        middles = np.concatenate([[0.0], low / 2 + np.minimum(high, np.finfo(np.float64).max) / 2])
        places = np.minimum(np.searchsorted(running, weights), held.size)
        return np.asarray(np.clip(middles[places], self.least, self.largest))

    def _add(self, first: int, weights: NDArray[Any]) -> None:
        """Add the weights of the bins from `first` on."""
        if weights.size:
            self._cover(first, weights.size)
            self._weights[first - self._first :][: weights.size] += weights

    def _cover(self, first: int, size: int) -> None:
        """Make room for so many bins from `first` on."""
        held = self._weights.size
        start, end = (min(first, self._first), max(first + size, self._first + held)) if held else (first, first + size)
        if end - start > held:
            grown = np.zeros(end - start)
            grown[self._first - start :][:held] = self._weights if held else 0.0
            self._first, self._weights = start, grown
