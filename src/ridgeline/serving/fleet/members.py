"""A lane in its pool as drivers and routers see it, and pools of lanes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.step_table import StepTimes
from ridgeline.serving.policies.routers import Router
from ridgeline.serving.record.played import MIXED


class Member:
    """A lane in its pool: an engine and what routers may ask of it.

    Attributes:
        up: whether it takes requests; a lane that is not finishes what it has.
        replica, chips: number of its replica, and chips (or a share of them) that it occupies.
        partner: the lane that decodes on the same chips what this one prefills, or the other way round.
        paces: of a lane with a partner: its step times while the partner is idle, and while it iterates.
    """

    __slots__ = (
        "_since",
        "_until",
        "alive_s",
        "chips",
        "engine",
        "index",
        "moves",
        "paces",
        "partner",
        "place",
        "pool",
        "replica",
        "up",
    )

    def __init__(self, engine: Engine, *, replica: int, chips: float, up: bool = True) -> None:
        """A lane that is up from the start, or comes up later."""
        self.engine, self.replica, self.chips, self.up = engine, replica, chips, up
        self.index, self.place, self.pool = -1, -1, ""
        self.alive_s: list[tuple[float, float]] = []
        self._since, self._until = (0.0 if up else math.nan), math.nan
        self.moves: list[Callable[[], None]] = []  # to do at the next boundary
        self.partner: Member | None = None
        self.paces: tuple[StepTimes, StepTimes] = (engine.times, engine.times)

    @property
    def waiting(self) -> int:
        """Requests in its queue."""
        return len(self.engine.queue)

    @property
    def running(self) -> int:
        """Requests in its batch."""
        return len(self.engine.running)

    @property
    def load(self) -> int:
        """Requests that it has."""
        return len(self.engine.queue) + len(self.engine.running)

    @property
    def pending_tokens(self) -> float:
        """Prompt tokens that are still to be computed: of its batch, and of requests in its queue."""
        return sum(self.engine.prefilling.values()) + self.engine.queued_tokens()

    @property
    def free_blocks(self) -> float:
        """Cache blocks that are free or evictable, as of its last boundary."""
        return self.engine.free

    @property
    def capacity_blocks(self) -> float:
        """Cache blocks in all."""
        return self.engine.capacity

    @property
    def block_tokens(self) -> int:
        """Tokens of a block."""
        return self.engine.block

    def found_tokens(self, request: int) -> int:
        """Prompt tokens of the request that its cache holds."""
        prefix = self.engine.prefix
        return prefix.look_up(request, self.engine.requests.prompts[request]) if prefix else 0

    def has_model(self, request: int) -> bool:
        """Whether the weights of the request's model are on its chips, or come for its batch."""
        adapters = self.engine.adapters
        return adapters is None or adapters.has(request)

    @property
    def empty(self) -> bool:
        """Whether it holds no request, nor a cache that still moves away."""
        engine = self.engine
        return not (engine.running or engine.queue or engine.parked)

    def claim(self, time: float) -> None:
        """It occupies its chips from now on; it takes requests once it is started."""
        self.close()
        self._since, self._until = time, math.nan

    def start(self, time: float) -> None:
        """It comes up, unless it is; the chips that it has claimed are its own since then."""
        if self.up:
            return
        if math.isnan(self._since) or not math.isnan(self._until):
            self.claim(time)
        self.up = True

    def never_up(self) -> None:
        """It was not up from the start after all."""
        self.up, self._since = False, math.nan

    def stop(self, time: float) -> None:
        """It takes no more requests; it is down once it is empty."""
        if self.up:
            self.up, self._until = False, time
        elif math.isnan(self._until):
            self._until = time  # it ends while it gets ready

    def close(self) -> None:
        """Write down the time that it was up, if it was."""
        if not math.isnan(self._since):
            self.alive_s.append((self._since, max(self._until, self.engine.t)))
            self._since = math.nan


@dataclass(slots=True)
class Pool:
    """Lanes among which one router chooses.

    Attributes:
        passes_to: the pool that decodes what this one has prefilled (None: it does so itself).
        transfer_s: seconds to move each request's cache there; transfers of a lane queue up. Lanes that have a partner
            pass to it, and nothing moves.
    """

    name: str
    members: list[Member]
    router: Router
    passes_to: Pool | None = None
    transfer_s: Sequence[float] = ()
    role: str = MIXED
