"""Queues that many rooms need: servers in order of arrival, a link whose transfers share its rate, waits in one go."""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError
from ridgeline.sim.engine import Event, Simulation

Done = Callable[..., object]


class Station:
    """Jobs that wait in order of arrival for one of a number of equal servers.

    Attributes:
        servers: how many jobs are served at once; change it with `resize`.
        busy: how many are being served now.
    """

    def __init__(self, simulation: Simulation, servers: int = 1) -> None:
        self.servers = _whole(servers)
        self.busy = 0
        self._simulation = simulation
        self._queue: deque[tuple[float, Done, tuple[Any, ...]]] = deque()

    @property
    def waiting(self) -> int:
        """How many jobs wait for a server."""
        return len(self._queue)

    def submit(self, service_s: float, done: Done, *args: Any) -> None:
        """Queue a job that keeps a server for `service_s`; `done(*args)` is called when it ends."""
        if not 0.0 <= service_s < math.inf:
            raise DomainError("a service time is finite and not negative", at="service_s", got=service_s)
        if self.busy < self.servers:
            self._begin(service_s, done, args)
        else:
            self._queue.append((service_s, done, args))

    def resize(self, servers: int) -> None:
        """Change the number of servers; those that go finish their job first."""
        self.servers = _whole(servers)
        while self._queue and self.busy < self.servers:
            self._begin(*self._queue.popleft())

    def _begin(self, service_s: float, done: Done, args: tuple[Any, ...]) -> None:
        self.busy += 1
        self._simulation.schedule(service_s, self._end, done, args)

    def _end(self, done: Done, args: tuple[Any, ...]) -> None:
        self.busy -= 1
        if self._queue and self.busy < self.servers:
            self._begin(*self._queue.popleft())
        done(*args)


class SharedLink:
    """Transfers that share a rate equally, each with all of it while it is alone (processor sharing).

    The link counts what it has given to each transfer in progress, one number for all of them; a transfer ends when
    that number has grown by its size. So an arrival or an end costs a heap operation, however many transfers there are.
    """

    def __init__(self, simulation: Simulation, rate_per_s: float) -> None:
        """`rate_per_s` is in the unit of the sizes, as bytes/s, and above 0."""
        self._simulation = simulation
        self._rate = _positive(rate_per_s)
        self._given, self._since_s = 0.0, simulation.now_s
        self._active: list[tuple[float, int, Done, tuple[Any, ...]]] = []
        self._sequence = 0
        self._next: Event | None = None

    @property
    def active(self) -> int:
        """How many transfers are in progress."""
        return len(self._active)

    def send(self, size: float, done: Done, *args: Any) -> None:
        """Start a transfer; `done(*args)` is called when its last part has passed."""
        if not 0.0 <= size < math.inf:
            raise DomainError("a size is finite and not negative", at="size", got=size)
        self._settle()
        self._sequence += 1
        heappush(self._active, (self._given + float(size), self._sequence, done, args))
        self._plan()

    def set_rate(self, rate_per_s: float) -> None:
        """Change the rate from now on."""
        self._settle()
        self._rate = _positive(rate_per_s)
        self._plan()

    def _settle(self) -> None:
        now_s = self._simulation.now_s
        if self._active:
            self._given += (now_s - self._since_s) * self._rate / len(self._active)
        else:
            self._given = 0.0
        self._since_s = now_s

    def _plan(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._active:
            left = max(self._active[0][0] - self._given, 0.0)
            self._next = self._simulation.schedule(left * len(self._active) / self._rate, self._end)

    def _end(self) -> None:
        self._given, _, done, args = heappop(self._active)
        self._since_s = self._simulation.now_s
        self._plan()
        done(*args)


def fifo_waits_s(arrivals_s: ArrayLike, services_s: ArrayLike, servers: int = 1) -> NDArray[np.float64]:
    """How long each job waits in first-come order, without playing events.

    Args:
        arrivals_s: shape (n,), never falling.
        services_s: shape (n,) or a number, >= 0.
        servers: how many jobs are served at once.
    Returns:
        Seconds before service begins, shape (n,).
    Raises:
        DomainError: arrivals that fall, or times that are negative or not finite.
    Source:
        Lindley, "The theory of queues with a single server", 1952, as a cumulative sum less its running minimum; Kiefer
        and Wolfowitz, 1955, for more servers (a loop over jobs).
    """
    arrivals = np.asarray(arrivals_s, np.float64)
    services = np.broadcast_to(np.asarray(services_s, np.float64), arrivals.shape)
    servers = _whole(servers)
    if arrivals.ndim != 1 or not (np.isfinite(arrivals).all() and (np.diff(arrivals) >= 0).all()):
        raise DomainError("arrivals are finite and in order", at="arrivals_s", got=arrivals_s)
    if not (np.isfinite(services) & (services >= 0)).all():
        raise DomainError("service times are finite and not negative", at="services_s", got=services_s)
    if arrivals.size == 0:
        return np.zeros(0)
    if servers == 1:
        backlog = np.concatenate([[0.0], np.cumsum(services[:-1] - np.diff(arrivals))])
        return np.asarray(backlog - np.minimum.accumulate(backlog))
    free_s = [float(arrivals[0])] * servers
    heapify(free_s)
    starts = []
    for arrival_s, service_s in zip(arrivals.tolist(), services.tolist(), strict=True):
        start_s = max(arrival_s, free_s[0])
        starts.append(start_s)
        heapreplace(free_s, start_s + service_s)
    return np.asarray(np.asarray(starts) - arrivals)


def _whole(servers: int) -> int:
    try:
        count = operator.index(servers)
    except TypeError:
        count = 0
    if count < 1:
        raise DomainError("the number of servers is a whole number >= 1", at="servers", got=servers)
    return count


def _positive(rate_per_s: float) -> float:
    if not 0.0 < rate_per_s < math.inf:
        raise DomainError("a rate is finite and above 0", at="rate_per_s", got=rate_per_s)
    return float(rate_per_s)
