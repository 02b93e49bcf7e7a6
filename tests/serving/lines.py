"""Slow, eager twins of the named schedulers, for the eager engine: orders as sorts, counters as sums, nothing kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tests.serving.reference import Seq

from ridgeline.serving.policies.facts import Facts


class Line:
    """First come, first served by a key; a preempted request keeps its place."""

    def __init__(self, facts: Facts, **settings: Any) -> None:
        self.facts = facts
        self.came: list[int] = []
        self.__dict__.update(settings)
        self.turn_of = 0

    def level(self, s: Seq) -> int:
        return self.facts.class_of(s.id).priority

    def place(self, s: Seq) -> int:
        return self.came.index(s.id)

    def arrives(self, s: Seq, queue: Sequence[Seq], *, before: bool) -> None:
        self.came.append(s.id)

    def turn(self, time: float, running: Sequence[Seq]) -> None: ...
    def returns(self, s: Seq) -> None: ...
    def withdrawn(self, s: Seq, compute: int) -> None: ...
    def enters(self, s: Seq, compute: int, queue: Sequence[Seq]) -> None: ...
    def emits(self, seqs: Sequence[Seq]) -> None: ...

    def key(self, s: Seq, time: float) -> Any:
        return 0

    def order(self, queue: Sequence[Seq], time: float) -> list[Seq]:
        return sorted(queue, key=lambda s: (self.key(s, time), self.place(s)))

    def victims(self, head: Seq, running: Sequence[Seq], time: float) -> list[Seq]:
        return []


class Priority(Line):
    def key(self, s: Seq, time: float) -> Any:
        return -self.level(s)


class Preemptive(Priority):
    def victims(self, head: Seq, running: Sequence[Seq], time: float) -> list[Seq]:
        youngest = list(reversed(running))
        return sorted((s for s in youngest if self.level(s) < self.level(head)), key=self.level)


class SloAware(Line):
    def key(self, s: Seq, time: float) -> Any:
        promised = self.facts.class_of(s.id)
        each = promised.tpot_s if promised.tpot_s < math.inf else 0.0
        start = s.sent + min(promised.ttft_s, promised.e2e_s - each * self.facts.output_tokens[s.id])
        return start < time, start


class Rotation(Line):
    """`quantum_s` is its setting; `since` the quantum in which each running request began."""

    def turn(self, time: float, running: Sequence[Seq]) -> None:
        self.turn_of = int(time / self.quantum_s)
        while self.turn_of * self.quantum_s > time:
            self.turn_of -= 1
        while (self.turn_of + 1) * self.quantum_s <= time:
            self.turn_of += 1

    def returns(self, s: Seq) -> None:
        if s.since < self.turn_of:
            self.came.remove(s.id)
            self.came.append(s.id)

    def enters(self, s: Seq, compute: int, queue: Sequence[Seq]) -> None:
        s.since = self.turn_of

    def key(self, s: Seq, time: float) -> Any:
        return -self.level(s)

    def victims(self, head: Seq, running: Sequence[Seq], time: float) -> list[Seq]:
        spent = [s for s in running if s.since < self.turn_of and self.level(s) <= self.level(head)]
        return sorted(spent, key=lambda s: (self.level(s), s.since))


class Fair(Line):
    """Counters by tenant, raised token by token; `back` is where preempted requests stand before others."""

    def __init__(self, facts: Facts, **settings: Any) -> None:
        super().__init__(facts, **settings)
        tenants = sorted({facts.tenant_of(i) for i in range(len(facts))})
        self.base = dict.fromkeys(tenants, 0.0)
        self.tokens = dict.fromkeys(tenants, 0.0)
        self.just = dict.fromkeys(tenants, 0.0)  # of the last iteration
        self.last = None
        self.ahead: list[int] = []

    def tenant(self, s: Seq) -> int:
        return self.facts.tenant_of(s.id)

    def counter(self, tenant: int, *, before: bool = False) -> float:
        tokens = self.tokens[tenant] - (self.just[tenant] if before else 0.0)
        return self.base[tenant] + tokens / self.shares.get(tenant, 1.0)

    def arrives(self, s: Seq, queue: Sequence[Seq], *, before: bool) -> None:
        tenant, others = self.tenant(s), {self.tenant(x) for x in queue}
        least = -1.0
        if tenant not in others:
            if others:
                least = min(self.counter(other, before=before) for other in others)
            elif self.last is not None:
                least = self.counter(self.last, before=before)
        if self.counter(tenant, before=before) < least:
            self.base[tenant], self.tokens[tenant] = least, self.just[tenant] if before else 0.0
            if not before:
                self.just[tenant] = 0.0
        super().arrives(s, queue, before=before)

    def turn(self, time: float, running: Sequence[Seq]) -> None:
        self.just = dict.fromkeys(self.just, 0.0)

    def returns(self, s: Seq) -> None:
        self.came.remove(s.id)
        self.came.insert(0, s.id)

    def withdrawn(self, s: Seq, compute: int) -> None:
        self.tokens[self.tenant(s)] -= compute
        self.returns(s)

    def enters(self, s: Seq, compute: int, queue: Sequence[Seq]) -> None:
        self.tokens[self.tenant(s)] += compute
        if self.tenant(s) not in {self.tenant(x) for x in queue}:
            self.last = self.tenant(s)

    def emits(self, seqs: Sequence[Seq]) -> None:
        for s in seqs:
            self.tokens[self.tenant(s)] += 2.0
            self.just[self.tenant(s)] += 2.0

    def key(self, s: Seq, time: float) -> Any:
        return self.counter(self.tenant(s)), self.tenant(s)
