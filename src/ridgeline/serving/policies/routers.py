"""Named rules of which lane takes a request.

A router is a function or class that takes the `Facts` of the run and gives an object with `route`; further parameters
are keywords. Beside `route` it may have `changed(lane, load)`, which the driver calls whenever the requests of a lane
became more or fewer; `blind`: true of one that looks at no state but `up`, whose lanes can be played one by one; and
`compiled`: the name of its rule in the compiled core (`compiled/play.py`).
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.serving.policies.facts import Facts


class LaneView(Protocol):
    """What a router may ask of a lane; reading it changes nothing."""

    @property
    def up(self) -> bool:
        """Whether it takes requests."""

    @property
    def waiting(self) -> int:
        """Requests in its queue."""

    @property
    def running(self) -> int:
        """Requests in its batch."""

    @property
    def load(self) -> int:
        """Requests that it has: waiting + running."""

    @property
    def pending_tokens(self) -> float:
        """Prompt tokens that it has still to compute."""

    @property
    def free_blocks(self) -> float:
        """Cache blocks that are free or evictable."""

    @property
    def capacity_blocks(self) -> float:
        """Cache blocks in all."""

    @property
    def block_tokens(self) -> int:
        """Tokens of a block."""

    def found_tokens(self, request: int) -> int:
        """Prompt tokens of the request that its cache holds."""

    def has_model(self, request: int) -> bool:
        """Whether the weights of the request's model are on its chips, or come for its batch."""


class Router(Protocol):
    """Which lane takes a request."""

    def route(self, request: int, time: float, lanes: Sequence[LaneView]) -> int:
        """Index of a lane that is up; at least one is."""


RouterFactory = Callable[[Facts], Router]


def _nobody(lanes: Sequence[LaneView]) -> DomainError:
    fix = "a driver keeps requests until a lane is up"
    return DomainError("no lane is up", at="route", got=len(lanes), fix=fix)


def _next_up(start: int, lanes: Sequence[LaneView]) -> int:
    """The first lane that is up, from `start` on and around."""
    count = len(lanes)
    for i in range(start, start + count):
        if lanes[i % count].up:
            return i % count
    raise _nobody(lanes)


class RoundRobin:
    """One after the other."""

    blind = True
    compiled = "round-robin"

    def __init__(self, facts: Facts) -> None:
        """Before the first request."""
        self._next = 0

    def route(self, request: int, time: float, lanes: Sequence[LaneView]) -> int:
        """The one after the last."""
        index = _next_up(self._next, lanes)
        self._next = index + 1
        return index


class _Draws:
    """Uniform numbers in [0, 1) from a named stream, drawn in bulk."""

    __slots__ = ("_drawn", "_generator")

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._drawn: list[float] = []

    def block(self) -> NDArray[np.float64]:
        """The next draws, in the order in which they are used."""
        return self._generator.random(4096)[::-1]

    def below(self, count: int) -> int:
        """A whole number in [0, count)."""
        if not self._drawn:
            self._drawn = self.block()[::-1].tolist()
        return int(self._drawn.pop() * count)


class Random:
    """Any lane with the same chance."""

    blind = True

    def __init__(self, facts: Facts) -> None:
        """Draws come from the seed of the run."""
        self._draws = _Draws(stream(facts.seed, "router/random"))

    def route(self, request: int, time: float, lanes: Sequence[LaneView]) -> int:
        """One that is up: drawn, and again if it is down; when many are down, the next one up."""
        for _ in range(8):
            index = self._draws.below(len(lanes))
            if lanes[index].up:
                return index
        return _next_up(index, lanes)


class PowerOfChoices:
    """The less loaded of a few lanes drawn at random (Mitzenmacher, IEEE TPDS 12(10), 2001)."""

    def __init__(self, facts: Facts, *, choices: int = 2) -> None:
        """`choices` lanes are drawn for each request."""
        if choices < 1:
            raise DomainError("at least one lane is drawn", at="choices", got=choices, fix="give 2")
        self._draws, self._choices = _Draws(stream(facts.seed, "router/power-of-two")), choices
        self.compiled = "two-choices" if choices == 2 else ""

    def uniforms(self) -> NDArray[np.float64]:
        """The next draws in [0, 1), for the compiled core."""
        return self._draws.block()

    def route(self, request: int, time: float, lanes: Sequence[LaneView]) -> int:
        """Different lanes where there are as many; of equal ones the first drawn."""
        count, below = len(lanes), self._draws.below
        least_top = count - min(self._choices, count)
        drawn: list[int] = []
        best, least = -1, math.inf
        for top in range(least_top, count):
            # Floyd's sampling: different numbers by as many draws.
            index = below(top + 1)
            if index in drawn:
                index = top
            drawn.append(index)
            lane = lanes[index]
            if lane.up:
                load = lane.load
                if load < least:
                    best, least = index, load
        return best if best >= 0 else _next_up(drawn[0], lanes)


_SHIFT = 24
_LANE = (1 << _SHIFT) - 1


class LeastLoaded:
    """The lane that has the fewest requests, and of equal ones the first.

    It keeps a heap of loads that the driver reports through `changed`, so that no request costs a look at every lane.
    """

    compiled = "least-loaded"

    def __init__(self, facts: Facts) -> None:
        """Knows no lane yet."""
        self._loads: list[int] = []
        self._heap: list[int] = []
        self._down: list[int] = []

    def changed(self, lane: int, load: int) -> None:
        """The lane has so many requests now."""
        if lane < len(self._loads):
            self._loads[lane] = load
            heappush(self._heap, load << _SHIFT | lane)
            if len(self._heap) > 8 * len(self._loads) + 64:
                self._heap = [load << _SHIFT | lane for lane, load in enumerate(self._loads)]
                heapify(self._heap)
                self._down = []

    def _sync(self, lanes: Sequence[LaneView]) -> None:
        """Lanes that are new, and those that came up again."""
        for lane in range(len(self._loads), len(lanes)):
            self._loads.append(lanes[lane].load)
            heappush(self._heap, self._loads[lane] << _SHIFT | lane)
        for lane in self._down:
            if lanes[lane].up:
                heappush(self._heap, self._loads[lane] << _SHIFT | lane)
        self._down = [lane for lane in self._down if not lanes[lane].up]

    def route(self, request: int, time: float, lanes: Sequence[LaneView]) -> int:
        """The lane of the smallest load that is up."""
        heap, loads = self._heap, self._loads
        if self._down or len(loads) < len(lanes):
            self._sync(lanes)
        while heap:
            lane = heap[0] & _LANE
            if heap[0] >> _SHIFT != loads[lane]:
                heappop(heap)
            elif lanes[lane].up:
                return lane
            else:
                heappop(heap)
                if lane not in self._down:
                    self._down.append(lane)
        raise _nobody(lanes)


class LeastTokens:
    """The lane with the fewest prompt tokens to compute, and of equal ones that of fewest requests."""

    def __init__(self, facts: Facts) -> None:
        """It keeps nothing."""

    def route(self, request: int, time: float, lanes: Sequence[LaneView]) -> int:
        """Looks at every lane."""
        return _least(lanes, lambda lane: (lane.pending_tokens, lane.load))


def _least(lanes: Sequence[LaneView], cost: Callable[[LaneView], tuple[float, ...]]) -> int:
    """Index of the lane of least cost that is up; of equal ones the first."""
    costs = [(cost(lane), index) for index, lane in enumerate(lanes) if lane.up]
    if not costs:
        raise _nobody(lanes)
    return min(costs)[1]


def _hash(text: str) -> int:
    """The same on every machine, unlike Python's own."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


class Session:
    """Requests of a session go to one lane: consistent hashing (Karger et al., STOC 1997).

    A lane that is added or that fails takes or leaves only its own share of sessions.
    """

    blind = True

    def __init__(self, facts: Facts, *, points: int = 128) -> None:
        """Each lane stands at so many points of the ring: more points, more even shares."""
        if points < 1:
            raise DomainError("a lane needs a point on the ring", at="points", got=points, fix="give 128")
        self._facts, self._points, self._lanes = facts, points, 0
        self._ring: list[int] = []
        self._owners: list[int] = []

    def _build(self, count: int) -> None:
        places = sorted((_hash(f"lane {i} {p}"), i) for i in range(count) for p in range(self._points))
        self._ring, self._owners, self._lanes = [h for h, _ in places], [i for _, i in places], count

    def route(self, request: int, time: float, lanes: Sequence[LaneView]) -> int:
        """The next lane on the ring that is up; requests without a session are spread one by one."""
        if len(lanes) != self._lanes:
            self._build(len(lanes))
        session = self._facts.session_of(request)
        key = f"session {session}" if session >= 0 else f"request {request}"
        start, count = bisect_right(self._ring, _hash(key)), len(self._ring)
        for i in range(start, start + count):
            owner = self._owners[i % count]
            if lanes[owner].up:
                return owner
        raise _nobody(lanes)


class Prefix:
    """The lane whose cache holds most of the prompt, unless loads are too far apart.

    Source: cache-aware policy of the SGLang router (sgl-project/sglang, router_args.py: thresholds 0.3, 64 and 1.5).
    """

    def __init__(
        self, facts: Facts, *, least_frac: float = 0.3, balance_requests: int = 64, balance_ratio: float = 1.5
    ) -> None:
        """What sends a request elsewhere.

        Args:
            facts: of the run.
            least_frac: share of the prompt that must be found; below it, the lane with most free cache is taken.
            balance_requests: difference of loads, and
            balance_ratio: their ratio; loads further apart than both send it to the least loaded.
        """
        if not 0 <= least_frac <= 1 or balance_requests < 0 or balance_ratio < 1:
            fix = "least_frac is a share, balance_requests >= 0, balance_ratio >= 1"
            raise DomainError("thresholds out of range", at="prefix", got=(least_frac, balance_ratio), fix=fix)
        self._facts, self._least_frac = facts, least_frac
        self._apart, self._ratio = balance_requests, balance_ratio

    def route(self, request: int, time: float, lanes: Sequence[LaneView]) -> int:
        """Looks at every lane, and into its cache."""
        loads = [lane.load for lane in lanes if lane.up]
        if not loads:
            raise _nobody(lanes)
        low, high = min(loads), max(loads)
        if high - low > self._apart and high > self._ratio * low:
            return _least(lanes, lambda lane: (lane.load,))
        found = [(-lane.found_tokens(request), lane.load, i) for i, lane in enumerate(lanes) if lane.up]
        most, _, best = min(found)
        if most and -most >= self._least_frac * self._facts.prompt_tokens[request]:
            return best
        return _least(lanes, lambda lane: (-lane.free_blocks, lane.load))


class PrefixCost:
    """The lane of least cost: prompt tokens to compute there, weighted, and cache in use.

    Source: KV router of NVIDIA Dynamo (docs, "Router design": weight * prefill blocks + decode blocks, weight 1).
    """

    def __init__(self, facts: Facts, *, overlap: float = 1.0) -> None:
        """`overlap` weighs what the prefill costs against what decodes: higher seeks hits, lower balances."""
        if not 0 <= overlap < math.inf:
            raise DomainError("overlap is not negative", at="overlap", got=overlap, fix="give 1")
        self._facts, self._overlap = facts, overlap

    def route(self, request: int, time: float, lanes: Sequence[LaneView]) -> int:
        """Looks at every lane, and into its cache."""
        prompt = self._facts.prompt_tokens[request]

        def cost(lane: LaneView) -> tuple[float, ...]:
            new = lane.pending_tokens + prompt - lane.found_tokens(request)
            used = (lane.capacity_blocks - lane.free_blocks) * lane.block_tokens
            return self._overlap * new + used, float(lane.load)

        return _least(lanes, cost)


class Weighted:
    """Shares in proportion to weights, as evenly in time as they can be: whose turn is most overdue.

    For pools of unequal lanes; the weight of a lane is its rate, measured or taken from a prediction.
    """

    blind = True

    def __init__(self, facts: Facts, *weights: float) -> None:
        """Weights by lane; where lanes are more than weights, these are repeated."""
        if not weights or not all(0 < weight < math.inf for weight in weights):
            raise DomainError("weights are above 0", at="weighted", got=weights, fix="write weighted(2, 1)")
        self._weights = weights
        self._heap: list[tuple[float, int]] = []
        self._known = 0

    def route(self, request: int, time: float, lanes: Sequence[LaneView]) -> int:
        """The lane whose next share is due first."""
        heap = self._heap
        while self._known < len(lanes):
            due = heap[0][0] if heap else 0.0
            heappush(heap, (due + 1.0 / self._weight(self._known), self._known))
            self._known += 1
        passed: list[tuple[float, int]] = []
        while heap:
            due, lane = heappop(heap)
            passed.append((due + 1.0 / self._weight(lane), lane))
            if lanes[lane].up:
                for entry in passed:
                    heappush(heap, entry)
                return lane
        for entry in passed:
            heappush(heap, entry)
        raise _nobody(lanes)

    def _weight(self, lane: int) -> float:
        return self._weights[lane % len(self._weights)]
