"""Sums over runs: windows add up to totals, gaps between tokens are those of a full enumeration, parts merge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving.played_cases import random_played, token_times
from tests.serving.test_engine import scenario

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.serving.record.gaps import Gaps, gaps_of, join
from ridgeline.serving.record.played import RUN_COLUMNS, Runs, runs_of
from ridgeline.serving.record.run_statistics import SUMS, RunStatistics
from ridgeline.serving.record.run_windows import iterations_after, part_of, pieces_of, run_times_s
from ridgeline.sim.histogram import LogHistogram

EXACT = 1e-9
"""Relative: sums of the same parts in another order."""
BIN = 0.01
"""Relative: a histogram's bin."""
LEVELS = (0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)


def random_runs(seed: int, count: int = 50, rising: bool = True) -> Runs:
    draw = stream(seed, "runs")
    u = draw.uniform(1e-3, 2e-2, count)
    v = draw.choice([0.0, 1e-6, 1e-4], count) if rising else np.zeros(count)
    k, n = draw.integers(1, 300, count), draw.integers(0, 20, count)
    lasting = k * u + v * k * (k - 1) / 2
    start = np.concatenate([[0.0], np.cumsum(lasting + draw.choice([0.0, 0.1], count))])[:-1]
    prompts = draw.integers(0, 3, count)
    context = n * draw.integers(10, 2000, count)
    columns = (start, u, v, k, n, context, prompts * 64, prompts, draw.integers(0, 90, count))
    flat = np.array(columns, dtype=np.float64).T.ravel()
    runs = runs_of(flat.tolist())  # type: ignore[arg-type]
    assert set(runs.dtype.names or ()) == set(RUN_COLUMNS)
    return runs


def enumerated(gaps: Gaps) -> np.ndarray:
    columns = zip(gaps.first_s, gaps.rise_s, gaps.count, gaps.weight, strict=True)
    return np.sort(np.concatenate([np.repeat(u + v * np.arange(k), int(w)) for u, v, k, w in columns]))


@given(seed=st.integers(0, 10_000), width=st.floats(0.003, 50.0))
def test_windows_add_up_to_the_totals(seed: int, width: float) -> None:
    runs = random_runs(seed)
    statistics = RunStatistics(window_s=width)
    power = stream(seed, "power").uniform(100.0, 700.0, runs.size)
    statistics.add(runs, blocks=100.0, block_tokens=16, power_w=power)
    for name, column in statistics.series().items():
        assert column.sum() == pytest.approx(statistics.totals[name], rel=EXACT), name
        assert (column >= 0).all()
    assert statistics.totals["energy_j"] == pytest.approx((run_times_s(runs) * power).sum(), rel=EXACT)
    assert (statistics.series()["busy_s"] <= statistics.window_s * (1 + EXACT)).all()
    assert statistics.totals["cache_s"] <= statistics.totals["busy_s"] * (1 + EXACT)


@given(seed=st.integers(0, 10_000), width=st.floats(0.01, 5.0))
def test_an_iteration_counts_in_the_window_in_which_it_ends(seed: int, width: float) -> None:
    runs = random_runs(seed, 12)
    pieces = pieces_of(runs, width)
    counted = np.zeros(int(pieces.window.max()) + 1)
    for run in runs:
        j = np.arange(1, run["iterations"] + 1)
        ends = run["start_s"] + (j * run["first_s"] + run["rise_s"] * (j * (j - 1) / 2))
        counted += np.bincount(np.ceil(ends / width).astype(int) - 1, minlength=counted.size)[: counted.size]
    # An end within rounding of an edge may fall on either side of it.
    found = np.bincount(pieces.window, weights=pieces.done, minlength=counted.size)
    assert np.abs(np.cumsum(found) - np.cumsum(counted)).max() <= 1
    assert np.abs(found - counted).sum() <= 2


@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 1.0))
def test_iterations_done_are_those_whose_time_has_passed(seed: int, share: float) -> None:
    runs = random_runs(seed)
    x = run_times_s(runs) * share
    done = iterations_after(runs, x)
    after = done + 1
    u, v = runs["first_s"], runs["rise_s"]
    assert (done * u + v * (done * (done - 1) / 2) <= x).all()
    assert ((after * u + v * (after * (after - 1) / 2) > x) | (done == runs["iterations"])).all()


@given(seed=st.integers(0, 10_000), cut=st.floats(0.0, 100.0))
def test_two_sides_of_an_instant_make_the_whole(seed: int, cut: float) -> None:
    runs = random_runs(seed)
    before, after = part_of(runs, 0.0, cut), part_of(runs, cut, math.inf)
    np.testing.assert_array_equal(before[0] + after[0], runs["iterations"])
    np.testing.assert_allclose(before[1] + after[1], run_times_s(runs), rtol=EXACT)


@given(seed=st.integers(0, 10_000))
def test_quantiles_of_gaps_are_those_of_a_full_enumeration(seed: int) -> None:
    gaps = gaps_of(random_runs(seed, 30))
    every = enumerated(gaps)
    assert gaps.number == every.size
    assert gaps.total_s == pytest.approx(every.sum(), rel=EXACT)
    ranks = [max(math.ceil(level * every.size * (1 - 1e-12)), 1) - 1 for level in LEVELS]
    np.testing.assert_allclose(gaps.quantiles(LEVELS), every[ranks], rtol=1e-14)
    near = LogHistogram()
    gaps.add_to(near)
    assert gaps.quantiles(LEVELS, near) == gaps.quantiles(LEVELS)
    for limit in (every[0], float(np.median(every)), every[-1] * 1.1):
        assert gaps.at_most(limit * (1 + 1e-13)) == np.count_nonzero(every <= limit * (1 + 1e-13))


@given(seed=st.integers(0, 10_000))
def test_the_histogram_of_gaps_has_their_number_and_sum_and_its_quantiles_lie_a_bin_away(seed: int) -> None:
    gaps = gaps_of(random_runs(seed))
    statistics = RunStatistics(window_s=1.0)
    statistics.add(random_runs(seed))
    assert statistics.gaps.count == pytest.approx(gaps.number, rel=EXACT)
    assert statistics.gaps.total == pytest.approx(gaps.total_s, rel=EXACT)
    levels = (0.5, 0.9, 0.99)
    below = [gaps.at_most(q * (1 + BIN)) / gaps.number for q in statistics.gaps.quantiles(levels)]
    above = [gaps.at_most(q * (1 - BIN)) / gaps.number for q in statistics.gaps.quantiles(levels)]
    assert all(a - 1e-9 <= level <= b + 1e-9 for a, level, b in zip(above, levels, below, strict=True))


def test_gaps_of_an_engine_are_those_between_the_tokens_of_the_eager_reference() -> None:
    """Token by token: every decoded token of the reference against the runs of the engine."""
    compared = 0
    for seed in range(100):
        case = scenario(seed)
        engine = case.engine()
        if engine.preempted or case.rules.front_end_s:
            continue  # runs do not tell who waited
        many = [output > 1 for output in case.requests.outputs]
        gaps = gaps_of(runs_of(engine.runs), np.array(engine.log.first)[many])
        expected = np.concatenate([np.diff(times) for times in token_times(case)])
        np.testing.assert_allclose(enumerated(gaps), np.sort(expected), rtol=EXACT, atol=EXACT)
        compared += 1
    assert compared > 40


def test_merged_parts_are_the_whole() -> None:
    played = random_played(3, lanes=4)
    whole, parts = RunStatistics(window_s=0.5), RunStatistics(window_s=0.125)
    for lane in played.lanes:
        each = RunStatistics(window_s=0.25)
        for target in (whole, each):
            target.add(lane.runs, blocks=lane.blocks, block_tokens=lane.block_tokens, power_w=300.0)
        parts.merge(each)
    coarse = RunStatistics(window_s=0.5)
    coarse.merge(parts)
    assert parts.totals == pytest.approx(whole.totals, rel=EXACT)
    assert coarse.window_s == whole.window_s == 0.5
    for name in SUMS:
        np.testing.assert_allclose(coarse.series()[name], whole.series()[name], rtol=EXACT, atol=1e-9)
    assert parts.gaps.quantiles(0.5) == whole.gaps.quantiles(0.5)
    assert (parts.batch_peak, parts.cache_peak_frac) == (whole.batch_peak, whole.cache_peak_frac)


def test_windows_double_rather_than_grow_without_end() -> None:
    statistics = RunStatistics(window_s=0.01, most_windows=64)
    runs = random_runs(1, 400)
    for chunk in np.array_split(runs, 7):
        statistics.add(chunk)
    assert statistics.windows <= 64
    assert statistics.window_s == 0.01 * 2 ** round(math.log2(statistics.window_s / 0.01))
    assert statistics.series()["iterations"].sum() == runs["iterations"].sum()


def test_sequences_that_wait_while_prompts_run_alone_have_longer_gaps() -> None:
    #          start, u,    v,   k, n, context, tokens, prompts, used
    columns = [[0.0, 0.010, 0.0, 5, 2, 100.0, 0, 0, 10], [0.05, 0.2, 0.0, 1, 0, 0, 50, 1, 10]]
    columns.append([0.25, 0.011, 0.0, 5, 3, 160.0, 0, 0, 14])
    runs = runs_of([float(x) for row in columns for x in row])  # type: ignore[arg-type]
    told, guessed = gaps_of(runs, np.array([0.25])), gaps_of(runs)
    for gaps in (told, guessed):
        every = enumerated(gaps)
        np.testing.assert_allclose(np.sort(every)[-2:], 0.211)
        assert np.isclose(every, 0.011).sum() == 13
        assert every.size == 2 * 5 + 3 * 5


def test_no_runs_have_no_gaps_and_windows_need_a_width() -> None:
    empty = runs_of([])  # type: ignore[arg-type]
    assert math.isnan(gaps_of(empty).quantiles((0.5,))[0])
    assert join([]).number == 0
    RunStatistics(window_s=1.0).add(empty)
    with pytest.raises(DomainError, match="width"):
        RunStatistics(window_s=0.0)
    with pytest.raises(DomainError, match="nest"):
        RunStatistics(window_s=1.0).merge(RunStatistics(window_s=3.0))
    with pytest.raises(DomainError, match="level"):
        gaps_of(empty).quantiles((1.5,))
