"""Waiting requests in the order in which a scheduler serves them.

A queue is asked once per admission, not once per iteration. `Fcfs` is what every engine does by default; `Keyed` serves
the smallest key first. Named schedulers are built on both in `schedulers.py`.

Beside its order a queue may have any of the methods below; an engine looks for them once and asks only where they are:

- `next_time(time) -> float`: it is `time`, a boundary; when will the order be another (inf: not by itself)? The engine
  ends its run at the first boundary at or after that time.
- `victims(running, time) -> iterable`: running requests that may give way to the head of the queue, first to go first.
  The engine preempts as many as the head needs, or none if all would not be enough. `running` is oldest first.
- `departed(request)`: it is complete, or has left for another lane: whatever was kept of it can go.
- all of `Accounts`: an order by what tenants have been given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Protocol, cast

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

    def __iter__(self) -> Iterator[int]:
        """They, in any order, for routers that count tokens; policies of one's own need not have it."""


class Accounts(Protocol):
    """A queue that orders by the tokens that requests were given. Its clock counts tokens of a decoding sequence."""

    def settle(self, tokens: float) -> None:
        """The clock now: every sequence that decodes has emitted so many tokens since the engine started."""

    def served(self, request: int, prompt_tokens: float, output_tokens: float) -> None:
        """Prompt tokens that its first admission computes (negative: withdrawn), or its first output token."""

    def decoding(self, request: int, change: int, tokens: float) -> None:
        """At this time of the clock it starts (1) or ceases (-1) to emit with it."""

    def holds(self) -> float:
        """Tokens on the clock for which the head of the queue stays the head, if none comes or goes."""


def accounts_of(queue: Queue) -> Accounts | None:
    """The queue as one that keeps accounts, if it does."""
    return cast(Accounts, queue) if getattr(queue, "served", None) is not None else None


class Fcfs(deque[int]):
    """First come, first served; a preempted request goes first."""

    __slots__ = ()

    def push(self, request: int, time: float) -> None:
        """At the end."""
        self.append(request)

    push_front = deque.appendleft

    def peek(self) -> int:
        """The first."""
        return self[0]

    pop = deque.popleft


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

    def first_key(self) -> float:
        """The smallest key; the queue is not empty."""
        return self._heap[0][0]

    def take(self, other: Keyed) -> None:
        """The first of another such queue moves here, with its key."""
        place = heappop(other._heap)
        self._places[place[2]] = other._places.pop(place[2])
        heappush(self._heap, place)

    def __contains__(self, request: int) -> bool:
        """Whether it has a place here, waiting or running."""
        return request in self._places

    def departed(self, request: int) -> None:
        """Its place is not needed any more."""
        self._places.pop(request, None)

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._heap)

    def __iter__(self) -> Iterator[int]:
        """Requests that wait, in any order."""
        return (request for _, _, request in self._heap)
