"""Named rules of the KV cache: what of a sequence stays in it, which prefixes leave it first, and where they go.

Each is a function or class that takes the `Facts` of the run; further parameters are keywords.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from ridgeline.core.errors import DomainError
from ridgeline.serving.engine.prefix import Order, Tier
from ridgeline.serving.policies.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What stays of a sequence while it decodes: `tokens` goes into `Rules.kept_tokens`."""

    tokens: float = math.inf


def full(facts: Facts) -> Kept:
    """All of it."""
    return Kept()


def window(facts: Facts, tokens: int) -> Kept:
    """The last so many tokens, sinks included (StreamingLLM, arXiv 2309.17453)."""
    return _kept(tokens)


def budget(facts: Facts, tokens: int) -> Kept:
    """So many tokens, the ones that matter (H2O, arXiv 2306.14048; SnapKV, arXiv 2404.14469); costs as a window."""
    return _kept(tokens)


def _kept(tokens: int) -> Kept:
    if tokens < 1:
        raise DomainError("a sequence keeps at least one token", at="tokens", got=tokens, fix="give for example 4096")
    return Kept(tokens=tokens)


class _Ranked(ABC):
    """Units in the order of a rank that is taken when nothing pins them any more."""

    def __init__(self, facts: Facts | None = None) -> None:
        """No unit yet."""
        self._ranks: dict[int, tuple[int, int]] = {}
        self._heap: list[tuple[tuple[int, int], int]] = []
        self._count = 0

    @abstractmethod
    def _rank(self, unit: int) -> tuple[int, int]:
        """Its place in the order, lowest first to go."""

    def __contains__(self, unit: object) -> bool:
        """Whether nothing pins it."""
        return unit in self._ranks

    def __setitem__(self, unit: int, _: None) -> None:
        """Nothing pins it any more."""
        self._count += 1
        self._ranks[unit] = rank = self._rank(unit)
        heappush(self._heap, (rank, unit))

    def __delitem__(self, unit: int) -> None:
        """A request pins it; its entry in the heap is passed over later."""
        del self._ranks[unit]

    def popitem(self, last: bool = False) -> tuple[int, None]:
        """The first to go."""
        while True:
            rank, unit = heappop(self._heap)
            if self._ranks.get(unit) == rank:
                del self._ranks[unit]
                self._forget(unit)
                return unit, None

    def clear(self) -> None:
        """All are forgotten."""
        for unit in self._ranks:
            self._forget(unit)
        self._ranks.clear()
        self._heap.clear()

    @abstractmethod
    def _forget(self, unit: int) -> None:
        """It is gone: what was kept for its rank can go too."""


class Lfu(_Ranked):
    """Least frequently used first, and of equal ones the least recently used."""

    def __init__(self, facts: Facts | None = None) -> None:
        """No unit yet."""
        super().__init__(facts)
        self._uses: dict[int, int] = {}

    def touched(self, unit: int) -> None:
        """One use more."""
        self._uses[unit] = self._uses.get(unit, 0) + 1

    def _rank(self, unit: int) -> tuple[int, int]:
        return self._uses.get(unit, 0), self._count

    def _forget(self, unit: int) -> None:
        self._uses.pop(unit, None)


class Fifo(_Ranked):
    """In the order in which they were cached, whether they are used or not."""

    def __init__(self, facts: Facts | None = None) -> None:
        """No unit yet."""
        super().__init__(facts)
        self._born: dict[int, int] = {}

    def _rank(self, unit: int) -> tuple[int, int]:
        return self._born.setdefault(unit, self._count), 0

    def _forget(self, unit: int) -> None:
        self._born.pop(unit, None)


def lru(facts: Facts | None = None) -> Order:
    """Least recently used first: what a `PrefixCache` does by itself."""
    return OrderedDict[int, None]()


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A store of evicted prefixes beside the device.

    Attributes:
        name: host, nvme or remote.
        capacity_bytes: its room.
        bandwidth_bytes_per_s: at which it is read.
        latency_s: before the first byte.
    """

    name: str
    capacity_bytes: float
    bandwidth_bytes_per_s: float
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes that no store has."""
        rates = (self.capacity_bytes, self.bandwidth_bytes_per_s)
        if not (min(rates) > 0 and max(rates) < math.inf and 0 <= self.latency_s < math.inf):
            fix = f"write for example {self.name}(capacity=512GB, bandwidth=50GB/s)"
            raise DomainError("a store has a size and a bandwidth above 0", at=self.name, got=rates, fix=fix)

    def tier(self, unit_bytes: float) -> Tier:
        """As the prefix cache counts it, for units of so many bytes."""
        if not 0 < unit_bytes < math.inf:
            raise DomainError("a unit has a size above 0", at="unit_bytes", got=unit_bytes)
        load_s = self.latency_s + unit_bytes / self.bandwidth_bytes_per_s
        return Tier(capacity_units=int(self.capacity_bytes // unit_bytes), load_s=load_s)


def host(facts: Facts, capacity_bytes: float, bandwidth_bytes_per_s: float, *, latency_s: float = 0.0) -> Store:
    """Memory of the host."""
    return _store("host", capacity_bytes, bandwidth_bytes_per_s, latency_s)


def nvme(facts: Facts, capacity_bytes: float, bandwidth_bytes_per_s: float, *, latency_s: float = 0.0) -> Store:
    """Drives of the host."""
    return _store("nvme", capacity_bytes, bandwidth_bytes_per_s, latency_s)


def remote(facts: Facts, capacity_bytes: float, bandwidth_bytes_per_s: float, *, latency_s: float = 0.0) -> Store:
    """A pool behind the network."""
    return _store("remote", capacity_bytes, bandwidth_bytes_per_s, latency_s)


def _store(name: str, *sizes: Any) -> Store:
    return Store(name=name, capacity_bytes=sizes[0], bandwidth_bytes_per_s=sizes[1], latency_s=sizes[2])
