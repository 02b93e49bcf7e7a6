"""Continuous batching, iteration by iteration, with runs of equal iterations taken in one step.

Between two changes of a batch every decoding sequence gains one token per iteration and the time of an iteration is
affine in the iterations done, so that `k` iterations take `k u + v k (k - 1) / 2` seconds. The engine jumps to the end
of such a run: the next completion, end of a prompt, bend of the step time, shortage of cache, or the arrival of a
request that could be admitted. A run may be cut at any boundary without changing the result.

At a boundary, in this order: requests that have arrived are in the queue; while the cache cannot hold the next
iteration, a running request is preempted; the token budget is given to prompts under way, oldest first; unless
something was preempted, requests are admitted from the head of the queue while slots, budget and cache allow; the first
that is refused stops it. Then the iteration runs; at its end sequences finish, complete prompts emit their first token.

All decoding sequences advance together, so that one counter, `step`, replaces the state of each: a sequence that joins
with context `c` and `r` tokens to go keeps its `base` c - step and its finishing step. `residues[i]` counts those that
need a block in iterations with step = i modulo the block size.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

from ridgeline.core.errors import DomainError
from ridgeline.serving.prefix import PrefixCache
from ridgeline.serving.queues import Fcfs, Queue
from ridgeline.serving.rules import Log, Requests, Rules
from ridgeline.serving.step_table import StepTimes

PART = 0.7
"""Share of the remaining output that SGLang keeps free at admission (sgl-project/sglang, schedule_policy.py)."""

NEVER = math.inf
SHIFT = 32
"""A finish key is one whole number: step << SHIFT | request."""
MASK = (1 << SHIFT) - 1

EPSILON = 1e-9
"""Tokens: what rounding may add to a length under speculation, where lengths are not whole."""


Handed = tuple[tuple[int, int] | None, tuple[float, float] | None]
"""State of a request between engines: (tokens to compute anew, tokens to emit) if it has begun, and (context, seconds
to load it) if its context is kept."""


class Engine:
    """One lane and the requests it serves. A driver sends `push`, and at each `end` calls `finish`, then `plan`.

    Attributes:
        end: end of the run under way (inf: idle).
        running: request -> (prompt tokens, output tokens, shared blocks), oldest first.
        n, step, iteration: decoding sequences, decode iterations and all iterations done.
        free: cache blocks that are free or evictable.
        runs: a flat array of the runs taken, the numbers of `played.RUN_COLUMNS` each; None if they are not kept.
    """

    def __init__(
        self,
        times: StepTimes,
        rules: Rules,
        requests: Requests,
        log: Log,
        *,
        queue: Queue | None = None,
        prefix: PrefixCache | None = None,
        keep_runs: bool = False,
        longest_run: int = 1 << 60,
    ) -> None:
        """`longest_run` cuts runs of iterations: 1 advances one by one, with the same result."""
        self.times, self.rules, self.requests, self.log = times, rules, requests, log
        self.queue: Queue = Fcfs() if queue is None else queue
        self.prefix, self.longest_run = prefix, longest_run
        self.runs = array("d") if keep_runs else None
        self.block, self.growth = rules.block_tokens, rules.growth if rules.growth != 1 else 1
        self.separate, self.grows = rules.prompts == "prefill-first", rules.cache != "reserve"
        self.capacity = self.free = rules.blocks
        self.used = 0.0  # at the start of the run under way
        self.watermark = math.floor(rules.watermark_frac * self.capacity)
        self.t = self.start = self.u = self.v = self.copying = self.front = self.area = self.busy = 0.0
        self.end = NEVER
        self.k = self.n = self.iteration = self.step = self.events = self.preempted = self.waited = 0
        self.moving = 0  # decoding sequences that the run under way advances
        self.context: float = 0  # their total context in its first iteration
        self.offset: float = 0  # total context of growing sequences = offset + fixed + growing * growth * step
        self.growing = self.outstanding = 0  # iterations left, summed over decoding sequences = outstanding - n * step
        self.promised = 0  # tokens to emit of sequences that still prefill
        self.fixed: float = 0  # total context of sequences at their limit of kept tokens
        self.residues = [0] * (2 * self.block)
        self.room = self.held = False
        self.running: dict[int, tuple[int, int, int]] = {}
        self.prefilling: dict[int, float] = {}  # request -> prompt tokens still to compute
        self.joined: dict[int, tuple[float, int]] = {}  # decoding request -> (base, finishing step)
        self.limits: dict[int, int] = {}  # decoding request -> step at which it reaches its kept tokens; -1 after
        self.redo: dict[int, tuple[int, int]] = {}  # queued again: (prompt, output) still to do
        self.ready: dict[int, tuple[float, float]] = {}  # queued with a computed context: (context, seconds to load)
        self.parked: dict[int, float] = {}  # prefilled here, decoding elsewhere: blocks held until they have moved
        self.eligible: dict[int, int] = {}  # request -> iteration from which a lagging scheduler sees it
        self.chunks: list[tuple[int, float]] = []
        self.finishing: list[int] = []
        self.limiting: list[int] = []

    # From the driver -----------------------------------------------------------------------------------------------

    def fits(self, request: int) -> bool:
        """Whether the cache could ever hold the request; a driver rejects it otherwise."""
        prompt, output = self.requests.prompts[request], self.requests.outputs[request]
        if self.rules.prefill_only:
            return self._blocks(prompt) <= self.capacity
        if not self.grows:
            return self._blocks(prompt + output) <= self.capacity
        return self._blocks(max(prompt, min(prompt + output - 1, self.rules.kept_tokens))) <= self.capacity

    def push(self, request: int, time: float) -> None:
        """A request arrives; it ends the run under way early if it could be admitted."""
        queue = self.queue
        queue.push(request, time)
        if self.end == NEVER:
            self.start = self.end = self.t = max(time, self.t)
            self.k = 0
            return
        if self.rules.lag and self.running:
            # A lag of 1.5 is 1 for every other request.
            boundary = int(self.rules.lag + 0.5 * (request % 2))
            if self.k:
                boundary += min(steps_until(time - self.start, self.u, self.v), self.k)
            self.eligible[request] = self.iteration + boundary
            if boundary < self.k and (self.held or (self.room and queue.peek() == request)):
                self._cut_at(boundary)
        elif (self.room and self.k > 1 and queue.peek() == request) or (self.held and self.k > 1):
            self.cut(time)

    def cut(self, time: float) -> None:
        """End the run under way at its first boundary at or after `time`."""
        if self.k > 1:
            boundary = steps_until(time - self.start, self.u, self.v)
            if boundary < self.k:
                self._cut_at(boundary)

    def _cut_at(self, boundary: int) -> None:
        self.k = k = max(boundary, 1)
        self.end = self.start + (k * self.u + self.v * (k * (k - 1) // 2))

    def take_out(self, request: int) -> Handed:
        """A running request leaves at a boundary, with its context if it decodes."""
        prompt, left, _ = self.running[request]
        context, emitted = self._forget(request)
        if not emitted:
            return self.redo.pop(request, None), None
        self.redo.pop(request, None)
        return (prompt + emitted, left - emitted), (context, 0.0)

    def hand_back(self, request: int) -> Handed:
        """What a request that was taken out of the queue leaves with, for `accept` of another engine."""
        self.eligible.pop(request, None)
        return self.redo.pop(request, None), self.ready.pop(request, None)

    def accept(self, request: int, time: float, handed: Handed) -> None:
        """A request arrives that another engine has begun: with tokens to do anew, or with a computed context."""
        redo, ready = handed
        if redo is not None:
            self.redo[request] = redo
        if ready is not None:
            self.ready[request] = ready
        self.push(request, time)

    def stop_at(self, time: float) -> None:
        """The iteration under way at `time` is lost; those before it count. `finish` is due at once."""
        k = self.k
        if k and self.end > time:
            k = steps_until(time - self.start, self.u, self.v)
            k -= self.start + (k * self.u + self.v * (k * (k - 1) // 2)) > time
        if k:
            self._cut_at(k)
        else:
            self.k, self.end = 0, self.start

    def clear(self) -> list[int]:
        """All is lost: the requests that it had, those in the batch first."""
        lost = [*self.running]
        while self.queue:
            lost.append(self.queue.pop())
        for state in (self.running, self.prefilling, self.joined, self.limits, self.redo, self.ready, self.parked):
            state.clear()
        self.eligible.clear()
        self.finishing.clear()
        self.limiting.clear()
        self.n = self.growing = self.outstanding = self.promised = self.moving = self.k = 0
        self.offset = self.fixed = self.copying = 0.0
        self.residues = [0] * (2 * self.block)
        self.free, self.end, self.chunks = self.capacity, NEVER, []
        self.room = self.held = False
        if self.prefix:
            self.prefix.clear()
        return lost

    def unpark(self, request: int, time: float) -> None:
        """The cache of a prefilled request has moved on: its blocks are free."""
        self.free += self.parked.pop(request)
        if self.end == NEVER and self.queue:
            self.start = self.end = self.t = max(time, self.t)
        elif self.queue:
            self.cut(time)

    def finish(self) -> Sequence[int]:
        """The run under way ends: requests that are complete, in order."""
        k, self.t = self.k, self.end
        if not k:
            return ()
        self.k = 0
        n, chunks, t = self.moving, self.chunks, self.end
        self.iteration += k
        self.events += 1
        if self.held:
            self.waited += k
        self.area += self.n * (t - self.start)
        self.busy += t - self.start
        if self.runs is not None:
            tokens = sum([tokens for _, tokens in chunks]) if chunks else 0
            self.runs.extend((self.start, self.u, self.v, k, n, self.context, tokens, len(chunks), self.used))
        if n:
            if self.grows:
                self._take(self._needs(k))
            self.step += k
        emitted = []
        if chunks:
            prefilling = self.prefilling
            for request, tokens in chunks:
                remaining = prefilling[request] - tokens * k
                if remaining > 0:
                    prefilling[request] = remaining
                else:
                    emitted.append(request)
        seen = self._through_front_end(k, n, len(emitted)) if self.rules.front_end_s else t
        done: list[int] = []
        if n:
            bound = (self.step + 1) << SHIFT
            if self.finishing[0] < bound:
                self._complete(bound, seen, done)
            if self.limiting and self.limiting[0] < bound:
                self._reach_limits(bound)
        for request in emitted:
            self._emit_first(request, seen, done)
        return done

    def plan(self) -> None:
        """Form the next run at the boundary `t`."""
        running, prefilling, rules = self.running, self.prefilling, self.rules
        self.start = self.t
        self.chunks = chunks = []
        self.room = self.held = False
        need = self._needs(1) if self.grows and self.n else 0
        short = need > self.free
        if short:
            need = self._make_room()
        left = rules.token_budget - (0 if self.separate else self.n * self.times.width)
        for request, remaining in prefilling.items():
            tokens = min(remaining, left, rules.longest_chunk)
            if tokens <= 0:
                break
            chunks.append((request, tokens))
            left -= tokens
        horizon = self.longest_run
        if short:
            horizon = 1
        elif left > 0 and len(running) < rules.slots:
            if self.queue:
                horizon, left = self._admit(left, need, horizon)
            self.room = left > 0 and len(running) < rules.slots
        if not running:
            self.end, self.k = NEVER, 0
            return
        n = self.moving = 0 if self.separate and chunks else self.n
        rise = self.growing * self.growth
        self.context = context = self.offset + self.fixed + rise * (self.step + 1) if n else 0
        bend, u, v = self.times.pieces(n)[0]
        if context > bend:
            bend, u, v = next(piece for piece in self.times.pieces(n) if context <= piece[0])
        u += v * context
        v *= rise
        k = horizon
        if n:
            to_go = (self.finishing[0] >> SHIFT) - self.step
            if to_go < k:
                k = to_go
            if bend < NEVER and rise:
                k = min(k, int((bend - context) // rise) + 1)
            if k > 1 and self.grows and rise * (k // self.block + 1) > self.free:
                k = min(k, self._iterations_that_fit())
            if self.limiting:
                k = min(k, (self.limiting[0] >> SHIFT) - self.step)
        if chunks:
            sizes = [(tokens, running[r][0] - prefilling[r]) for r, tokens in chunks]
            added, rising = self.times.prompts(n, sizes)
            u, v = u + added, v + rising
            if k > 1:
                k = min(k, min([int(prefilling[r] // tokens) for r, tokens in chunks]))
        if self.copying:
            u, k, self.copying = u + self.copying, 1, 0.0
        self.used = self.capacity - self.free
        self.u, self.v, self.k = u, v, k
        self.end = self.t + (k * u + v * (k * (k - 1) // 2))

    # Admission -----------------------------------------------------------------------------------------------------

    def _admit(self, left: float, need: float, horizon: int) -> tuple[int, float]:
        """Let requests in from the head of the queue, into `chunks`.

        Args:    left: tokens of the budget that are left. need: blocks that decoding takes in this iteration.
        Returns: iterations after which a further one might enter by itself, and tokens left.
        """
        rules, queue, running = self.rules, self.queue, self.running
        if not running:
            self.eligible.clear()
        holding = bool(rules.wait_steps and self.n and self.waited < rules.wait_steps and not self.prefilling)
        part = rules.cache == "reserve-part"
        kept = PART * (self.growth * (self.outstanding - self.n * self.step) + self.promised) if part else 0.0
        before, entered, tokens = left, [], 0.0
        while queue and left > 0 and len(running) < rules.slots:
            request = queue.peek()
            wait = self.eligible.get(request, 0) - self.iteration if self.eligible else 0
            if wait > 0:
                horizon = min(horizon, wait)
                break
            if request in self.ready:
                joins = self._join_ready(request, self.free - need)
                if not joins:
                    break
                need += joins - 1
                left -= 0 if self.separate else self.times.width
                continue
            prompt, output = self._sizes(request)
            hit = self.prefix.look_up(request, prompt) if self.prefix else self._given_hit(request)
            compute = prompt - hit
            if compute > left and running and not self._may_be_cut():
                break
            blocks = self._blocks(prompt + output) if not self.grows else self._blocks(prompt)
            promise = (kept + PART * output) / self.block if part else 0.0
            free = self.free - need - (self.prefix.pinning if self.prefix else 0)
            private = blocks - (self.prefix.shared if self.prefix else 0)
            if private + promise + self.watermark > free and (running or private > free):
                if part and self.block > 1:
                    horizon = 1  # the promise falls with every token, what is free only with every block
                break
            queue.pop()
            self._enter(request, prompt, output, private, compute)
            chunk = min(compute, left, rules.longest_chunk)
            self.chunks.append((request, chunk))
            entered.append(request)
            left -= chunk
            tokens += compute
            kept += PART * output
        if holding and entered and tokens + self.n * self.times.width < rules.wait_frac * rules.token_budget:
            for request in reversed(entered):
                self._withdraw(request)
            self.held = True
            # In a cache that fills, who could enter may change with every iteration.
            fixed = not self.grows and not self.prefix
            return min(horizon, rules.wait_steps - self.waited) if fixed else 1, before
        if entered:
            self.waited = 0
        return horizon, left

    def _may_be_cut(self) -> bool:
        """Whether a prompt longer than the budget left may start now."""
        prompts = self.rules.prompts
        return prompts == "chunked" or (prompts == "prefill-first" and not self.prefilling)

    def _sizes(self, request: int) -> tuple[int, int]:
        """Tokens to compute before the next one is emitted, and tokens to emit."""
        if self.redo and request in self.redo:
            return self.redo[request]
        output = 1 if self.rules.prefill_only else self.requests.outputs[request]
        return self.requests.prompts[request], output

    def _given_hit(self, request: int) -> int:
        """Prompt tokens that the load says are in the cache; they are lost with a preemption."""
        hits = self.requests.hits
        return 0 if hits is None or request in self.redo else hits[request]

    def _enter(self, request: int, prompt: int, output: int, private: float, compute: float) -> None:
        shared = 0
        if self.prefix:
            shared, loading, pinned = self.prefix.pin(request)
            self.copying += loading
            self._take(pinned)
        if compute < prompt and request not in self.redo:
            self.log.found[request] = int(prompt - compute)
        self._take(private)
        self.running[request] = (prompt, output, shared)
        self.prefilling[request] = compute
        self.promised += output
        if self.log.admitted[request] != self.log.admitted[request]:
            self.log.admitted[request] = self.t

    def _withdraw(self, request: int) -> None:
        """Undo an admission of this boundary."""
        if self.log.admitted[request] == self.t:
            self.log.admitted[request] = math.nan
        if request not in self.redo:
            self.log.found.pop(request, None)
        self._forget(request)
        self.chunks.pop()
        self.queue.push_front(request)

    def _join_ready(self, request: int, free: float) -> float:
        """A request with a computed context joins the batch: 1 plus the blocks it needs now; 0 if there is no room."""
        context, loading = self.ready[request]
        kept = min(context, self.rules.kept_tokens)
        _, left = self.redo[request]
        blocks = self._blocks(kept + left + 1) if not self.grows else self._blocks(kept)
        now = 0.0
        if self.grows and kept == context:
            now = self.growth if self.block == 1 else float(context % self.block == 0)
        if blocks + now > free:
            return 0.0
        self.queue.pop()
        del self.ready[request], self.redo[request]
        self._take(blocks)
        self.copying += loading
        # As if it had just been prefilled here and emitted its first token.
        self.running[request] = (int(context + EPSILON), left + 1, 0)
        if self.log.admitted[request] != self.log.admitted[request]:
            self.log.admitted[request] = self.t
        self._join(request, context, left)
        return 1.0 + now

    # Cache ---------------------------------------------------------------------------------------------------------

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
        if self.block == 1:
            return k * self.growing * self.growth
        i = self.step % self.block
        return self.growing * (k // self.block) + sum(self.residues[i : i + k % self.block])

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

    def _make_room(self) -> float:
        """Preempt until the next iteration's blocks are there; returns how many it needs."""
        need = self._needs(1)
        while need > self.free:
            request = next(reversed(self.running))
            prompt, left, shared = self.running[request]
            decoding = request in self.joined
            blocks = self._held(request)
            context, emitted = self._forget(request)
            if decoding and self.rules.preemption == "swap":
                self.redo[request] = (prompt + emitted, left - emitted)
                loading = (blocks + shared) * self.rules.copy_s
                self.ready[request] = (context, loading)
                self.copying += loading
            elif emitted:
                self.redo[request] = (prompt + emitted, left - emitted)
            self.queue.push_front(request)
            self.log.preempted[request] = self.log.preempted.get(request, 0) + 1
            self.preempted += 1
            need = self._needs(1)
        return need

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
        del self.running[request]
        return context, emitted

    def _drop_stale(self) -> None:
        """Keys of requests that left early go from the top of both heaps."""
        heap, joined = self.finishing, self.joined
        while heap and (heap[0] & MASK not in joined or joined[heap[0] & MASK][1] != heap[0] >> SHIFT):
            heappop(heap)
        while self.limiting and self.limits.get(self.limiting[0] & MASK) != self.limiting[0] >> SHIFT:
            heappop(self.limiting)

    # The batch -----------------------------------------------------------------------------------------------------

    def _join(self, request: int, context: float, left: int) -> None:
        """A sequence with that context and `left` tokens to emit after its last one decodes from the next iteration."""
        growth, step = self.growth, self.step
        steps = left if growth == 1 else math.ceil(left / growth - EPSILON)
        base, key = context - growth * step, step + steps
        self.joined[request] = (base, key)
        heappush(self.finishing, key << SHIFT | request)
        self.n += 1
        self.outstanding += key
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

    def _complete(self, bound: int, seen: float, done: list[int]) -> None:
        """Sequences whose last token this boundary brings leave."""
        heap, joined = self.finishing, self.joined
        while heap and heap[0] < bound:
            key = heappop(heap)
            request = key & MASK
            if request in joined and joined[request][1] == key >> SHIFT:
                if self.prefix:
                    self._publish(request, int(self._context(request)))
                self.free += self._held(request)
                self._leave_batch(request)
                self._depart(request, seen, done)

    def _emit_first(self, request: int, seen: float, done: list[int]) -> None:
        """A prompt is complete: its first token is out, and it decodes or leaves."""
        del self.prefilling[request]
        prompt, left, _ = self.running[request]
        self.promised -= left
        if self.log.first[request] != self.log.first[request]:
            self.log.first[request] = seen
        if self.prefix:
            self._publish(request, prompt)
        if self.rules.prefill_only:
            self.parked[request] = self._held(request)
            self._depart(request, seen, done)
        elif left > 1:
            if self.rules.kept_tokens < prompt:
                self.free += self._blocks(prompt) - self._blocks(self.rules.kept_tokens)
            self._join(request, prompt, left - 1)
        else:
            self.free += self._held(request)
            self._depart(request, seen, done)

    def _publish(self, request: int, tokens: int) -> None:
        """Whole units of so many computed tokens can be found by others from now on."""
        prompt, left, shared = self.running[request]
        published = self.prefix.publish(request, tokens) if self.prefix else 0
        self.running[request] = (prompt, left, shared + published)

    def _depart(self, request: int, seen: float, done: list[int]) -> None:
        if self.prefix:
            self.free += self.prefix.release(request)
        del self.running[request]
        if self.redo:
            self.redo.pop(request, None)
        if self.eligible:
            self.eligible.pop(request, None)
        self.log.last[request] = seen
        done.append(request)

    def _through_front_end(self, k: int, n: int, emitted: int) -> float:
        """When the client sees the last token of the run that ends, of `k` iterations: one server for all tokens, whose
        backlog is largest after the first or after the last iteration, since step times rise.
        """
        each, last = n * self.growth * self.rules.front_end_s, emitted * self.rules.front_end_s
        if each + last <= 0:
            return self.end
        total = k * each + last
        self.front = max(self.front + total, self.start + self.u + total, self.end + each + last)
        return self.front


def serve(engine: Engine, requests: Requests) -> None:
    """One engine alone serves all requests: at their arrival times, or as a closed loop of clients.

    Raises DomainError: a request that the cache can never hold.
    """
    count = len(requests.prompts)
    for request in range(count):
        if not engine.fits(request):
            raise DomainError("a request is longer than the cache", at="cache_tokens", got=engine.rules.cache_tokens)
    sent = engine.log.sent
    if requests.arrivals is None:
        clients = min(requests.clients, count)
        sending: deque[tuple[float, int]] = deque((0.0, request) for request in range(clients))
    else:
        clients, sending = count, deque(zip(requests.arrivals, range(count), strict=True))
    while True:
        while sending and sending[0][0] <= engine.end:
            time, request = sending.popleft()
            sent[request] = time
            engine.push(request, time)
        if engine.end == NEVER:
            return
        for request in engine.finish():
            if clients < count:
                sending.append((engine.log.last[request], clients))
                clients += 1
        while sending and sending[0][0] <= engine.t:
            time, request = sending.popleft()
            sent[request] = time
            engine.push(request, time)
        engine.plan()


def steps_until(wait_s: float, first_s: float, rise_s: float) -> int:
    """Fewest iterations, the j-th lasting `first_s + j rise_s`, that take at least `wait_s`."""
    if wait_s <= first_s:
        return 1
    b = first_s - rise_s / 2.0
    k = math.ceil(2.0 * wait_s / (b + math.sqrt(b * b + 2.0 * rise_s * wait_s)))
    while k > 1 and (k - 1) * first_s + rise_s * ((k - 1) * (k - 2) // 2) >= wait_s:
        k -= 1
    while k * first_s + rise_s * (k * (k - 1) // 2) < wait_s:
        k += 1
    return k
