"""Named rules of how many replicas a pool should have.

An autoscaler is a function or class that takes the `Facts` of the run and gives an object with `interval_s` and
`decide`; further parameters are keywords. The driver asks every `interval_s`, starts what is missing (which takes its
cold start) and stops what is too much. It answers in replicas wanted, those that start included.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ridgeline.core import units
from ridgeline.core.errors import DomainError
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.settings import interval, positive

MOST = 1_000_000
"""Replicas: beyond, a number is a mistake."""


class PoolView(Protocol):
    """What an autoscaler may ask of a pool; reading it changes nothing."""

    @property
    def replicas(self) -> int:
        """Those that serve."""

    @property
    def starting(self) -> int:
        """Those that will, after their cold start."""

    @property
    def waiting(self) -> int:
        """Requests that wait, in queues or for a replica."""

    @property
    def running(self) -> int:
        """Requests in batches."""

    @property
    def slots(self) -> int:
        """Sequences at once of one replica."""

    @property
    def busy_frac(self) -> float:
        """Share of the time since the last decision in which the replicas that serve ran iterations."""

    @property
    def ttft_s(self) -> Sequence[float]:
        """Times to first token of the requests that ended since the last decision."""


class Autoscaler(Protocol):
    """How many replicas there should be."""

    @property
    def interval_s(self) -> float:
        """Time between two decisions."""

    def decide(self, time: float, view: PoolView) -> int:
        """Replicas wanted, those that start included."""


AutoscalerFactory = Callable[[Facts], Autoscaler]


class _Bounded:
    """Replicas between two numbers, asked at an interval; scaling down waits for a while after any change."""

    def __init__(self, interval_s: float, minimum: int, maximum: int, cool_down_s: float = 0.0) -> None:
        if not cool_down_s >= 0:
            raise DomainError("cool_down is negative", at="cool_down", got=cool_down_s, fix="give cool_down=60s")
        if not 0 <= minimum <= maximum <= MOST or not maximum:
            fix = f"0 <= minimum <= maximum <= {MOST:,}"
            raise DomainError("replicas out of range", at="minimum", got=(minimum, maximum), fix=fix)
        self.interval_s, self._minimum, self._maximum = interval(interval_s), minimum, maximum
        self._cool_down_s, self._changed = cool_down_s, -math.inf

    def within(self, wanted: float) -> int:
        """As a whole number between the bounds."""
        return int(min(max(math.ceil(wanted), self._minimum), self._maximum))

    def settled(self, time: float, have: int, wanted: float) -> int:
        """The number wanted, or what there is until the last change has cooled down."""
        bounded = self.within(wanted)
        if bounded < have and time - self._changed < self._cool_down_s:
            return max(have, self._minimum)
        if bounded != have:
            self._changed = time
        return bounded


class Fixed(_Bounded):
    """Always as many."""

    def __init__(self, facts: Facts, replicas: int = 1, *, interval_s: float = 60.0) -> None:
        """So many replicas."""
        super().__init__(interval_s, replicas, replicas)

    def decide(self, time: float, view: PoolView) -> int:
        """The number."""
        return self._minimum


class QueueLength(_Bounded):
    """Few enough requests that wait per replica; one replica less at a time when the rest would hold what runs."""

    def __init__(
        self,
        facts: Facts,
        *,
        target: float = 4.0,
        fill_frac: float = 0.8,
        cool_down_s: float = 60.0,
        interval_s: float = 15.0,
        minimum: int = 1,
        maximum: int = MOST,
    ) -> None:
        """When to scale.

        Args:
            facts: of the run.
            target: requests that wait per replica; above it, replicas are added in proportion.
            fill_frac: share of the slots that one replica less may fill.
            cool_down_s: time after a change before replicas are taken away.
            interval_s: time between decisions.
            minimum: fewest replicas.
            maximum: most replicas.
        """
        super().__init__(interval_s, minimum, maximum, cool_down_s)
        self._target, self._fill_frac = positive(target, "target"), positive(fill_frac, "fill_frac")

    def decide(self, time: float, view: PoolView) -> int:
        """More at once, fewer one by one."""
        have = view.replicas + view.starting
        if view.waiting > self._target * have:
            return self.settled(time, have, view.waiting / self._target)
        spare = view.waiting + view.running <= self._fill_frac * view.slots * (have - 1)
        return self.settled(time, have, have - 1 if spare else have)


class Concurrency(_Bounded):
    """So many requests at once per replica, on average over a window; a short window watches for bursts.

    Source: Knative's pod autoscaler, docs of autoscaling "KPA specific" (windows of 60 s and 10 % of it, panic from
    200 %); in panic nothing is taken away, until a stable window has passed without cause.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        target: float = 32.0,
        window_s: float = 60.0,
        panic_frac: float = 0.1,
        panic_ratio: float = 2.0,
        interval_s: float = 2.0,
        minimum: int = 1,
        maximum: int = MOST,
    ) -> None:
        """When to scale.

        Args:
            facts: of the run.
            target: requests of one replica, waiting and running.
            window_s: over which they are averaged.
            panic_frac: the short window, as a share of it.
            panic_ratio: wanted over present replicas, by the short window, from which it counts.
            interval_s: time between decisions.
            minimum: fewest replicas.
            maximum: most replicas.
        """
        super().__init__(interval_s, minimum, maximum)
        self._target, self._window_s = positive(target, "target"), positive(window_s, "window")
        self._short_s = window_s * positive(panic_frac, "panic_frac")
        self._panic_ratio, self._panic_at, self._most = panic_ratio, -math.inf, 0
        self._seen: deque[tuple[float, int]] = deque()

    def _average(self, time: float, window_s: float) -> float:
        values = [count for seen, count in self._seen if seen > time - window_s]
        return sum(values) / len(values)

    def decide(self, time: float, view: PoolView) -> int:
        """By the long window, or in panic by the short one if that is more."""
        self._seen.append((time, view.waiting + view.running))
        while self._seen[0][0] <= time - self._window_s and len(self._seen) > 1:
            self._seen.popleft()
        stable = self.within(self._average(time, self._window_s) / self._target)
        burst = self.within(self._average(time, self._short_s) / self._target)
        if burst >= self._panic_ratio * max(view.replicas, 1):
            self._panic_at = time
        if time - self._panic_at >= self._window_s:
            self._most = 0
            return stable
        self._most = max(self._most, burst, stable, self.within(view.replicas + view.starting))
        return self._most


class Utilisation(_Bounded):
    """So much of the time in iterations, as a horizontal pod autoscaler keeps it.

    Source: Kubernetes docs, "Horizontal Pod Autoscaling": wanted = ceil(present x measured / target), nothing within
    10 %, and the highest wish of the last 300 s before anything is taken away.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        target: float = 0.7,
        tolerance_frac: float = 0.1,
        cool_down_s: float = 300.0,
        interval_s: float = 15.0,
        minimum: int = 1,
        maximum: int = MOST,
    ) -> None:
        """When to scale.

        Args:
            facts: of the run.
            target: share of the time that replicas should be busy.
            tolerance_frac: relative distance from the target that is let be.
            cool_down_s: the highest number wanted within it counts.
            interval_s: time between decisions.
            minimum: fewest replicas.
            maximum: most replicas.
        """
        super().__init__(interval_s, minimum, maximum, cool_down_s)
        self._target, self._tolerance = positive(target, "target"), tolerance_frac
        self._wishes: deque[tuple[float, int]] = deque()

    def decide(self, time: float, view: PoolView) -> int:
        """In proportion to how busy they were."""
        have = view.replicas + view.starting
        ratio = view.busy_frac / self._target
        wish = self.within(have if abs(ratio - 1.0) <= self._tolerance else max(view.replicas, 1) * ratio)
        self._wishes.append((time, wish))
        while self._wishes[0][0] <= time - self._cool_down_s and len(self._wishes) > 1:
            self._wishes.popleft()
        return self.within(max(wish, min(have, max(w for _, w in self._wishes))))


class Slo(_Bounded):
    """A quantile of recent times to first token under a target."""

    def __init__(
        self,
        facts: Facts,
        *,
        ttft_s: float = 2.0,
        quantile: float = 0.9,
        low_frac: float = 0.5,
        step_frac: float = 0.25,
        cool_down_s: float = 120.0,
        interval_s: float = 15.0,
        minimum: int = 1,
        maximum: int = MOST,
    ) -> None:
        """When to scale.

        Args:
            facts: of the run.
            ttft_s: what the quantile of the times since the last decision should not exceed.
            quantile: which.
            low_frac: share of the target below which one replica is taken away.
            step_frac: share of the replicas that is added at once.
            cool_down_s: time after a change before replicas are taken away.
            interval_s: time between decisions.
            minimum: fewest replicas.
            maximum: most replicas.
        """
        super().__init__(interval_s, minimum, maximum, cool_down_s)
        if not 0 < quantile <= 1 or not 0 <= low_frac < 1:
            raise DomainError("shares out of range", at="slo", got=(quantile, low_frac), fix="quantile=0.9")
        self._target_s, self._step_frac = positive(ttft_s, "ttft"), positive(step_frac, "step_frac")
        self._quantile, self._low_frac = quantile, low_frac

    def decide(self, time: float, view: PoolView) -> int:
        """More when it is missed, unless some are on their way; one less when it is far away."""
        have, seen = view.replicas + view.starting, sorted(view.ttft_s)
        if not seen:
            return self.settled(time, have, have + (view.waiting > 0) if not view.starting else have)
        now = seen[min(math.ceil(self._quantile * len(seen)), len(seen)) - 1]
        if now > self._target_s:
            grown = have if view.starting else have + max(1, math.ceil(self._step_frac * have))
            return self.settled(time, have, grown)
        return self.settled(time, have, have - 1 if now < self._low_frac * self._target_s else have)


class Schedule(_Bounded):
    """A time table, again from its start after each period."""

    def __init__(self, facts: Facts, *table: str, period_s: float = 86400.0, interval_s: float = 60.0) -> None:
        """Entries are written `replicas@time`, as in `schedule(2@0h, 8@8h, 3@20h)`."""
        rows = sorted(_row(entry) for entry in table)
        if not rows or rows[-1][0] >= positive(period_s, "period"):
            fix = "write for example schedule(2@0h, 8@8h), times below the period"
            raise DomainError("no such time table", at="schedule", got=table, fix=fix)
        super().__init__(interval_s, 0, MOST)
        self._rows, self._period_s = rows, period_s

    def decide(self, time: float, view: PoolView) -> int:
        """What the last entry before this time of the period says; before the first one, the last one of all."""
        phase = math.fmod(time, self._period_s)
        past = [count for start, count in self._rows if start <= phase]
        return past[-1] if past else self._rows[-1][1]


def _row(entry: str) -> tuple[float, int]:
    count, at, start = str(entry).partition("@")
    if not at or not count.strip().isdigit() or int(count) > MOST:
        raise DomainError("not a row of a time table", at="schedule", got=entry, fix="write replicas@time: 8@8h")
    return units.parse(start, "s", at="schedule"), int(count)
