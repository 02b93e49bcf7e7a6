"""A slow, eager engine: one iteration at a time, every sequence a record, nothing counted ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ridgeline.serving.engine.batch import PART
from ridgeline.serving.engine.rules import Requests, Rules
from ridgeline.serving.engine.step_table import StepTimes


@dataclass
class Seq:
    """One request: `prompt` to compute (`done` of it, after `hit` found), `context` in the cache, `left` outputs."""

    id: int
    prompt: int
    left: int
    hit: int = 0
    sent: float = math.nan
    admitted: float = math.nan
    first: float = math.nan
    last: float = math.nan
    eligible: int = 0
    done: float = 0
    context: int = 0
    decoding: bool = False
    swapped: bool = False
    reserved: int = 0
    units: list[int] = field(default_factory=list)
    preempted: int = 0
    load_s: float = 0.0


@dataclass
class Store:
    """Cached units, least recently used first; those in `pins` are in use."""

    units: Callable[[int], Sequence[int]]
    tokens: int
    eviction: str = "lru"
    uses: dict[int, int] = field(default_factory=dict)
    born: list[int] = field(default_factory=list)
    idle: list[int] = field(default_factory=list)
    pins: dict[int, int] = field(default_factory=dict)


@dataclass
class Shelf:
    """Adapters, or models of which one is in a batch, on the device, longest idle first; request -> one in `of`.

    `host` > 0: so many are in host memory, least recently loaded first; another takes `fetch_s`.
    """

    of: Sequence[int]
    slots: int
    kept: int
    load_s: float
    each_s: float
    first_s: float
    whole: bool = False
    eviction: str = "lru"
    host: int = 0
    fetch_s: float = 0.0
    there: list[int] = field(default_factory=list)
    loads: int = 0
    switches: int = 0
    fetches: int = 0
    last: int = -1
    uses: dict[int, int] = field(default_factory=dict)
    born: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)

    def among(self, seqs: Sequence[Seq]) -> list[int]:
        """Distinct adapters of the sequences, in their order."""
        return list(dict.fromkeys(self.of[s.id] for s in seqs if self.of[s.id] >= 0))

    def admits(self, s: Seq, running: Sequence[Seq]) -> bool:
        return len(self.among([*running, s])) <= max(self.slots, len(self.among(running)))

    def left(self, s: Seq, running: Sequence[Seq]) -> None:
        """It is not in `running` any more."""
        adapter = self.of[s.id]
        if adapter in self.there and adapter not in self.among(running):
            self.there.remove(adapter)
            self.there.append(adapter)
            if adapter not in self.born:
                self.born.append(adapter)

    def entered(self, s: Seq, others: Sequence[Seq]) -> None:
        """It joins them."""
        adapter = self.of[s.id]
        if adapter not in self.among(others):
            self.uses[adapter] = self.uses.get(adapter, 0) + 1

    def load(self, running: Sequence[Seq]) -> float:
        used, seconds = self.among(running), 0.0
        if self.whole and used != [self.last]:
            self.last = used[0]
            self.switches += 1
        for adapter in used:
            if adapter not in self.there:
                self.there.append(adapter)
                self.loads += 1
                seconds += self.fetch() if self.host and adapter not in self.held else self.load_s
                if self.host:
                    self.held = [*(each for each in self.held if each != adapter), adapter][-self.host :]
        while len(self.there) > self.kept:
            idle = [adapter for adapter in self.there if adapter not in used]
            ranks = {
                "lru": [(i, each) for i, each in enumerate(idle)],
                "lfu": [(self.uses[each], i, each) for i, each in enumerate(idle)],
                "fifo": [(self.born.index(each), each) for each in idle],
            }
            gone = min(ranks[self.eviction])[-1]
            self.there.remove(gone)
            self.born.remove(gone)
            del self.uses[gone]
        return seconds

    def fetch(self) -> float:
        self.fetches += 1
        return self.fetch_s

    def iteration_s(self, seqs: Sequence[Seq]) -> float:
        distinct = len(self.among(seqs))
        return self.each_s * distinct + (self.first_s if distinct else 0.0)


class Reference:
    """Serves every request; `all` holds them with their times, `gaps` the (seconds, sequences) of each iteration."""

    def __init__(
        self,
        times: StepTimes,
        rules: Rules,
        requests: Requests,
        store: Store | None = None,
        line: object = None,
        shelf: Shelf | None = None,
    ) -> None:
        self.shelf = shelf
        self.times, self.rules, self.requests, self.store, self.line = times, rules, requests, store, line
        hits = requests.hits or [0] * len(requests.prompts)
        sizes = zip(requests.prompts, requests.outputs, hits, strict=True)
        self.all = [Seq(i, p, o, h) for i, (p, o, h) in enumerate(sizes)]
        self.todo, self.arriving, self.queue, self.running = list(self.all), [], [], []
        self.t = self.front = 0.0
        self.iteration = self.waited = 0
        self.gaps: list[tuple[float, int]] = []

    def blocks(self, tokens: float) -> int:
        return math.ceil(tokens / self.rules.block_tokens)

    def own(self, s: Seq) -> float:
        """Blocks of its own that a running sequence holds."""
        if self.rules.cache == "reserve":
            return s.reserved - len(s.units) * self.unit_blocks
        tokens = s.context if s.decoding else s.prompt
        return self.blocks(tokens) - len(s.units) * self.unit_blocks

    @property
    def unit_blocks(self) -> int:
        return self.store.tokens // self.rules.block_tokens if self.store else 0

    def free(self) -> float:
        pinned = len(self.store.pins) * self.unit_blocks if self.store else 0
        left = self.rules.blocks - sum(self.own(s) for s in self.running) - pinned
        assert left >= 0, "the cache overflowed"
        return left

    def evict(self) -> None:
        """What is cached and idle leaves as soon as its room is needed."""
        while self.store and len(self.store.idle) * self.unit_blocks > self.free():
            store = self.store
            ranks = {
                "lru": [(i, u) for i, u in enumerate(store.idle)],
                "lfu": [(store.uses[u], i, u) for i, u in enumerate(store.idle)],
                "fifo": [(store.born.index(u), u) for u in store.idle],
            }
            unit = min(ranks[store.eviction])[-1]
            store.idle.remove(unit)
            store.born.remove(unit)
            del store.uses[unit]

    def growing(self) -> list[Seq]:
        return [s for s in self.running if s.decoding and s.context < self.rules.kept_tokens]

    def next_need(self, s: Seq) -> int:
        if self.rules.cache == "reserve" or s.context >= self.rules.kept_tokens:
            return 0
        return self.blocks(s.context + 1) - self.blocks(s.context)

    def need(self) -> int:
        """Blocks that decoding takes in this iteration."""
        return sum(self.next_need(s) for s in self.running if s.decoding)

    def unpin(self, s: Seq) -> None:
        for unit in reversed(s.units):
            self.store.pins[unit] -= 1
            if not self.store.pins[unit]:
                del self.store.pins[unit]
                self.store.idle.append(unit)
                if unit not in self.store.born:
                    self.store.born.append(unit)
        s.units = []

    def publish(self, s: Seq, tokens: int) -> None:
        if self.store:
            for unit in self.store.units(s.id)[: tokens // self.store.tokens]:
                if unit not in self.store.pins and unit not in self.store.idle:
                    self.store.pins[unit] = self.store.uses[unit] = 1
                    s.units.append(unit)

    def send(self, time: float) -> None:
        if self.todo:
            s = self.todo.pop(0)
            s.sent = time
            self.arriving.append(s)

    def run(self) -> list[Seq]:
        r = self.requests
        for time in [0.0] * r.clients if r.arrivals is None else r.arrivals:
            self.send(time)
        while self.running or self.queue or self.arriving:
            self.woken = False
            if not self.running and not self.queue:
                first = min(s.sent for s in self.arriving)
                self.t, self.woken = max(self.t, first), first > self.t
            self.boundary()
        return self.all

    def boundary(self) -> None:
        rules = self.rules
        idle = not self.running
        for s in sorted((s for s in self.arriving if s.sent <= self.t), key=lambda s: (s.sent, s.id)):
            self.arriving.remove(s)
            if self.line:
                # While the last iteration ran, or (in a closed loop) because of its end.
                before = not self.woken and (s.sent < self.t or self.requests.arrivals is not None)
                self.line.arrives(s, self.queue, before=before)
            self.queue.append(s)
            s.eligible = self.iteration + (0 if idle else int(rules.lag + 0.5 * (s.id % 2)))
        if self.line:
            self.line.turn(self.t, self.running)
        self.sort()
        if idle:
            for s in self.queue:
                s.eligible = self.iteration
        copying = self.make_room()
        short = self.short
        separate = rules.prompts == "prefill-first"
        prompts = [s for s in self.running if not s.decoding]
        share = rules.token_budget - (0 if separate else sum(s.decoding for s in self.running))
        chunks = []
        for s in prompts:
            chunk = min(s.prompt - s.hit - s.done, share, rules.longest_chunk)
            if chunk > 0:
                chunks.append((s, chunk))
                share -= chunk
        if not short:
            copying += self.admit(share, prompts, chunks)
        moving = [] if separate and chunks else [s for s in self.running if s.decoding]
        for s in moving:
            s.context += s.context < rules.kept_tokens
        self.evict()
        if self.shelf:
            copying += self.shelf.load(self.running)
        self.step(moving, chunks, copying)

    def make_room(self) -> float:
        copying, self.short = 0.0, False
        while self.need() > self.free():
            s = self.running[-1]
            copying += self.swap_out(s)
            self.short = True
            self.preempt(s)
            self.sort()
        return copying

    def preempt(self, s: Seq) -> None:
        self.remove(s)
        if s.decoding and not s.swapped:
            s.prompt, s.hit = self.known(s), 0
        s.decoding, s.done, s.eligible = False, 0, self.iteration
        s.preempted += 1
        self.queue.insert(0, s)
        if self.line:
            self.line.returns(s)

    def remove(self, s: Seq) -> None:
        """It does not run any more."""
        self.running.remove(s)
        self.unpin(s)
        if self.shelf:
            self.shelf.left(s, self.running)

    def swap_out(self, s: Seq) -> float:
        if not s.decoding or self.rules.preemption != "swap":
            return 0.0
        s.load_s = self.blocks(s.context) * self.rules.copy_s
        s.swapped = True
        return s.load_s

    def sort(self) -> None:
        if self.line:
            self.queue[:] = self.line.order(self.queue, self.t)

    def give_way(self, head: Seq, missing: float, fixed: list[Seq]) -> list[Seq] | None:
        """Who leaves for the head: those that decode, as many as it needs."""
        chosen: list[Seq] = []
        for s in self.line.victims(head, self.running, self.t) if self.line and head not in fixed else []:
            if s.decoding and s not in fixed:
                chosen.append(s)
                if sum(self.own(x) + self.next_need(x) for x in chosen) >= missing:
                    return chosen
        return None

    def known(self, s: Seq) -> int:
        """Prompt and emitted tokens of a sequence."""
        return self.requests.prompts[s.id] + self.requests.outputs[s.id] - s.left

    def admit(self, share: float, prompts: list[Seq], chunks: list[tuple[Seq, float]]) -> float:
        rules, copying = self.rules, 0.0
        part = rules.cache == "reserve-part"
        watermark = math.floor(rules.watermark_frac * rules.blocks)
        had_prompts, entered, saved = bool(prompts), [], (list(chunks), share)
        kept = PART * sum(s.left for s in self.running) if part else 0.0
        decoding = sum(s.decoding for s in self.running)
        fixed: list[Seq] = []
        static = rules.batching == "static"
        if static and self.running:
            return copying
        while self.queue and (share > 0 or static):
            s = self.queue[0]
            if s.eligible > self.iteration or (self.shelf and not self.shelf.admits(s, self.running)):
                break
            room, found, fresh = self.free() - self.need(), [], 0
            if s.swapped:
                grows = s.context < rules.kept_tokens
                lacks = self.blocks(s.context + grows) - room
                if rules.cache == "reserve":
                    lacks = s.reserved - room
            else:
                if self.store:
                    for unit in self.store.units(s.id)[: (s.prompt - 1) // self.store.tokens]:
                        if unit not in self.store.pins and unit not in self.store.idle:
                            break
                        found.append(unit)
                    s.hit = len(found) * self.store.tokens
                compute = s.prompt - s.hit
                behind = any(not x.decoding for x in self.running)
                if (
                    compute > share
                    and self.running
                    and (rules.prompts == "whole" or (rules.prompts == "prefill-first" and behind and not static))
                ):
                    break
                fresh = sum(unit in self.store.idle for unit in found) if self.store else 0
                total = self.blocks(s.prompt + (s.left if rules.cache == "reserve" else 0))
                want = total - (len(found) - fresh) * self.unit_blocks
                promise = (kept + PART * s.left) / rules.block_tokens if part else 0.0
                lacks = want + (promise + watermark if self.running else 0) - room
            if lacks > 0 or len(self.running) >= rules.slots or s in fixed:
                leaving = self.give_way(s, lacks, fixed)
                if leaving is None:
                    break
                for x in leaving:
                    copying += self.swap_out(x)
                    self.preempt(x)
                    share += 0 if rules.prompts == "prefill-first" else 1
                self.sort()
                fixed += leaving
                kept = PART * sum(s.left for s in self.running) if part else 0.0
                continue
            if s.swapped:
                s.swapped, s.decoding = False, True
                copying += s.load_s
                self.running.append(self.queue.pop(0))
                self.enters(s, 0)
                fixed.append(s)
                self.evict()
                share -= 0 if rules.prompts == "prefill-first" else 1
                continue
            self.queue.pop(0)
            for unit in found:
                if unit in self.store.idle:
                    self.store.idle.remove(unit)
                self.store.pins[unit] = self.store.pins.get(unit, 0) + 1
                self.store.uses[unit] += 1
            s.units = found
            s.reserved = total
            self.running.append(s)
            self.enters(s, 0 if s.preempted else compute)
            self.evict()
            s.admitted = self.t if math.isnan(s.admitted) else s.admitted
            chunk = min(compute, share, rules.longest_chunk)
            if chunk > 0:
                chunks.append((s, chunk))
            entered.append(s)
            share -= chunk
            kept += PART * s.left if part else 0.0
        tokens = sum(s.prompt - s.hit for s in entered) + decoding
        gone = any(not x.decoding for x in fixed)
        held = entered and decoding and not had_prompts and self.waited < rules.wait_steps and not gone
        if held and tokens < rules.wait_frac * rules.token_budget:
            self.waited += 1
            for s in reversed(entered):
                self.remove(s)
                s.admitted = math.nan if s.admitted == self.t else s.admitted
                self.queue.insert(0, s)
                if self.line:
                    self.line.withdrawn(s, 0 if s.preempted else s.prompt - s.hit)
            chunks[:] = saved[0]
        elif entered:
            self.waited = 0
        return copying

    def enters(self, s: Seq, compute: int) -> None:
        """It left the queue; the order of the others may be another now."""
        if self.shelf:
            self.shelf.entered(s, [other for other in self.running if other is not s])
        if self.line:
            self.line.enters(s, compute, self.queue)
            self.sort()

    def step(self, moving: list[Seq], chunks: list[tuple[Seq, float]], copying: float) -> None:
        rules, times = self.rules, self.times
        context = sum(s.context for s in moving)
        if chunks:
            duration = times.mixed(len(moving), context, [(c, s.hit + s.done) for s, c in chunks])
        else:
            duration = times.decode_s_of(len(moving), context)
        if self.shelf:
            duration += self.shelf.iteration_s([*moving, *(s for s, _ in chunks)])
        self.t += duration + copying
        self.gaps.append((duration + copying, len(moving)))
        self.iteration += 1
        for s, chunk in chunks:
            s.done += chunk
        ready = [s for s, _ in chunks if s.done >= s.prompt - s.hit]
        self.front = max(self.front, self.t) + (len(moving) + len(ready)) * rules.front_end_s
        seen = self.front if rules.front_end_s else self.t
        if self.line:
            self.line.emits([*moving, *ready])
        for s in moving:
            s.left -= 1
        finished = sorted((s for s in moving if s.left == 0), key=lambda s: s.id)
        for s in finished:
            self.leave(s, seen)
        for s in ready:
            s.first = seen if math.isnan(s.first) else s.first
            self.publish(s, s.prompt)
            s.decoding, s.left = True, s.left - 1
            s.context = min(s.prompt, int(min(rules.kept_tokens, 1 << 60)))
            if s.left == 0:
                s.context = s.prompt
                self.leave(s, seen)

    def leave(self, s: Seq, seen: float) -> None:
        s.last = seen
        if self.store:
            self.publish(s, s.context)
        self.remove(s)
        if self.requests.arrivals is None:
            self.send(seen)


def simulate(times: StepTimes, rules: Rules, requests: Requests) -> list[Seq]:
    """Serve every request; returns them with their times."""
    return Reference(times, rules, requests).run()
