"""A fleet against the clock of an event loop: one timer, set to when something happens next."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable

from ridgeline.serving.fleet.live import Live
from ridgeline.sim.histogram import LogHistogram


class Clock:
    """Simulated time runs `speed` times as fast as the loop's.

    Attributes:
        lateness: of each iteration's first and last token, in seconds of the wall: tokens go out one by one, and the
            last is as late as the first and the time that all took.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, speed: float) -> None:
        """Time starts now."""
        self.speed, self.lateness = speed, LogHistogram()
        self._loop, self._origin = loop, loop.time()
        self._alarm = Alarm(loop, self._tick)
        self._due = math.inf
        self._live: Live | None = None
        self._telling: list[float] = []  # when tokens were due that are being told, in seconds of the loop

    @property
    def now_s(self) -> float:
        """Simulated seconds since the start."""
        return self.at(self._loop.time())

    def at(self, loop_s: float) -> float:
        """Simulated seconds at a time of the loop."""
        return (loop_s - self._origin) * self.speed

    def wall_s(self, simulated_s: float) -> float:
        """Seconds of the wall that so many simulated seconds take."""
        return simulated_s / self.speed

    def late(self, simulated_s: float) -> None:
        """An iteration's tokens are told from now on, so much late."""
        late_s = simulated_s / self.speed
        self.lateness.add_one(late_s)
        self._telling.append(self._loop.time() - late_s)

    def drive(self, live: Live) -> None:
        """Play this fleet from now on."""
        self._live = live
        self.reset()

    def reset(self) -> None:
        """Something has changed, and what was due is told: set the timer anew."""
        assert self._live is not None, "a clock drives a fleet"
        if self._telling:
            now = self._loop.time()
            for due in self._telling:
                self.lateness.add_one(now - due)
            self._telling.clear()
        due = self._live.next_s()
        if due == self._due:
            return
        self._due = due
        self._alarm.set(self._origin + due / self.speed)

    def stop(self) -> None:
        """No more."""
        self._alarm.stop()

    def _tick(self) -> None:
        assert self._live is not None, "a clock drives a fleet"
        self._due = math.inf
        self._live.advance(self.now_s)
        self.reset()


class Alarm:
    """A timer finer than the loop's, which counts in the milliseconds of epoll: a thread that sleeps, and calls in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        """The thread starts with the first time that is set."""
        self._loop, self._call = loop, call
        self._changed = threading.Condition()
        self._at = math.inf
        self._thread: threading.Thread | None = None
        self._stopped = False

    def set(self, at: float) -> None:
        """Call once at that time of the loop (inf: not at all), instead of at the time that was set."""
        if at == self._at:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._sleep, name="alarm", daemon=True)
            self._thread.start()
        with self._changed:
            sooner, self._at = at < self._at, at
            if sooner:
                self._changed.notify()

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _sleep(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                left = self._at - self._loop.time()
                if left > 0:
                    self._changed.wait(None if left == math.inf else left)
                    continue
                self._at = math.inf
            self._loop.call_soon_threadsafe(self._call)
