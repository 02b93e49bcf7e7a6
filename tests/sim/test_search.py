"""Replications until the interval is narrow; the highest point at which something holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.sim import Bracket, Replications, fifo_waits_s, highest, replicate


def test_replications_stop_when_the_mean_is_known_and_not_before() -> None:
    def run(number: int) -> float:
        return float(stream(number, "result").normal(10.0, 1.0))

    results = replicate(run, relative=0.02)
    assert results.enough
    assert results.estimate.relative <= 0.02
    assert 10 <= len(results.values) < 200
    assert results.values == [run(number) for number in range(len(results.values))]
    before = Replications(relative=0.02)
    before.add(*results.values[:-1])
    assert not before.enough


def test_the_sequential_interval_covers_the_mean() -> None:
    # Stopping early when the spread looks small costs some coverage (Law and Kelton 9.4.1).
    covered = 0
    for seed in range(200):
        draw = stream(seed, "x").exponential(1.0, 5000)
        found = replicate(lambda number, draw=draw: float(draw[number]), relative=0.25, most=5000).estimate
        covered += found.low <= 1.0 <= found.high
    assert covered >= 0.9 * 200


def test_the_tolerance_is_a_share_of_the_true_mean() -> None:
    results = Replications(relative=0.5, least=2)
    results.add(9.0, 11.0)  # half the interval: Student's t at one degree of freedom, 12.7, so a relative 1.27
    estimate = results.estimate
    for relative, enough in ((0.99, False), (0.5, False)):
        results.relative = relative
        assert results.enough is enough
    results.add(*[10.0] * 20)
    share = results.estimate.relative
    assert estimate.relative == pytest.approx(1.27, rel=0.01)
    # If the sample's mean may be off by that share of the true one, it may be off by share / (1 - share) of itself.
    for relative, enough in ((share * 1.001, False), (share / (1 - share) * 1.001, True)):
        results.relative = relative
        assert results.enough is enough


def test_equal_results_need_the_least_number() -> None:
    assert len(replicate(lambda _: 3.0, least=4).values) == 4
    assert len(replicate(lambda _: 0.0).values) == 10


def test_an_absolute_tolerance_serves_means_near_zero() -> None:
    def run(number: int) -> float:
        return float(stream(number, "result").normal())

    assert not replicate(run, most=50).enough
    assert replicate(run, absolute=0.5, most=50).enough


@pytest.mark.parametrize(
    "ask",
    [
        lambda: Replications(relative=-0.1),
        lambda: Replications(relative=1.0),
        lambda: Replications(absolute=math.nan),
        lambda: Replications(least=1),
        lambda: Replications(confidence=1.0),
        lambda: Replications().add(math.nan),
        lambda: replicate(lambda _: 1.0, most=9),
        lambda: highest(bool, 0.0, 1.0),
        lambda: highest(bool, 2.0, 1.0),
        lambda: highest(bool, 1.0, math.inf),
        lambda: highest(bool, 1.0, 2.0, tolerance=0.0),
        lambda: highest(bool, 1.0, 2.0, most=0),
        lambda: highest(bool, 1.2, 1.8, whole_numbers=True),
    ],
)
def test_impossible_searches_are_named(ask: object) -> None:
    with pytest.raises(DomainError):
        ask()  # type: ignore[operator]


ranges = st.tuples(st.floats(1e-6, 1e6), st.floats(1, 1e6)).map(lambda pair: (pair[0], pair[0] * pair[1]))


@given(ends=ranges, edge=st.floats(1e-7, 1e13), start=st.none() | st.floats(1e-8, 1e14), tolerance=st.floats(1e-9, 0.5))
def test_the_bracket_encloses_the_edge_and_is_as_narrow_as_asked(
    ends: tuple[float, float], edge: float, start: float | None, tolerance: float
) -> None:
    low, high = ends
    found = highest(lambda x: x <= edge, low, high, tolerance=tolerance, start=start)
    assert found.converged
    if edge < low:
        assert math.isnan(found.holds)
        assert found.fails == low
    elif edge >= high:
        assert (found.holds, found.fails) == (high, math.inf)
    else:
        assert low <= found.holds <= edge < found.fails <= high
        assert found.fails <= found.holds * (1 + tolerance) * (1 + 1e-12)
    points = [x for x, _ in found.tried]
    assert len(set(points)) == len(points) == found.evaluations
    assert all(low <= x <= high for x in points)
    assert all(outcome == (x <= edge) for x, outcome in found.tried)
    # Doublings over the whole range, then halvings of a factor of two.
    assert found.evaluations <= 3 + math.log2(high / low) + max(0.0, math.log2(math.log(2) / math.log1p(tolerance)))


@given(
    low=st.integers(1, 50), size=st.integers(0, 5000), edge=st.integers(0, 6000), start=st.none() | st.integers(1, 6000)
)
def test_whole_numbers_are_found_exactly(low: int, size: int, edge: int, start: int | None) -> None:
    high = low + size
    found = highest(lambda x: x <= edge, low, high, tolerance=1e-9, start=start, whole_numbers=True)
    assert found.converged
    assert all(x == int(x) for x, _ in found.tried)
    if edge < low:
        assert math.isnan(found.holds)
    else:
        assert found.holds == min(edge, high)
        assert found.fails == (edge + 1 if edge < high else math.inf)


def test_a_good_start_saves_evaluations() -> None:
    def search(start: float | None) -> Bracket:
        return highest(lambda x: x <= 777.0, 0.01, 1e5, start=start)

    assert search(700.0).evaluations <= 9 < search(None).evaluations


def test_a_search_that_may_not_go_on_says_what_it_knows() -> None:
    found = highest(lambda x: x <= 300.0, 1.0, 1e6, most=5)
    assert (found.holds, found.fails, found.converged) == (16.0, math.inf, False)
    found = highest(lambda x: x <= 300.0, 1.0, 1e6, most=11)
    assert (found.evaluations, found.converged) == (11, False)
    assert found.holds <= 300.0 < found.fails


def test_common_random_numbers_find_the_load_that_meets_a_target() -> None:
    count = 100_000
    gaps, services = (stream(0, name).exponential(1.0, count) for name in ("gaps", "services"))

    def holds(load: float) -> bool:
        return bool(fifo_waits_s(np.cumsum(gaps) / load, services).mean() <= 2.0)

    found = highest(holds, 0.01, 10.0, tolerance=0.001)
    # M/M/1: a mean wait of two services at load 2/3.
    assert found.holds == pytest.approx(2 / 3, rel=0.03)
    assert found.converged
