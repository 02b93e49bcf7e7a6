"""Statistics of laps: medians, spread, host-bound loops, and loops long enough for power."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import pytest

from ridgeline.bench import Effort, Kernel, Lap, time_kernel

EFFORT = Effort(warm_s=0.001, lap_s=0.001, repeats=5, sustain_s=1.0)


def kernel(lap_s: Iterable[float], *, submit_share: float = 0.0, calls_per_lap: int = 1) -> Kernel:
    """A kernel whose laps take the given seconds in turn, then the last of them for ever."""
    listed = list(lap_s)
    times = itertools.chain(listed, itertools.repeat(listed[-1]))

    def laps(count: int) -> Lap:
        elapsed_s = count * next(times)
        return Lap(elapsed_s=elapsed_s, submit_s=submit_share * elapsed_s)

    return Kernel(name="scripted", error=0.0, calls_per_lap=calls_per_lap, captured=False, laps=laps)


class Board:
    """A meter that always reads the same."""

    limit_w = 700.0

    def read(self) -> tuple[float, float]:
        return 412.0, 1.7e9


def test_one_slow_repeat_does_not_move_the_latency() -> None:
    timing = time_kernel(kernel([0.01, 0.01, 9.0, 0.01]), EFFORT)
    assert timing.latency_s == pytest.approx(0.01)
    assert timing.repeats == EFFORT.repeats


def test_spread_is_the_distance_of_the_quartiles() -> None:
    timing = time_kernel(kernel([0.01, 0.01, 0.02, 0.03, 0.04, 0.05]), EFFORT)
    assert timing.latency_s == pytest.approx(0.03)
    assert timing.spread_frac == pytest.approx((0.04 - 0.02) / 0.03)


def test_latency_is_per_call_not_per_lap() -> None:
    assert time_kernel(kernel([0.012], calls_per_lap=6), EFFORT).latency_s == pytest.approx(0.002)


@pytest.mark.parametrize(("share", "bound"), [(0.1, False), (0.9, True)])
def test_a_loop_that_mostly_submits_is_host_bound(share: float, bound: bool) -> None:
    assert time_kernel(kernel([0.01], submit_share=share), EFFORT).host_bound is bound


def test_slow_kernels_repeat_less() -> None:
    assert time_kernel(kernel([2.0]), EFFORT).repeats == 3


def test_sustained_rate_is_that_of_the_later_part_of_the_loop() -> None:
    # Two laps warm up and tell the pace, five repeats, then the loop: fast until the clock falls, then slow.
    fast, slow = [0.05] * (1 + 5 + 8), [0.1]
    timing = time_kernel(kernel([*fast, *slow]), EFFORT, sustain=True)
    assert timing.latency_s == pytest.approx(0.05)
    assert timing.sustained_s == pytest.approx(0.1)


def test_without_a_long_loop_or_a_meter_there_is_no_power() -> None:
    timing = time_kernel(kernel([0.01]), EFFORT, meter=Board())
    assert math.isnan(timing.power_w)
    assert math.isnan(timing.sustained_s)
    assert timing.power_limit_w == Board.limit_w
    assert math.isnan(time_kernel(kernel([0.5]), EFFORT, sustain=True).power_w)
