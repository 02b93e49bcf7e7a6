"""Prefixes of prompts that stay in the cache, so that the next request with the same beginning computes less.

A prompt is cut into units of equally many tokens; a unit's id names the whole prefix up to its end (equal id: equal
prefix), as vLLM's block hashes and Mooncake's traces do, so that a dictionary is a radix tree. Units that a running
request uses are pinned. Others stay until their room is needed and go in the order of their last use, the deepest of a
prefix first (other orders are in `kv.py`); with a second tier (host memory, a remote pool) they move there and can be
loaded back at a cost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ridgeline.core.errors import DomainError

Units = Callable[[int], Sequence[int]]
"""Request -> ids of the units of its prompt, in order."""


@dataclass(slots=True)
class Tier:
    """A store beside the device: room in units, and the time to load one unit from it."""

    capacity_units: int
    load_s: float


class Order(Protocol):
    """Units that nothing pins, in the order in which they go: a mapping as far as the cache needs one.

    It may have `touched(unit)`, which the cache calls whenever a request uses or computes the unit.
    """

    def __contains__(self, unit: object) -> bool:
        """Whether it is among them."""

    def __setitem__(self, unit: int, _: None) -> None:
        """Nothing pins it any more."""

    def __delitem__(self, unit: int) -> None:
        """A request pins it."""

    def popitem(self, last: bool = True) -> tuple[int, None]:
        """The first to go (`last` is always False), which is forgotten."""

    def clear(self) -> None:
        """All are forgotten."""


class PrefixCache:
    """Cached prefixes of one engine; sizes in its cache blocks.

    Attributes:
        shared, pinning: of the last `look_up`: blocks found, and how many of those nothing pins yet.
        evictable: blocks of units that nothing pins.
    """

    def __init__(
        self,
        units: Units,
        *,
        unit_tokens: int,
        block_tokens: int,
        tiers: Sequence[Tier] = (),
        order: Order | None = None,
    ) -> None:
        """`unit_tokens` is a multiple of `block_tokens`; without an order of eviction it is the least recently used."""
        if unit_tokens < 1 or unit_tokens % block_tokens:
            fix = "hash whole blocks: a multiple of block_tokens"
            raise DomainError("prefix units must be whole blocks", at="unit_tokens", got=unit_tokens, fix=fix)
        self._units, self.unit_tokens, self.blocks = units, unit_tokens, unit_tokens // block_tokens
        self._users: dict[int, int] = {}  # unit -> running requests that pin it
        self._idle: Order = OrderedDict[int, None]() if order is None else order  # units that nothing pins
        self._touched = getattr(self._idle, "touched", None)
        self._held: dict[int, list[int]] = {}  # request -> units it pins, in order
        self._tiers = list(tiers)
        self._stored: list[OrderedDict[int, None]] = [OrderedDict() for _ in tiers]
        self.shared = self.pinning = self.evictable = 0
        self._depth, self._loading = 0, 0.0

    def look_up(self, request: int, prompt: int) -> int:
        """Prompt tokens that need not be computed: all found units, but never the whole prompt."""
        users, idle = self._users, self._idle
        depth = pinning = stored = 0
        loading = 0.0
        for unit in self._units(request)[: (prompt - 1) // self.unit_tokens]:
            if unit not in users:
                if unit in idle:
                    pinning += 1
                else:
                    load_s = self._load_s(unit)
                    if load_s is None:
                        break
                    loading += load_s
                    stored += 1
            depth += 1
        self._depth, self._loading = depth, loading
        self.shared, self.pinning = (depth - stored) * self.blocks, pinning * self.blocks
        return depth * self.unit_tokens

    def _load_s(self, unit: int) -> float | None:
        for tier, stored in zip(self._tiers, self._stored, strict=True):
            if unit in stored:
                return tier.load_s
        return None

    def pin(self, request: int) -> tuple[int, float, int]:
        """The request uses what `look_up` has just found.

        Returns: blocks that it shares, seconds to load the others, and blocks that were evictable until now.
        """
        users, idle = self._users, self._idle
        held = []
        for unit in self._units(request)[: self._depth]:
            if unit in users:
                users[unit] += 1
            elif unit in idle:
                del idle[unit]
                users[unit] = 1
            else:
                continue  # loaded into blocks of the request's own; published with its prompt
            held.append(unit)
            if self._touched is not None:
                self._touched(unit)
        self._held[request] = held
        self.evictable -= self.pinning
        return self.shared, self._loading, self.pinning

    def publish(self, request: int, tokens: int) -> int:
        """The prefix of so many tokens is computed: blocks that were the request's own and are shared from now on."""
        users, idle, held = self._users, self._idle, self._held.setdefault(request, [])
        own, published = set(held), 0
        for unit in self._units(request)[: tokens // self.unit_tokens]:
            if unit in own or unit in users or unit in idle:
                continue  # there already; a second copy stays the request's own
            users[unit] = 1
            held.append(unit)
            published += 1
            if self._touched is not None:
                self._touched(unit)
            for stored in self._stored:
                stored.pop(unit, None)
        return published * self.blocks

    def release(self, request: int) -> int:
        """The request is gone: blocks that nothing pins any more."""
        users, idle = self._users, self._idle
        freed = 0
        for unit in reversed(self._held.pop(request, ())):
            if users[unit] > 1:
                users[unit] -= 1
            else:
                del users[unit]
                idle[unit] = None
                freed += 1
        self.evictable += freed * self.blocks
        return freed * self.blocks

    def clear(self) -> None:
        """Everything on the device is lost."""
        self._users.clear()
        self._idle.clear()
        self._held.clear()
        self.evictable = 0

    def trim(self, free: float) -> None:
        """Evict until what is evictable fits into the blocks that are free or evictable."""
        while self.evictable > free:
            unit, _ = self._idle.popitem(last=False)
            self.evictable -= self.blocks
            self._store(unit, 0)

    def _store(self, unit: int, tier: int) -> None:
        """An evicted unit moves to the next tier, whose own least recently used unit moves on."""
        if tier == len(self._tiers) or not self._tiers[tier].capacity_units:
            return
        stored = self._stored[tier]
        stored[unit] = None
        stored.move_to_end(unit)
        if len(stored) > self._tiers[tier].capacity_units:
            moved, _ = stored.popitem(last=False)
            self._store(moved, tier + 1)
