"""What happens to a fleet while it serves: replicas fail and are repaired, and are started and stopped with the load.

Lanes of one replica share its chips: they come and go together. Random times come from one stream per replica, so that
a replica more leaves the failures of the others where they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline.core import units
from ridgeline.core.errors import DomainError, SpecError
from ridgeline.core.notation import parse_call
from ridgeline.serving.fleet.fleet import Fleet
from ridgeline.serving.fleet.members import Member, Pool
from ridgeline.serving.policies.autoscalers import Autoscaler
from ridgeline.sim import Simulation


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Replicas fail at random: exponential times to failure, a fixed time to repair.

    Attributes:
        mtbf_s: mean time between failures of one replica, while it is up.
        repair_s: until it serves again, its cold start included.
        retry: whether its requests start anew elsewhere; else they are given up.
    """

    mtbf_s: float
    repair_s: float
    retry: bool = True

    def __post_init__(self) -> None:
        """Refuse times that no replica has."""
        if not (0 < self.mtbf_s < math.inf and 0 <= self.repair_s < math.inf):
            fix = "give mtbf=10h, repair=10min"
            raise DomainError("times between failures are above 0", at="failures", got=self, fix=fix)


def parse_failures(words: str) -> Failures:
    """Failures as text: "random(mtbf=10h, repair=10min, retry=false)".

    Raises SpecError, UnitError, DomainError: what cannot be.
    """
    example = "random(mtbf=10h, repair=10min)"
    call = parse_call(words, at="failures", example=example)
    named = dict(call.named)
    mtbf, repair, retry = (
        named.pop(name, usual) for name, usual in (("mtbf", ""), ("repair", "0s"), ("retry", "true"))
    )
    if call.name != "random" or call.plain or named or not mtbf or retry not in ("true", "false"):
        raise SpecError("no law of failures", at="failures", got=words, fix=f"write {example}")
    times = (units.parse(text, "s", at=f"failures {name}") for name, text in (("mtbf", mtbf), ("repair", repair)))
    mtbf_s, repair_s = times
    return Failures(mtbf_s=mtbf_s, repair_s=repair_s, retry=retry == "true")


def replicas_of(pool: Pool) -> dict[int, list[Member]]:
    """Lanes by the replica that they belong to."""
    found: dict[int, list[Member]] = {}
    for member in pool.members:
        found.setdefault(member.replica, []).append(member)
    return found


def fail_together(fleet: Fleet, lanes: Sequence[Member], time_s: float, *, retry: bool = True) -> None:
    """These lanes are lost at once: none of them takes what the others lose."""
    for lane in lanes:
        lane.up = False
    for lane in lanes:
        lane.up = True
        fleet.fail(lane, time_s, retry=retry)


def arm_failures(fleet: Fleet, control: Simulation, failures: Failures) -> None:
    """From now on every replica fails and is repaired, again and again."""
    for pool in fleet.pools:
        for number, lanes in replicas_of(pool).items():
            _fail_later(fleet, control, failures, lanes, f"failures of {pool.name} {number}")


def _fail_later(fleet: Fleet, control: Simulation, failures: Failures, lanes: list[Member], name: str) -> None:
    def fail() -> None:
        if any(lane.up for lane in lanes):
            fail_together(fleet, lanes, control.now_s, retry=failures.retry)
            control.schedule(failures.repair_s, repair)
        else:
            again()

    def repair() -> None:
        for lane in lanes:
            fleet.start(lane, control.now_s)
        again()

    def again() -> None:
        control.schedule(float(control.stream(name).exponential(failures.mtbf_s)), fail)

    again()


class Scaling:
    """One pool under an autoscaler; what the policy may ask of it are the properties of `autoscalers.PoolView`."""

    def __init__(
        self, fleet: Fleet, control: Simulation, pool: Pool, scaler: Autoscaler, *, cold_start_s: float
    ) -> None:
        """Those that the policy wants of an empty pool are up, at least one; it is asked from now on."""
        self._fleet, self._control, self._pool, self._scaler = fleet, control, pool, scaler
        self._cold_start_s = cold_start_s
        self._groups = list(replicas_of(pool).values())
        self._starting: set[int] = set()
        self._busy_s, self._asked_s = 0.0, control.now_s
        self._seen = 0
        self.starts = self.stops = 0
        fleet.finished = []
        for lanes in self._groups:
            for lane in lanes:
                lane.never_up()
        for lanes in self._groups[: max(scaler.decide(control.now_s, self), 1)]:
            for lane in lanes:
                lane.start(control.now_s)
        control.schedule(scaler.interval_s, self._ask)

    @property
    def _up(self) -> list[list[Member]]:
        return [lanes for lanes in self._groups if lanes[0].up]

    @property
    def replicas(self) -> int:
        """Those that serve."""
        return len(self._up)

    @property
    def starting(self) -> int:
        """Those that will, after their cold start."""
        return len(self._starting)

    @property
    def waiting(self) -> int:
        """Requests that wait, in queues or for a replica."""
        return sum(lane.waiting for lanes in self._groups for lane in lanes) + self._fleet.homeless_of(self._pool)

    @property
    def running(self) -> int:
        """Requests in batches."""
        return sum(lane.running for lanes in self._groups for lane in lanes)

    @property
    def slots(self) -> int:
        """Sequences at once of one replica."""
        return sum(lane.engine.rules.slots for lane in self._groups[0])

    @property
    def busy_frac(self) -> float:
        """Share of the time since the last decision in which the replicas that serve ran iterations."""
        lanes = sum(len(lanes) for lanes in self._up)
        passed = (self._control.now_s - self._asked_s) * max(lanes, 1)
        return min((self._busy_now() - self._busy_s) / passed, 1.0) if passed > 0 else 0.0

    @property
    def ttft_s(self) -> Sequence[float]:
        """Times to first token of the requests that ended since the last decision."""
        log = self._fleet.log
        ended = (self._fleet.finished or [])[self._seen :]
        return [log.first[request] - log.sent[request] for request in ended]

    def _busy_now(self) -> float:
        return sum(lane.engine.busy for lanes in self._groups for lane in lanes)

    def _ask(self) -> None:
        now = self._control.now_s
        wanted = min(max(self._scaler.decide(now, self), 0), len(self._groups))
        have = self.replicas + self.starting
        if wanted > have:
            self._start(wanted - have)
        elif wanted < have:
            self._stop(have - wanted)
        self._busy_s, self._asked_s, self._seen = self._busy_now(), now, len(self._fleet.finished or [])
        self._control.schedule(self._scaler.interval_s, self._ask)

    def _start(self, count: int) -> None:
        down = [i for i, lanes in enumerate(self._groups) if not lanes[0].up and i not in self._starting]
        for i in down[:count]:
            self._starting.add(i)
            self.starts += 1
            self._control.schedule(self._cold_start_s, self._started, i)

    def _started(self, i: int) -> None:
        if i in self._starting:
            self._starting.remove(i)
            for lane in self._groups[i]:
                self._fleet.start(lane, self._control.now_s)

    def _stop(self, count: int) -> None:
        """Replicas that still start first, then the emptiest."""
        for i in sorted(self._starting, reverse=True)[:count]:
            self._starting.remove(i)
            count -= 1
        emptiest = sorted(self._up, key=lambda lanes: (sum(lane.load for lane in lanes), -lanes[0].replica))
        for lanes in emptiest[: min(count, len(emptiest))]:
            self.stops += 1
            for lane in lanes:
                lane.up = False
            for lane in lanes:
                lane.up = True
                self._fleet.drain(lane, self._control.now_s)
