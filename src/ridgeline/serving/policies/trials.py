"""Random scenarios for policies, one function per kind; `checking.py` runs them."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ridgeline.core.errors import PolicyError, RidgelineError
from ridgeline.core.seeding import stream
from ridgeline.serving.engine.batch import NEVER
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.prefix import PrefixCache
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.engine.step_table import StepTimes
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.registry import Policy

REQUESTS = 400
LANES = 7
BACKLOG = 16
HORIZON = 1000
"""Requests that may overtake one before it counts as left waiting for ever."""
MOST_BOUNDARIES = 100_000
STEP_S = 0.1
"""Between two requests of a steady backlog."""


@dataclass(slots=True)
class Findings:
    """What a check has found so far, and what it is at."""

    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    calls: int = 0
    spent_s: float = 0.0
    stage: str = "start"

    def attempt(self, stage: str, call: Callable[[], Any]) -> Any:
        """Its result; None where it broke the contract, which is written down."""
        self.stage = stage
        try:
            return call()
        except RidgelineError as error:
            if error.line() not in self.errors:
                self.errors.append(error.line())
            return None

    def timed(self, stage: str, call: Callable[[], tuple[Any, int]]) -> Any:
        """As `attempt`, for a call that says how many decisions it took."""
        start = clock.perf_counter()
        found = self.attempt(stage, call)
        if found is None:
            return None
        self.spent_s += clock.perf_counter() - start
        self.calls += found[1]
        return found[0]


# Schedulers --------------------------------------------------------------------------------------------------------


def _check_scheduler(one: Policy, facts: Facts, seed: int, found: Findings) -> None:
    orders = [found.timed("pushes and pops at random", lambda: _shuffled(one(facts), seed)) for _ in range(2)]
    if orders[0] is not None and orders[0] != orders[1]:
        found.errors.append("two queues that were told the same serve in another order")
    if orders[0] is not None:
        waited = found.attempt("a steady backlog", lambda: _longest_wait(one(replace(facts, arrival_s=()))))
        if waited is not None and waited >= HORIZON:
            found.notes.append(f"may starve: a request was overtaken by {waited} others, {BACKLOG} waiting at a time")
    ends = [found.attempt("an engine", partial(_play, one, facts, k)) for k in (1 << 60, 1 << 60, 1)]
    if ends[0] is None or ends[1] is None or ends[2] is None:
        return
    if ends[0] != ends[1]:
        found.errors.append("two runs of one scenario differ")
    elif not np.allclose(ends[0], ends[2], rtol=1e-9):
        found.notes.append("its order moves by itself: say when through next_time, or decisions come late")


def _shuffled(queue: Any, seed: int) -> tuple[list[int], int]:
    """Pushes, pops and returns at random, then all that is left: the order of service, and the calls."""
    draw = stream(seed, "check_policy/operations")
    order: list[int] = []
    out: list[int] = []
    sent, calls = 0, 0
    for dice in draw.random(6 * REQUESTS).tolist():
        calls += 1
        if dice < 0.45 and sent < REQUESTS:
            queue.push(sent, 0.01 * sent)
            sent += 1
        elif dice < 0.8 and len(queue):
            if queue.next_time is not None:
                queue.next_time(0.01 * sent)
            order.append(queue.pop())
            out.append(order[-1])
        elif dice < 0.9 and out:
            queue.push_front(out.pop(int(dice * 1e6) % len(out)))
        elif out:
            request = out.pop(0)
            if queue.departed is not None:
                queue.departed(request)
    order.extend([queue.pop() for _ in range(len(queue))])
    if len(queue):
        raise PolicyError("a queue does not become empty", at="scheduler", got=len(queue))
    return order, calls


def _longest_wait(queue: Any) -> int:
    """Serve one for each that comes, a few waiting: how many were served while the one that waits longest did."""
    came: dict[int, int] = {}
    request = longest = 0
    for step in range(3 * HORIZON):
        request = next(r % REQUESTS for r in range(request + 1, request + REQUESTS) if r % REQUESTS not in came)
        queue.push(request, STEP_S * step)
        came[request] = step
        if len(came) > BACKLOG:
            if queue.next_time is not None:
                queue.next_time(STEP_S * step)
            served = queue.pop()
            longest = max(longest, step - came.pop(served))
            if queue.departed is not None:
                queue.departed(served)
    return max(longest, 3 * HORIZON - min(came.values()))


def _play(one: Policy, facts: Facts, longest_run: int) -> list[float]:
    """Serve all requests on a made-up engine that is short of everything: when each ends."""
    requests = Requests(prompts=facts.prompt_tokens, outputs=facts.output_tokens)
    rules = Rules(slots=6, token_budget=256.0, cache_tokens=1024.0, block_tokens=16, preemption="swap", copy_s=1e-5)
    log = Log(REQUESTS)
    engine = Engine(_TIMES, rules, requests, log, queue=one(facts), longest_run=longest_run)
    sent = done = 0
    for _ in range(MOST_BOUNDARIES):
        while sent < REQUESTS and facts.arrival_s[sent] <= engine.end:
            log.sent[sent] = facts.arrival_s[sent]
            engine.push(sent, facts.arrival_s[sent])
            sent += 1
        if engine.end == NEVER:
            break
        done += len(engine.finish())
        engine.plan()
    if done < REQUESTS:
        raise PolicyError("requests are never served", at="scheduler", got=f"{done} of {REQUESTS} ended")
    return list(log.last)


_TIMES = StepTimes(
    tokens=[1, 1024],
    body_s=[5e-3, 50e-3],
    sequences=[1, 32],
    decode_s=[6e-3, 9e-3],
    context_s=[1e-6, 1e-6],
    chunks=[16, 512],
    extra_s=[1e-4, 5e-3],
    prefix_s=[1e-6, 9e-6],
    launch_s=5e-5,
    width=1.0,
    host_s=1e-3,
    host_sequence_s=2e-5,
)


# Routers -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Lane:
    """A lane that a check makes up."""

    up: bool = True
    waiting: int = 0
    running: int = 0
    pending_tokens: float = 0.0
    free_blocks: float = 1000.0
    capacity_blocks: float = 1000.0
    block_tokens: int = 16
    found: int = 0

    @property
    def load(self) -> int:
        return self.waiting + self.running

    def has_model(self, request: int) -> bool:
        """Some of them, by numbers."""
        return (request + self.load) % 3 == 0

    def found_tokens(self, request: int) -> int:
        return (request * 7919 + self.found) % 100


def _check_router(one: Policy, facts: Facts, seed: int, found: Findings) -> None:
    runs = [found.timed("routing at random", lambda: _routed(one(facts), seed, "a")) for _ in range(2)]
    if runs[0] is None:
        return
    if runs[0] != runs[1]:
        found.errors.append("two routers that were told the same choose other lanes")
    router = found.attempt("routing", lambda: one(facts))
    if router is not None and router.blind:
        other = found.attempt("routing with other loads", lambda: _routed(one(facts), seed, "b")[0])
        if other is not None and other != runs[0]:
            found.errors.append("says that it is blind, but other loads make it choose other lanes")
    unused = sorted(set(range(LANES)) - set(runs[0]))
    if unused:
        found.notes.append(f"never chose lanes {unused} of {LANES} in {len(runs[0])} requests")


def _routed(router: Any, seed: int, loads: str) -> tuple[list[int], int]:
    """Choices among lanes whose loads change at random, and of which some go down and come back."""
    draw, state = stream(seed, "check_policy/lanes"), stream(seed, f"check_policy/loads/{loads}")
    lanes = [_Lane(running=int(n), found=int(n)) for n in state.integers(0, 20, LANES)]
    chosen: list[int] = []
    for step in range(4 * REQUESTS):
        request = step % REQUESTS
        index = router.route(request, 0.01 * step, lanes)
        chosen.append(index)
        lane = lanes[index]
        lane.waiting, lane.pending_tokens = lane.waiting + 1, lane.pending_tokens + 50
        lane.free_blocks = max(lane.free_blocks - 5, 0)
        other = int(state.integers(LANES))
        left = lanes[other]
        left.waiting, left.running, left.pending_tokens = 0, left.waiting, 0
        left.free_blocks = 1000.0 - left.running
        if router.changed is not None:
            router.changed(index, lane.load)
            router.changed(other, left.load)
        if step % 50 == 49:
            down = int(draw.integers(LANES))
            lanes[down].up = not lanes[down].up
            lanes[(down + 1) % LANES].up = True
    return chosen, len(chosen)


# The others --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pool:
    """A pool that a check makes up."""

    replicas: int
    starting: int
    waiting: int
    running: int
    slots: int
    busy_frac: float
    ttft_s: Sequence[float]


def _check_autoscaler(one: Policy, facts: Facts, seed: int, found: Findings) -> None:
    runs = [found.timed("decisions at random", lambda: _scaled(one(facts), seed)) for _ in range(2)]
    if runs[0] is not None and runs[0] != runs[1]:
        found.errors.append("two autoscalers that were told the same decide otherwise")


def _scaled(scaler: Any, seed: int) -> tuple[list[int], int]:
    """Decisions over pools from empty to overloaded, with and without requests that got their first token."""
    draw = stream(seed, "check_policy/pools")
    wanted: list[int] = []
    replicas = 1
    for step in range(REQUESTS):
        load = int(draw.choice([0, 1, 50, 1000]))
        view = _Pool(
            replicas=replicas,
            starting=int(draw.integers(0, 3)),
            waiting=int(draw.integers(0, load + 1)),
            running=int(draw.integers(0, load + 1)),
            slots=64,
            busy_frac=float(draw.random()),
            ttft_s=draw.exponential(2.0, int(draw.integers(0, 20))).tolist(),
        )
        wanted.append(scaler.decide(step * scaler.interval_s, view))
        replicas = min(wanted[-1], 1000)
    return wanted, len(wanted)


@dataclass(frozen=True, slots=True)
class _Side:
    """Replicas of one role that a check makes up."""

    replicas: int
    waiting: int
    running: int
    used_frac: float


def _check_roles(one: Policy, facts: Facts, seed: int, found: Findings) -> None:
    runs = [found.timed("sides at random", lambda: _sided(one(facts), seed)) for _ in range(2)]
    if runs[0] is not None and runs[0] != runs[1]:
        found.errors.append("two rules of roles that were told the same decide otherwise")


def _sided(rule: Any, seed: int) -> tuple[list[int], int]:
    """Decisions over sides from empty to overloaded."""
    draw = stream(seed, "check_policy/sides")
    wanted: list[int] = []
    replicas = 4
    for step in range(REQUESTS):
        loads = [int(draw.choice([0, 1, 50, 1000])) for _ in range(2)]
        sides = [
            _Side(number, int(draw.integers(0, load + 1)), int(draw.integers(0, load + 1)), float(draw.random()))
            for number, load in zip((replicas, 8 - replicas), loads, strict=True)
        ]
        wanted.append(rule.decide(step * rule.interval_s, *sides))
        replicas = min(max(wanted[-1], 1), 7)
    return wanted, len(wanted)


def _check_rebalance(one: Policy, facts: Facts, seed: int, found: Findings) -> None:
    runs = [found.timed("lanes at random", lambda: _moved(one(facts), seed)) for _ in range(2)]
    if runs[0] is not None and runs[0] != runs[1]:
        found.errors.append("two rules that were told the same move otherwise")


def _moved(rule: Any, seed: int) -> tuple[list[Any], int]:
    """Pairs of lanes of any load, some of them down."""
    draw = stream(seed, "check_policy/lanes")
    chosen = []
    for step in range(REQUESTS):
        drawn = draw.integers(0, 40, (LANES, 2)).tolist()
        lanes = [_Lane(running=n, waiting=w, free_blocks=float(draw.integers(0, 1001))) for n, w in drawn]
        for lane in lanes:
            lane.up = bool(draw.random() > 0.2)
        chosen.append(list(rule.decide(step * rule.interval_s, lanes)))
    return chosen, len(chosen)


def _check_eviction(one: Policy, facts: Facts, seed: int, found: Findings) -> None:
    runs = [found.timed("a small prefix cache", lambda: _evicted(one(facts), facts, seed)) for _ in range(2)]
    if runs[0] is not None and runs[0] != runs[1]:
        found.errors.append("two orders that were told the same evict otherwise")


def _evicted(order: Any, facts: Facts, seed: int) -> tuple[list[int], int]:
    """What a cache of few units finds, with that order of eviction."""
    draw = stream(seed, "check_policy/prefixes")
    groups = draw.integers(0, 12, REQUESTS).tolist()
    cache = PrefixCache(
        lambda r: [groups[r] * 100 + i for i in range(12)], unit_tokens=16, block_tokens=16, order=order
    )
    found = []
    for request, prompt in enumerate(facts.prompt_tokens):
        found.append(cache.look_up(request, prompt))
        cache.pin(request)
        cache.publish(request, prompt)
        cache.release(request)
        cache.trim(40.0)
    return found, len(found)


def _check_value(one: Policy, facts: Facts, seed: int, found: Findings) -> None:
    made = found.attempt("making it", lambda: one(facts))
    if made is None:
        return
    if one.kind == "kv":
        tokens = made.tokens
        if isinstance(tokens, bool) or not isinstance(tokens, int | float) or not tokens >= 1:
            found.errors.append(f"keeps no tokens of a sequence: {tokens!r}")
        return
    tier = found.attempt("a tier", lambda: made.tier(1e6))
    if tier is not None and not (tier.capacity_units >= 0 and tier.load_s >= 0):
        found.errors.append(f"a tier of negative size or time: {tier!r}")


CHECKS: dict[str, Callable[[Policy, Facts, int, Findings], None]] = {
    "scheduler": _check_scheduler,
    "router": _check_router,
    "autoscaler": _check_autoscaler,
    "roles": _check_roles,
    "rebalance": _check_rebalance,
    "eviction": _check_eviction,
    "kv": _check_value,
    "tier": _check_value,
}
