"""Waiting requests in the order in which a scheduler serves them.

A queue is asked once per admission, not once per iteration. `Fcfs` is what every engine does by default; `Keyed` serves
the smallest key first, which gives priority, shortest-first and deadline orders; `Fair` serves the tenant that was
served least (virtual token counter, Sheng et al., arXiv 2401.00588, algorithm 2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

Key = Callable[[int, float], float]
"""(request, arrival time) -> what the queue orders by, smallest first."""


class Queue(Protocol):
    """The order of waiting requests. Preempted ones come back through `push_front`."""

    def push(self, request: int, time: float) -> None:
        """A request arrives."""

    def push_front(self, request: int) -> None:
        """A request that was served before comes back."""

    def peek(self) -> int:
        """The request that is served next; the queue is not empty."""

    def pop(self) -> int:
        """Take it out."""

    def __len__(self) -> int:
        """Requests that wait."""


class Fcfs:
    """First come, first served; a preempted request goes first."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        """An empty queue."""
        self._waiting: deque[int] = deque()

    def push(self, request: int, time: float) -> None:
        """At the end."""
        self._waiting.append(request)

    def push_front(self, request: int) -> None:
        """At the front."""
        self._waiting.appendleft(request)

    def peek(self) -> int:
        """The first."""
        return self._waiting[0]

    def pop(self) -> int:
        """The first, taken out."""
        return self._waiting.popleft()

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._waiting)


class Keyed:
    """The smallest key first, and of equal keys the one that came first; a preempted request keeps its place."""

    __slots__ = ("_count", "_heap", "_key", "_places")

    def __init__(self, key: Key) -> None:
        """An empty queue."""
        self._key, self._count = key, 0
        self._heap: list[tuple[float, int, int]] = []
        self._places: dict[int, tuple[float, int, int]] = {}

    def push(self, request: int, time: float) -> None:
        """At the place of its key."""
        self._count += 1
        place = self._places[request] = (self._key(request, time), self._count, request)
        heappush(self._heap, place)

    def push_front(self, request: int) -> None:
        """At the place it had."""
        heappush(self._heap, self._places[request])

    def peek(self) -> int:
        """The one of the smallest key."""
        return self._heap[0][2]

    def pop(self) -> int:
        """It, taken out."""
        return heappop(self._heap)[2]

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._heap)
