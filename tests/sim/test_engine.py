"""The event core: order, cancelling, runs that end and go on, and streams by name."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.sim import Simulation, SimulationError

plans = st.lists(st.tuples(st.integers(0, 5), st.integers(-2, 2)), max_size=40)


def played(plan: list[tuple[int, int]], run: Callable[[Simulation], None]) -> list[tuple[float, int, int]]:
    """(time, priority, number) of events in the order in which they ran."""
    simulation, order = Simulation(), []
    for number, (delay, priority) in enumerate(plan):
        simulation.schedule(
            delay, lambda p, n: order.append((simulation.now_s, p, n)), priority, number, priority=priority
        )
    run(simulation)
    return order


@given(plan=plans)
def test_events_run_by_time_then_priority_then_in_the_order_of_scheduling(plan: list[tuple[int, int]]) -> None:
    order = played(plan, Simulation.run)
    assert order == sorted((float(delay), priority, number) for number, (delay, priority) in enumerate(plan))


@given(plan=plans, cuts=st.lists(st.integers(0, 6)), every=st.integers(1, 5))
def test_a_run_in_parts_is_the_run_in_one(plan: list[tuple[int, int]], cuts: list[int], every: int) -> None:
    def in_parts(simulation: Simulation) -> None:
        for cut in sorted(cuts):
            simulation.run(until_s=cut)
            assert simulation.now_s == cut
        while simulation.pending:
            until = simulation.events + every
            simulation.run(stop=lambda until=until: simulation.events == until)

    def in_steps(simulation: Simulation) -> None:
        while simulation.step():
            pass
        assert simulation.events == len(plan)

    assert played(plan, in_parts) == played(plan, in_steps) == played(plan, Simulation.run)


@given(plan=plans, gone=st.sets(st.integers(0, 39)), last=st.booleans())
def test_a_cancelled_event_never_runs_and_the_others_do(
    plan: list[tuple[int, int]], gone: set[int], last: bool
) -> None:
    simulation, ran = Simulation(), []
    events = [
        simulation.schedule(delay, ran.append, number, priority=priority)
        for number, (delay, priority) in enumerate(plan)
    ]
    if last:
        simulation.schedule(9, ran.append, len(plan))
    gone &= set(range(len(plan)))
    assert all(events[number].cancel() for number in gone)
    assert not any(events[number].cancel() for number in gone)
    assert simulation.pending == len(plan) - len(gone) + last
    simulation.run()
    assert set(ran) == set(range(len(plan) + last)) - gone
    assert simulation.pending == 0
    assert not any(event.cancel() or event.pending for event in events)


def test_an_event_that_is_always_postponed_does_not_fill_the_memory() -> None:
    simulation, ran = Simulation(), []
    late = simulation.schedule(1e6, ran.append, "late")
    for number in range(10_000):
        late.cancel()
        late = simulation.schedule(1e6 + number, ran.append, number)
    assert simulation.pending == 1
    assert len(simulation._heap) < 1000
    simulation.run()
    assert ran == [9999]


@given(data=st.data())
def test_order_survives_the_cancelling_of_most_events(data: st.DataObject) -> None:
    draw = stream(data.draw(st.integers(0, 1000)), "events")
    simulation, ran = Simulation(), []
    times = draw.random(400)
    events = [simulation.schedule(time, lambda: ran.append(simulation.now_s)) for time in times]
    gone = draw.permutation(400)[: data.draw(st.integers(200, 400))]
    for number in gone:
        events[number].cancel()
    simulation.run()
    assert ran == sorted(np.delete(times, gone))


def test_events_may_cancel_and_schedule_at_the_same_time() -> None:
    simulation, ran = Simulation(start_s=5.0), []

    def first() -> None:
        ran.append(("first", simulation.now_s))
        second.cancel()
        simulation.schedule(0, ran.append, ("now", simulation.now_s))
        simulation.schedule_at(simulation.now_s, ran.append, ("before", 6.0), priority=-1)

    simulation.schedule_at(6, first)
    second = simulation.schedule_at(6, ran.append, "second")
    third = simulation.schedule_at(6, lambda: ran.append(third.cancel()))
    simulation.run()
    assert ran == [("first", 6.0), ("before", 6.0), False, ("now", 6.0)]


@pytest.mark.parametrize("delay", [-1e-9, math.nan, math.inf, -math.inf, np.float64("nan")])
def test_a_delay_is_finite_and_not_negative(delay: float) -> None:
    simulation = Simulation()
    with pytest.raises(DomainError, match="a delay is finite"):
        simulation.schedule(delay, print)
    assert simulation.pending == 0


@pytest.mark.parametrize("time", [1.999, -1.0, math.nan, -math.inf])
def test_the_past_is_over(time: float) -> None:
    simulation = Simulation(start_s=2.0)
    with pytest.raises(DomainError, match=r"in the past of 2\.0 s"):
        simulation.schedule_at(time, print)
    with pytest.raises(DomainError, match=r"in the past of 2\.0 s"):
        simulation.run(until_s=time)


def test_times_stay_finite() -> None:
    simulation = Simulation(start_s=1e308)
    for ask in (lambda: simulation.schedule(1.7e308, print), lambda: simulation.schedule_at(math.inf, print)):
        with pytest.raises(DomainError, match="finite time"):
            ask()
    with pytest.raises(DomainError, match="starts at a finite time"):
        Simulation(start_s=math.nan)


def test_time_is_a_plain_float_whatever_was_asked_for() -> None:
    simulation, seen = Simulation(), []
    simulation.schedule(np.float64(1.5), lambda: seen.append(type(simulation.now_s)))
    simulation.schedule_at(np.int64(2), lambda: seen.append(type(simulation.now_s)))
    simulation.run()
    assert seen == [float, float]


def test_until_runs_what_is_due_then_and_leaves_the_rest() -> None:
    simulation, ran = Simulation(), []
    for time in (1, 2, 3):
        simulation.schedule(time, ran.append, time)
    simulation.run(until_s=2)
    assert (ran, simulation.now_s, simulation.next_s()) == ([1, 2], 2.0, 3.0)
    simulation.run(until_s=10)
    assert (ran, simulation.now_s, simulation.next_s()) == ([1, 2, 3], 10.0, math.inf)
    assert simulation.step() is False


def test_next_passes_over_cancelled_events() -> None:
    simulation = Simulation()
    simulation.schedule(1, print).cancel()
    simulation.schedule(2, lambda: None)
    assert (simulation.next_s(), simulation.pending) == (2.0, 1)


def test_halt_ends_the_run_after_the_event_and_a_later_run_goes_on() -> None:
    simulation, ran = Simulation(), []
    simulation.schedule(1, lambda: (simulation.halt(), ran.append(1)))
    simulation.schedule(2, ran.append, 2)
    simulation.run(until_s=5)
    assert (ran, simulation.now_s, simulation.halted) == ([1], 1.0, True)
    simulation.run(until_s=5)
    assert (ran, simulation.now_s, simulation.halted) == ([1, 2], 5.0, False)


def test_an_error_in_a_callback_uses_up_its_event_only() -> None:
    simulation, ran = Simulation(), []

    def fail() -> None:
        raise ValueError("broken")

    simulation.schedule(1, fail)
    simulation.schedule(2, ran.append, 2)
    with pytest.raises(ValueError, match="broken"):
        simulation.run()
    assert (simulation.now_s, simulation.events) == (1.0, 1)
    simulation.run()
    assert (ran, simulation.events) == ([2], 2)


@pytest.mark.parametrize("inner", [Simulation.run, Simulation.step])
def test_a_run_inside_a_run_is_refused(inner: Callable[[Simulation], object]) -> None:
    simulation = Simulation()
    simulation.schedule(0, inner, simulation)
    simulation.schedule(1, print)
    with pytest.raises(SimulationError, match="inside its own run"):
        simulation.run()


def tandem(interrupt_at: int | None) -> tuple[list[tuple[float, float]], int]:
    """A run whose n-th event meets Ctrl-C half-way; it is resumed after each. Returns its record and the interrupts."""
    simulation, record, draw = Simulation(seed=3), [], Simulation(seed=3).stream("gaps")
    signal_at = [interrupt_at]

    def arrive() -> None:
        before = float(draw.random())
        if len(record) == signal_at[0]:
            signal_at[0] = None
            signal.raise_signal(signal.SIGINT)
        record.append((simulation.now_s, before))
        if len(record) < 20:
            simulation.schedule(before, arrive)

    simulation.schedule(0, arrive)
    interrupts = 0
    while simulation.pending:
        try:
            simulation.run()
        except KeyboardInterrupt:
            interrupts += 1
    return record, interrupts


@pytest.mark.parametrize("at", [0, 7, 19])
def test_ctrl_c_lets_the_event_finish_and_the_run_can_be_resumed(at: int) -> None:
    record, interrupts = tandem(at)
    assert (record, interrupts) == (tandem(None)[0], 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait() -> None:
    simulation, reached = Simulation(), []

    def stuck() -> None:
        signal.raise_signal(signal.SIGINT)
        reached.append("first")
        signal.raise_signal(signal.SIGINT)
        reached.append("second")

    simulation.schedule(0, stuck)
    with pytest.raises(KeyboardInterrupt):
        simulation.run()
    assert reached == ["first"]


def test_ctrl_c_is_not_lost_when_the_event_fails() -> None:
    simulation = Simulation()

    def fail() -> None:
        signal.raise_signal(signal.SIGINT)
        raise ValueError("broken")

    simulation.schedule(0, fail)
    with pytest.raises(KeyboardInterrupt) as caught:
        simulation.run()
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_handler_of_someone_else_stays_and_other_threads_run_too() -> None:
    simulation, seen = Simulation(), []

    def handler(number: int, frame: object) -> None:
        seen.append(number)

    old = signal.signal(signal.SIGINT, handler)
    try:
        simulation.schedule(0, signal.raise_signal, signal.SIGINT)
        simulation.run()
        assert seen == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, old)
    simulation.schedule(1, seen.append, "thread")
    worker = threading.Thread(target=simulation.run)
    worker.start()
    worker.join()
    assert seen[-1] == "thread"


def random_walk(seed: int, components: tuple[str, ...]) -> dict[str, list[tuple[float, float]]]:
    """Components that each wait and draw from their own stream."""
    simulation = Simulation(seed=seed)
    record: dict[str, list[tuple[float, float]]] = {name: [] for name in components}

    def act(name: str) -> None:
        drawn = float(simulation.stream(name).random())
        record[name].append((simulation.now_s, drawn))
        simulation.schedule(drawn, act, name)

    for name in components:
        simulation.schedule(0, act, name)
    simulation.run(until_s=20)
    return record


def test_the_same_seed_plays_the_same_run() -> None:
    assert random_walk(5, ("arrivals", "failures")) == random_walk(5, ("arrivals", "failures"))
    assert random_walk(5, ("arrivals",)) != random_walk(6, ("arrivals",))


def test_adding_a_component_with_randomness_leaves_the_others_unchanged() -> None:
    alone, among = random_walk(5, ("arrivals",)), random_walk(5, ("noise", "arrivals", "failures"))
    assert alone["arrivals"] == among["arrivals"]


def test_a_stream_is_one_object_and_that_of_its_name() -> None:
    simulation = Simulation(seed=9)
    assert simulation.stream("x") is simulation.stream("x")
    assert simulation.stream("x").random() == stream(9, "x").random()


def test_simulations_share_nothing() -> None:
    one, other = Simulation(), Simulation()
    one.schedule(1, print)
    assert other.pending == 0
    assert other.schedule(1, print) is not None
    assert [entry[2] for entry in other._heap] == [1]
