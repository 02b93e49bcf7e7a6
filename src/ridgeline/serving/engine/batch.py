"""The sequences of a batch and the cache blocks that they hold, as counters.

All decoding sequences advance together, so that one counter, `step`, replaces the state of each: a sequence that joins
with context `c` and `r` tokens to go keeps its `base` c - step and its finishing step. `residues[i]` counts those that
need a block in iterations with step = i modulo the block size.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush

from ridgeline.serving.engine.adapters import Adapters
from ridgeline.serving.engine.prefix import PrefixCache
from ridgeline.serving.engine.queues import Accounts
from ridgeline.serving.engine.rules import Rules

PART = 0.7
"""Share of the remaining output that SGLang keeps free at admission (sgl-project/sglang, schedule_policy.py)."""

NEVER = math.inf
SHIFT = 32
"""A finish key is one whole number: step << SHIFT | request."""
MASK = (1 << SHIFT) - 1

EPSILON = 1e-9
"""Tokens: what rounding may add to a length under speculation, where lengths are not whole."""


class Batch:
    """What an engine holds at a boundary; `Engine` is the one class on it, and decides what comes and goes.

    Attributes:
        running: request -> (prompt tokens, output tokens, shared blocks), oldest first.
        n, step: decoding sequences, and decode iterations done.
        free: cache blocks that are free or evictable, of `capacity`.
    """

    def __init__(
        self,
        rules: Rules,
        prefix: PrefixCache | None,
        accounts: Accounts | None,
        longest_run: int,
        adapters: Adapters | None,
    ) -> None:
        """An empty batch."""
        self.adapters = adapters
        self.rules, self.prefix, self._accounts, self.longest_run = rules, prefix, accounts, longest_run
        self.block, self.growth = rules.block_tokens, rules.growth if rules.growth != 1 else 1
        self.grows = rules.cache != "reserve"
        self.capacity = self.free = rules.blocks
        self.n = self.step = 0
        self.offset: float = 0  # total context of growing sequences = offset + fixed + growing * growth * step
        self.growing = self.outstanding = 0  # iterations left, summed over decoding sequences = outstanding - n * step
        self.promised = 0  # tokens to emit of sequences that still prefill
        self.fixed: float = 0  # total context of sequences at their limit of kept tokens
        self.residues = [0] * (2 * self.block)
        self.running: dict[int, tuple[int, int, int]] = {}
        self.prefilling: dict[int, float] = {}  # request -> prompt tokens still to compute
        self.joined: dict[int, tuple[float, int]] = {}  # decoding request -> (base, finishing step)
        self.limits: dict[int, int] = {}  # decoding request -> step at which it reaches its kept tokens; -1 after
        self.finishing: list[int] = []
        self.limiting: list[int] = []

    def _take(self, blocks: float) -> None:
        """Blocks are in use from now on; cached prefixes that stand in them go."""
        self.free -= blocks
        if self.prefix:
            self.prefix.trim(self.free)

    def _blocks(self, tokens: float) -> float:
        """Blocks that hold so many tokens."""
        return tokens if self.block == 1 else -(-tokens // self.block)

    def _needs(self, k: int) -> float:
        """Blocks that decoding takes in the next `k` iterations."""
        block = self.block
        if block == 1:
            return k * self.growing * self.growth
        i = self.step % block
        if k == 1:
            return self.residues[i]
        return self.growing * (k // block) + sum(self.residues[i : i + k % block])

    def _next_need(self, request: int) -> float:
        """Blocks that a decoding request takes in the next iteration."""
        if not self.grows or self.limits.get(request) == -1:
            return 0.0
        return self.growth if self.block == 1 else float(self._context(request) % self.block == 0)

    def _iterations_that_fit(self) -> int:
        """Iterations until the cache is short of blocks."""
        free, growing = self.free, self.growing
        if not growing:
            return self.longest_run
        if self.block == 1:
            return int(free // (growing * self.growth))
        cycles = int(free // growing)
        k, free = cycles * self.block, free - cycles * growing
        for i in range(self.step % self.block, self.step % self.block + self.block):
            free -= self.residues[i]
            if free < 0:
                break
            k += 1
        return k

    def _held(self, request: int) -> float:
        """Blocks of its own that a running request holds."""
        prompt, left, shared = self.running[request]
        joined = self.joined.get(request)
        if not self.grows:
            return self._blocks(prompt + left) - shared
        if joined is None:
            return self._blocks(prompt) - shared
        return self._blocks(self._context(request)) - shared

    def _context(self, request: int) -> float:
        """Tokens of a decoding request in the cache."""
        if self.limits.get(request) == -1:
            return self.rules.kept_tokens
        return self.joined[request][0] + self.growth * self.step

    def _forget(self, request: int) -> tuple[float, int]:
        """A running request gives back what it holds: its context and the tokens it has emitted since admission."""
        self.free += self._held(request)
        context, emitted = 0.0, 0
        if self.prefilling.pop(request, None) is not None:
            self.promised -= self.running[request][1]
        else:
            context = self._context(request)
            _, key = self.joined[request]
            left = self.running[request][1] - 1
            emitted = 1 + max(int(left - (key - self.step) * self.growth + EPSILON), 0)
            self._leave_batch(request)
            self._drop_stale()
        if self.prefix:
            self.free += self.prefix.release(request)
        if self.adapters is not None:
            self.adapters.leave(request)
        del self.running[request]
        return context, emitted

    def _drop_stale(self) -> None:
        """Keys of requests that left early go from the top of both heaps."""
        heap, joined = self.finishing, self.joined
        while heap and (heap[0] & MASK not in joined or joined[heap[0] & MASK][1] != heap[0] >> SHIFT):
            heappop(heap)
        while self.limiting and self.limits.get(self.limiting[0] & MASK) != self.limiting[0] >> SHIFT:
            heappop(self.limiting)

    def _kept(self) -> float:
        """Tokens of the remaining outputs for which admission keeps room."""
        return PART * (self.growth * (self.outstanding - self.n * self.step) + self.promised)

    def _join(self, request: int, context: float, left: int) -> None:
        """A sequence with that context and `left` tokens to emit after its last one decodes from the next iteration."""
        growth, step = self.growth, self.step
        steps = left if growth == 1 else math.ceil(left / growth - EPSILON)
        base, key = context - growth * step, step + steps
        self.joined[request] = (base, key)
        heappush(self.finishing, key << SHIFT | request)
        self.n += 1
        self.outstanding += key
        if self._accounts is not None:
            self._accounts.decoding(request, 1, growth * step)
        if self.adapters is not None:
            self.adapters.decode(request, 1)
        kept = self.rules.kept_tokens
        if kept < NEVER:
            if context >= kept:
                self.limits[request] = -1
                self.fixed += kept
                return
            crossing = step + math.ceil((kept - context) / growth - EPSILON)
            self.limits[request] = crossing
            heappush(self.limiting, crossing << SHIFT | request)
        self._grow(request, base, 1)

    def _grow(self, request: int, base: float, sign: int) -> None:
        """A sequence starts (1) or stops (-1) to take cache with every token."""
        self.growing += sign
        self.offset += sign * base
        i = int(-base) % self.block if self.block > 1 else 0
        self.residues[i] += sign
        self.residues[i + self.block] += sign

    def _leave_batch(self, request: int) -> None:
        base, key = self.joined.pop(request)
        self.n -= 1
        self.outstanding -= key
        if self._accounts is not None:
            self._accounts.decoding(request, -1, self.growth * self.step)
        if self.adapters is not None:
            self.adapters.decode(request, -1)
        if self.limits and self.limits.pop(request, 0) == -1:
            self.fixed -= self.rules.kept_tokens
        else:
            self._grow(request, base, -1)

    def _reach_limits(self, bound: int) -> None:
        """Sequences that hold all the tokens they may keep stop growing."""
        while self.limiting and self.limiting[0] < bound:
            key = heappop(self.limiting)
            request = key & MASK
            if self.limits.get(request) == key >> SHIFT:
                self._grow(request, self.joined[request][0], -1)
                self.limits[request] = -1
                self.fixed += self.rules.kept_tokens
