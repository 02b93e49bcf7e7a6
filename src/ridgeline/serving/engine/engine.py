"""Continuous batching, iteration by iteration, with runs of equal iterations taken in one step.

Between two changes of a batch every decoding sequence gains one token per iteration and the time of an iteration is
affine in the iterations done, so that `k` iterations take `k u + v k (k - 1) / 2` seconds. The engine jumps to the end
of such a run: the next completion, end of a prompt, bend of the step time, shortage of cache, or the arrival of a
request that could be admitted. A run may be cut at any boundary without changing the result.

At a boundary, in this order: requests that have arrived are in the queue; while the cache cannot hold the next
iteration, a running request is preempted; the token budget is given to prompts under way, oldest first; unless
something was preempted, requests are admitted from the head of the queue while slots, budget, cache and adapters allow;
the first that is refused stops it (static batching admits only when nothing runs). Then the iteration runs; at its end
sequences finish, complete prompts emit their first token.

What a batch holds is counted in `batch.py`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from heapq import heappop

from ridgeline.serving.engine.adapters import Adapters
from ridgeline.serving.engine.batch import EPSILON, MASK, NEVER, PART, SHIFT, Batch
from ridgeline.serving.engine.prefix import PrefixCache
from ridgeline.serving.engine.queues import Fcfs, Queue, accounts_of
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.engine.step_table import StepTimes, steps_until

Handed = tuple[tuple[int, int] | None, tuple[float, float] | None]
"""State of a request between engines: (tokens to compute anew, tokens to emit) if it has begun, and (context, seconds
to load it) if its context is kept."""


class Engine(Batch):
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
        adapters: Adapters | None = None,
        keep_runs: bool = False,
        longest_run: int = 1 << 60,
    ) -> None:
        """`longest_run` cuts runs of iterations: 1 advances one by one, with the same result."""
        self.queue: Queue = Fcfs() if queue is None else queue
        super().__init__(rules, prefix, accounts_of(self.queue), longest_run, adapters)
        self.times, self.requests, self.log = times, requests, log
        # What a queue may have beside its order (see queues.py); None: it is never asked.
        self._next_time = getattr(self.queue, "next_time", None)
        self._victims = getattr(self.queue, "victims", None)
        self._departed = getattr(self.queue, "departed", None)
        self._asked_below = rules.slots if self._victims is None else NEVER  # of running requests
        self.runs = array("d") if keep_runs else None
        self.separate, self.static = rules.prompts == "prefill-first", rules.batching == "static"
        self._always_fits = min(
            math.floor(self.capacity) * self.block, rules.longest_tokens
        )  # tokens that fit under any rule
        self.used = 0.0  # at the start of the run under way
        self.watermark = math.floor(rules.watermark_frac * self.capacity)
        self.t = self.start = self.u = self.v = self.copying = self.front = self.area = self.busy = 0.0
        self.end = NEVER
        self.k = self.iteration = self.events = self.preempted = self.waited = 0
        self.moving = 0  # decoding sequences that the run under way advances
        self.context: float = 0  # their total context in its first iteration
        self.room = self.held = False
        self.redo: dict[int, tuple[int, int]] = {}  # queued again: (prompt, output) still to do
        self.ready: dict[int, tuple[float, float]] = {}  # queued with a computed context: (context, seconds to load)
        self.parked: dict[int, float] = {}  # prefilled here, decoding elsewhere: blocks held until they have moved
        self.eligible: dict[int, int] = {}  # request -> iteration from which a lagging scheduler sees it
        self.chunks: list[tuple[int, float]] = []

    # From the driver -----------------------------------------------------------------------------------------------

    def fits(self, request: int) -> bool:
        """Whether the cache could ever hold the request; a driver rejects it otherwise."""
        prompt, output = self.requests.prompts[request], self.requests.outputs[request]
        if prompt + output <= self._always_fits:
            return True
        rules, tokens = self.rules, float(prompt)
        if not rules.prefill_only:
            tokens = max(prompt, min(prompt + output - 1, rules.kept_tokens)) if self.grows else prompt + output
        return tokens <= rules.longest_tokens and self._blocks(tokens) <= self.capacity

    def push(self, request: int, time: float) -> None:
        """A request arrives; it ends the run under way early if it could be admitted."""
        queue = self.queue
        if self._accounts is not None:
            # As at the last boundary before it.
            past = min(steps_until(time - self.start, self.u, self.v), self.k) - 1 if self.k and self.moving else 0
            self._accounts.settle(self.growth * (self.step + past))
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
            if self.held and self._is_next(request):
                self.cut(time)  # until it is seen, it stands before those that are held back
            elif boundary < self.k and (self.held or (self.room and self._is_next(request))):
                self._cut_at(boundary)
        elif self.k > 1 and (self.held or (self.room and self._is_next(request))):
            self.cut(time)

    def queued_tokens(self) -> float:
        """Tokens that requests in the queue have still to compute, before what is found in a cache."""
        prompts, redo, ready = self.requests.prompts, self.redo, self.ready
        return sum(redo[r][0] if r in redo else prompts[r] for r in self.queue if r not in ready)

    def _is_next(self, request: int) -> bool:
        """Whether a request that has just arrived may be served next; an order that moves is asked at the boundary."""
        return self._accounts is not None or self.queue.peek() == request

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
        self._gone(request)
        if not emitted:
            return self.redo.pop(request, None), None
        self.redo.pop(request, None)
        return (prompt + emitted, left - emitted), (context, 0.0)

    def hand_back(self, request: int) -> Handed:
        """What a request that was taken out of the queue leaves with, for `accept` of another engine."""
        self.eligible.pop(request, None)
        self._gone(request)
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
        for request in lost:
            if self._accounts is not None and request in self.joined:
                self._accounts.decoding(request, -1, self.growth * self.step)
            self._gone(request)
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
        if self.adapters is not None:
            self.adapters.clear()
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
                if self.prefix:
                    self._take(self._needs(k))
                else:
                    self.free -= self._needs(k)
            self.step += k
        emitted: list[int] = []
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
        running, prefilling, rules, queue = self.running, self.prefilling, self.rules, self.queue
        self.start = self.t
        until = NEVER if self._next_time is None else self._next_time(self.t)
        if self._accounts is not None:
            self._accounts.settle(self.growth * self.step)
        self.chunks = chunks = []
        self.room = self.held = False
        need = self._needs(1) if self.grows and self.n else 0
        short = need > self.free
        if short:
            need = self._make_room()
        left = rules.token_budget - (0 if self.separate else self.n * self.times.width)
        if prefilling:
            longest = rules.longest_chunk
            for request, remaining in prefilling.items():
                tokens = min(remaining, left, longest)
                if tokens <= 0:
                    break
                chunks.append((request, tokens))
                left -= tokens
        horizon = self.longest_run
        if short:
            horizon = 1
        elif self.static:
            if queue and not running:
                horizon, left = self._admit(left, need, horizon)
        elif left > 0 and len(running) < self._asked_below:
            if queue:
                horizon, left = self._admit(left, need, horizon)
                self.room = left > 0 and len(running) < self._asked_below
            else:
                self.room = True
            if self._accounts is not None and self.room and queue:
                horizon = min(horizon, max(1, int(min(self._accounts.holds() / self.growth, horizon))))
        if not running:
            self.end, self.k = NEVER, 0
            return
        n = self.moving = 0 if self.separate and chunks else self.n
        rise = self.growing * self.growth
        self.context = context = self.offset + self.fixed + rise * (self.step + 1) if n else 0
        pieces = self.times.pieces(n)
        bend, u, v = pieces[0]
        if context > bend:
            bend, u, v = next(piece for piece in pieces if context <= piece[0])
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
        if self.adapters is not None:
            u += self.adapters.iteration_s([request for request, _ in chunks], n)
            self.copying += self.adapters.load()
        if self.copying:
            u, k, self.copying = u + self.copying, 1, 0.0
        if until < NEVER and k > 1:
            k = min(k, steps_until(until - self.t, u, v))
        self.used = self.capacity - self.free
        self.u, self.v, self.k = u, v, k
        self.end = self.t + (k * u + v * (k * (k - 1) // 2))

    # Admission -----------------------------------------------------------------------------------------------------

    def _admit(self, left: float, need: float, horizon: int) -> tuple[int, float]:
        """Let requests in from the head of the queue, into `chunks`.

        Args:    left: tokens of the budget that are left. need: blocks that decoding takes in this iteration.
        Returns: iterations after which a further one might enter by itself, and tokens left.
        """
        rules, queue, running, hits = self.rules, self.queue, self.running, self.requests.hits
        if not running:
            self.eligible.clear()
        holding = bool(rules.wait_steps and self.n and self.waited < rules.wait_steps and not self.prefilling)
        part = rules.cache == "reserve-part"
        kept = self._kept() if part else 0.0
        before, entered, tokens = left, [], 0.0
        settled: set[int] = set()  # who has come or given way at this boundary stays where it is
        while queue and (left > 0 or self.static) and len(running) < self._asked_below:
            request = queue.peek()
            wait = self.eligible.get(request, 0) - self.iteration if self.eligible else 0
            if wait > 0:
                horizon = min(horizon, wait)
                break
            if self.adapters is not None and not self.adapters.admits(request):
                break  # until a request leaves
            loaded = request in self.ready
            if loaded:
                private, now = self._ready_needs(request)
                missing = private + now - (self.free - need)
            else:
                prompt, output = self._sizes(request)
                if self.prefix:
                    hit = self.prefix.look_up(request, prompt)
                else:  # what the load says is in the cache is lost with a preemption
                    hit = 0 if hits is None or request in self.redo else hits[request]
                compute = prompt - hit
                if compute > left and running and not self._may_be_cut():
                    break
                blocks = self._blocks(prompt + output) if not self.grows else self._blocks(prompt)
                free = self.free - need - (self.prefix.pinning if self.prefix else 0)
                private = missing = blocks - (self.prefix.shared if self.prefix else 0)
                if running:
                    missing += (kept + PART * output) / self.block + self.watermark if part else self.watermark
                missing -= free
            if missing > 0 or len(running) >= rules.slots or request in settled:
                gone = self._give_way(request, missing, settled)
                if not gone:
                    if part and (self.block > 1 or self._victims is not None):
                        horizon = 1  # the promise falls with every token, what is free only with every block
                    break
                horizon, holding, need = 1, False, self._needs(1) if self.grows else 0
                left += 0 if self.separate else gone * self.times.width
                kept = self._kept() if part else 0.0
                continue
            if loaded:
                self._join_ready(request, private)
                need += now
                left -= 0 if self.separate else self.times.width
                settled.add(request)
                continue
            queue.pop()
            self._enter(request, prompt, output, private, compute)
            chunk = min(compute, left, rules.longest_chunk)
            if chunk > 0:
                self.chunks.append((request, chunk))
            entered.append(request)
            left -= chunk
            tokens += compute
            kept += PART * output
        if holding and entered and tokens + self.n * self.times.width < rules.wait_frac * rules.token_budget:
            for request in reversed(entered):
                self._withdraw(request)
            self.held = True
            # In a cache that fills, or an order that moves, who could enter may change with every iteration.
            fixed = not self.grows and not self.prefix and self._accounts is None
            return min(horizon, rules.wait_steps - self.waited) if fixed else 1, before
        if entered:
            self.waited = 0
        return horizon, left

    def _may_be_cut(self) -> bool:
        """Whether a prompt longer than the budget left may start now."""
        prompts = self.rules.prompts
        return prompts == "chunked" or (prompts == "prefill-first" and (self.static or not self.prefilling))

    def _sizes(self, request: int) -> tuple[int, int]:
        """Tokens to compute before the next one is emitted, and tokens to emit."""
        if self.redo and request in self.redo:
            return self.redo[request]
        output = 1 if self.rules.prefill_only else self.requests.outputs[request]
        return self.requests.prompts[request], output

    def _enter(self, request: int, prompt: int, output: int, private: float, compute: float) -> None:
        shared = 0
        if self.prefix:
            shared, loading, pinned = self.prefix.pin(request)
            self.copying += loading
            self._take(pinned)
        if compute < prompt and request not in self.redo:
            self.log.found[request] = int(prompt - compute)
        self._take(private)
        if self.adapters is not None:
            self.adapters.enter(request)
        self.running[request] = (prompt, output, shared)
        self.prefilling[request] = compute
        self.promised += output
        if self._accounts is not None and request not in self.log.preempted:
            self._accounts.served(request, compute, 0)
        if self.log.admitted[request] != self.log.admitted[request]:
            self.log.admitted[request] = self.t

    def _withdraw(self, request: int) -> None:
        """Undo an admission of this boundary."""
        if self.log.admitted[request] == self.t:
            self.log.admitted[request] = math.nan
        if request not in self.redo:
            self.log.found.pop(request, None)
        if self._accounts is not None and request not in self.log.preempted:
            self._accounts.served(request, -self.prefilling[request], 0)
        self._forget(request)
        self.chunks.pop()
        self.queue.push_front(request)

    def _ready_needs(self, request: int) -> tuple[float, float]:
        """Blocks that a request with a computed context needs to join, and those of its next iteration."""
        context, _ = self.ready[request]
        kept = min(context, self.rules.kept_tokens)
        if not self.grows:
            return self._blocks(kept + self.redo[request][1] + 1), 0.0
        now = 0.0
        if kept == context and kept < self.rules.kept_tokens:
            now = self.growth if self.block == 1 else float(context % self.block == 0)
        return self._blocks(kept), now

    def _join_ready(self, request: int, blocks: float) -> None:
        """A request with a computed context joins the batch."""
        self.queue.pop()
        context, loading = self.ready.pop(request)
        _, left = self.redo.pop(request)
        self._take(blocks)
        if self.adapters is not None:
            self.adapters.enter(request)
        self.copying += loading
        # As if it had just been prefilled here and emitted its first token.
        self.running[request] = (int(context + EPSILON), left + 1, 0)
        if self.log.admitted[request] != self.log.admitted[request]:
            self.log.admitted[request] = self.t
        self._join(request, context, left)

    def _give_way(self, head: int, missing: float, settled: set[int]) -> int:
        """Preempt what the queue offers for its head, if that frees a slot and the blocks that it lacks: how many.

        Only sequences that decode give way, so that every turn of a request brings it a token at least.
        """
        if self._victims is None or head in settled:
            return 0
        chosen, freed = [], 0.0
        for request in self._victims(self.running.keys(), self.t):
            if request in self.joined and request not in settled:
                chosen.append(request)
                freed += self._held(request) + self._next_need(request)
                if freed >= missing:
                    break
        if not chosen or freed < missing:
            return 0
        settled.update(chosen)
        for request in chosen:
            self._preempt(request)
        return len(chosen)

    # Cache ---------------------------------------------------------------------------------------------------------

    def _make_room(self) -> float:
        """Preempt until the next iteration's blocks are there; returns how many it needs."""
        need = self._needs(1)
        while need > self.free:
            self._preempt(next(reversed(self.running)))
            need = self._needs(1)
        return need

    def _preempt(self, request: int) -> None:
        """A running request goes back to the queue; its context is lost or moves to the host."""
        prompt, left, _ = self.running[request]
        swaps = request in self.joined and self.rules.preemption == "swap"
        context, emitted = self._forget(request)
        if emitted:
            self.redo[request] = (prompt + emitted, left - emitted)
        if swaps:
            loading = self._blocks(context) * self.rules.copy_s
            self.ready[request] = (context, loading)
            self.copying += loading
        self.queue.push_front(request)
        self.log.preempted[request] = self.log.preempted.get(request, 0) + 1
        self.preempted += 1

    # The batch -----------------------------------------------------------------------------------------------------

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
        if self._accounts is not None:
            self._accounts.served(request, 0, 1)
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
        if self.adapters is not None:
            self.adapters.leave(request)
        del self.running[request]
        if self.redo:
            self.redo.pop(request, None)
        if self.eligible:
            self.eligible.pop(request, None)
        if self._departed is not None:
            self._departed(request)
        self.log.last[request] = seen
        done.append(request)

    def _gone(self, request: int) -> None:
        """It leaves for good, as far as the queue is concerned."""
        if self._departed is not None:
            self._departed(request)

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
