"""The emulator's clock: how late tokens are, and what that says of a run."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest

from ridgeline.apps.emulator.clock import Clock
from ridgeline.apps.emulator.metrics import MOST_LATE_FRAC, Metrics


class Loop:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now


def clock(loop: Any, speed: float = 1.0) -> Clock:
    made = Clock(loop, speed)
    made._live = SimpleNamespace(next_s=lambda: math.inf)  # type: ignore[assignment]
    return made


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_an_iteration_is_as_late_as_its_first_and_its_last_token(speed: float) -> None:
    loop = Loop()
    watched = clock(loop, speed)
    watched.late(0.002 * speed)
    loop.now += 0.006
    watched.reset()
    watched.reset()
    assert watched.lateness.count == 2
    assert watched.lateness.least == pytest.approx(0.002)
    assert watched.lateness.largest == pytest.approx(0.008)


@pytest.mark.parametrize(("late_s", "valid"), [(0.001, True), (0.004, False)])
def test_a_run_is_valid_while_tokens_are_late_by_little_of_the_time_between_them(late_s: float, valid: bool) -> None:
    watched, metrics = clock(Loop(), speed=2.0), Metrics("m")
    for _ in range(100):
        metrics.between.add(0.1, 3)  # simulated; 50 ms of the wall
        watched.late(2.0 * late_s)
    assert metrics.late_frac(watched) == pytest.approx(late_s / 0.05, rel=0.01)
    assert (metrics.late_frac(watched) <= MOST_LATE_FRAC) is valid


def test_the_clock_calls_when_something_is_due_and_not_before() -> None:
    async def main() -> list[float]:
        called: list[float] = []
        watched = Clock(asyncio.get_running_loop(), 4.0)

        def advance(now_s: float) -> None:
            called.append(now_s)
            live.due = math.inf

        live = SimpleNamespace(due=0.2, next_s=lambda: live.due, advance=advance)
        watched.drive(live)  # type: ignore[arg-type]
        for _ in range(400):
            await asyncio.sleep(0.005)
            if called:
                break
        watched.stop()
        return called

    (now_s,) = asyncio.run(main())
    assert now_s >= 0.2
