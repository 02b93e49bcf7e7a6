"""A simulation played against a clock: each event waits for its time, and how late it ran is measured.

There is no clock in here: the caller passes one, with a way to sleep, so a test plays hours in no time.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ridgeline.core.errors import DomainError
from ridgeline.sim.engine import Simulation
from ridgeline.sim.errors import LagError
from ridgeline.sim.histogram import LogHistogram

LONGEST_SLEEP_S = 3600.0
"""Sleeps are cut to this, as operating systems refuse endless ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """How far behind the clock events ran, in seconds of the clock; NaN where none ran.

    p50 and p99 are within 1 %, the largest is exact.
    """

    count: int
    p50_s: float
    p99_s: float
    largest_s: float


class RealTime:
    """Plays a simulation so that one simulated second takes `factor` seconds of the clock.

    `run` blocks, for a thread of its own. In an event loop call `advance`, which never blocks and says how long nothing
    will be due. Events from outside come in through `inject`, from any thread.

    Attributes:
        lateness: histogram of how late each event ran, in seconds of the clock.
    """

    def __init__(
        self,
        simulation: Simulation,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        wake: Callable[[], object] | None = None,
        factor: float = 1.0,
        strict: bool = False,
        tolerance_s: float = 0.01,
    ) -> None:
        """The clock starts to count at the first `run`, `advance` or `inject`.

        Args:
            simulation: what is played; nothing else may run it meanwhile.
            clock: seconds that never run backwards, as `time.monotonic`.
            sleep: waits that many seconds, or less when `wake` was called, as `threading.Event.wait` does.
            wake: called after `inject`, to end a sleep or to plan an `advance`; without it a sleep is not cut short.
            factor: seconds of the clock per simulated second: 0.1 is ten times faster than real time.
            strict: raise LagError instead of running an event that is later than the tolerance.
            tolerance_s: in seconds of the clock.
        """
        if not 0.0 < factor < math.inf:
            raise DomainError("the factor is finite and above 0", at="factor", got=factor)
        if not tolerance_s >= 0.0:
            raise DomainError("a tolerance is not negative", at="tolerance_s", got=tolerance_s)
        self.simulation, self.factor, self.strict, self.tolerance_s = simulation, factor, strict, tolerance_s
        self.lateness = LogHistogram()
        self._clock, self._sleep, self._wake = clock, sleep, wake
        self._inbox: deque[tuple[float, Callable[..., object], tuple[Any, ...]]] = deque()
        self._anchor: tuple[float, float] | None = None  # (clock, simulated time) at one moment
        self._lock = threading.Lock()
        self._stopped = False

    def now_s(self) -> float:
        """Simulated time by the clock; between events it is ahead of the simulation's own."""
        origin, start_s = self._anchored()
        return start_s + (self._clock() - origin) / self.factor

    def resync(self) -> None:
        """Forget the lag: the simulation's time is now, by the clock. For use after a LagError or a pause."""
        with self._lock:
            self._anchor = (self._clock(), self.simulation.now_s)

    def inject(self, callback: Callable[..., object], *args: Any) -> None:
        """Run `callback(*args)` as an event of now, by the clock, after those that are due before; from any thread."""
        self._inbox.append((self.now_s(), callback, args))
        if self._wake is not None:
            self._wake()

    def stop(self) -> None:
        """End `run` or `serve` after the event under way, or the next one at its start; from any thread."""
        self._stopped = True
        if self._wake is not None:
            self._wake()

    def advance(self, *, until_s: float = math.inf, most: int = 1000) -> float:
        """Run the events that are due, without waiting, and no more than `most` of them.

        Returns:
            Seconds of the clock until the next event is due: 0 when `most` was reached or the simulation was halted,
            infinite when no event waits before `until_s`.
        Raises:
            LagError: strict, and the next event is later than the tolerance; it still waits.
        """
        simulation = self.simulation
        origin, start_s = self._anchored()
        for _ in range(most):
            if self._stopped:
                break
            self._take_in()
            time_s = simulation.next_s()
            if time_s > until_s or time_s == math.inf:
                return math.inf
            late_s = self._clock() - (origin + (time_s - start_s) * self.factor)
            if late_s < 0.0:
                return -late_s
            if self.strict and late_s > self.tolerance_s:
                raise LagError(
                    f"the event at {time_s!r} s is {late_s:.6f} s late, more than {self.tolerance_s} s",
                    at="tolerance_s",
                    fix="slow down with a larger factor, simulate less, or run without strict",
                )
            self.lateness.add_one(late_s)
            simulation.step()
            if simulation.halted:
                break
        return 0.0

    def run(self, *, until_s: float = math.inf, stop: Callable[[], bool] | None = None) -> None:
        """Play events at their time, until none waits, `until_s` has come, or something stops it.

        What stops it: `stop()` is true, `RealTime.stop` or `Simulation.halt` is called. With a finite `until_s` it
        waits for that time even if nothing is planned, as events may be injected; with `serve` it does so for ever.

        Args:
            until_s: simulated time; events at that time run.
            stop: asked after each event and each sleep.
        """
        self._play(until_s, stop, idle=until_s < math.inf)

    def serve(self) -> None:
        """Play for ever, waiting for injected events, until `stop` or `halt` is called."""
        self._play(math.inf, None, idle=True)

    def summary(self) -> Lateness:
        """How late events ran so far."""
        held = self.lateness
        if not held.count:
            return Lateness(count=0, p50_s=math.nan, p99_s=math.nan, largest_s=math.nan)
        p50_s, p99_s = held.quantiles([0.5, 0.99]).tolist()
        return Lateness(count=round(held.count), p50_s=p50_s, p99_s=p99_s, largest_s=held.largest)

    def _play(self, until_s: float, stop: Callable[[], bool] | None, *, idle: bool) -> None:
        simulation = self.simulation
        if not simulation.now_s <= until_s:
            raise DomainError(f"a run cannot end in the past of {simulation.now_s!r} s", at="until_s", got=until_s)
        while True:
            ran = simulation.events
            wait_s = self.advance(until_s=until_s, most=1)
            if self._stopped:
                self._stopped = False
                return
            if (simulation.events > ran and simulation.halted) or (stop is not None and stop()):
                return
            if wait_s == math.inf:
                wait_s = self._left_s(until_s)
                if not idle or wait_s <= 0.0:
                    break
            if wait_s > 0.0:
                self._sleep(min(wait_s, LONGEST_SLEEP_S))
        if until_s < math.inf:
            simulation.run(until_s=until_s)

    def _left_s(self, until_s: float) -> float:
        """Seconds of the clock until that time."""
        origin, start_s = self._anchored()
        return origin + (until_s - start_s) * self.factor - self._clock()

    def _take_in(self) -> None:
        simulation = self.simulation
        while self._inbox:
            time_s, callback, args = self._inbox.popleft()
            simulation.schedule_at(max(time_s, simulation.now_s), callback, *args)

    def _anchored(self) -> tuple[float, float]:
        with self._lock:
            if self._anchor is None:
                self._anchor = (self._clock(), self.simulation.now_s)
            return self._anchor
