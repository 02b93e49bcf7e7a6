"""Policies for models that take turns on a lane: who is served next, and which lane, so that few weights move."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence

from ridgeline.core.errors import DomainError
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.routers import LaneView


class ByModel:
    """Requests of the model served last go first, `most` in a row; then the model whose request waits longest."""

    def __init__(self, facts: Facts, *, most: int = 64) -> None:
        """No request yet."""
        if most < 1:
            raise DomainError("one request at least is served in a row", at="most", got=most, fix="give 64")
        self._facts, self._most = facts, most
        self._waiting: dict[int, deque[tuple[int, int]]] = {}  # model -> its requests, with the order of their arrival
        self._front: deque[int] = deque()
        self._count = self._places = self._row = 0
        self._current: int | None = None
        self._oldest: int | None = None  # model of the request that waits longest, once it was looked for

    def push(self, request: int, time: float) -> None:
        """Behind those of its model."""
        self._places += 1
        self._waiting.setdefault(self._facts.model_of(request), deque()).append((self._places, request))
        self._count += 1

    def push_front(self, request: int) -> None:
        """Before all: it was in the batch, and so is of its model."""
        self._front.appendleft(request)

    def peek(self) -> int:
        """The request that is served next."""
        return self._front[0] if self._front else self._waiting[self._next()][0][1]

    def pop(self) -> int:
        """It, taken out."""
        if self._front:
            return self._front.popleft()
        model = self._next()
        queue = self._waiting[model]
        _, request = queue.popleft()
        if not queue:
            del self._waiting[model]
        self._row = self._row + 1 if model == self._current and self._row < self._most else 1
        self._current, self._oldest = model, None
        self._count -= 1
        return request

    def _next(self) -> int:
        """The model that is served next."""
        if self._current is not None and self._current in self._waiting and self._row < self._most:
            return self._current
        if self._oldest is None:
            self._oldest = min(self._waiting, key=lambda model: self._waiting[model][0][0])
        return self._oldest

    def __len__(self) -> int:
        """Requests that wait."""
        return self._count + len(self._front)

    def __iter__(self) -> Iterator[int]:
        """Requests that wait, in any order."""
        yield from self._front
        for queue in self._waiting.values():
            yield from (request for _, request in queue)


class ModelAffine:
    """The least loaded of the lanes that have the request's model, or were given the last one of it; where each of them
    has over `slack` requests more than the least loaded lane of all, that one.
    """

    def __init__(self, facts: Facts, *, slack: int = 16) -> None:
        """No request yet."""
        if slack < 0:
            raise DomainError("slack is a number of requests", at="slack", got=slack, fix="give 16")
        self._facts, self._slack = facts, slack
        self._last: dict[int, int] = {}

    def route(self, request: int, time: float, lanes: Sequence[LaneView]) -> int:
        """Of equal lanes the first."""
        model = self._facts.model_of(request)
        known = self._last.get(model, -1)
        best = near = -1
        least = closest = math.inf
        for i, lane in enumerate(lanes):
            if not lane.up:
                continue
            load = lane.load
            if load < least:
                best, least = i, load
            if load < closest and (i == known or lane.has_model(request)):
                near, closest = i, load
        if best < 0:
            raise DomainError("no lane is up", at="route", got=len(lanes), fix="a driver keeps requests until one is")
        chosen = near if near >= 0 and closest <= least + self._slack else best
        self._last[model] = chosen
        return chosen
