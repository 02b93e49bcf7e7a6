"""The compiled driver: arrivals, routing and ends of runs in the order of `fleet.Fleet`.

It stops and says why when Python has something to do (`RUNS_FULL`, `NO_DRAWS`, `MORE`) and goes on when called again:
all state is in the arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
from numba import njit

from ridgeline.serving.compiled import batch, lane, state
from ridgeline.serving.compiled.batch import fits
from ridgeline.serving.compiled.lane import finish, plan, push
from ridgeline.serving.compiled.state import OPTIONS, Array, Record, World, kernel
from ridgeline.serving.engine import step_table
from ridgeline.serving.engine.batch import NEVER
from ridgeline.serving.record.played import DONE, REJECTED

FLEET = np.dtype(
    [(name, np.int64) for name in ("next", "sent", "ended", "turn", "drawn", "waiting", "runs")] + [("now", np.float64)]
)
"""`waiting`: clients that will send again; `drawn`: draws of the router that are used up."""

OVER, RUNS_FULL, NO_DRAWS, MORE = 0, 1, 2, 3
ALONE, ROUND_ROBIN, TWO_CHOICES, LEAST_LOADED, GIVEN = 0, 1, 2, 3, 4


# Tournaments ---------------------------------------------------------------------------------------------------------


@kernel
def settle(values: Array, lanes: Array, lane: int, value: float) -> None:
    """The lane has another value: who wins, the least and of equal ones the first, is found anew up to the root, 1."""
    i = (len(values) >> 1) + lane
    values[i] = value
    while i > 1:
        i >>= 1
        best = 2 * i if values[2 * i] <= values[2 * i + 1] else 2 * i + 1
        if values[i] == values[best] and lanes[i] == lanes[best]:
            return
        values[i], lanes[i] = values[best], lanes[best]


# Clients of a closed loop --------------------------------------------------------------------------------------------


@kernel
def comes_before(w: World, time: float, request: int, i: int) -> bool:
    """Whether a client that sends then comes before the one at place `i`."""
    return time < w.released_s[i] or (time == w.released_s[i] and request < w.released[i])


@kernel
def release(w: World, time: float, request: int) -> None:
    """A client will send then."""
    f = w.fleet[0]
    i = f.waiting
    f.waiting += 1
    while i > 0 and comes_before(w, time, request, (i - 1) >> 1):
        parent = (i - 1) >> 1
        w.released_s[i], w.released[i] = w.released_s[parent], w.released[parent]
        i = parent
    w.released_s[i], w.released[i] = time, request


@kernel
def take_released(w: World) -> int:
    """The request that is sent next."""
    f = w.fleet[0]
    first = w.released[0]
    f.waiting -= 1
    size = f.waiting
    time, request = w.released_s[size], w.released[size]
    i = 0
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and comes_before(w, w.released_s[child + 1], w.released[child + 1], child):
            child += 1
        if comes_before(w, time, request, child):
            break
        w.released_s[i], w.released[i] = w.released_s[child], w.released[child]
        i = child
    w.released_s[i], w.released[i] = time, request
    return first


@kernel
def over(w: World, request: int, how: int, time: float) -> None:
    """A request has ended; in a closed loop its client sends the next."""
    r, f = w.rules[0], w.fleet[0]
    w.end[request] = how
    f.ended += 1
    if r.closed and f.sent < r.rows:
        release(w, time + w.think_s[f.sent], f.sent)
        f.sent += 1


# The loop ------------------------------------------------------------------------------------------------------------


@kernel
def route(w: World, request: int) -> int:
    """The lane that takes a request."""
    r, f = w.rules[0], w.fleet[0]
    if r.router == ALONE:
        return 0
    if r.router == ROUND_ROBIN:
        lane = f.turn
        f.turn = lane + 1 if lane + 1 < r.lanes else 0
        return lane
    if r.router == LEAST_LOADED:
        return int(w.loads_lane[1])
    if r.router == GIVEN:
        return int(w.given[request])
    # As two draws of different numbers by Floyd's sampling; of equal loads the first drawn.
    one = int(w.uniforms[f.drawn] * (r.lanes - 1))
    other = int(w.uniforms[f.drawn + 1] * r.lanes)
    f.drawn += 2
    if other == one:
        other = r.lanes - 1
    a, b = w.lanes[one], w.lanes[other]
    return other if b.waiting + b.running < a.waiting + a.running else one


@kernel
def take_arrival(w: World) -> None:
    """The next request arrives, is routed and queued, or refused."""
    r, f = w.rules[0], w.fleet[0]
    if r.closed:
        time = w.released_s[0]
        request = take_released(w)
    else:
        request = f.next
        time = w.arrivals[request]
        f.next += 1
    f.now = time
    if w.sent[request] != w.sent[request]:
        w.sent[request] = time
    prompt, output = w.prompts[request], w.outputs[request]
    if prompt + output > r.longest:
        over(w, request, REJECTED, time)
        return
    lane = route(w, request)
    if not fits(r, prompt, output):
        over(w, request, REJECTED, time)
        return
    s = w.lanes[lane]
    before = s.end
    push(w, s, request, time)
    if s.end != before:
        settle(w.ends, w.ends_lane, lane, s.end)
    if r.router == LEAST_LOADED:
        settle(w.loads, w.loads_lane, lane, float(s.waiting + s.running))


@kernel
def boundary(w: World, s: Record) -> None:
    """A run ends: what is complete leaves, clients that send at once do so, the next run begins."""
    r, f = w.rules[0], w.fleet[0]
    f.now = time = s.end
    done = finish(w, s)
    for i in range(done):
        request = w.done[i]
        w.lane[request] = s.index
        over(w, request, DONE, w.last[request])
    if done and r.router == LEAST_LOADED:
        settle(w.loads, w.loads_lane, s.index, float(s.waiting + s.running))
    while r.closed and f.waiting and w.released_s[0] <= time:
        take_arrival(w)
    plan(w, s)
    settle(w.ends, w.ends_lane, s.index, s.end)


@kernel
def loop(w: World, until_s: float, events: int) -> int:
    """Play on, for at most so many events: why it stopped."""
    r, f = w.rules[0], w.fleet[0]
    for _ in range(events):
        if f.runs == len(w.runs):
            return RUNS_FULL
        if r.closed:
            arrival = w.released_s[0] if f.waiting else NEVER
        else:
            arrival = w.arrivals[f.next] if f.next < len(w.arrivals) else NEVER
        if arrival <= w.ends[1]:
            if arrival == NEVER or arrival > until_s:
                return OVER
            if r.router == TWO_CHOICES and f.drawn == len(w.uniforms):
                return NO_DRAWS
            take_arrival(w)
        elif w.ends[1] > until_s:
            return OVER
        else:
            boundary(w, w.lanes[w.ends_lane[1]])
    return MORE


Driver = Callable[[World, float, int], int]


def _entry(sources: str) -> Driver:
    """The one function that numba keeps on disk: compiled anew when any of the sources has changed."""

    def advance(w: World, until_s: float, events: int) -> int:
        if not sources:
            return OVER
        return loop(w, until_s, events)

    try:
        return cast(Driver, njit(cache=True, **OPTIONS)(advance))
    except RuntimeError:  # no folder for it can be written
        return cast(Driver, njit(**OPTIONS)(advance))


def _digest() -> str:
    files = (__file__, *(module.__file__ for module in (state, batch, lane, step_table)))
    return hashlib.sha256(b"".join(Path(str(file)).read_bytes() for file in files)).hexdigest()


advance = _entry(_digest())
