"""Quantiles of Student's t and of the binomial against scipy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.sim._distributions import binomial_ranks, student_half_width

stats = pytest.importorskip("scipy.stats")

# Far below what an interval of a simulation can tell.
RELATIVE = 1e-8

confidences = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.999])


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 10, 39, 199, 200, 1000, 1_000_000])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_students_half_width_is_scipys(degrees: int, confidence: float) -> None:
    expected = stats.t.ppf(0.5 + confidence / 2, degrees)
    assert student_half_width(degrees, confidence) == pytest.approx(expected, rel=RELATIVE)


@given(count=st.one_of(st.integers(1, 300), st.integers(1, 2_000_000)), level=st.floats(0.001, 0.999), at=confidences)
def test_ranks_are_the_tightest_that_keep_the_confidence_on_each_side(count: int, level: float, at: float) -> None:
    low, high = binomial_ranks(count, level, at)
    binomial, tail = stats.binom(count, level), (1 - at) / 2
    slack = 1e-9  # of the two summations, where a tail equals the limit
    assert 0 <= low <= high <= count + 1
    # The quantile is missed below when fewer than `low` values are below it, above when `high` or more are.
    assert binomial.cdf(low - 1) <= tail + slack
    assert binomial.cdf(low) > tail - slack
    assert binomial.sf(high - 1) <= tail + slack
    assert high == 0 or binomial.sf(high - 2) > tail - slack
