"""A fleet of engines under one load: routing, pools that hand requests on, sessions, and what happens on the way.

The driver keeps one heap of run ends and goes from event to event; state changes only there. At one time, in this
order: events of the control simulation (failures, scaling), arrivals, run ends by lane. A lane that ends a run sends on
what is complete, takes the arrivals of that moment, and plans its next run.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.serving.engine.adapters import Adapters
from ridgeline.serving.engine.batch import NEVER
from ridgeline.serving.engine.engine import Handed
from ridgeline.serving.engine.rules import Log, Requests
from ridgeline.serving.fleet.members import Member, Pool
from ridgeline.serving.record.played import (
    DECODE,
    DONE,
    FAILED,
    PREFILL,
    REJECTED,
    UNFINISHED,
    Lane,
    Played,
    Runs,
    runs_of,
)
from ridgeline.sim import Simulation
from ridgeline.workloads.traffic import Traffic

KEPT = 1 << 16
"""Numbers of runs that a lane keeps before they are handed to `on_runs`."""

EVERY = 4096
"""Events between two looks at the progress."""

PATIENCE = 100_000
"""Events of control without any work after which requests that wait are left unfinished: nothing will serve them."""


class Fleet:
    """Pools that serve one traffic; `play` once."""

    def __init__(
        self,
        traffic: Traffic,
        requests: Requests,
        log: Log,
        pools: Sequence[Pool],
        *,
        entry: Pool | None = None,
        control: Simulation | None = None,
        longest: float = math.inf,
        on_runs: Callable[[int, Runs], None] | None = None,
        progress: Callable[[float, int], None] | None = None,
    ) -> None:
        """Arrivals enter at the first pool, or at lanes of several.

        Args:
            traffic: the load.
            requests: its lengths, as the engines of the pools have them.
            log: where its times are written; the engines share it.
            pools: of lanes, the one that arrivals enter first.
            entry: lanes of several of these pools, if arrivals enter there, and the router among them.
            control: schedules what happens besides (failures, scaling) in calls of this fleet's methods.
            longest: most tokens of prompt and output that the model takes.
            on_runs: takes the runs of a lane, some at a time; without it they are kept.
            progress: told the time and the number of requests that have ended, now and then.
        """
        self.traffic, self.requests, self.log, self.pools = traffic, requests, log, list(pools)
        self.longest, self.interrupted = longest, False
        hands_over = False
        for pool in self.pools:
            if pool.passes_to is not None:
                pool.role, pool.passes_to.role, hands_over = PREFILL, DECODE, True
        self.control = Simulation() if control is None and hands_over else control
        self.on_runs, self.progress = on_runs, progress
        self.members: list[Member] = []
        self.pool_of: list[Pool] = []
        for pool in self.pools:
            for place, member in enumerate(pool.members):
                member.index, member.place, member.pool = len(self.members), place, pool.name
                self.members.append(member)
                self.pool_of.append(pool)
        self.entry = self.pools[0] if entry is None else entry
        self._seats = {} if entry is None else {member.index: seat for seat, member in enumerate(entry.members)}
        self._entering = None if entry is None else getattr(entry.router, "changed", None)
        self._paired = any(member.partner is not None for member in self.members)
        self._awaited: dict[int, Callable[[], None]] = {}
        rows = len(traffic)
        self.now = 0.0
        self.ended = 0
        self.end = array("b", [UNFINISHED]) * rows
        self.lane = array("i", [-1]) * rows
        self.homeless: list[tuple[Pool, int, Handed | None]] = []
        self.finished: list[int] | None = None  # requests that are complete, in order, if somebody asks
        self.on_over: Callable[[int, int, float], None] | None = None  # told each request that ends: how, and when
        self._told = {pool.name: getattr(pool.router, "changed", None) for pool in self.pools}
        self._ends: list[tuple[float, int]] = []
        self._released: list[tuple[float, int]] = []
        self._links: dict[int, float] = {}
        self._children = _children(traffic.after)
        self._next = self._sent = 0
        self.arrivals: Sequence[float] = ()
        self._order: Sequence[int] = ()
        self._schedule()

    def _schedule(self) -> None:
        """Independent arrivals by a pointer; in a closed loop, the first request of every client."""
        traffic = self.traffic
        if traffic.clients:
            self._sent = min(traffic.clients, len(traffic))
            for request in range(self._sent):
                heappush(self._released, (0.0, request))
            return
        alone = np.flatnonzero(traffic.after < 0)
        # Memory views: ten million requests are read where they stand.
        everyone = alone.size == len(traffic)
        self._order = range(len(traffic)) if everyone else alone.data
        self.arrivals = (traffic.arrival_s if everyone else traffic.arrival_s[alone]).data

    # The loop --------------------------------------------------------------------------------------------------------

    def play(self, until_s: float = math.inf) -> Played:
        """Serve until nothing is left to do, or that time, event by event; `playing.play` chooses the fastest way.

        Ctrl-C ends with what is known so far.
        """
        try:
            self.run_to(until_s)
        except KeyboardInterrupt:
            self.interrupted = True
        return self.played()

    def run_to(self, until_s: float) -> None:
        """Go from event to event as long as they are not after that time."""
        ends, members, control = self._ends, self.members, self.control
        released = self._released
        count = idle = 0
        while True:
            while ends and members[ends[0][1]].engine.end != ends[0][0]:
                heappop(ends)
            time = ends[0][0] if ends else NEVER
            arrival = self._next_arrival_s()
            if control is not None and (due := control.next_s()) <= min(time, arrival):
                if due > until_s or due == NEVER:
                    return
                if time == NEVER and arrival == NEVER:
                    idle += 1
                    if self.ended == len(self.traffic) or idle > PATIENCE:
                        return
                self.now = due
                control.step()
                continue
            if arrival <= time:
                if arrival == NEVER or arrival > until_s:
                    return
                self._take_arrival()
                continue
            if time > until_s:
                return
            self.now = time
            index = heappop(ends)[1]
            self.boundary(index, members[index])
            while released and released[0][0] <= time:
                self._take_arrival()
            engine = members[index].engine
            engine.plan()
            if engine.end < NEVER:
                heappush(ends, (engine.end, index))
            if self._paired:
                self._share(members[index], time)
            count += 1
            if count % EVERY == 0 and self.progress is not None:
                self.progress(time, self.ended)

    def _next_arrival_s(self) -> float:
        listed = self.arrivals[self._next] if self._next < len(self.arrivals) else NEVER
        return min(listed, self._released[0][0]) if self._released else listed

    def _take_arrival(self) -> None:
        released = self._released
        if released and (self._next >= len(self.arrivals) or released[0][0] < self.arrivals[self._next]):
            time, request = heappop(released)
        else:
            time, request = self.arrivals[self._next], self._order[self._next]
            self._next += 1
        self.arrive(request, time)

    def arrive(self, request: int, time: float) -> None:
        """A request arrives: a lane takes it, unless it is longer than what is served."""
        self.now = time
        log = self.log
        if log.sent[request] != log.sent[request]:
            log.sent[request] = time
        if self.requests.prompts[request] + self.requests.outputs[request] > self.longest:
            self.over(request, REJECTED, time)
            return
        self._enter(self.entry, request, time)

    def _enter(self, pool: Pool, request: int, time: float, handed: Handed | None = None) -> None:
        """Route a request to a lane of the pool; `handed` is what another lane has done for it."""
        members = pool.members
        if not (members and members[0].up) and not any(member.up for member in members):
            self.homeless.append((pool, request, handed))
            return
        member = members[self.choose(pool, request, time)]
        if not member.engine.fits(request):
            # Lanes of an entry may differ: one with a larger cache takes what no other can.
            others = [one for one in members if one.up and one.engine.fits(request)]
            member = min(others, key=lambda one: one.load, default=member)
        self._settle(member, request, time, handed)

    def _settle(self, member: Member, request: int, time: float, handed: Handed | None) -> None:
        """Give a request to a lane, which refuses what its cache can never hold."""
        if not member.engine.fits(request):
            self.over(request, REJECTED, time)
            return
        self._give(member, request, time, handed)

    def choose(self, pool: Pool, request: int, time: float) -> int:
        """The lane of the pool that its router takes."""
        place = pool.router.route(request, time, pool.members)
        if not 0 <= place < len(pool.members) or not pool.members[place].up:
            what = "the router chose a lane that is not up"
            raise DomainError(what, at=type(pool.router).__name__, got=place, fix="`ridgeline.check_policy` tries it")
        return place

    def _give(self, member: Member, request: int, time: float, handed: Handed | None) -> None:
        engine = member.engine
        before = engine.end
        if handed is None:
            engine.push(request, time)
        else:
            engine.accept(request, time, handed)
        if engine.end != before:
            heappush(self._ends, (engine.end, member.index))
        self._changed(member)

    def _changed(self, member: Member) -> None:
        """Routers that keep an order of loads hear of a new one."""
        changed = self._told.get(member.pool)
        if changed is not None:
            changed(member.place, member.load)
        if self._entering is not None and member.index in self._seats:
            self._entering(self._seats[member.index], member.load)

    def tell_no_router(self) -> None:
        """Loads are news to nobody any more: every lane is played by itself."""
        self._told = dict.fromkeys(self._told)

    def boundary(self, index: int, member: Member) -> None:
        """A run ends: what is complete goes on, what was put off to this boundary is done."""
        engine = member.engine
        done = engine.finish()
        if done:
            pool = self.pool_of[index]
            for request in done:
                if pool.passes_to is not None and self.requests.outputs[request] > 1:
                    self._send_on(pool, member, request)
                else:
                    if request in engine.parked:
                        engine.unpark(request, engine.t)
                    self.lane[request] = index
                    self.over(request, DONE, self.log.last[request])
            self._changed(member)
        if member.moves:
            for move in member.moves:
                move()
            member.moves.clear()
        if self._awaited:
            self._look_if_empty(member)
        if engine.runs is not None and self.on_runs is not None and len(engine.runs) > KEPT:
            self.on_runs(index, runs_of(engine.runs))
            del engine.runs[:]

    def over(self, request: int, how: int, time: float) -> None:
        """A request has ended; what waited for that is released."""
        self.end[request] = how
        self.ended += 1
        if self.finished is not None and how == DONE:
            self.finished.append(request)
        if self.on_over is not None:
            self.on_over(request, how, time)
        think = self.traffic.think_s
        if self.traffic.clients:
            if self._sent < len(self.traffic):
                heappush(self._released, (time + float(think[self._sent]), self._sent))
                self._sent += 1
        elif self._children:
            for child in self._children.get(request, ()):
                heappush(self._released, (time + float(think[child]), child))

    def _send_on(self, pool: Pool, member: Member, request: int) -> None:
        """The cache of a prefilled request moves to the pool that decodes; transfers of a lane queue up."""
        start = max(member.engine.t, self._links.get(member.index, 0.0))
        end = self._links[member.index] = start + pool.transfer_s[request]
        self._at(end, self._handed_over, pool, member, request, end)

    def _at(self, time: float, callback: Callable[..., object], *args: object) -> None:
        assert self.control is not None, "a fleet that moves requests has a control"
        self.control.schedule_at(time, callback, *args)

    def _handed_over(self, pool: Pool, member: Member, request: int, time: float) -> None:
        assert pool.passes_to is not None, "only pools with a successor hand over"
        source = member.engine
        before = source.end
        if request in source.parked:
            source.unpark(request, time)
        if source.end != before:
            heappush(self._ends, (source.end, member.index))
        if self._awaited:
            self._look_if_empty(member)
        self.log.first[request] = time
        prompt, output = self.requests.prompts[request], self.requests.outputs[request]
        handed = ((prompt + 1, output - 1), (float(prompt), 0.0))
        if member.partner is not None:
            self._settle(member.partner, request, time, handed)
        else:
            self._enter(pool.passes_to, request, time, handed)

    def _share(self, member: Member, time: float) -> None:
        """A lane has begun or ceased to iterate: that on the same chips goes on at its other pace."""
        partner = member.partner
        if partner is None:
            return
        engine, pace = partner.engine, partner.paces[member.engine.end < NEVER]
        if engine.times is pace:
            return
        engine.times, before = pace, engine.end
        engine.cut(time)
        if engine.end != before:
            heappush(self._ends, (engine.end, partner.index))

    def _look_if_empty(self, member: Member) -> None:
        if member.index in self._awaited and member.empty:
            self._awaited.pop(member.index)()

    # What control does -----------------------------------------------------------------------------------------------

    def fail(self, member: Member, time: float, *, retry: bool = True) -> None:
        """A lane is lost with all it holds; the iteration under way counts for nothing.

        Its requests start anew elsewhere, or are given up.
        """
        member.moves.clear()
        if member.engine.end < NEVER:
            member.engine.stop_at(time)
            self.boundary(member.index, member)
        lost = member.engine.clear()
        member.stop(time)
        self._changed(member)
        for request in lost:
            if retry:
                self.log.first[request] = math.nan
                self._enter(self.entry, request, time)
            else:
                self.over(request, FAILED, time)

    def start(self, member: Member, time: float) -> None:
        """A lane comes up; requests that found none enter."""
        member.start(time)
        self._changed(member)
        waiting, self.homeless = self.homeless, []
        for pool, request, handed in waiting:
            self._enter(pool, request, time, handed)

    def drain(self, member: Member, time: float) -> None:
        """A lane takes no more requests; what waits goes elsewhere, what runs is finished."""
        member.stop(time)
        queue, own = member.engine.queue, self.pool_of[member.index]
        waiting = [queue.pop() for _ in range(len(queue))]
        for request in waiting:
            handed = member.engine.hand_back(request)
            # What has begun goes on under the same rules; what has not may go wherever an arrival may.
            new = handed == (None, None) and member.index in self._seats
            self._enter(self.entry if new else own, request, time, handed)
        self._changed(member)

    def homeless_of(self, pool: Pool) -> int:
        """Requests that wait until a lane of the pool is up; any lane of the entry will do for arrivals."""
        entered = pool.members[0].index in self._seats
        return sum(one is pool or (entered and one is self.entry) for one, _, _ in self.homeless)

    def when_empty(self, member: Member, call: Callable[[], None]) -> None:
        """Do something as soon as a lane that takes no more requests has none."""
        if member.empty:
            call()
        else:
            self._awaited[member.index] = call

    def migrate(self, request: int, source: Member, target: Member, time: float, pause_s: float) -> None:
        """A running request moves at the source's next boundary, with its cache, and goes on after a pause."""

        def move() -> None:
            engine = source.engine
            if request in engine.joined and target.up:
                handed = engine.take_out(request)
                self._at(engine.t + pause_s, self._land, target, request, engine.t + pause_s, handed)

        source.moves.append(move)
        self.cut(source, time)

    def cut(self, member: Member, time: float) -> None:
        """The run of a lane ends at its first boundary at or after `time`."""
        before = member.engine.end
        member.engine.cut(time)
        if member.engine.end != before:
            heappush(self._ends, (member.engine.end, member.index))

    def _land(self, target: Member, request: int, time: float, handed: Handed) -> None:
        """A request that moves arrives; if the lane is gone, it computes its context anew in the same pool."""
        if target.up:
            self._give(target, request, time, handed)
        else:
            self._enter(self.pool_of[target.index], request, time, (handed[0], None))

    # The result ------------------------------------------------------------------------------------------------------

    def played(self) -> Played:
        """What the run leaves behind, as far as it has come."""
        traffic, log = self.traffic, self.log
        end_s = max([self.now, *(member.engine.t for member in self.members)], default=0.0)
        rows = len(traffic)
        found, preempted = _sparse(log.found, rows, np.int64), _sparse(log.preempted, rows, np.int32)
        lanes = []
        for member in self.members:
            member.stop(end_s)
            member.close()
            engine = member.engine
            if self.on_runs is not None and engine.runs:
                self.on_runs(member.index, runs_of(engine.runs))
                del engine.runs[:]
            lanes.append(
                Lane(
                    pool=member.pool,
                    replica=member.replica,
                    runs=runs_of(engine.runs if engine.runs is not None else array("d")),
                    alive_s=tuple(member.alive_s),
                    blocks=engine.capacity,
                    block_tokens=engine.block,
                    slots=engine.rules.slots,
                    chips=member.chips,
                    busy_s=engine.busy,
                    **_loads_of(engine.adapters),
                    role=self.pool_of[member.index].role,
                )
            )
        end = np.frombuffer(self.end, dtype=np.int8)
        admitted, first, last = (np.frombuffer(column) for column in (log.admitted, log.first, log.last))
        last[end == UNFINISHED] = np.nan
        return Played(
            arrival_s=np.frombuffer(log.sent),
            admitted_s=admitted,
            first_s=first,
            last_s=last,
            prompt_tokens=np.asarray(traffic.prompt_tokens),
            output_tokens=np.asarray(traffic.output_tokens),
            found_tokens=found,
            preemptions=preempted,
            end=end,
            lane=np.frombuffer(self.lane, dtype=np.int32),
            lanes=tuple(lanes),
            end_s=end_s,
        )


def _sparse(values: dict[int, int], rows: int, kind: type[np.integer[Any]]) -> NDArray[Any]:
    """A column of zeros but for some requests; stored once if there are none."""
    if not values:
        return np.broadcast_to(np.zeros((), dtype=kind), (rows,))
    column = np.zeros(rows, dtype=kind)
    column[list(values)] = list(values.values())
    return column


def _children(after: NDArray[np.int64]) -> dict[int, list[int]]:
    """Request -> those that wait for its end."""
    children: dict[int, list[int]] = {}
    for child in np.flatnonzero(after >= 0).tolist():
        children.setdefault(int(after[child]), []).append(child)
    return children


def _loads_of(adapters: Adapters | None) -> dict[str, Any]:
    """What a lane has loaded, as `played.Lane` names it."""
    if adapters is None:
        return {}
    if not adapters.whole:
        return {"adapter_loads": adapters.loads}
    names = "model_switches", "model_loads", "model_fetches"
    return dict(zip(names, (adapters.switches, adapters.loads, adapters.fetches), strict=True))
