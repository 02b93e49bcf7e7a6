"""Simulated time against a clock that the test sets: nothing here sleeps."""

from __future__ import annotations

import math
import signal
import threading

import pytest

from ridgeline.core.errors import DomainError
from ridgeline.sim import LagError, RealTime, Simulation


class Clock:
    """A clock that stands still but for sleeps, work, and how much later than asked a sleep returns."""

    def __init__(self, now: float = 1000.0, oversleeps: float = 0.0) -> None:
        self.now, self.oversleeps, self.slept = now, oversleeps, [0.0]
        self.meanwhile = {}  # what happens at a time of the clock, once

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        end = self.now + seconds + self.oversleeps
        for time in sorted(self.meanwhile):
            if time <= end:  # something wakes the sleeper
                self.now = max(self.now, time)
                self.slept.append(seconds)
                self.meanwhile.pop(time)()
                return
        self.now = end
        self.slept.append(seconds)

    def work(self, seconds: float) -> None:
        self.now += seconds


def real_time(simulation: Simulation, clock: Clock, **options: object) -> RealTime:
    return RealTime(simulation, clock=clock.read, sleep=clock.sleep, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [0.1, 1.0, 3.0])
def test_events_wait_for_their_time_on_the_clock(factor: float) -> None:
    simulation, clock, seen = Simulation(start_s=7.0), Clock(), []
    for time in (8.0, 10.0, 10.0, 17.0):
        simulation.schedule_at(time, lambda: seen.append((simulation.now_s, clock.now)))
    player = real_time(simulation, clock, factor=factor)
    player.run()
    assert seen == [(t, pytest.approx(1000 + (t - 7) * factor)) for t in (8.0, 10.0, 10.0, 17.0)]
    summary = player.summary()
    assert (summary.count, summary.largest_s) == (4, pytest.approx(0.0, abs=1e-9))


def test_lateness_is_measured_on_the_clock() -> None:
    simulation, clock = Simulation(), Clock(oversleeps=0.002)
    for number in range(200):
        simulation.schedule(1.0 + number, clock.work, 0.05 if number == 150 else 0.0)
    simulation.schedule(151.0, lambda: None)  # at once after the slow one
    player = real_time(simulation, clock)
    player.run()
    summary = player.summary()
    assert summary.count == 201
    assert (summary.p50_s, summary.p99_s) == pytest.approx((0.002, 0.002), rel=0.01)
    assert summary.largest_s == pytest.approx(0.052)


def test_lateness_before_any_event_is_unknown() -> None:
    summary = real_time(Simulation(), Clock()).summary()
    assert summary.count == 0
    assert math.isnan(summary.p50_s)


def test_strict_names_the_lag_and_keeps_the_event() -> None:
    simulation, clock, ran = Simulation(), Clock(), []
    simulation.schedule(1.0, clock.work, 0.5)
    simulation.schedule(1.2, ran.append, "late")
    player = real_time(simulation, clock, strict=True, tolerance_s=0.2)
    with pytest.raises(LagError, match=r"at 1\.2 s is 0\.300000 s late, more than 0\.2 s"):
        player.run()
    assert (ran, simulation.pending, simulation.now_s) == ([], 1, 1.0)
    player.resync()
    player.run()
    assert ran == ["late"]
    relaxed = real_time(Simulation(), clock, strict=True, tolerance_s=0.3)
    relaxed.simulation.schedule(1.0, clock.work, 0.29)
    relaxed.simulation.schedule(1.0, ran.append, "within")
    relaxed.run()
    assert ran == ["late", "within"]


def test_a_run_waits_for_its_end_even_if_nothing_is_planned() -> None:
    simulation, clock = Simulation(), Clock()
    simulation.schedule(20.0, lambda: None)
    player = real_time(simulation, clock)
    player.run(until_s=5.0)
    assert (simulation.now_s, clock.now, simulation.pending) == (5.0, 1005.0, 1)
    player.run()
    assert (simulation.now_s, clock.now) == (20.0, 1020.0)
    player.run(until_s=10_000.0)
    assert max(clock.slept) == 3600.0
    with pytest.raises(DomainError, match="in the past"):
        player.run(until_s=1.0)


def test_injected_events_run_at_the_time_of_the_clock_between_those_that_are_due() -> None:
    simulation, clock, seen = Simulation(), Clock(), []
    simulation.schedule(1.0, lambda: seen.append(("planned", simulation.now_s)))
    simulation.schedule(3.0, lambda: seen.append(("planned", simulation.now_s)))
    player = real_time(simulation, clock, factor=2.0)
    clock.meanwhile[1003.0] = lambda: player.inject(lambda name: seen.append((name, simulation.now_s)), "injected")
    player.run()
    assert seen == [("planned", 1.0), ("injected", 1.5), ("planned", 3.0)]


def test_a_late_simulation_runs_what_was_due_before_an_injected_event_first() -> None:
    simulation, clock, order = Simulation(), Clock(), []
    player = real_time(simulation, clock)

    def slow() -> None:
        clock.work(1.0)
        player.inject(order.append, "injected at 2.0")

    simulation.schedule(1.0, slow)
    simulation.schedule(1.5, order.append, "due at 1.5")
    simulation.schedule(2.5, order.append, "due at 2.5")
    player.run()
    assert order == ["due at 1.5", "injected at 2.0", "due at 2.5"]


def test_serving_waits_for_what_comes_in_until_it_is_stopped() -> None:
    simulation, clock, seen, woken = Simulation(), Clock(), [], []
    player = real_time(simulation, clock, wake=lambda: woken.append(clock.now))
    clock.meanwhile[1010.0] = lambda: player.inject(lambda: seen.append(simulation.now_s))
    clock.meanwhile[1020.0] = player.stop
    player.serve()
    assert (seen, clock.now, woken) == ([10.0], 1020.0, [1010.0, 1020.0])
    quiet = real_time(simulation, clock)
    quiet.stop()
    quiet.serve()  # stopped before it began
    assert clock.now == 1020.0


def test_halt_and_a_condition_end_a_run_too() -> None:
    simulation, clock, ran = Simulation(), Clock(), []
    for time in (1.0, 2.0, 3.0):
        simulation.schedule(time, ran.append, time)
    simulation.schedule(1.5, simulation.halt)
    player = real_time(simulation, clock)
    player.run()
    assert (ran, clock.now) == ([1.0], 1001.5)
    player.run(stop=lambda: len(ran) == 2)
    assert ran == [1.0, 2.0]


def test_advance_never_waits_and_says_when_to_come_back() -> None:
    simulation, clock, ran = Simulation(), Clock(), []
    for time in (1.0, 1.0, 1.0, 4.0):
        simulation.schedule(time, ran.append, time)
    player = real_time(simulation, clock, factor=0.5)
    assert player.advance() == 0.5
    clock.work(0.5)
    assert player.advance(most=2) == 0.0
    assert (player.advance(), ran) == (1.5, [1.0, 1.0, 1.0])
    assert player.now_s() == 1.0
    assert player.advance(until_s=3.0) == math.inf
    clock.work(2.0)
    player.inject(simulation.halt)
    assert player.advance() == 0.0
    assert simulation.halted
    assert player.advance() == math.inf
    assert ran == [1.0, 1.0, 1.0, 4.0]
    assert clock.slept == [0.0]


def test_events_come_in_from_other_threads() -> None:
    simulation, woken, got = Simulation(), threading.Event(), []
    clock = Clock()
    player = RealTime(simulation, clock=clock.read, sleep=woken.wait, wake=woken.set)

    def feed(name: int) -> None:
        for number in range(200):
            player.inject(got.append, (name, number))

    threads = [threading.Thread(target=feed, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    player.inject(player.stop)
    player.serve()
    assert len(got) == 600
    assert all([n for name, n in got if name == who] == list(range(200)) for who in range(3))


def test_ctrl_c_in_an_event_lets_it_finish() -> None:
    simulation, clock, ran = Simulation(), Clock(), []

    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)
        ran.append("finished")

    simulation.schedule(1.0, interrupted)
    simulation.schedule(2.0, ran.append, "next")
    player = real_time(simulation, clock)
    with pytest.raises(KeyboardInterrupt):
        player.run()
    assert ran == ["finished"]
    player.run()
    assert (ran, clock.now) == (["finished", "next"], 1002.0)


@pytest.mark.parametrize("options", [{"factor": 0.0}, {"factor": math.nan}, {"tolerance_s": -1.0}])
def test_impossible_options_are_named(options: dict[str, float]) -> None:
    with pytest.raises(DomainError):
        real_time(Simulation(), Clock(), **options)
