"""Named rules of how many replicas compute prompts, where replicas can change between prefill and decode.

Such a rule is a function or class that takes the `Facts` of the run and gives an object with `interval_s` and `decide`;
further parameters are keywords. The driver asks every `interval_s`. A replica that changes takes no more requests,
finishes what it has, and serves its new role after the time of the switch; each side keeps one replica at least.
"""

from __future__ import annotations

import math
from typing import Protocol

from ridgeline.core.errors import DomainError
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.settings import interval


class SideView(Protocol):
    """What such a rule may ask of the replicas of one role; reading it changes nothing."""

    @property
    def replicas(self) -> int:
        """Those that serve, and those that change to this role."""

    @property
    def waiting(self) -> int:
        """Requests in queues of this role, or that find no lane."""

    @property
    def running(self) -> int:
        """Requests in batches."""

    @property
    def used_frac(self) -> float:
        """Share of the cache of those that serve that is in use."""


class Roles(Protocol):
    """How many replicas should compute prompts."""

    @property
    def interval_s(self) -> float:
        """Time between two decisions."""

    def decide(self, time: float, prefill: SideView, decode: SideView) -> int:
        """Replicas wanted on the side of prefill; the others decode."""


class Kept:
    """Every replica keeps its role."""

    def __init__(self, facts: Facts, *, interval_s: float = 60.0) -> None:
        """It is asked all the same."""
        self.interval_s = interval(interval_s)

    def decide(self, time: float, prefill: SideView, decode: SideView) -> int:
        """As many as there are."""
        return prefill.replicas


class Balance:
    """One replica goes over to the side that is short, unless both are.

    Prompts are short of replicas when many wait for one; decoding is when somebody waits for it, or its cache fills.
    Source: switching of instances between the phases as in Splitwise (arXiv 2311.18677, section 4: mixed pool), which
    goes by queued tokens and memory; here a replica changes as a whole.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        interval_s: float = 10.0,
        waiting: float = 2.0,
        used_frac: float = 0.9,
        cool_down_s: float = 0.0,
    ) -> None:
        """When a side is short.

        Args:
            facts: of the run.
            interval_s: time between decisions.
            waiting: requests that wait per prefill replica; above it, prompts are short.
            used_frac: share of the decode cache; above it, decoding is short.
            cool_down_s: time after a change before the next one.
        """
        if not (waiting >= 0 and 0 < used_frac <= 1 and cool_down_s >= 0):
            fix = "waiting >= 0, 0 < used_frac <= 1, cool_down >= 0s"
            raise DomainError("thresholds out of range", at="balance", got=(waiting, used_frac, cool_down_s), fix=fix)
        self.interval_s = interval(interval_s)
        self._waiting, self._used_frac, self._cool_down_s = waiting, used_frac, cool_down_s
        self._changed = -math.inf

    def decide(self, time: float, prefill: SideView, decode: SideView) -> int:
        """As many as there are, one more or one less."""
        if time - self._changed < self._cool_down_s:
            return prefill.replicas
        prompts_short = prefill.waiting > self._waiting * prefill.replicas
        decode_short = decode.waiting > 0 or decode.used_frac > self._used_frac
        if prompts_short == decode_short or (decode.replicas if prompts_short else prefill.replicas) <= 1:
            return prefill.replicas
        self._changed = time
        return prefill.replicas + (1 if prompts_short else -1)
