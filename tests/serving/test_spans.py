"""Intervals of time against sums over fine instants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.seeding import stream
from ridgeline.serving.record.spans import present, shared_time, spread, union

EXACT = 1e-9


def intervals(seed: int, count: int = 30) -> tuple[np.ndarray, np.ndarray]:
    draw = stream(seed, "intervals")
    begin = draw.integers(0, 100, count).astype(float)
    return begin, begin + draw.integers(0, 20, count)


@given(seed=st.integers(0, 10_000))
def test_a_union_covers_each_instant_that_an_interval_holds_once(seed: int) -> None:
    begin, end = intervals(seed)
    instants = np.arange(0.0, 130.0)
    held = ((begin[:, None] <= instants) & (instants < end[:, None])).any(axis=0)
    spans = union(begin, end)
    assert (spans.begin_s[1:] > spans.end_s[:-1]).all()
    assert spans.total_s == held.sum()
    np.testing.assert_array_equal(np.diff(spans.until(np.arange(0.0, 131.0))), held)


@given(seed=st.integers(0, 10_000))
def test_those_present_are_counted_by_weight(seed: int) -> None:
    begin, end = intervals(seed)
    weights = stream(seed, "weights").integers(1, 50, begin.size).astype(float)
    instants = np.arange(0.0, 130.0, 0.5)
    inside = (begin[:, None] <= instants) & (instants < end[:, None])
    np.testing.assert_array_equal(present(instants, begin, end), inside.sum(axis=0))
    np.testing.assert_array_equal(present(instants, begin, end, weights), weights @ inside)


@given(seed=st.integers(0, 10_000))
def test_what_is_spent_is_shared_among_those_present_and_nothing_is_lost(seed: int) -> None:
    begin, end = intervals(seed)
    draw = stream(seed, "amounts")
    times, amounts = np.sort(draw.uniform(0, 130, 200)), draw.uniform(0, 5, 200)
    weights = draw.integers(1, 50, begin.size).astype(float)
    shares, left = spread(times, amounts, begin, end, weights)
    inside = (begin[:, None] <= times) & (times < end[:, None])
    weight = weights @ inside
    each = np.where(weight > 0, amounts / np.maximum(weight, 1), 0.0)
    np.testing.assert_allclose(shares, weights * (inside @ each), rtol=EXACT, atol=EXACT)
    assert shares.sum() + left == pytest.approx(amounts.sum(), rel=EXACT)


@given(seed=st.integers(0, 10_000))
def test_shared_time_sums_to_the_time_of_the_union(seed: int) -> None:
    begin, end = intervals(seed)
    shares = shared_time(begin, end)
    assert shares.sum() == pytest.approx(union(begin, end).total_s, rel=EXACT)
    instants = np.arange(0.0, 130.0)
    inside = (begin[:, None] <= instants) & (instants < end[:, None])
    expected = (inside / np.maximum(inside.sum(axis=0), 1)).sum(axis=1)
    np.testing.assert_allclose(shares, expected, rtol=EXACT, atol=EXACT)


def test_nothing_covers_nothing() -> None:
    none = np.empty(0)
    assert union(none, none).total_s == 0.0
    assert union(none, none).until(3.0) == 0.0
    assert shared_time(none, none).size == 0
    assert spread(np.array([1.0]), np.array([2.0]), none, none)[1] == 2.0
