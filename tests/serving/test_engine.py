"""The event-skipping engine: equal to an eager reference, indifferent to cuts, and right in its limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
from tests.serving import lines
from tests.serving.reference import Reference, Shelf, Store

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.serving.engine.adapters import Adapters
from ridgeline.serving.engine.alone import serve
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.prefix import PrefixCache
from ridgeline.serving.engine.rules import CACHES, PREEMPTIONS, PROMPTS, Log, Requests, Rules
from ridgeline.serving.engine.step_table import StepTimes, steps_until
from ridgeline.serving.policies import kv, schedulers
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.record.played import run_ends_s, runs_of

SCENARIOS = 150
EXACT = 1e-9
"""Relative: sums of the same iterations in another order."""

TIMES = StepTimes(
    tokens=[1, 16, 64, 256, 1024],
    body_s=[5e-3, 6e-3, 9e-3, 20e-3, 70e-3],
    sequences=[1, 8, 32],
    decode_s=[7e-3, 8e-3, 11e-3],
    context_s=[2e-6, 1.5e-6, 1e-6],
    chunks=[16, 128, 512],
    extra_s=[1e-4, 8e-4, 5e-3],
    prefix_s=[1e-6, 4e-6, 9e-6],
    launch_s=5e-5,
    width=1.0,
    host_s=1e-3,
    host_sequence_s=2e-5,
)


TICKS = StepTimes(
    tokens=[1, 1025],
    body_s=[5000.0, 5000.0 + 64 * 1024],
    sequences=[1, 33],
    decode_s=[7000.0, 7000.0 + 128 * 32],
    context_s=[2.0, 2.0],
    chunks=[1, 513],
    extra_s=[100.0, 100.0 + 10 * 512],
    prefix_s=[3.0, 3.0],
    launch_s=50.0,
    width=1.0,
    host_s=1000.0,
    host_sequence_s=20.0,
)
"""The same shape in whole microseconds, linear between whole sizes."""


@dataclass(frozen=True)
class Scenario:
    """A random engine under a random load: long and short prompts, scarce caches, lags, waits, shared prefixes."""

    rules: Rules
    requests: Requests
    units: tuple[tuple[int, ...], ...] = ()
    unit_tokens: int = 0
    policy: str = ""
    eviction: str = "lru"
    facts: Facts | None = None
    adapters: tuple[int, ...] = ()
    shelf: dict[str, float] = field(default_factory=dict)

    def engine(self, longest_run: int = 1 << 60, times: StepTimes = TIMES) -> Engine:
        prefix = None
        if self.units:
            block = self.rules.block_tokens
            order = {"lru": None, "lfu": kv.Lfu(), "fifo": kv.Fifo()}[self.eviction]
            prefix = PrefixCache(self.units.__getitem__, unit_tokens=self.unit_tokens, block_tokens=block, order=order)
        engine = Engine(
            times,
            self.rules,
            self.requests,
            Log(len(self.requests.prompts)),
            queue=SCHEDULERS[self.policy][0](self.facts) if self.policy else None,
            prefix=prefix,
            adapters=Adapters(self.adapters, **self.shelf) if self.adapters else None,
            keep_runs=True,
            longest_run=longest_run,
        )
        serve(engine, self.requests)
        return engine

    def line(self) -> lines.Line | None:
        """The eager twin of its scheduler."""
        return SCHEDULERS[self.policy][1](self.facts) if self.policy else None

    def reference(self, times: StepTimes = TIMES) -> Reference:
        store = Store(self.units.__getitem__, self.unit_tokens, self.eviction) if self.units else None
        shelf = Shelf(self.adapters, **self.shelf) if self.adapters else None
        reference = Reference(times, self.rules, self.requests, store, self.line(), shelf)
        reference.run()
        return reference


@dataclass(frozen=True)
class Promised:
    """A class of requests."""

    ttft_s: float
    tpot_s: float
    e2e_s: float
    priority: int
    weight: float = 1.0


CLASSES = (Promised(0.1, math.inf, math.inf, 0), Promised(0.5, math.inf, 2.0, 1), Promised(1.0, 0.01, 3.0, 2))

SCHEDULERS = {
    "priority": (schedulers.priority, lines.Priority),
    "priority-preemptive": (schedulers.PriorityPreemptive, lines.Preemptive),
    "slo-aware": (schedulers.SloAware, lines.SloAware),
    "rotation": (partial(schedulers.Rotation, quantum_s=0.07), partial(lines.Rotation, quantum_s=0.07)),
    "fair": (partial(schedulers.Fair, weights="1:2 2:4"), partial(lines.Fair, shares={1: 2.0, 2: 4.0})),
}


def facts_of(seed: int, requests: Requests) -> Facts:
    draw, count = stream(seed, "facts"), len(requests.prompts)
    return Facts(
        prompt_tokens=requests.prompts,
        output_tokens=requests.outputs,
        class_code=draw.integers(0, 3, count).tolist(),
        classes=CLASSES,
        tenant=draw.integers(0, 4, count).tolist(),
    )


def scenario(seed: int) -> Scenario:
    draw = stream(seed, "scenario")
    count = int(draw.integers(1, 40))
    prompts = draw.integers(1, 300, count)
    outputs = draw.integers(1, 80, count)
    scarce = draw.random() < 0.6
    block = int(draw.choice([1, 1, 4, 16]))
    longest = block * -(-int((prompts + outputs).max()) // block)
    cache = str(draw.choice(CACHES))
    priority = draw.random() < 0.25
    rules = Rules(
        slots=int(draw.integers(1, 20)),
        token_budget=float(draw.integers(24, 400)),
        prompts=str(draw.choice(PROMPTS)),
        longest_chunk=float(draw.choice([math.inf, math.inf, draw.integers(8, 60)])),
        cache=cache,
        cache_tokens=longest * float(draw.uniform(1.0, 4.0)) // 1 if scarce else math.inf,
        block_tokens=block,
        kept_tokens=float(draw.choice([math.inf, math.inf, math.inf, draw.integers(20, 200)]))
        if cache == "grow"
        else math.inf,
        watermark_frac=float(draw.choice([0.0, 0.0, 0.02, 0.1])),
        preemption=str(draw.choice(PREEMPTIONS)),
        copy_s=float(draw.choice([0.0, 1e-4])),
        lag=0.0 if priority else float(draw.choice([0.0, 0.5, 1.0, 1.5, 2.0])),
        wait_steps=int(draw.choice([0, 0, 5])),
        wait_frac=float(draw.uniform(0.2, 1.0)),
        front_end_s=float(draw.choice([0.0, 0.0, 4e-4, 2e-3])),
    )
    closed = draw.random() < 0.6
    gaps = draw.exponential(0.05, count)
    shared = draw.random() < 0.3 and rules.kept_tokens == math.inf
    requests = Requests(
        prompts=prompts.tolist(),
        outputs=outputs.tolist(),
        hits=None if shared else [int(h) if draw.random() < 0.3 else 0 for h in draw.integers(0, prompts)],
        clients=int(draw.integers(1, 16)),
        arrivals=None if closed else np.cumsum(gaps).tolist(),
    )
    unit = block * int(draw.integers(1, 4)) * (8 if block == 1 else 1)
    groups = draw.integers(0, 3, count).tolist()
    ends = draw.integers(0, 12, count).tolist()
    whole = [-(-(p + o) // unit) for p, o in zip(requests.prompts, requests.outputs, strict=True)]
    units = tuple(
        tuple(g * 1000 + j if j < e else 10_000 + 1000 * i + j for j in range(w))
        for i, (g, e, w) in enumerate(zip(groups, ends, whole, strict=True))
    )
    static = draw.random() < 0.15
    adapters, shelf = adapters_of(draw, count) if draw.random() < 0.35 else ((), {})
    return Scenario(
        rules=replace(rules, batching="static") if static else rules,
        requests=requests,
        units=units if shared else (),
        unit_tokens=unit,
        policy="priority" if priority else "",
        facts=facts_of(seed, requests),
        adapters=adapters,
        shelf=shelf,
    )


def adapters_of(draw: np.random.Generator, count: int) -> tuple[tuple[int, ...], dict[str, float]]:
    """An adapter for most requests, and few places for them."""
    slots = int(draw.integers(1, 5))
    shelf = {
        "slots": slots,
        "kept": slots + int(draw.choice([0, 0, 1, 3])),
        "load_s": float(draw.choice([0.0, 3e-3, 0.1])),
        "each_s": float(draw.choice([0.0, 2e-4])),
        "first_s": float(draw.choice([0.0, 1e-3])),
    }
    return tuple(draw.integers(-1, int(draw.integers(1, 9)), count).tolist()), shelf


@pytest.mark.parametrize("seed", range(SCENARIOS))
def test_engine_equals_the_eager_reference(seed: int) -> None:
    case = scenario(seed)
    expected, engine = case.reference(), case.engine()
    for name in ("sent", "admitted", "first", "last"):
        times = [getattr(s, name) for s in expected.all]
        np.testing.assert_allclose(getattr(engine.log, name), times, rtol=EXACT, atol=EXACT, err_msg=name)
    assert engine.log.preempted == {s.id: s.preempted for s in expected.all if s.preempted}
    assert engine.iteration == expected.iteration
    if case.adapters:
        assert engine.adapters.loads == expected.shelf.loads


def test_scenarios_reach_every_mechanism() -> None:
    engines = [scenario(seed).engine() for seed in range(SCENARIOS)]
    assert sum(engine.preempted for engine in engines) > 20
    assert sum(engine.iteration for engine in engines) > 2 * sum(engine.events for engine in engines)
    assert sum(sum(engine.log.found.values()) for engine in engines if engine.prefix) > 1000
    assert sum(engine.static for engine in engines) > 10
    distinct = [(engine, len(set(engine.adapters._of) - {-1})) for engine in engines if engine.adapters is not None]
    assert sum(engine.adapters.loads > distinct_ for engine, distinct_ in distinct) > 10


@pytest.mark.parametrize("seed", range(0, SCENARIOS, 3))
@pytest.mark.parametrize("longest", [1, 3])
def test_cuts_of_runs_change_nothing(seed: int, longest: int) -> None:
    whole, cut = scenario(seed).engine(), scenario(seed).engine(longest_run=longest)
    assert cut.iteration == whole.iteration
    assert cut.log.preempted == whole.log.preempted
    np.testing.assert_allclose(cut.log.last, whole.log.last, rtol=EXACT)


@pytest.mark.parametrize("seed", range(0, SCENARIOS, 5))
def test_whole_numbers_of_time_are_equal_to_the_bit(seed: int) -> None:
    """Step times in whole ticks: sums are exact, and so is every decision."""
    case = scenario(seed)
    rules = replace(case.rules, front_end_s=0.0, copy_s=0.0)
    shelf = {name: value if name in ("slots", "kept") else round(value * 1e6) for name, value in case.shelf.items()}
    arrivals = case.requests.arrivals
    ticks = None if arrivals is None else [float(int(time * 1e6)) for time in arrivals]
    case = replace(case, rules=rules, requests=replace(case.requests, arrivals=ticks), shelf=shelf)
    expected, engine = case.reference(TICKS), case.engine(times=TICKS)
    assert list(engine.log.last) == [s.last for s in expected.all]
    assert list(engine.log.first) == [s.first for s in expected.all]


@pytest.mark.parametrize("seed", range(SCENARIOS))
def test_all_requests_end_and_give_back_what_they_held(seed: int) -> None:
    case = scenario(seed)
    engine = case.engine()
    log = engine.log
    assert not any(math.isnan(x) for x in (*log.sent, *log.admitted, *log.first, *log.last))
    steps = zip(log.sent, log.admitted, log.first, log.last, strict=True)
    assert all(sent <= admitted < first <= last for sent, admitted, first, last in steps)
    assert engine.free == pytest.approx(engine.capacity)
    assert (engine.n, engine.growing, engine.outstanding, engine.promised) == (0, 0, 0, 0)
    assert not any((engine.running, engine.prefilling, engine.joined, engine.limits, engine.redo, engine.ready))
    assert engine.offset == pytest.approx(0.0, abs=1e-6)
    assert engine.residues == [0] * len(engine.residues)
    if engine.adapters is not None:
        assert not engine.adapters.using
        assert not engine.adapters.decoding
        assert engine.adapters.loads >= len({adapter for adapter in case.adapters if adapter >= 0})


class Audited(Engine):
    """An engine whose cache is counted again, from what everyone holds, after every event."""

    def audit(self) -> None:
        held = sum(self._held(request) for request in self.running) + sum(self.parked.values())
        pinned = len(self.prefix._users) * self.prefix.blocks if self.prefix else 0
        assert self.free == pytest.approx(self.capacity - held - pinned, abs=1e-6)
        assert -1e-9 <= self.free <= self.capacity + 1e-9
        assert len(self.running) <= self.rules.slots
        if self.prefix:
            assert 0 <= self.prefix.evictable <= self.free

    def finish(self) -> Sequence[int]:
        done = super().finish()
        self.audit()
        return done

    def plan(self) -> None:
        super().plan()
        self.audit()


@pytest.mark.parametrize("seed", range(SCENARIOS))
def test_at_every_event_the_cache_holds_what_its_requests_hold_and_no_more(seed: int) -> None:
    case = scenario(seed)
    prefix = None
    if case.units:
        block = case.rules.block_tokens
        prefix = PrefixCache(case.units.__getitem__, unit_tokens=case.unit_tokens, block_tokens=block)
    engine = Audited(TIMES, case.rules, case.requests, Log(len(case.requests.prompts)), prefix=prefix)
    serve(engine, case.requests)
    assert engine.free == pytest.approx(engine.capacity)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_an_engine_of_one_slot_is_the_queue_md1(load: float) -> None:
    """Equal prompts without outputs, one at a time: waits of M/D/1, rho s / (2 (1 - rho)) (Pollaczek-Khinchine)."""
    count, service_s = 60_000, TIMES.mixed(0, 0.0, [(100, 0.0)])
    arrivals = np.cumsum(stream(0, "md1").exponential(service_s / load, count))
    requests = Requests(prompts=[100] * count, outputs=[1] * count, arrivals=arrivals.tolist())
    log = served(Rules(slots=1, token_budget=1000.0), requests).log
    wait = np.mean(np.subtract(log.first, log.sent)[count // 10 :]) - service_s
    assert wait == pytest.approx(load * service_s / (2 * (1 - load)), rel=0.05)


@pytest.mark.parametrize("seed", range(SCENARIOS))
def test_runs_hold_every_token(seed: int) -> None:
    """Tokens of all runs: each output but the first of each request comes from a decode; prompts are computed once
    unless preempted or found in the cache."""
    case = scenario(seed)
    engine = case.engine()
    runs = runs_of(engine.runs)
    k, n, tokens = runs["iterations"], runs["sequences"], runs["prompt_tokens"]
    if not engine.preempted:
        assert (k * n).sum() == sum(case.requests.outputs) - len(case.requests.outputs)
        assert (k * tokens).sum() == sum(case.requests.prompts) - sum(engine.log.found.values())
    start, ends = runs["start_s"], run_ends_s(runs)
    assert np.all(start[1:] >= ends[:-1] - EXACT)
    assert engine.busy == pytest.approx((ends - start).sum())
    assert engine.busy <= engine.t + EXACT


def served(rules: Rules, requests: Requests) -> Engine:
    return Scenario(rules, requests).engine()


def test_one_client_pays_its_prefill_and_then_each_decode_iteration() -> None:
    requests = Requests(prompts=[200, 120], outputs=[50, 30], clients=1)
    log = served(Rules(slots=4, token_budget=1000.0, lag=2.0), requests).log
    t = 0.0
    for i, (prompt, output) in enumerate(zip(requests.prompts, requests.outputs, strict=True)):
        t += TIMES.mixed(0, 0.0, [(prompt, 0.0)])
        assert log.first[i] == pytest.approx(t, rel=EXACT)
        t += sum(TIMES.decode_s_of(1, prompt + j) for j in range(1, output))
        assert log.last[i] == pytest.approx(t, rel=EXACT)


def test_a_lag_delays_first_tokens_of_a_closed_loop_by_so_many_iterations() -> None:
    requests = Requests(prompts=[50] * 40, outputs=[30 + i % 7 for i in range(40)], clients=6)
    logs = [served(Rules(slots=6, token_budget=1000.0, lag=lag), requests).log for lag in (0.0, 1.0, 2.0)]
    waits = [np.mean(np.subtract(log.first, log.sent)[6:]) for log in logs]
    iteration = TIMES.decode_s_of(5, 0.0)
    assert waits[1] - waits[0] == pytest.approx(iteration, rel=0.3)
    assert waits[2] - waits[1] == pytest.approx(iteration, rel=0.3)


def test_a_front_end_bounds_the_token_rate() -> None:
    requests = Requests(prompts=[20] * 200, outputs=[60] * 200, clients=30)
    limit_s = 1e-3
    log = served(Rules(slots=32, token_budget=1000.0, front_end_s=limit_s), requests).log
    rate = 200 * 60 / max(log.last)
    assert 0.9 / limit_s < rate <= 1.0 / limit_s


def test_scarce_cache_makes_requests_wait_and_never_overflows() -> None:
    requests = Requests(prompts=[100] * 60, outputs=[50] * 60, clients=20)
    rules = Rules(slots=32, token_budget=1000.0, cache="reserve", cache_tokens=600.0)
    scarce, ample = (served(replace(rules, cache_tokens=tokens), requests) for tokens in (600.0, math.inf))
    waits = [np.mean(np.subtract(engine.log.first, engine.log.sent)) for engine in (scarce, ample)]
    assert waits[0] > 3 * waits[1]
    assert scarce.area / scarce.t <= 4.0


def test_a_request_longer_than_the_cache_is_refused() -> None:
    requests = Requests(prompts=[100], outputs=[50])
    with pytest.raises(DomainError, match="longer than the cache"):
        served(Rules(slots=1, token_budget=100.0, cache="reserve", cache_tokens=149.0), requests)


@pytest.mark.parametrize("growth", [1.7, 2.5])
def test_speculation_takes_fewer_iterations_and_as_many_tokens(growth: float) -> None:
    requests = Requests(prompts=[100] * 30, outputs=[40 + i for i in range(30)], clients=8)
    engine = served(Rules(slots=8, token_budget=1000.0, growth=growth, cache_tokens=2000.0), requests)
    plain = served(Rules(slots=8, token_budget=1000.0, cache_tokens=2000.0), requests)
    assert engine.iteration < plain.iteration
    assert engine.free == pytest.approx(2000.0)
    runs = runs_of(engine.runs)
    assert (runs["iterations"] * runs["sequences"]).sum() == sum(math.ceil((o - 1) / growth) for o in requests.outputs)


def test_speculation_with_blocks_is_refused() -> None:
    with pytest.raises(DomainError, match="lengths are means"):
        Rules(slots=1, token_budget=100.0, growth=2.0, block_tokens=16)


def test_step_times_that_bend_are_followed_to_the_iteration() -> None:
    bent = replace(TIMES, marks=(60.0, 150.0), bends_s=([1e-6, 2e-6, 4e-6], [3e-6, 3e-6, 3e-6]))
    for seed in range(0, 40):
        case = scenario(seed)
        expected, engine = case.reference(bent), case.engine(times=bent)
        np.testing.assert_allclose(engine.log.last, [s.last for s in expected.all], rtol=EXACT)


@pytest.mark.parametrize("rise", [0.0, 1e-9, 1e-5, 1e-3])
def test_steps_until_is_the_fewest_that_suffice(rise: float) -> None:
    for wait in (1e-6, 0.0099, 0.01, 0.0101, 0.5, 7.3):
        k = steps_until(wait, 0.01, rise)
        assert k * 0.01 + rise * k * (k - 1) / 2 >= wait
        assert k == 1 or (k - 1) * 0.01 + rise * (k - 1) * (k - 2) / 2 < wait


SHARED = [seed for seed in range(2 * SCENARIOS) if scenario(seed).units]


@pytest.mark.parametrize("eviction", ["lfu", "fifo"])
@pytest.mark.parametrize("seed", SHARED)
def test_other_orders_of_eviction_equal_the_eager_reference(seed: int, eviction: str) -> None:
    case = replace(scenario(seed), eviction=eviction)
    expected, engine = case.reference(), case.engine()
    np.testing.assert_allclose(engine.log.last, [s.last for s in expected.all], rtol=EXACT)
    np.testing.assert_allclose(case.engine(longest_run=1).log.last, engine.log.last, rtol=EXACT)


def test_orders_of_eviction_differ() -> None:
    cases = [scenario(seed) for seed in SHARED]
    found = {
        order: [sum(replace(case, eviction=order).engine().log.found.values()) for case in cases]
        for order in ("lru", "lfu", "fifo")
    }
    assert found["lru"] != found["lfu"] != found["fifo"]
