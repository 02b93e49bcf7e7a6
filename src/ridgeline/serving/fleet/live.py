"""A fleet whose requests come while it runs: each token is told when it is due.

The fleet is the one of `build.fleet_of` and goes from event to event as ever; `advance` takes it to the present, which
changes nothing of what would have happened, since runs of iterations may be cut anywhere. Between two events the tokens
of a lane follow from its run in closed form, so that they are told one by one without advancing one by one.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from ridgeline.core.errors import DomainError
from ridgeline.serving.engine.batch import EPSILON, NEVER
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.step_table import steps_until
from ridgeline.serving.fleet.build import Built, fleet_of
from ridgeline.serving.fleet.choices import Choices, PoolPlan
from ridgeline.serving.fleet.lanes import Slots
from ridgeline.serving.fleet.members import Member
from ridgeline.serving.record.played import DONE, FAILED, UNFINISHED
from ridgeline.workloads.traffic import Traffic

Tokens = Callable[[int, int, float], None]
"""(request, tokens emitted so far, when the last of them was due)."""
Ended = Callable[[int, int, float], None]
"""(request, how it ended: as in `played.END`, when)."""


@dataclass(slots=True)
class _Seen:
    """What was told of a lane: iterations that had ended, and when the next one would."""

    iterations: int = 0
    next_s: float = NEVER


def expected(prompt_tokens: int, output_tokens: int, longest: int, places: int) -> Traffic:
    """A traffic that only says how many requests there may be at once, how long they are, and how long they may be.

    Args:
        prompt_tokens: of a usual request.
        output_tokens: of a usual request.
        longest: most tokens of prompt and output.
        places: requests that the fleet may hold at once.
    """
    if not 1 <= prompt_tokens + output_tokens <= longest:
        fix = f"give a prompt and an output that fit in {longest} tokens"
        raise DomainError("a usual request is longer than the longest", at="isl", got=prompt_tokens, fix=fix)
    prompts = np.full(max(places, 3), prompt_tokens, dtype=np.int64)
    prompts[0], prompts[1] = 1, max(longest - output_tokens, 1)
    return Traffic.of(np.zeros(len(prompts)), prompts, output_tokens, name="live")


class Live:
    """A fleet that is running now. Times are seconds of the simulation, given by the caller, and never fall.

    Attributes:
        fleet: the engines. built: with the power and the rent of their chips.
        looked_up_tokens, found_tokens: prompt tokens of the requests that ended, and those that a cache held.
    """

    def __init__(
        self,
        plans: Sequence[PoolPlan],
        traffic: Traffic,
        choices: Choices,
        *,
        hash_tokens: int = 0,
        on_tokens: Tokens,
        on_end: Ended,
        lateness: Callable[[float], None] | None = None,
    ) -> None:
        """An idle fleet.

        Args:
            plans: as `build.fleet_of` has them.
            traffic: of `expected`.
            choices: as `build.fleet_of` has them.
            hash_tokens: tokens of a unit of the prefix cache (0: prompts share nothing).
            on_tokens: told new tokens, inside `advance`.
            on_end: told the end of a request, inside `advance`.
            lateness: told how late.
        """
        places = len(traffic)
        sizes = (array("q", traffic.prompt_tokens.tobytes()), array("q", traffic.output_tokens.tobytes()))
        self.slots = Slots(prompts=sizes[0], outputs=sizes[1], hash_tokens=hash_tokens, units=[()] * places)
        self.built: Built = fleet_of(plans, traffic, choices=choices, slots=self.slots)
        self.fleet = self.built.fleet
        self.fleet.arrivals = ()
        self.fleet.on_over = self._over
        self._transfers = [(pool, *_affine(pool.transfer_s, traffic)) for pool in self.fleet.pools if pool.transfer_s]
        self._hit_frac = float(plans[0].deployment.cases["prefix_hit_frac"][0])
        self._on_tokens, self._on_end, self._lateness = on_tokens, on_end, lateness
        self._free = list(range(places - 1, -1, -1))
        self._sent = array("q", [0]) * places
        self._seen = [_Seen() for _ in self.fleet.members]
        self._later: list[tuple[float, int, int, int]] = []  # (when, request, tokens, how it ended or UNFINISHED)
        self._held: set[int] = set()  # requests whose tokens wait in `_later`
        self._unwanted: set[int] = set()
        self._leaving: set[int] = set()  # of those, they that leave at the next boundary
        self.now = 0.0
        self.looked_up_tokens = self.found_tokens = 0

    # From outside ----------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests in queues."""
        return sum(member.waiting for member in self.fleet.members) + len(self.fleet.homeless)

    @property
    def running(self) -> int:
        """Requests in batches."""
        return sum(member.running for member in self.fleet.members)

    @property
    def up(self) -> bool:
        """Whether some lane takes requests."""
        return any(member.up for member in self.fleet.entry.members)

    @property
    def cache_used_frac(self) -> float:
        """Share of all cache blocks that requests hold."""
        members = self.fleet.members
        total = sum(member.capacity_blocks for member in members)
        return 1.0 - sum(member.free_blocks for member in members) / total if total else 0.0

    def submit(self, time_s: float, prompt_tokens: int, output_tokens: int, units: Sequence[int] = ()) -> int:
        """A request arrives.

        Args:
            time_s: now; what is due before happens first.
            prompt_tokens: at least one.
            output_tokens: at least one.
            units: ids of its prompt's units; equal ids in equal places are equal prefixes.
        Returns: its number, which is used anew once `on_end` was told; -1: there is no place for it.
        """
        self.advance(time_s)
        if not self._free:
            return -1
        request, slots, fleet = self._free.pop(), self.slots, self.fleet
        slots.prompts[request], slots.outputs[request] = prompt_tokens, output_tokens
        slots.units[request] = units
        hits = fleet.requests.hits
        if isinstance(hits, array):
            hits[request] = min(int(prompt_tokens * self._hit_frac), prompt_tokens - 1)
        for pool, start_s, token_s in self._transfers:
            pool.transfer_s[request] = start_s + token_s * prompt_tokens  # type: ignore[index]
        self._sent[request] = 0
        fleet.end[request], fleet.lane[request] = UNFINISHED, -1
        log = fleet.log
        log.admitted[request] = log.first[request] = log.last[request] = math.nan
        log.sent[request] = time_s
        fleet.arrive(request, time_s)
        self.advance(time_s)
        return request

    def cancel(self, request: int, time_s: float) -> None:
        """Its client has gone: it leaves at the next boundary, and its cache is free."""
        self.advance(time_s)
        self._unwanted.add(request)
        self._drop(time_s)

    def next_s(self) -> float:
        """When something happens next, if no request comes before: inf if nothing will."""
        control = self.fleet.control
        due = NEVER if control is None else control.next_s()
        if self._later:
            due = min(due, self._later[0][0])
        return min(due, min((seen.next_s for seen in self._seen), default=NEVER))

    def advance(self, time_s: float) -> None:
        """What is due until now happens, and is told."""
        fleet = self.fleet
        self.now = time_s = max(time_s, self.now)
        fleet.run_to(time_s)
        fleet.now = time_s
        if self._unwanted:
            self._drop(time_s)
        for member, seen in zip(fleet.members, self._seen, strict=True):
            self._tell(member, seen, time_s)
        later = self._later
        while later and later[0][0] <= time_s:
            due, request, tokens, how = heappop(later)
            if self._lateness is not None and how == UNFINISHED:
                self._lateness(time_s - due)
            self._held.discard(request)
            if how == UNFINISHED:
                self._emit(request, max(tokens, self._sent[request]), due)
            else:
                self._end(request, how, due)

    # Telling ---------------------------------------------------------------------------------------------------------

    def _tell(self, member: Member, seen: _Seen, time_s: float) -> None:
        """Tokens of the iterations that have ended since the last look."""
        engine = member.engine
        done = _iterations_by(engine, time_s)
        if engine.ready:
            for request in engine.ready:  # its first token came out of another pool
                if not self._sent[request] and engine.log.first[request] <= time_s:
                    self._emit(request, 1, engine.log.first[request])
        total = engine.iteration + done
        if total > seen.iterations:
            seen.iterations = total
            due = seen.next_s if seen.next_s <= time_s else time_s
            if self._lateness is not None and seen.next_s <= time_s:
                self._lateness(time_s - seen.next_s)
            step = engine.step + (done if engine.moving else 0)
            outputs, growth = self.slots.outputs, engine.growth
            for request, (_, key) in reversed(engine.joined.items()):  # first tokens first: somebody waits for them
                left = key - step if growth == 1 else math.ceil((key - step) * growth - EPSILON)
                self._emitted(request, max(outputs[request] - left, 1), engine, time_s, due)
            for request, (_, left) in engine.redo.items():  # it gave way after it had emitted
                self._emitted(request, outputs[request] - left, engine, time_s, due)
        seen.next_s = _boundary(engine, done + 1) if engine.k else engine.end

    def _emitted(self, request: int, tokens: int, engine: Engine, time_s: float, due_s: float) -> None:
        """A request has so many tokens by now; its client sees the first once it is through the front end."""
        sent = self._sent[request]
        if tokens > sent and request not in self._held:
            first_s = engine.log.first[request]
            if not sent and first_s > time_s:
                self._hold(first_s, request, tokens, UNFINISHED)
            else:
                self._emit(request, tokens, due_s if sent else max(due_s, first_s))

    def _emit(self, request: int, tokens: int, due_s: float) -> None:
        self._sent[request] = tokens
        if request not in self._unwanted:
            self._on_tokens(request, tokens, due_s)

    def _hold(self, due_s: float, request: int, tokens: int, how: int) -> None:
        if request not in self._held or how != UNFINISHED:
            self._held.add(request)
            heappush(self._later, (due_s, request, tokens, how))

    def _over(self, request: int, how: int, time_s: float) -> None:
        """The fleet is done with it; a client may still wait for what passes through the front end."""
        self.fleet.ended -= 1
        if time_s > self.now:
            self._hold(time_s, request, self.slots.outputs[request], how)
        else:
            self._end(request, how, time_s)

    def _end(self, request: int, how: int, time_s: float) -> None:
        total = self.slots.outputs[request]
        if how == DONE and self._sent[request] < total:
            self._emit(request, total, time_s)
        if request in self._unwanted:
            self._unwanted.discard(request)
            self._leaving.discard(request)
        else:
            self._on_end(request, how, time_s)
        log = self.fleet.log
        log.preempted.pop(request, None)
        self.looked_up_tokens += self.slots.prompts[request]
        self.found_tokens += log.found.pop(request, 0)
        self._free.append(request)

    # Leaving early ---------------------------------------------------------------------------------------------------

    def _drop(self, time_s: float) -> None:
        """Requests that nobody waits for leave queues now, batches at the boundary; those that move, once they land."""
        for member in self.fleet.members:
            engine = member.engine
            for request in (self._unwanted - self._leaving) & engine.running.keys():
                self._leave_batch(member, request, time_s)
            if self._unwanted and len(engine.queue):
                self._leave_queue(member, time_s)

    def _leave_batch(self, member: Member, request: int, time_s: float) -> None:
        engine = member.engine

        def leave() -> None:
            self._leaving.discard(request)
            if request in engine.running and request in self._unwanted:
                engine.take_out(request)
                self.fleet.over(request, FAILED, engine.t)

        self._leaving.add(request)
        member.moves.append(leave)
        self.fleet.cut(member, time_s)

    def _leave_queue(self, member: Member, time_s: float) -> None:
        queue = member.engine.queue
        waiting = [queue.pop() for _ in range(len(queue))]
        gone = [request for request in waiting if request in self._unwanted]
        for request in reversed(waiting):
            if request not in self._unwanted:
                queue.push_front(request)
        for request in gone:
            member.engine.hand_back(request)
            self.fleet.over(request, FAILED, time_s)


def _iterations_by(engine: Engine, time_s: float) -> int:
    """Iterations of the run under way that have ended by then."""
    if not engine.k or time_s <= engine.start:
        return 0
    done = min(steps_until(time_s - engine.start, engine.u, engine.v), engine.k)
    return done - (_boundary(engine, done) > time_s)


def _boundary(engine: Engine, iterations: int) -> float:
    """When so many iterations of the run under way will have ended."""
    k = min(iterations, engine.k)
    return engine.start + (k * engine.u + engine.v * (k * (k - 1) // 2))


def _affine(times: Sequence[float], traffic: Traffic) -> tuple[float, float]:
    """(seconds, seconds per prompt token) of a column of transfers, which are affine in the prompt."""
    low, high = int(traffic.prompt_tokens[0]), int(traffic.prompt_tokens[1])
    slope = (times[1] - times[0]) / (high - low) if high > low else 0.0
    return times[0] - slope * low, slope
