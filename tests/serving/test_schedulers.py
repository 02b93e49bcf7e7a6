"""Named schedulers: each equal to an eager twin inside the engine, indifferent to cuts, and true to its law."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.serving.test_engine import CLASSES, EXACT, SCHEDULERS, TIMES, Promised, Scenario, scenario

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.serving.engine.alone import serve
from ridgeline.serving.engine.batch import NEVER
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.queues import Keyed, Queue
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.fleet.members import Member
from ridgeline.serving.policies import schedulers
from ridgeline.serving.policies.facts import Facts, Noise
from ridgeline.serving.policies.registry import policy

SCENARIOS = 80


def case_of(name: str, seed: int) -> Scenario:
    case = scenario(seed)
    return replace(case, policy=name)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("seed", range(SCENARIOS))
def test_engine_equals_the_eager_reference(name: str, seed: int) -> None:
    case = case_of(name, seed)
    expected, engine = case.reference(), case.engine()
    for column in ("sent", "admitted", "first", "last"):
        times = [getattr(s, column) for s in expected.all]
        np.testing.assert_allclose(getattr(engine.log, column), times, rtol=EXACT, atol=EXACT, err_msg=column)
    assert engine.log.preempted == {s.id: s.preempted for s in expected.all if s.preempted}
    assert engine.iteration == expected.iteration


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("seed", range(0, SCENARIOS, 2))
@pytest.mark.parametrize("longest", [1, 3])
def test_cuts_of_runs_change_nothing(name: str, seed: int, longest: int) -> None:
    case = case_of(name, seed)
    whole, cut = case.engine(), case.engine(longest_run=longest)
    assert cut.iteration == whole.iteration
    assert cut.log.preempted == whole.log.preempted
    np.testing.assert_allclose(cut.log.last, whole.log.last, rtol=EXACT)


def test_scenarios_reach_preemption_by_policy() -> None:
    def preemptions(name: str) -> int:
        engines: list[Engine] = [case_of(name, seed).engine() for seed in range(SCENARIOS)]
        return sum(engine.preempted for engine in engines)

    plain = preemptions("priority")
    assert preemptions("priority-preemptive") > plain + 50
    assert preemptions("rotation") > plain + 50
    assert math.isfinite(plain)


@pytest.mark.parametrize("name", ["fcfs", "shortest", "slo-aware", "rotation", "fair", "priority-preemptive"])
def test_prompts_that_wait_count_as_tokens_to_compute(name: str) -> None:
    """Of an engine that was given three and has run nothing: all of the prompts, whatever the order."""
    prompts = [100, 70, 30]
    facts = facts_of(prompts, [10] * 3, classes=CLASSES, class_code=[0, 1, 0], arrival_s=[0.0] * 3)
    queue = policy("scheduler", name)(facts)
    engine = Engine(
        TIMES, Rules(slots=8, token_budget=64.0), Requests(prompts=prompts, outputs=[10] * 3), Log(3), queue=queue
    )
    for request in range(3):
        engine.push(request, 0.0)
    lane = Member(engine, replica=0, chips=1.0)
    assert sorted(queue) == [0, 1, 2]
    assert lane.pending_tokens == 200
    engine.finish()
    engine.plan()  # 64 of them are on their way
    assert 200 - 64 <= lane.pending_tokens <= 200
    while engine.end < NEVER:
        engine.finish()
        engine.plan()
    assert lane.pending_tokens == 0


def served(queue: Queue, rules: Rules, prompts: list[int], outputs: list[int], arrivals: list[float]) -> Engine:
    requests = Requests(prompts=prompts, outputs=outputs, arrivals=arrivals)
    engine = Engine(TIMES, rules, requests, Log(len(prompts)), queue=queue)
    serve(engine, requests)
    return engine


def facts_of(prompts: list[int], outputs: list[int], **columns: object) -> Facts:
    return Facts(prompt_tokens=prompts, output_tokens=outputs, **columns)


# Fair ----------------------------------------------------------------------------------------------------------------


def services(engine: Engine, facts: Facts, tenants: int) -> list[float]:
    """Prompt tokens admitted and twice the output tokens emitted, by tenant."""
    given = [0.0] * tenants
    for request in range(len(facts)):
        if not math.isnan(engine.log.admitted[request]):
            given[facts.tenant_of(request)] += facts.prompt_tokens[request]
        if not math.isnan(engine.log.first[request]):
            _, key = engine.joined.get(request, (0, engine.step))
            given[facts.tenant_of(request)] += 2 * (facts.output_tokens[request] - (key - engine.step))
    return given


def differences(queue: Queue, facts: Facts, rules: Rules, weight: float = 1.0) -> list[float]:
    """Service of tenant 0 over its weight less that of tenant 1, at every boundary while both have requests waiting."""
    requests = Requests(prompts=facts.prompt_tokens, outputs=facts.output_tokens)
    engine = Engine(TIMES, rules, requests, Log(len(facts)), queue=queue, longest_run=1)
    for request in range(len(facts)):
        engine.push(request, 0.0)
    found = []
    while engine.end < NEVER:
        engine.finish()
        engine.plan()
        waiting = {facts.tenant_of(r) for r in range(len(facts)) if math.isnan(engine.log.admitted[r])}
        if waiting < {0, 1}:
            break
        first, second = services(engine, facts, 2)
        found.append(first / weight - second)
    return found


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_fair_keeps_two_backlogged_tenants_within_the_bound_of_the_paper(weight: float) -> None:
    """Theorem 4.4 of arXiv 2401.00588: services differ by at most 2 max(w_p L, w_q M) in any interval."""
    draw = stream(1, "fair")
    count = 240
    tenant = [int(i % 4 == 3) for i in range(count)]
    prompts = [int(p) for p in draw.integers(20, 200, count)]
    outputs = [int(o) * (3 if t else 1) for o, t in zip(draw.integers(5, 40, count), tenant, strict=True)]
    rules = Rules(slots=64, token_budget=512.0, cache_tokens=2000.0, cache="reserve")
    facts = facts_of(prompts, outputs, tenant=tenant)
    bound = 2 * max(max(prompts), 2 * 2000)
    fair = differences(schedulers.Fair(facts, weights=f"0:{weight}"), facts, rules, weight)
    assert len(fair) > 100
    assert max(fair) - min(fair) <= bound
    plain = differences(schedulers.fcfs(facts), facts, rules, weight)
    assert max(plain) - min(plain) > max(fair) - min(fair)


def test_fair_gives_no_credit_for_a_pause() -> None:
    facts = facts_of([100] * 60, [20] * 60, tenant=[0] * 40 + [1] * 20)
    queue = schedulers.Fair(facts)
    for request in range(20):
        queue.push(request, 0.0)
    for _ in range(15):
        queue.served(queue.pop(), 100.0, 0.0)
    queue.push(40, 1.0)
    assert queue.counter(1) == queue.counter(0) == 1500.0


def test_fair_forgets_what_ran_when_a_lane_fails() -> None:
    facts = facts_of([50] * 8, [40] * 8, tenant=[0, 1] * 4)
    queue = schedulers.Fair(facts)
    requests = Requests(prompts=facts.prompt_tokens, outputs=facts.output_tokens)
    engine = Engine(TIMES, Rules(slots=4, token_budget=256.0), requests, Log(8), queue=queue, longest_run=1)
    for request in range(8):
        engine.push(request, 0.0)
    for _ in range(3):
        engine.finish()
        engine.plan()
    lost = engine.clear()
    assert sorted(lost) == list(range(8))
    before = [queue.counter(tenant) for tenant in (0, 1)]
    queue.settle(1e6)
    assert [queue.counter(tenant) for tenant in (0, 1)] == before
    for request in lost:
        engine.push(request, 1.0)
    serve_on(engine)
    assert not any(math.isnan(last) for last in engine.log.last)


def serve_on(engine: Engine) -> None:
    while engine.end < NEVER:
        engine.finish()
        engine.plan()


def test_fair_refuses_weights_that_are_none() -> None:
    for text in ("x", "1", "1:0", "1:-1", "1:nan", "a:1"):
        with pytest.raises(DomainError, match="weight"):
            schedulers.Fair(facts_of([1], [1]), weights=text)


# Orders --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_priority_never_inverts(seed: int) -> None:
    case = replace(scenario(seed), policy="priority")
    case = replace(case, rules=replace(case.rules, lag=0.0, wait_steps=0))
    log = case.engine().log
    if log.preempted:
        return
    level = [case.facts.class_of(r).priority for r in range(len(case.facts))]
    for high, low in itertools.permutations(range(len(level)), 2):
        if level[high] > level[low] and log.sent[high] < log.admitted[low]:
            assert log.admitted[high] <= log.admitted[low]


def mean_end(queue: Queue, outputs: list[int]) -> float:
    engine = served(queue, Rules(slots=1, token_budget=64.0), [16] * len(outputs), outputs, [0.0] * len(outputs))
    return float(np.mean(engine.log.last))


def test_shortest_first_has_the_least_mean_time_of_all_orders() -> None:
    outputs = [31, 7, 19, 3, 24]
    orders = itertools.permutations(range(len(outputs)))
    best = min(mean_end(Keyed(lambda r, t, o=order: float(o[r])), outputs) for order in orders)
    facts = facts_of([16] * 5, outputs)
    assert mean_end(schedulers.shortest(facts), outputs) == pytest.approx(best, rel=EXACT)
    assert mean_end(schedulers.shortest_predicted(facts, sigma=0.0), outputs) == pytest.approx(best, rel=EXACT)


def test_worse_predictions_bring_less() -> None:
    outputs = [int(o) for o in stream(2, "outputs").integers(1, 200, 150)]
    facts = facts_of([16] * 150, outputs)
    ends = [mean_end(schedulers.shortest_predicted(facts, sigma=sigma), outputs) for sigma in (0.0, 1.0, 20.0)]
    assert ends[0] < ends[1] < ends[2]
    assert ends[2] == pytest.approx(mean_end(schedulers.fcfs(facts), outputs), rel=0.2)


def test_predictions_are_the_same_on_every_lane_and_spread_as_stated() -> None:
    noise = Noise(7, "x")
    draws = [noise.normal(request) for request in range(20_000)]
    assert [Noise(7, "x").normal(request) for request in (19_999, 5)] == [draws[19_999], draws[5]]
    assert np.mean(draws) == pytest.approx(0.0, abs=0.03)
    assert np.std(draws) == pytest.approx(1.0, abs=0.02)
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.03


def met(queue: Queue, facts: Facts, arrivals: list[float]) -> int:
    rules = Rules(slots=2, token_budget=256.0)
    engine = served(queue, rules, list(facts.prompt_tokens), list(facts.output_tokens), arrivals)
    waits = np.subtract(engine.log.first, engine.log.sent)
    return sum(wait <= facts.class_of(request).ttft_s for request, wait in enumerate(waits))


def overload() -> tuple[Facts, list[float]]:
    draw = stream(3, "overload")
    arrivals = np.cumsum(draw.exponential(0.04, 300)).tolist()
    codes = draw.integers(0, 3, 300).tolist()
    return facts_of([40] * 300, [12] * 300, class_code=codes, classes=CLASSES, arrival_s=arrivals), arrivals


def test_under_overload_slack_that_gives_up_the_late_meets_more_objectives_than_deadlines() -> None:
    facts, arrivals = overload()
    aware = met(schedulers.SloAware(facts), facts, arrivals)
    assert aware > 2 * met(schedulers.deadline(facts), facts, arrivals)
    assert aware > 2 * met(schedulers.fcfs(facts), facts, arrivals)


def test_deadlines_are_met_where_first_come_first_served_misses_them() -> None:
    classes = (Promised(0.6, math.inf, math.inf, 0), Promised(30.0, math.inf, math.inf, 0))
    codes = [1] * 30 + [0]
    facts = facts_of([40] * 31, [12] * 31, class_code=codes, classes=classes, arrival_s=[0.0] * 31)
    arrivals = [0.0] * 31
    assert met(schedulers.deadline(facts), facts, arrivals) == 31
    assert met(schedulers.fcfs(facts), facts, arrivals) == 30


# Preemption ----------------------------------------------------------------------------------------------------------


def two_classes(priorities: Sequence[int]) -> dict[str, object]:
    classes = (Promised(math.inf, math.inf, math.inf, 0), Promised(math.inf, math.inf, math.inf, 1))
    return {"class_code": list(priorities), "classes": classes}


def test_an_urgent_request_takes_the_slot_of_a_lesser_one_at_once() -> None:
    prompts, outputs, arrivals = [50] * 5, [200] * 4 + [10], [0.0, 0.0, 0.0, 0.0, 0.5]
    facts = facts_of(prompts, outputs, **two_classes([0, 0, 0, 0, 1]))
    rules = Rules(slots=4, token_budget=256.0, preemption="swap")
    preemptive = served(schedulers.PriorityPreemptive(facts), rules, prompts, outputs, arrivals)
    waiting = served(schedulers.priority(facts), rules, prompts, outputs, arrivals)
    assert preemptive.log.first[4] - 0.5 < 0.05 < waiting.log.first[4] - 0.5
    assert preemptive.log.preempted == {3: 1}, "the youngest of the lowest, and nobody else"


def test_nobody_gives_way_to_an_equal_or_a_lesser_one() -> None:
    prompts, outputs, arrivals = [50] * 8, [100] * 8, [0.1 * i for i in range(8)]
    rules = Rules(slots=2, token_budget=256.0)
    for priorities in ([0] * 8, [1] * 4 + [0] * 4):
        facts = facts_of(prompts, outputs, **two_classes(priorities))
        assert not served(schedulers.PriorityPreemptive(facts), rules, prompts, outputs, arrivals).log.preempted


def test_nobody_gives_way_in_vain() -> None:
    """The urgent prompt would not fit even if the only lesser request left: it waits instead."""
    prompts, outputs, arrivals = [400, 500, 600], [100, 100, 10], [0.0, 0.0, 1.0]
    facts = facts_of(prompts, outputs, **two_classes([1, 0, 1]))
    rules = Rules(slots=8, token_budget=1024.0, cache_tokens=1100.0, cache="reserve")
    log = served(schedulers.PriorityPreemptive(facts), rules, prompts, outputs, arrivals).log
    assert log.preempted == {}
    smaller = served(schedulers.PriorityPreemptive(facts), rules, [400, 500, 400], outputs, arrivals).log
    assert smaller.preempted == {1: 1}


def test_turns_share_a_slot_between_long_requests() -> None:
    prompts, outputs = [20] * 3, [400] * 3
    facts = facts_of(prompts, outputs)
    rules = Rules(slots=1, token_budget=256.0, preemption="swap")
    log = served(schedulers.Rotation(facts, quantum_s=0.2), rules, prompts, outputs, [0.0] * 3).log
    assert max(log.first) < 0.2 * 3 + 0.1, "everyone has begun after a turn of each"
    assert min(log.preempted.values()) >= 10
    assert max(log.last) - min(log.last) < 0.2 * 3 + 0.1, "and all end in the last round"


@pytest.mark.parametrize("preemption", ["swap", "recompute"])
def test_turns_shorter_than_a_prompt_still_end(preemption: str) -> None:
    prompts, outputs = [250] * 6, [5] * 6
    rules = Rules(slots=2, token_budget=64.0, preemption=preemption)
    queue = schedulers.Rotation(facts_of(prompts, outputs), quantum_s=1e-4)
    log = served(queue, rules, prompts, outputs, [0.0] * 6).log
    assert not any(math.isnan(last) for last in log.last)


def test_turns_change_nothing_where_nobody_waits() -> None:
    prompts, outputs = [20] * 4, [50] * 4
    rules = Rules(slots=4, token_budget=256.0)
    turns = served(schedulers.Rotation(facts_of(prompts, outputs), quantum_s=0.01), rules, prompts, outputs, [0.0] * 4)
    plain = served(schedulers.fcfs(facts_of(prompts, outputs)), rules, prompts, outputs, [0.0] * 4)
    assert list(turns.log.last) == list(plain.log.last)
    assert turns.events == plain.events
