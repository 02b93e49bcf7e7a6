"""Events per second of the event core, beside a bare heap; queues by columns; statistics of a million values.

`python benchmarks/sim.py`. The reference keeps the same number of waiting entries in a heap and calls the same empty
function, with nothing that a simulation adds: no checks, no events that can be cancelled, no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

import numpy as np

from _timing import measure, report
from ridgeline.core.seeding import stream
from ridgeline.sim import LogHistogram, Simulation, Station, fifo_waits_s, mean_interval, percentiles, warm_up_mser

EVENTS = 200_000
VALUES = 1_000_000
GOAL_EVENTS_PER_S = 500_000.0


def bare(waiting: int) -> None:
    """The heap alone: every entry comes back one unit later."""
    heap: list[tuple[float, int, int, Callable[[], None]]] = [(i / waiting, 0, i, nothing) for i in range(waiting)]
    heapify(heap)
    for number in range(waiting, waiting + EVENTS):
        time, _, _, callback = heappop(heap)
        callback()
        heappush(heap, (time + 1.0, 0, number, callback))


def nothing() -> None:
    pass


def hold(waiting: int) -> None:
    """Every event schedules its successor one second later."""
    simulation = Simulation()

    def again() -> None:
        simulation.schedule(1.0, again)

    for i in range(waiting):
        simulation.schedule(i / waiting, again)
    simulation.run(until_s=EVENTS / waiting - 0.5 / waiting)


def postponed() -> None:
    """A timeout that each event cancels and sets anew."""
    simulation = Simulation()
    timeout = simulation.schedule(10.0, nothing)

    def again() -> None:
        nonlocal timeout
        timeout.cancel()
        timeout = simulation.schedule(10.0, nothing)
        simulation.schedule(0.001, again)

    simulation.schedule(0.0, again)
    simulation.run(until_s=EVENTS / 2 * 0.001)


def station(gaps: list[float], works: list[float]) -> None:
    """M/M/1 by events: two per customer."""
    simulation = Simulation()
    server = Station(simulation)

    def arrive(number: int) -> None:
        server.submit(works[number], nothing)
        if number + 1 < len(gaps):
            simulation.schedule(gaps[number], arrive, number + 1)

    simulation.schedule(0.0, arrive, 0)
    simulation.run()


def main() -> None:
    for waiting in (10, 1000, 100_000):
        reference = measure(lambda waiting=waiting: bare(waiting), repeats=3)
        report(f"bare heap, {waiting:,} waiting", reference, count=EVENTS, unit="events")
        timing = measure(lambda waiting=waiting: hold(waiting), repeats=3)
        report(
            f"events, {waiting:,} waiting",
            timing,
            count=EVENTS,
            unit="events",
            goal_per_s=GOAL_EVENTS_PER_S,
            reference=reference,
        )
    report("a timeout postponed at each event", measure(postponed, repeats=3), count=EVENTS // 2, unit="events")
    draw = stream(0, "benchmark")
    gaps, works = draw.exponential(1.25, VALUES), draw.exponential(1.0, VALUES)
    few = EVENTS // 2
    by_events = measure(lambda: station(gaps[:few].tolist(), works[:few].tolist()), repeats=3)
    report("M/M/1 by events", by_events, count=few, unit="customers")
    arrivals = np.cumsum(gaps)
    report("M/M/1 by columns", measure(lambda: fifo_waits_s(arrivals, works)), count=VALUES, unit="customers")
    report("M/M/4 by columns", measure(lambda: fifo_waits_s(arrivals, works, 4)), count=VALUES, unit="customers")
    waits = fifo_waits_s(arrivals, works)
    report("percentiles with intervals", measure(lambda: percentiles(waits)), count=VALUES, unit="values")
    report(
        "MSER-5 and batch means",
        measure(lambda: (warm_up_mser(waits), mean_interval(waits))),
        count=VALUES,
        unit="values",
    )
    histogram = LogHistogram()
    report("histogram, by columns", measure(lambda: histogram.add(waits)), count=VALUES, unit="values")
    one_by_one = waits[:few].tolist()

    def add_each() -> None:
        for value in one_by_one:
            histogram.add_one(value)

    report("histogram, one by one", measure(add_each), count=few, unit="values")


if __name__ == "__main__":
    main()
