"""Arrival processes: their rates, the variation of their gaps, where they end, and that they rise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.core.errors import RidgelineError
from ridgeline.core.seeding import stream
from ridgeline.workloads.traffic import parse_arrivals

COUNT = 200_000

PROCESSES = [
    "poisson(12/s)",
    "gamma(12/s, cv=2)",
    "gamma(12/s, cv=0.3)",
    "weibull(12/s, shape=0.7)",
    "constant(12/s)",
    "diurnal(12/s, peak=3, period=10min)",
    "diurnal(12/s, peak=1e6, period=10min, cv=2)",
    "profile(12/s, '1 0 2, 5', period=10min)",
    "ramp(1/s, 30/s, over=600s)",
    "ramp(30/s, 1/s, over=600s)",
    "ramp(0/s, 12/s, over=600s)",
    "burst(12/s, peak=10, on=5s, off=20s)",
]


@pytest.mark.parametrize("text", PROCESSES)
def test_arrivals_rise_from_zero_and_end_where_they_should(text: str) -> None:
    process = parse_arrivals(text)
    first = process.sample(stream(1, text), count=1000)
    assert len(first) == 1000
    assert first[0] >= 0
    assert (np.diff(first) >= 0).all()
    until = process.sample(stream(1, text), duration_s=90.0)
    assert (np.diff(until) >= 0).all()
    assert until[-1] < 90.0
    both = process.sample(stream(1, text), count=5, duration_s=90.0)
    assert len(both) <= 5
    assert np.array_equal(first, process.sample(stream(1, text), count=1000))


@pytest.mark.parametrize("text", [text for text in PROCESSES if not text.startswith(("burst", "profile"))])
def test_a_duration_and_a_count_give_the_same_arrivals(text: str) -> None:
    process = parse_arrivals(text)
    until = process.sample(stream(2, text), duration_s=200.0)
    counted = process.sample(stream(2, text), count=len(until) + 10)
    assert np.allclose(counted[: len(until)], until, rtol=1e-9)
    assert counted[len(until)] >= 200.0


# Mean rate over a whole number of periods; the tolerance is five standard deviations of a count with that variation.
@pytest.mark.parametrize(
    ("text", "duration_s", "expected", "cv"),
    [
        ("poisson(12/s)", 10_000, 120_000, 1.0),
        ("gamma(12/s, cv=2)", 10_000, 120_000, 2.0),
        ("weibull(12/s, shape=0.7)", 10_000, 120_000, 1.46),
        ("constant(12/s)", 10_000, 120_000, 1e-4),
        ("diurnal(12/s, peak=3, period=10min)", 12_000, 144_000, 1.0),
        ("profile(12/s, '1 0 2 5', period=10min)", 12_000, 144_000, 1.0),
        ("ramp(1/s, 30/s, over=600s)", 600, 9_300, 1.0),
        ("ramp(30/s, 0.1/s, over=600s)", 600, 9_030, 1.0),
        # 2000 bursts: their own number varies, too.
        ("burst(12/s, peak=10, on=1s, off=4s)", 10_000, 120_000, 8.0),
    ],
)
def test_the_mean_rate_is_the_one_asked_for(text: str, duration_s: float, expected: float, cv: float) -> None:
    counted = len(parse_arrivals(text).sample(stream(4, text), duration_s=duration_s))
    assert abs(counted - expected) <= 5 * cv * math.sqrt(expected) + 1


@pytest.mark.parametrize(
    ("text", "cv"),
    [("poisson(3/s)", 1.0), ("gamma(3/s, cv=2)", 2.0), ("gamma(3/s, cv=0.3)", 0.3), ("constant(3/s)", 0.0),
     ("weibull(3/s, shape=0.7)", math.sqrt(math.gamma(1 + 2 / 0.7) / math.gamma(1 + 1 / 0.7) ** 2 - 1))],
)  # fmt: skip
def test_gaps_vary_as_asked(text: str, cv: float) -> None:
    gaps = np.diff(parse_arrivals(text).sample(stream(5, text), count=COUNT))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05, abs=1e-9)
    assert gaps.mean() == pytest.approx(1 / 3, rel=0.03)


def test_a_day_is_lowest_at_its_start_and_highest_in_its_middle() -> None:
    times = parse_arrivals("diurnal(50/s, peak=4, period=1000s)").sample(stream(6, "d"), duration_s=20_000)
    share = np.histogram(times % 1000, bins=20)[0] / len(times) * 20
    assert share[0] == pytest.approx(0.4, abs=0.05)
    assert share[10] == pytest.approx(1.6, abs=0.05)


def test_a_ramp_grows_in_a_straight_line_and_then_stays() -> None:
    times = parse_arrivals("ramp(0/s, 100/s, over=100s)").sample(stream(7, "r"), duration_s=200)
    counts = np.histogram(times, bins=[0, 50, 100, 150, 200])[0]
    assert counts == pytest.approx([1250, 3750, 5000, 5000], rel=0.12)


def test_a_profile_is_silent_where_its_weight_is_zero() -> None:
    times = parse_arrivals("profile(10/s, '1 0 1', period=30s)").sample(stream(8, "p"), duration_s=3000)
    inside = times % 30
    assert not ((inside > 10 + 1e-6) & (inside < 20 - 1e-6)).any()


def test_bursts_are_burstier_than_poisson() -> None:
    gaps = np.diff(parse_arrivals("burst(12/s, peak=30, on=5s, off=20s)").sample(stream(9, "b"), count=COUNT))
    assert gaps.std() / gaps.mean() > 1.5


@settings(max_examples=60)
@given(peak=st.floats(1, 1e5), period=st.floats(1, 1e5), rate=st.floats(0.01, 1e3), at=st.floats(0, 3))
def test_times_invert_the_expected_number(peak: float, period: float, rate: float, at: float) -> None:
    process = parse_arrivals(f"diurnal({rate!r}/s, peak={peak!r}, period={period!r}s)").rate
    assert process is not None and hasattr(process, "times")
    wanted = at * period * rate
    found = float(process.times(np.array([wanted]))[0])
    assert process.expected(found) == pytest.approx(wanted, rel=1e-6, abs=1e-6 * period * rate)


def test_a_closed_loop_has_clients_and_no_times() -> None:
    loop = parse_arrivals("closed(64, think='uniform(1s, 2s)')")
    assert loop.clients == 64
    assert not loop.sample(stream(0, "c"), count=5).any()
    with pytest.raises(RidgelineError, match="number of requests"):
        loop.sample(stream(0, "c"), duration_s=5.0)


NO_PROCESS: list[object] = [
    "12/s", "poisson", "poisson()", "poisson(0/s)", "poisson(-1/s)", "poisson(12)", "poisson(nan/s)", "poisson(1/s, 2)",
    "poisson(1e12/s)", "gamma(1/s)", "gamma(1/s, cv=0)", "gamma(1/s, cv=1e9)", "ramp(0/s, 0/s, over=5s)",
    "ramp(1/s, 2/s, over=0s)", "diurnal(1/s, peak=0.5)", "profile(1/s, '0 0')", "profile(1/s, '')", "closed(0)",
    "closed(1.5)", "closed(4, think=fast)", "burst(1/s, peak=2, on=0s, off=1s)", "weibull(1/s, shape=0)", "", "()",
    "poison(12/s)", None, True, 12, ["poisson(1/s)"],
]  # fmt: skip


@pytest.mark.parametrize("text", NO_PROCESS)
def test_what_is_no_process_is_named(text: object) -> None:
    with pytest.raises(RidgelineError) as caught:
        parse_arrivals(text)
    assert caught.value.fix


def test_arrivals_without_an_end_or_beyond_all_bounds_are_refused() -> None:
    process = parse_arrivals("poisson(1e6/s)")
    for limits in (
        {},
        {"count": -1},
        {"count": 10**12},
        {"duration_s": 1e6},
        {"duration_s": math.inf},
        {"duration_s": 0.0},
    ):
        with pytest.raises(RidgelineError):
            process.sample(stream(0, "x"), **limits)


@settings(max_examples=300)
@given(
    name=st.sampled_from(["poisson", "gamma", "weibull", "constant", "diurnal", "profile", "ramp", "burst", "closed"]),
    values=st.lists(
        st.sampled_from(
            [
                "0",
                "1",
                "3",
                "1/s",
                "0/s",
                "1e-9/s",
                "1e9/s",
                "1e300/s",
                "1e-300/s",
                "nan/s",
                "1s",
                "1ms",
                "1e10 s",
                "1e6",
                "0.1",
                "%",
            ]
        ),
        max_size=5,
    ),
)
def test_any_numbers_make_a_process_or_a_named_error(name: str, values: list[str]) -> None:
    try:
        times = parse_arrivals(f"{name}({', '.join(values)})").sample(stream(0, "any"), count=20)
    except RidgelineError as error:
        assert error.at and error.fix
    else:
        assert np.isfinite(times).all()
        assert (np.diff(times) >= 0).all()
        assert times[0] >= 0
