"""What moves in a fleet while it serves: replicas between prefill and decode, running requests between lanes.

A replica that can change its role has lanes in both pools, of which one side is up at a time: it takes no more
requests, finishes what it has, loads what the other role needs, and comes up there. Its chips are its own all along.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ridgeline.core.errors import DomainError
from ridgeline.serving.fleet.fleet import Fleet
from ridgeline.serving.fleet.members import Member, Pool
from ridgeline.serving.policies.rebalancers import Rebalancer
from ridgeline.serving.policies.roles import Roles
from ridgeline.sim import Simulation

TO_PREFILL, TO_DECODE = 1, -1


@dataclass(eq=False, slots=True)
class Changer:
    """A replica as it stands in both pools.

    Attributes:
        prefill, decode: its lanes there; those of one side are down.
        prefills: which side is its own, from the decision on.
        changing: whether it drains or switches.
    """

    prefill: list[Member]
    decode: list[Member]
    prefills: bool
    changing: bool = False


class Side:
    """One role as a rule of roles sees it."""

    def __init__(self, fleet: Fleet, pool: Pool, replicas: Callable[[], int]) -> None:
        """`replicas` counts those of the role."""
        self._fleet, self._pool, self._replicas = fleet, pool, replicas

    @property
    def replicas(self) -> int:
        """Those that serve, and those that change to this role."""
        return self._replicas()

    @property
    def waiting(self) -> int:
        """Requests in queues of this role, or that find no lane."""
        return sum(member.waiting for member in self._pool.members) + self._fleet.homeless_of(self._pool)

    @property
    def running(self) -> int:
        """Requests in batches."""
        return sum(member.running for member in self._pool.members)

    @property
    def used_frac(self) -> float:
        """Share of the cache of those that serve that is in use."""
        up = [member for member in self._pool.members if member.up]
        room = sum(member.capacity_blocks for member in up)
        return 1.0 - sum(member.free_blocks for member in up) / room if room else 0.0


class Switching:
    """Replicas of a prefill and a decode pool that change roles as a rule asks."""

    def __init__(
        self,
        fleet: Fleet,
        control: Simulation,
        prefill: Pool,
        decode: Pool,
        changers: list[Changer],
        rule: Roles,
        *,
        switch_s: float,
    ) -> None:
        """The rule is asked from now on; `switch_s` passes between the last request of one role and the other role.

        Raises:
            DomainError: a switch that takes no time that there is.
        """
        if not 0 <= switch_s < math.inf:
            raise DomainError("a switch takes some time", at="switch_s", got=switch_s, fix="give 0s or more")
        self._fleet, self._control, self._changers, self._rule = fleet, control, changers, rule
        self._switch_s = switch_s
        self.switches = 0
        self._sides = (
            Side(fleet, prefill, lambda: sum(each.prefills for each in changers)),
            Side(fleet, decode, lambda: sum(not each.prefills for each in changers)),
        )
        for each in changers:
            for member in each.decode if each.prefills else each.prefill:
                member.never_up()
        control.schedule(rule.interval_s, self._ask)

    def _ask(self) -> None:
        count = len(self._changers)
        wanted = min(max(self._rule.decide(self._control.now_s, *self._sides), 1), count - 1)
        have = sum(each.prefills for each in self._changers)
        to_prefill = wanted > have
        able = [each for each in self._changers if each.prefills != to_prefill and not each.changing]
        # The emptiest is done first; one lane at least stays up on the side that gives.
        able.sort(key=lambda each: sum(member.load for member in self._lanes(each)))
        for each in able[: min(abs(wanted - have), max(len(able) - 1, 0))]:
            self._change(each)
        self._control.schedule(self._rule.interval_s, self._ask)

    def _lanes(self, changer: Changer) -> list[Member]:
        return changer.prefill if changer.prefills else changer.decode

    def _change(self, changer: Changer) -> None:
        leaving = self._lanes(changer)
        changer.prefills, changer.changing = not changer.prefills, True
        self.switches += 1
        left = [len(leaving)]

        def emptied() -> None:
            left[0] -= 1
            if not left[0]:
                self._control.schedule_at(max(self._fleet.now, self._control.now_s), self._loads, changer)

        for member in leaving:
            member.stop(self._control.now_s)
        for member in leaving:
            self._fleet.drain(member, self._control.now_s)
            self._fleet.when_empty(member, emptied)

    def _loads(self, changer: Changer) -> None:
        for member in self._lanes(changer):
            member.claim(self._control.now_s)
        self._control.schedule(self._switch_s, self._serves, changer)

    def _serves(self, changer: Changer) -> None:
        changer.changing = False
        for member in self._lanes(changer):
            self._fleet.start(member, self._control.now_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What moves a sequence's cache between two lanes: latency, and seconds per token of its context."""

    latency_s: float = 0.0
    token_s: float = 0.0


class Rebalancing:
    """Requests of one pool that move between its lanes while they decode.

    Source: Llumnix (arXiv 2406.03243, section 4.2): stages of copies while the request decodes, each of what the one
    before has left; it stands still only for the last, of the blocks of a few iterations. Here there are two stages.
    """

    def __init__(self, fleet: Fleet, control: Simulation, pool: Pool, rule: Rebalancer, link: Link) -> None:
        """The rule is asked from now on."""
        self._fleet, self._control, self._pool, self._rule, self._link = fleet, control, pool, rule, link
        self._busy: set[int] = set()  # lanes that send or receive
        self.moves = self.given_up = 0
        control.schedule(rule.interval_s, self._ask)

    def _ask(self) -> None:
        members = self._pool.members
        for giver, taker in self._rule.decide(self._control.now_s, members):
            if not {giver, taker} & self._busy and members[giver].engine.joined:
                self._copy(members[giver], members[taker])
        self._control.schedule(self._rule.interval_s, self._ask)

    def _copy(self, giver: Member, taker: Member) -> None:
        """What is in the cache now is copied while the request goes on decoding."""
        joined = giver.engine.joined
        request = min(joined, key=lambda one: (joined[one][0], one))
        context = min(joined[request][0] + giver.engine.growth * giver.engine.step, giver.engine.rules.kept_tokens)
        lanes = {giver.place, taker.place}
        self._busy |= lanes
        copied_s = self._link.latency_s + context * self._link.token_s
        self._control.schedule(copied_s, self._stop, request, giver, taker, lanes)

    def _stop(self, request: int, giver: Member, taker: Member, lanes: set[int]) -> None:
        """The rest follows while it stands still: a block at most, since full ones were copied as they came."""
        self._busy -= lanes
        engine = taker.engine
        need = -(-(engine.requests.prompts[request] + engine.requests.outputs[request]) // engine.block)
        if request not in giver.engine.joined or not taker.up or taker.waiting or engine.free < need:
            self.given_up += 1
            return
        self.moves += 1
        pause_s = self._link.latency_s + engine.block * self._link.token_s
        self._fleet.migrate(request, giver, taker, self._control.now_s, pause_s)
