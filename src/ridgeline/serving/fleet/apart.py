"""Lanes one after the other, where nothing but the order of arrival ties them.

A router that is `blind` looks at no state of its lanes, so each can be played alone, without a heap of run ends, to the
same results; so can a single lane. It is done window by window of arrivals, so that a run that is interrupted has all
lanes at one time, and that memory does not grow with the requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ridgeline.serving.record.played import REJECTED

if TYPE_CHECKING:
    from ridgeline.serving.fleet.fleet import Fleet
    from ridgeline.serving.fleet.members import Member

WINDOW = 1024
"""Requests of a lane, on average, between two changes of lane."""


def applies(fleet: Fleet) -> bool:
    """Whether the lanes of the fleet can be played apart."""
    pools, traffic = fleet.pools, fleet.traffic
    alone = fleet.control is None and fleet.finished is None and len(pools) == 1 and pools[0].passes_to is None
    # Of one lane there is nothing to choose, whatever a router looks at.
    blind = alone and bool(fleet.members) and (len(fleet.members) == 1 or getattr(pools[0].router, "blind", False))
    if not blind or traffic.clients or (traffic.after >= 0).any():
        return False
    return all(member.up and not member.moves for member in fleet.members)


def play(fleet: Fleet, until_s: float) -> None:
    """Serve until nothing is left to do, or that time."""
    arrivals, sent = fleet.traffic.arrival_s, np.frombuffer(fleet.log.sent)
    rows = int(np.searchsorted(arrivals, until_s, side="right"))
    each = WINDOW * len(fleet.members)
    fleet.tell_no_router()
    for low in range(0, rows, each):
        high = min(low + each, rows)
        # Runs that end with the first arrival of the next window wait for it; the last window includes its end.
        stop = float(arrivals[high]) if high < rows else math.nextafter(until_s, math.inf)
        sent[low:high] = arrivals[low:high]
        for member, own in zip(fleet.members, _route(fleet, low, high), strict=True):
            _advance(fleet, member, own, stop)
        fleet.now = max(fleet.now, float(arrivals[high - 1]))
        if fleet.progress is not None:
            fleet.progress(fleet.now, fleet.ended)
    fleet.now = max([fleet.now, *(member.engine.t for member in fleet.members)])


def _route(fleet: Fleet, low: int, high: int) -> list[list[int]]:
    """The requests of each lane, of those from `low` to below `high`."""
    own: list[list[int]] = [[] for _ in fleet.members]
    prompts, outputs, longest, times = fleet.requests.prompts, fleet.requests.outputs, fleet.longest, fleet.arrivals
    pool = fleet.pools[0]
    for request in range(low, high):
        if prompts[request] + outputs[request] > longest:
            fleet.over(request, REJECTED, times[request])
        else:
            own[fleet.choose(pool, request, times[request])].append(request)
    return own


def _advance(fleet: Fleet, member: Member, own: Sequence[int], stop: float) -> None:
    """Play one lane with its arrivals, up to the ends of runs before `stop`."""
    engine, index, boundary, times = member.engine, member.index, fleet.boundary, fleet.arrivals
    push, plan, fits = engine.push, engine.plan, engine.fits
    for request in own:
        time = times[request]
        while engine.end < time:
            boundary(index, member)
            plan()
        if fits(request):
            push(request, time)
        else:
            fleet.over(request, REJECTED, time)
    while engine.end < stop:
        boundary(index, member)
        plan()
