"""Continuous batching, iteration by iteration, with runs of equal iterations taken in one step.

Between two changes of a batch every decoding sequence gains one token per iteration and the time of an iteration is
affine in the total context, so that `k` iterations take `k u + v k (k - 1) / 2` seconds. The engine jumps to the end of
such a run: the next completion, admission, arrival or shortage of cache. A run may be cut at any boundary without
changing the result.

At a boundary, in this order: requests that have arrived join the queue; while the cache cannot hold the next iteration,
the youngest running request is preempted to the front of the queue (its tokens are computed again); the token budget is
given to prompts under way, oldest first; unless something was preempted, requests are admitted from the head of the
queue while slots, budget and cache allow. Then the iteration runs; at its end sequences finish, complete prompts emit
their first token. The cache is counted in tokens; a prefix that is found in it saves computation, not room.
"""

from __future__ import annotations

import math
from collections import deque
from heapq import heappop, heappush

from ridgeline.core.errors import DomainError
from ridgeline.serving.rules import Record, Requests, Rules
from ridgeline.serving.step_table import StepTimes

PART = 0.7
"""Share of the remaining output that SGLang keeps free at admission (sgl-project/sglang, schedule_policy.py)."""

UNLIMITED = float(1 << 50)
"""Tokens of a cache without bound: far above any load, and sums of tokens stay exact."""


class Engine:
    """One lane and the requests it serves; `run` once."""

    def __init__(self, times: StepTimes, rules: Rules, requests: Requests, longest_run: int = 1 << 60) -> None:
        """`longest_run` cuts runs of iterations: 1 advances one by one, with the same result."""
        self.times, self.rules, self.requests, self.longest_run = times, rules, requests, longest_run
        count = len(requests.prompts)
        longest = max((p + o for p, o in zip(requests.prompts, requests.outputs, strict=True)), default=0)
        if longest > rules.cache_tokens:
            raise DomainError("a request is longer than the cache", at="cache_tokens", got=rules.cache_tokens)
        self.sent, self.first, self.last = ([math.nan] * count for _ in range(3))
        self.t = self.front = self.area = 0.0
        self.iteration = self.step = self.n = self.events = self.preempted = self.waited = self.next_id = 0
        self.offset = 0.0  # total context of decoding sequences = offset + n * growth * step
        self.free = min(float(rules.cache_tokens), UNLIMITED)
        self.outstanding = 0.0  # iterations left, summed over decoding sequences = outstanding - n * step
        self.arrivals: list[tuple[float, int]] = []
        self.queue: deque[int] = deque()
        self.eligible: dict[int, int] = {}
        self.running: dict[int, int] = {}  # id -> admission number, youngest last
        self.prefilling: dict[int, float] = {}  # id -> prompt tokens still to compute
        self.finish: list[tuple[int, int, int]] = []  # (step, admission number, id)
        self.joined: dict[int, tuple[float, int]] = {}  # id -> (context - growth * step when it joined, finish step)
        self.admissions = 0
        self.prompt = [float(p) for p in requests.prompts]  # to compute at admission: grows when preempted
        self.left = list(requests.outputs)
        self.hit = [float(h) for h in requests.hits]

    def run(self) -> Record:
        """Serve every request."""
        r = self.requests
        if r.arrivals is None:
            for _ in range(min(r.clients, len(r.prompts))):
                self._send(0.0)
        else:
            for time in r.arrivals:
                self._send(time)
        while self._boundary():
            pass
        return Record(
            sent_s=self.sent,
            first_s=self.first,
            last_s=self.last,
            iterations=self.iteration,
            events=self.events,
            preempted=self.preempted,
            decode_area=self.area,
            end_s=self.t,
        )

    def _send(self, time: float) -> None:
        if self.next_id < len(self.prompt):
            self.sent[self.next_id] = time
            heappush(self.arrivals, (time, self.next_id))
            self.next_id += 1

    def _boundary(self) -> bool:
        """One event: plan at this boundary and run to the next. False when nothing is left to do."""
        if not self.running and not self.queue:
            if not self.arrivals:
                return False
            self.t = max(self.t, self.arrivals[0][0])
        idle = not self.running
        while self.arrivals and self.arrivals[0][0] <= self.t:
            request = heappop(self.arrivals)[1]
            self.queue.append(request)
            # A lag of 1.5 is 1 for every other request.
            lag = int(self.rules.lag + 0.5 * (request % 2))
            self.eligible[request] = self.iteration + (0 if idle else lag)
        if idle and self.queue:
            self.eligible[self.queue[0]] = min(self.eligible[self.queue[0]], self.iteration)
        short = self._make_room()
        admitted, horizon = ([], 1) if short else self._admissible()
        if admitted and self._held_back(admitted):
            horizon = min(horizon, self.rules.wait_steps - self.waited)
            admitted = []
            waiting = True
        else:
            waiting = False
        chunks = self._plan(admitted)
        self.events += 1
        if chunks:
            self._mixed_step(chunks)
        else:
            k = self._decode_run(horizon)
            if waiting:
                self.waited += k
        return True

    # Cache and queue ---------------------------------------------------------------------------------------------

    def _make_room(self) -> bool:
        """Preempt the youngest until the next iteration's tokens fit. True if any was."""
        if self.rules.cache == "reserve":
            return False
        short = False
        while self.n * self.rules.growth > self.free:
            self._preempt(next(reversed(self.running)))
            short = True
        return short

    def _preempt(self, request: int) -> None:
        del self.running[request]
        if self.prefilling.pop(request, None) is not None:
            self.free += self.prompt[request]
        else:
            base, key = self.joined.pop(request)
            context = base + self.rules.growth * self.step
            done = self.left[request] - 1 - (key - self.step) * self.rules.growth
            emitted = 1 + max(int(done + 1e-9), 0)
            self.n -= 1
            self.offset -= base
            self.outstanding -= key
            self.free += context
            self.prompt[request] = math.floor(context + 1e-9) + 1.0
            self.left[request] -= emitted
            self.hit[request] = 0.0
        self.queue.appendleft(request)
        self.eligible[request] = self.iteration
        self.preempted += 1

    def _admissible(self) -> tuple[list[int], int]:
        """Requests that slots, budget and cache let in now, and iterations after which a further one might be."""
        rules, queue = self.rules, self.queue
        if not queue:
            return [], self.longest_run
        separate = rules.prompts == "prefill-first"
        budget = rules.token_budget - (0.0 if separate else self.n * self.times.width) - sum(self.prefilling.values())
        slots = rules.slots - len(self.running)
        free, kept = self.free, PART * rules.growth * (self.outstanding - self.n * self.step)
        admitted: list[int] = []
        for request in queue:
            if slots <= 0 or budget <= 0:
                break
            if self.eligible[request] > self.iteration:
                return admitted, min(self.eligible[request] - self.iteration, self.longest_run)
            prompt, output = self.prompt[request], self.left[request]
            compute = prompt - self.hit[request]
            alone = not admitted and not self.running
            if (
                compute > budget
                and not alone
                and (rules.prompts == "whole" or (separate and (admitted or self.prefilling)))
            ):
                break
            need = prompt + (output if rules.cache == "reserve" else 0.0)
            promise = kept + PART * output if rules.cache == "reserve-part" else 0.0
            if need + promise > free and not (alone and need <= free):
                break
            admitted.append(request)
            budget -= compute
            slots -= 1
            free -= need
            if rules.cache == "reserve-part":
                kept += PART * output
        return admitted, self.longest_run

    def _held_back(self, admitted: list[int]) -> bool:
        """Whether the batch wait keeps these prompts out of this iteration."""
        rules = self.rules
        if not rules.wait_steps or not self.n or self.waited >= rules.wait_steps or self.prefilling:
            return False
        tokens = sum(self.prompt[r] - self.hit[r] for r in admitted) + self.n * self.times.width
        return tokens < rules.wait_frac * rules.token_budget

    def _plan(self, admitted: list[int]) -> list[tuple[int, float, float]]:
        """Chunks (request, tokens, prefix) of the next iteration; admits the requests."""
        rules = self.rules
        for request in admitted:
            self.queue.popleft()
            del self.eligible[request]
            self.running[request] = self.admissions = self.admissions + 1
            self.prefilling[request] = self.prompt[request] - self.hit[request]
            self.free -= self.prompt[request] + (self.left[request] if rules.cache == "reserve" else 0)
            self.waited = 0
        if not self.prefilling:
            return []
        left = rules.token_budget - (0.0 if rules.prompts == "prefill-first" else self.n * self.times.width)
        chunks = []
        for request, remaining in self.prefilling.items():
            tokens = min(remaining, left)
            if tokens <= 0:
                break
            chunks.append((request, tokens, self.prompt[request] - remaining))
            left -= tokens
        return chunks

    # Iterations --------------------------------------------------------------------------------------------------

    def _mixed_step(self, chunks: list[tuple[int, float, float]]) -> None:
        """One iteration with prompt chunks."""
        rules, times = self.rules, self.times
        decoding = 0 if rules.prompts == "prefill-first" else self.n
        growth = rules.growth
        context = self.offset + self.n * growth * self.step + decoding * growth if decoding else 0.0
        duration = times.mixed(decoding, context, [(tokens, prefix) for _, tokens, prefix in chunks])
        self.t += duration
        self.area += self.n * duration
        self.iteration += 1
        if decoding:
            self.step += 1
            if rules.cache != "reserve":
                self.free -= decoding * growth
        done = []
        for request, tokens, _ in chunks:
            self.prefilling[request] -= tokens
            if self.prefilling[request] <= 0:
                done.append(request)
        seen = self._through_front_end(decoding * growth + len(done), self.t, self.t)
        if decoding:
            self._complete(seen)
        for request in done:
            self._emit_first(request, seen)

    def _emit_first(self, request: int, seen: float) -> None:
        del self.prefilling[request]
        if math.isnan(self.first[request]):
            self.first[request] = seen
        steps = math.ceil((self.left[request] - 1) / self.rules.growth - 1e-9)
        if steps <= 0:
            self._leave(request, self.prompt[request], seen)
            return
        base, key = self.prompt[request] - self.rules.growth * self.step, self.step + steps
        self.joined[request] = (base, key)
        heappush(self.finish, (key, self.running[request], request))
        self.n += 1
        self.offset += base
        self.outstanding += key

    def _complete(self, seen: float) -> None:
        """Sequences whose last token this boundary brings leave, in the order of admission."""
        while self.finish and self.finish[0][0] <= self.step:
            key, admission, request = heappop(self.finish)
            if self.running.get(request) != admission:
                continue  # preempted since
            base, _ = self.joined.pop(request)
            self.n -= 1
            self.offset -= base
            self.outstanding -= key
            self._leave(request, base + self.rules.growth * self.step, seen)

    def _leave(self, request: int, context: float, seen: float) -> None:
        del self.running[request]
        self.free += self.prompt[request] + self.left[request] if self.rules.cache == "reserve" else context
        self.last[request] = seen
        if self.requests.arrivals is None:
            self._send(seen)

    def _decode_run(self, horizon: int) -> int:
        """As many iterations as change nothing but lengths, at once; returns how many."""
        rules, n = self.rules, self.n
        while self.finish[0][1] != self.running.get(self.finish[0][2]):
            heappop(self.finish)
        k = min(self.finish[0][0] - self.step, horizon, self.longest_run)
        if rules.cache != "reserve":
            k = min(k, int(self.free // (n * rules.growth)))
        base, slope = self.times.decode(n)
        first = base + slope * (self.offset + n * rules.growth * (self.step + 1))
        rise = slope * n * rules.growth
        if self.arrivals:
            k = min(k, steps_until(self.arrivals[0][0] - self.t, first, rise))
        k = max(k, 1)
        start = self.t
        duration = k * first + rise * (k * (k - 1) / 2.0)
        self.t = start + duration
        self.area += n * duration
        self.iteration += k
        self.step += k
        if rules.cache != "reserve":
            self.free -= k * n * rules.growth
        self._complete(self._through_front_end(n * rules.growth, start + first, self.t, k))
        return k

    def _through_front_end(self, tokens: float, start_s: float, end_s: float, k: int = 1) -> float:
        """When the client sees the last of `tokens` per iteration, the first iteration ending at `start_s`, the k-th at
        `end_s`: one server, whose backlog is largest after the first or after the last iteration (step times rise).
        """
        each = tokens * self.rules.front_end_s
        if each <= 0:
            return end_s
        self.front = max(self.front + k * each, start_s + k * each, end_s + each)
        return self.front


def steps_until(wait_s: float, first_s: float, rise_s: float) -> int:
    """Fewest iterations, the j-th lasting `first_s + j rise_s`, that take at least `wait_s`."""
    if wait_s <= first_s:
        return 1
    b = first_s - rise_s / 2.0
    k = math.ceil(2.0 * wait_s / (b + math.sqrt(b * b + 2.0 * rise_s * wait_s)))
    while k > 1 and (k - 1) * first_s + rise_s * ((k - 1) * (k - 2) / 2.0) >= wait_s:
        k -= 1
    while k * first_s + rise_s * (k * (k - 1) / 2.0) < wait_s:
        k += 1
    return k
