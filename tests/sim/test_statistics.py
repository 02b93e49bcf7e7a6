"""Warm-up, means and percentiles with their intervals (quality L13)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.sim import mean_interval, percentiles, sample_size, warm_up_fraction, warm_up_mser

COVERED = 0.93  # quality L10; nominal 0.95, and measured over 4,000 runs of these series 0.952 for means, 0.96 for p90
RUNS = 400

series = arrays.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e6, 1e6))


def autoregressive(count: int, memory: float, seeds: int) -> NDArray[np.float64]:
    """Series of mean 0, one per row; each value keeps that share of the one before."""
    values = stream(seeds, "noise").standard_normal((count, seeds))
    for i in range(1, count):
        values[i] += memory * values[i - 1]
    return np.ascontiguousarray(values.T)


@pytest.mark.parametrize(("level", "count"), [(0.9, 24_576), (0.95, 57_344), (0.97, 90_112), (0.99, 270_336)])
def test_sample_sizes_are_those_of_the_mlperf_table(level: float, count: int) -> None:
    assert sample_size(level) == count


@pytest.mark.parametrize("ramp", [200, 500, 4000])
def test_mser_finds_a_known_transient(ramp: int) -> None:
    for seed in range(20):
        values = stream(seed, "noise").standard_normal(10_000)
        values[:ramp] += np.linspace(20, 0, ramp)
        found = warm_up_mser(values)
        assert found.settled
        # The end of the ramp is lost in the noise, so somewhat less of it is dropped; little more ever is.
        assert 0.8 * ramp <= found.drop <= ramp + 500
        assert abs(values[found.drop :].mean()) < 0.1 < abs(values.mean())


def test_mser_is_the_cut_of_least_standard_error_by_definition() -> None:
    values = autoregressive(300, 0.9, 1)[0] + np.exp(-np.arange(300) / 20) * 10
    means = values.reshape(-1, 5).mean(axis=1)
    errors = [means[cut:].var() / (len(means) - cut) for cut in range(len(means) - 5)]
    assert warm_up_mser(values).drop == 5 * int(np.argmin(errors))
    assert warm_up_mser(values + 2.0**30).drop == warm_up_mser(values).drop


def test_a_series_that_never_settles_is_said_not_to() -> None:
    assert not warm_up_mser(np.arange(1000.0)).settled
    assert not warm_up_mser([1.0, 2.0, 3.0]).settled
    assert warm_up_mser(np.ones(1000)).drop == 0
    assert warm_up_mser(np.ones(1000), batch=1).settled


def test_a_fixed_share_is_a_share() -> None:
    assert [warm_up_fraction(n, s).drop for n, s in ((1000, 0.1), (5, 0.5), (0, 0.3), (7, 0.0))] == [100, 3, 0, 0]
    for wrong in (1.0, -0.1, math.nan):
        with pytest.raises(DomainError, match="share of the series"):
            warm_up_fraction(10, wrong)


def test_intervals_of_a_correlated_series_cover_its_mean() -> None:
    covered = naive = 0
    for values in autoregressive(10_000, 0.9, RUNS):
        found = mean_interval(values)
        covered += found.low <= 0 <= found.high
        independent = mean_interval(values, batches=values.size)
        naive += independent.low <= 0 <= independent.high
    assert covered >= COVERED * RUNS
    assert naive < 0.6 * RUNS  # what a formula for independent values would give


def test_correlated_batches_are_made_longer_and_then_owned_up_to() -> None:
    short = mean_interval(autoregressive(400, 0.98, 1)[0])
    assert (short.batches, short.independent) == (10, False)
    trend = mean_interval(np.arange(100.0))
    assert (trend.batches, trend.independent) == (10, False)
    assert mean_interval(stream(0, "x").random(4000)).independent


def test_independent_values_give_students_interval() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0], batches=5)
    # Student's t at 4 degrees of freedom, 97.5 %: 2.776445.
    assert found.half_width == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert (found.value, found.count, found.relative) == (3.0, 5, found.half_width / 3)


@given(values=series, confidence=st.floats(0.5, 0.999))
def test_a_mean_lies_in_its_interval_which_grows_with_confidence(
    values: NDArray[np.float64], confidence: float
) -> None:
    found, wider = mean_interval(values, confidence=confidence), mean_interval(values, confidence=0.9999)
    assert wider.low <= found.low <= found.value <= found.high <= wider.high
    assert found.count == values.size
    assert math.isinf(found.half_width) == (values.size == 1)


def test_relative_width_of_special_means() -> None:
    assert mean_interval([0.0, 0.0]).relative == 0.0
    assert mean_interval([-1.0, 1.0]).relative == math.inf
    assert mean_interval([5.0]).relative == math.inf


@given(values=series, level=st.floats(0.01, 0.99))
def test_a_percentile_is_a_value_of_the_sample_within_its_interval(values: NDArray[np.float64], level: float) -> None:
    (found,) = percentiles(values, (level,))
    assert found.value in values
    assert np.count_nonzero(values <= found.value) >= level * values.size * (1 - 1e-9)
    assert np.count_nonzero(values < found.value) < level * values.size
    assert found.low <= found.value <= found.high
    assert found.low == -math.inf or found.low in values
    assert found.high == math.inf or found.high in values


def test_percentiles_of_one_to_a_hundred() -> None:
    values = stream(0, "order").permutation(np.arange(1.0, 101.0))
    found = percentiles(values, (0.99, 0.07, 0.5))
    assert [p.value for p in found] == [99, 7, 50]
    # The classic interval of a median of a hundred: the 40th to the 61st value.
    assert (found[2].low, found[2].high) == (40, 61)
    # No value of a hundred is above the 99th percentile with 97.5 %: 0.99^100 = 0.37.
    assert found[0].high == math.inf


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_intervals_of_percentiles_cover_the_truth(level: float) -> None:
    truth = -math.log(1 - level)
    found = [percentiles(stream(seed, "x").exponential(size=2000), (level,))[0] for seed in range(1000)]
    covered = sum(p.low <= truth <= p.high for p in found)
    assert covered >= 1000 * 0.95 - 3 * math.sqrt(1000 * 0.95 * 0.05)


def test_batches_cover_the_percentile_of_a_correlated_series() -> None:
    truth = 1.2815515655446004 / math.sqrt(1 - 0.9**2)
    covered = naive = 0
    for values in autoregressive(12_000, 0.9, RUNS)[:, 1000:]:
        (found,), (independent,) = percentiles(values, (0.9,), correlated=True), percentiles(values, (0.9,))
        assert found.value == independent.value
        covered += found.low <= truth <= found.high
        naive += independent.low <= truth <= independent.high
    assert covered >= COVERED * RUNS
    assert naive < 0.7 * RUNS


def test_a_small_sample_is_indicative_only() -> None:
    values = np.zeros(24_576)
    found = percentiles(values, (0.9, 0.95))
    assert [p.indicative for p in found] == [False, True]
    assert [p.needed for p in found] == [24_576, 57_344]
    assert percentiles(values[1:], (0.9,))[0].indicative


def test_requests_without_an_answer_count_as_infinite() -> None:
    (found,) = percentiles([1.0, 2.0, math.inf], (0.9,))
    assert found.value == math.inf
    assert percentiles([3.0], (0.5,), correlated=True)[0].high == math.inf


@pytest.mark.parametrize(
    "ask",
    [
        lambda: mean_interval([]),
        lambda: mean_interval([[1.0]]),
        lambda: mean_interval([1.0, math.inf]),
        lambda: mean_interval([1.0, 2.0], confidence=1.0),
        lambda: mean_interval([1.0, 2.0], batches=3),
        lambda: mean_interval([1.0, 2.0], batches=1),
        lambda: mean_interval([1.0, 2.0], batches=1.5),  # type: ignore[arg-type]
        lambda: percentiles([1.0, math.nan]),
        lambda: percentiles([1.0], (0.0,)),
        lambda: percentiles([1.0], (1.0,)),
        lambda: percentiles([1.0, math.inf], correlated=True),
        lambda: sample_size(1.0),
        lambda: sample_size(0.9, confidence=0.0),
        lambda: warm_up_mser([1.0], batch=0),
    ],
)
def test_impossible_questions_are_named(ask: object) -> None:
    with pytest.raises(DomainError):
        ask()  # type: ignore[operator]
