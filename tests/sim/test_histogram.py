"""Percentiles of a stream: within 1 % of the exact ones, whatever came in and in whatever order."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.sim import LogHistogram, percentiles

WITHIN = 0.01
LEVELS = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999)

positive = st.just(0.0) | st.floats(1e-300, 1e300)
samples = st.lists(positive, min_size=1, max_size=100)


def filled(values: object) -> LogHistogram:
    histogram = LogHistogram()
    histogram.add(values)  # type: ignore[arg-type]
    return histogram


def exact(values: NDArray[np.float64], levels: tuple[float, ...]) -> NDArray[np.float64]:
    return np.quantile(values, levels, method="inverted_cdf")


@given(values=samples)
def test_quantiles_are_within_one_percent_of_the_exact_ones(values: list[float]) -> None:
    histogram, levels = filled(values), (0.0, 0.3, 0.77, 1.0)
    np.testing.assert_allclose(histogram.quantiles(levels), exact(np.array(values), levels), rtol=WITHIN)


@pytest.mark.parametrize("spread", [0.01, 1.0, 5.0])
def test_quantiles_of_long_tails_are_within_one_percent(spread: float) -> None:
    values = stream(0, "tail").lognormal(-3.0, spread, 200_000)
    np.testing.assert_allclose(filled(values).quantiles(LEVELS), exact(values, LEVELS), rtol=WITHIN)


@given(values=samples, cut=st.integers(0, 100))
def test_the_way_values_come_in_does_not_matter(values: list[float], cut: int) -> None:
    at_once, one_by_one, merged = filled(values), LogHistogram(), filled(values[:cut])
    for value in values:
        one_by_one.add_one(value)
    merged.merge(filled(values[cut:]))
    for other in (one_by_one, merged):
        assert other.quantiles(LEVELS).tolist() == at_once.quantiles(LEVELS).tolist()
        assert (other.count, other.least, other.largest) == (len(values), min(values), max(values))
        assert other.total == pytest.approx(math.fsum(values), rel=1e-12)


@given(pairs=st.lists(st.tuples(positive, st.integers(0, 5)), min_size=1, max_size=50))
def test_a_weight_is_a_repetition(pairs: list[tuple[float, int]]) -> None:
    values, weights = np.array(pairs, float).T
    repeated, weighted, single = filled(np.repeat(values, weights.astype(int))), LogHistogram(), LogHistogram()
    weighted.add(values, weights)
    for value, weight in pairs:
        single.add_one(value, weight)
    for other in (weighted, single):
        assert (other.count, other.least, other.largest) == (repeated.count, repeated.least, repeated.largest)
        if repeated.count:
            assert other.quantiles(LEVELS).tolist() == repeated.quantiles(LEVELS).tolist()
            assert other.mean == pytest.approx(repeated.mean, rel=1e-12)


def test_the_extremes_of_floats_fit() -> None:
    values = [0.0, -0.0, 5e-324, 1.0, sys.float_info.max]
    found = filled(values).quantiles([0.4, 0.6, 0.8, 1.0])
    assert found[0] == 0.0
    assert 0.0 < found[1] < 1e-300
    assert found[2:] == pytest.approx([1.0, sys.float_info.max], rel=WITHIN)


def test_a_single_value_is_itself() -> None:
    assert filled(0.3).quantiles([0.0, 0.5, 1.0]).tolist() == [0.3, 0.3, 0.3]
    assert filled(np.full((3, 4), 0.3)).count == 12
    assert filled([0.3]).quantiles(0.5).shape == ()


def test_a_level_that_is_a_multiple_of_one_value_is_that_value() -> None:
    assert 0.07 * 100 > 7
    assert filled(np.arange(1.0, 101.0)).quantiles(0.07) == pytest.approx(7.0, rel=WITHIN)


def test_zeros_take_no_room() -> None:
    histogram = filled([0.0] * 3 + [1.0])
    assert histogram._weights.size == 1
    histogram.add([0.0] * 3 + [1.0])
    assert (histogram._weights.size, histogram.count) == (1, 8)
    assert histogram.quantiles([0.75, 0.76]) == pytest.approx([0.0, 1.0])


def test_percentiles_come_with_the_intervals_of_the_sample() -> None:
    values = stream(1, "x").exponential(size=5000)
    for binned, whole in zip(filled(values).percentiles(LEVELS), percentiles(values, LEVELS), strict=True):
        assert (binned.low, binned.value, binned.high) == pytest.approx(
            (whole.low, whole.value, whole.high), rel=WITHIN
        )
        assert (binned.count, binned.needed, binned.indicative) == (whole.count, whole.needed, whole.indicative)


def test_an_empty_histogram_has_no_quantiles() -> None:
    histogram = filled([])
    histogram.merge(LogHistogram())
    assert (histogram.count, histogram.total) == (0, 0)
    assert math.isnan(histogram.mean)
    for ask in (histogram.percentiles, lambda: histogram.quantiles([0.5])):
        with pytest.raises(DomainError, match="without values"):
            ask()


@pytest.mark.parametrize("value", [-1.0, -1e-300, math.nan, math.inf])
def test_values_are_finite_and_not_negative(value: float) -> None:
    histogram = LogHistogram()
    for ask in (
        lambda: histogram.add([1.0, value]),
        lambda: histogram.add_one(value),
        lambda: histogram.add([1.0, 1.0], [1.0, value]),
        lambda: histogram.add_one(1.0, value),
    ):
        with pytest.raises(DomainError):
            ask()
    assert histogram.count == 0


@pytest.mark.parametrize("level", [-0.1, 1.1, math.nan])
def test_levels_are_shares(level: float) -> None:
    with pytest.raises(DomainError, match="between 0 and 1"):
        filled([1.0]).quantiles([level])
