"""The event core: a heap of (time, priority, sequence) and one loop over it."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.sim._interrupts import HeldInterrupts
from ridgeline.sim.errors import SimulationError

FEW = 64
"""Cancelled events below this number are left in the heap until their time comes."""


class Event:
    """A callback that waits for its time; `cancel` takes it back.

    Attributes:
        time_s: simulated time at which it runs.
    """

    __slots__ = ("_args", "_callback", "_simulation", "time_s")

    def __init__(
        self, simulation: Simulation, time_s: float, callback: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        self._simulation = simulation
        self.time_s = time_s
        self._callback: Callable[..., object] | None = callback
        self._args = args

    @property
    def pending(self) -> bool:
        """Whether it still waits: it was not cancelled and did not run."""
        return self._callback is not None

    def cancel(self) -> bool:
        """Take the event back; false, and nothing happens, when it ran or was cancelled before."""
        if self._callback is None:
            return False
        self._callback, self._args = None, ()
        self._simulation._forget_one()
        return True


class Simulation:
    """Simulated time, the events that wait in it, and the random streams of one run.

    Events run in the order of (time, priority, sequence): at equal times the smaller priority first, then the one that
    was scheduled first. Everything that a run does follows from its seed and its callbacks.

    Attributes:
        now_s: simulated time; read it, do not set it.
        seed: the run's seed, from which every stream is spawned.
        events: how many events have run, or begun to.
        halted: whether `halt` was called since the last `run` or `step` began.
    """

    def __init__(self, *, seed: int = 0, start_s: float = 0.0) -> None:
        """Raises DomainError for a start that is not a finite time."""
        if not math.isfinite(start_s):
            raise DomainError("a simulation starts at a finite time", at="start_s", got=start_s)
        self.now_s = float(start_s)
        self.seed = seed
        self.halted = False
        self._heap: list[tuple[float, int, int, Event]] = []
        self.events = self._sequence = self._cancelled = 0
        self._running = False
        self._streams: dict[str, np.random.Generator] = {}

    @property
    def pending(self) -> int:
        """How many events wait."""
        return len(self._heap) - self._cancelled

    def stream(self, name: str) -> np.random.Generator:
        """The random generator of the component called `name`: the same object each time it is asked for.

        A component that asks for its own name draws the same numbers whichever other components exist.
        """
        if name not in self._streams:
            self._streams[name] = stream(self.seed, name)
        return self._streams[name]

    def schedule(self, delay_s: float, callback: Callable[..., object], *args: Any, priority: int = 0) -> Event:
        """Run `callback(*args)` after `delay_s` of simulated time.

        Raises:
            DomainError: a delay that is negative or not finite.
        """
        if not 0.0 <= delay_s < math.inf:
            raise DomainError("a delay is finite and not negative", at="delay_s", got=delay_s)
        # The body of `schedule_at` again: this is the hot path, and a call costs a tenth of it.
        time_s = float(self.now_s + delay_s)
        if time_s == math.inf:
            raise DomainError("an event needs a finite time", at="delay_s", got=delay_s)
        event = Event(self, time_s, callback, args)
        self._sequence = sequence = self._sequence + 1
        heappush(self._heap, (time_s, priority, sequence, event))
        return event

    def schedule_at(self, time_s: float, callback: Callable[..., object], *args: Any, priority: int = 0) -> Event:
        """Run `callback(*args)` at a time, which may be now but not before.

        Raises:
            DomainError: a time that has passed or is not finite.
        """
        if not self.now_s <= time_s:
            raise DomainError(f"an event cannot run in the past of {self.now_s!r} s", at="time_s", got=time_s)
        if time_s == math.inf:
            raise DomainError("an event needs a finite time", at="time_s", got=time_s)
        event = Event(self, float(time_s), callback, args)
        self._sequence = sequence = self._sequence + 1
        heappush(self._heap, (event.time_s, priority, sequence, event))
        return event

    def _forget_one(self) -> None:
        """Count a cancelled event; drop all of them once they are the larger part of the heap."""
        self._cancelled += 1
        if self._cancelled > FEW and 2 * self._cancelled > len(self._heap):
            self._heap[:] = [entry for entry in self._heap if entry[3].pending]
            heapify(self._heap)
            self._cancelled = 0

    def next_s(self) -> float:
        """When the next event runs; infinite when none waits."""
        heap = self._heap
        while heap and not heap[0][3].pending:
            heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else math.inf

    def halt(self) -> None:
        """End `run` after the event under way; what still waits stays for a later `run`."""
        self.halted = True

    def step(self) -> bool:
        """Run the next event; false when none waits."""
        if self.next_s() == math.inf:
            return False
        count = self.events
        self.run(stop=lambda: True)
        return self.events > count

    def run(self, *, until_s: float = math.inf, stop: Callable[[], bool] | None = None) -> None:
        """Run events in order until none waits, one lies beyond `until_s`, `stop()` is true, or `halt` is called.

        Events at `until_s` itself run, and `now_s` is `until_s` afterwards, unless the run was stopped before. An error
        in a callback ends the run with that event used up. Ctrl-C lets the event under way finish and is raised then.
        In each case a later `run` continues where this one ended.

        Args:
            until_s: simulated time; without it the run goes on until no event waits.
            stop: asked after each event.
        Raises:
            DomainError: `until_s` lies in the past or is NaN.
            SimulationError: called from a callback of this simulation.
        """
        if not self.now_s <= until_s:
            raise DomainError(f"a run cannot end in the past of {self.now_s!r} s", at="until_s", got=until_s)
        if self._running:
            raise SimulationError("a simulation cannot run inside its own run", fix="schedule an event instead")
        self.halted = False
        self._running = True
        try:
            with HeldInterrupts(self.halt):
                self._loop(until_s, stop)
        finally:
            self._running = False

    def _loop(self, until_s: float, stop: Callable[[], bool] | None) -> None:
        heap = self._heap
        while heap and not self.halted:
            if heap[0][0] > until_s:
                break
            time_s, _, _, event = heappop(heap)
            callback = event._callback
            if callback is None:
                self._cancelled -= 1
                continue
            event._callback = None
            self.now_s = time_s
            self.events += 1
            callback(*event._args)
            if stop is not None and stop():
                return
        if until_s < math.inf and not self.halted:
            self.now_s = float(until_s)
