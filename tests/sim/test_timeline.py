"""Integrals over windows, populations, Little's law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.sim import littles_law, population, window_integrals, window_means

# Sums of the same areas in another order.
RELATIVE = 1e-9


@st.composite
def quantities(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Times, values and window edges from the first time on, jumps and empty windows included."""
    gaps = draw(st.lists(st.floats(0, 100) | st.just(0.0), max_size=20))
    times = np.cumsum([draw(st.floats(-100, 100)), *gaps])
    values = draw(st.lists(st.floats(-1e3, 1e3), min_size=times.size, max_size=times.size))
    edges = times[0] + np.cumsum(draw(st.lists(st.floats(0, 100), min_size=2, max_size=10)))
    return times, np.array(values), edges


@given(given_=quantities(), linear=st.booleans())
def test_windows_add_up_to_the_whole(
    given_: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], linear: bool
) -> None:
    times, values, edges = given_
    parts = window_integrals(times, values, edges, linear=linear)
    (whole,) = window_integrals(times, values, edges[[0, -1]], linear=linear)
    scale = np.abs(values).max() * (max(edges[-1], times[-1]) - times[0])
    assert parts.sum() == pytest.approx(whole, rel=RELATIVE, abs=RELATIVE * scale)


@given(given_=quantities(), linear=st.booleans())
def test_a_mean_over_time_lies_between_the_extremes(
    given_: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], linear: bool
) -> None:
    times, values, _ = given_
    (mean,) = window_means(times, values, [times[0], times[-1] + 1.0], linear=linear)
    slack = RELATIVE * (1 + np.abs(values).max()) * (1 + times[-1] - times[0])
    assert values.min() - slack <= mean <= values.max() + slack


def test_steps_hold_until_the_next_one_and_the_last_for_ever() -> None:
    found = window_integrals([0, 1, 3, 3], [2, 4, 100, 6], [0, 0.5, 2, 2, 5])
    np.testing.assert_allclose(found, [1.0, 1.0 + 4.0, 0.0, 4.0 + 12.0])
    np.testing.assert_allclose(window_means([0.0], [7.0], [1, 2, 4]), [7.0, 7.0])


def test_lines_join_the_values_and_jump_at_equal_times() -> None:
    found = window_integrals([0, 2, 2, 4], [0, 4, 10, 10], [0, 1, 2, 3, 5], linear=True)
    np.testing.assert_allclose(found, [1.0, 3.0, 10.0, 20.0])
    np.testing.assert_allclose(window_integrals([0, 5e-324], [0, 1], [0, 5e-324, 1], linear=True), [0, 1])


def test_a_line_integrates_as_many_small_steps_do() -> None:
    times, values = np.array([0.0, 1.0, 4.0, 5.0]), np.array([1.0, 5.0, 2.0, 2.0])
    fine = np.linspace(0, 5, 500_001)
    edges = [0.3, 1.7, 4.2]
    middles = np.interp(fine[:-1] + 5e-6, times, values)
    np.testing.assert_allclose(
        window_integrals(times, values, edges, linear=True), window_integrals(fine[:-1], middles, edges), rtol=1e-6
    )


@given(visits=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), min_size=1, max_size=30))
def test_a_population_is_who_arrived_and_did_not_leave(visits: list[tuple[int, int]]) -> None:
    arrivals = np.array([a for a, _ in visits], float)
    departures = arrivals + [stay for _, stay in visits]
    times, inside = population(arrivals, departures)
    assert (inside >= 0).all()
    for t in range(32):
        at = np.searchsorted(times, t, side="right")
        expected = np.count_nonzero((arrivals <= t) & (departures > t))
        assert (inside[at - 1] if at else 0) == expected


def test_who_never_leaves_stays() -> None:
    times, inside = population([0.0, 1.0], [math.inf, 2.0])
    assert (times.tolist(), inside.tolist()) == ([0, 1, 2], [1, 2, 1])


def test_littles_law_is_exact_where_no_visit_crosses_the_ends() -> None:
    law = littles_law([1, 2, 5], [4, 3, 6], 0, 10)
    assert (law.inside, law.rate_per_s, law.gap) == pytest.approx((0.5, 0.3, 0.0))
    assert law.stay_s == pytest.approx(5 / 3)


def test_littles_law_shows_visits_that_were_lost() -> None:
    assert littles_law([0.0, 1.0], [math.inf, 2.0], 0.0, 10.0).gap == 1.0
    assert littles_law([0.0, 8.0], [1.0, 108.0], 0.0, 10.0).gap > 0.9
    assert littles_law([], [], 0.0, 1.0).gap == 0.0
    assert littles_law([5.0], [6.0], 0.0, 1.0).gap == 0.0


@pytest.mark.parametrize(
    "ask",
    [
        lambda: window_integrals([], [], [0, 1]),
        lambda: window_integrals([0, 1], [1], [0, 1]),
        lambda: window_integrals([1, 0], [1, 1], [1, 2]),
        lambda: window_integrals([0], [1], [-1, 1]),
        lambda: window_integrals([0], [1], [1, 0]),
        lambda: window_integrals([0], [math.nan], [0, 1]),
        lambda: window_integrals([math.inf], [1], [0, 1]),
        lambda: window_means([0], [1], [1, 1]),
        lambda: population([0, 1], [2]),
        lambda: population([1], [0]),
        lambda: population([1], [math.nan]),
        lambda: population([math.inf], [math.inf]),
        lambda: littles_law([0], [1], 1, 1),
        lambda: littles_law([0], [1], 0, math.inf),
    ],
)
def test_impossible_timelines_are_named(ask: object) -> None:
    with pytest.raises(DomainError):
        ask()  # type: ignore[operator]
