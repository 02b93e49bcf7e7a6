"""The compiled core: the same numbers as the engine and the fleet in Python, to the last bit."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.serving.test_engine import TIMES, scenario
from tests.serving.test_fleet import RULES, LeastLoaded, check, round_robin, traffic_of

import ridgeline as rl
from ridgeline.core.errors import DomainError, MissingExtraError
from ridgeline.core.seeding import stream
from ridgeline.serving.compiled import play as compiled
from ridgeline.serving.engine.alone import serve
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.prefix import PrefixCache
from ridgeline.serving.engine.queues import Keyed
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.engine.step_table import StepTimes
from ridgeline.serving.fleet.fleet import Fleet
from ridgeline.serving.fleet.members import Member, Pool
from ridgeline.serving.fleet.playing import play
from ridgeline.serving.policies import routers
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.record.played import DONE, REJECTED, UNFINISHED, Played
from ridgeline.sim import Simulation
from ridgeline.workloads.traffic import Traffic

SCENARIOS = 300
ROUTERS = ("RoundRobin", "PowerOfChoices", "LeastLoaded", "Random")
BENT = replace(TIMES, marks=(60.0, 150.0), bends_s=([1e-6, 2e-6, 4e-6], [3e-6, 3e-6, 3e-6]))

needs_numba = pytest.mark.skipif(not compiled.installed(), reason="numba is not installed: pip install ridgeline[jit]")


def case_of(seed: int) -> tuple[StepTimes, Rules, Requests]:
    """A scenario of the engine's tests without what the compiled core leaves to Python, some with speculation."""
    case, draw = scenario(seed), stream(seed, "compiled")
    rules = replace(case.rules, kept_tokens=math.inf, batching="continuous")
    if rules.block_tokens == 1 and draw.random() < 0.4:
        rules = replace(rules, growth=float(draw.choice([1.7, 2.5])))
    times = BENT if draw.random() < 0.3 else TIMES
    if draw.random() < 0.3:
        times = replace(times, captured=(1, 2, 4, 8, 16, 24, 64))
    return times, rules, case.requests


def router_of(name: str) -> Any:
    return getattr(routers, name)(Facts(prompt_tokens=(), output_tokens=(), seed=7))


def traffic_for(requests: Requests) -> Traffic:
    arrivals = requests.arrivals or [0.0] * len(requests.prompts)
    clients = 0 if requests.arrivals else min(requests.clients, len(requests.prompts))
    return Traffic.of(arrivals, np.array(requests.prompts), np.array(requests.outputs), clients=clients)


def fleet_for(
    traffic: Traffic,
    lanes: int,
    router: Any,
    rules: Rules = RULES,
    times: StepTimes = TIMES,
    hits: Any = None,
    keep_runs: bool = True,
    longest_run: int = 1 << 60,
    **rest: Any,
) -> Fleet:
    requests = Requests(prompts=traffic.prompt_tokens.data, outputs=traffic.output_tokens.data, hits=hits)
    log = Log(len(traffic))
    engines = [Engine(times, rules, requests, log, keep_runs=keep_runs, longest_run=longest_run) for _ in range(lanes)]
    members = [Member(engine, replica=i, chips=1.0) for i, engine in enumerate(engines)]
    return Fleet(traffic, requests, log, [Pool(name="serving", members=members, router=router)], **rest)


def assert_equal(one: Played, other: Played) -> None:
    """Every number that a run leaves behind, to the last bit."""
    names = ("arrival_s", "admitted_s", "first_s", "last_s", "found_tokens", "preemptions", "end", "lane")
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name, strict=True)
    assert one.end_s == other.end_s
    for a, b in zip(one.lanes, other.lanes, strict=True):
        np.testing.assert_array_equal(a.runs, b.runs)
        assert (a.busy_s, a.alive_s, a.blocks, a.slots) == (b.busy_s, b.alive_s, b.blocks, b.slots)


def both(*args: Any, until_s: float = math.inf, **rest: Any) -> tuple[Fleet, Fleet, Played]:
    """A fleet played in Python and compiled, with equal results."""
    traffic, lanes, name, *others = args
    python, fast = (fleet_for(traffic, lanes, router_of(name), *others, **rest) for _ in range(2))
    expected, played = play(python, until_s, engine="python"), play(fast, until_s, engine="compiled")
    assert_equal(played, expected)
    for a, b in zip(python.members, fast.members, strict=True):
        for name in ("iteration", "events", "preempted", "waited", "step", "area", "free", "n"):
            assert getattr(a.engine, name) == getattr(b.engine, name), name
    return python, fast, played


@needs_numba
@pytest.mark.parametrize("seed", range(SCENARIOS))
def test_a_compiled_lane_is_the_engine_to_the_bit(seed: int) -> None:
    times, rules, requests = case_of(seed)
    alone = Engine(times, rules, requests, Log(len(requests.prompts)), keep_runs=True)
    serve(alone, requests)
    fleet = fleet_for(traffic_for(requests), 1, round_robin(), rules, times, requests.hits)
    play(fleet, engine="compiled")
    for name in ("sent", "admitted", "first", "last", "preempted", "found"):
        assert getattr(fleet.log, name) == getattr(alone.log, name), name
    assert fleet.members[0].engine.runs == alone.runs


def test_scenarios_reach_every_mechanism() -> None:
    preempted = held = bent = growing = 0
    for seed in range(SCENARIOS):
        times, rules, requests = case_of(seed)
        engine = Engine(times, rules, requests, Log(len(requests.prompts)))
        serve(engine, requests)
        preempted += engine.preempted
        held += engine.rules.wait_steps > 0
        bent += times is BENT
        growing += rules.growth != 1.0
    assert preempted > 40
    assert min(held, bent, growing) > 30


@needs_numba
@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("router", ROUTERS)
def test_a_compiled_fleet_is_the_fleet_to_the_bit(seed: int, router: str) -> None:
    times, rules, _ = case_of(seed)
    draw = stream(seed, "fleets")
    clients = {"clients": int(draw.integers(2, 20))} if draw.random() < 0.4 and router != "Random" else {}
    traffic = traffic_of(seed, gap_s=float(draw.choice([0.002, 0.01, 0.05])), **clients)
    if rules.blocks * rules.block_tokens < 400:
        rules = replace(rules, cache_tokens=500.0)
    _, fast, played = both(traffic, int(draw.integers(2, 8)), router, rules, times)
    check_empty(fast, played)


def check_empty(fleet: Fleet, played: Played) -> None:
    check(fleet, played)
    assert all((member.engine.outstanding, member.engine.promised) == (0, 0) for member in fleet.members)


@needs_numba
@pytest.mark.parametrize("longest", [1, 3])
def test_cuts_of_runs_are_cut_alike(longest: int) -> None:
    both(traffic_of(1), 2, "RoundRobin", longest_run=longest)


@needs_numba
@pytest.mark.parametrize("clients", [0, 7])
@pytest.mark.parametrize("router", ["RoundRobin", "PowerOfChoices"])
def test_what_never_fits_is_rejected_alike(clients: int, router: str) -> None:
    rules = replace(RULES, cache_tokens=320.0)
    traffic = traffic_of(3, **({"clients": clients, "think_s": np.full(120, 0.01)} if clients else {}))
    _, _, played = both(traffic, 3, router, rules, longest=340.0)
    assert set(played.end.tolist()) == {DONE, REJECTED}
    assert np.all((played.end == DONE) == (played.prompt_tokens + played.output_tokens - 1 <= 320))


@needs_numba
def test_a_run_that_is_cut_off_is_cut_off_alike() -> None:
    for until_s in (0.0, 0.5, 1.0, 2.0):
        _, _, played = both(traffic_of(2), 2, "LeastLoaded", until_s=until_s)
        assert UNFINISHED in played.end


@needs_numba
def test_many_requests_go_through_every_slice_and_refill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "SLICE", 1000)
    monkeypatch.setattr(compiled, "ROWS", 300)
    traffic = traffic_of(5, count=6000, gap_s=0.02)
    _, fast, played = both(traffic, 5, "PowerOfChoices")
    check_empty(fast, played)
    told: list[int] = []
    router = router_of("PowerOfChoices")
    play(fleet_for(traffic, 5, router, progress=lambda time, ended: told.append(ended)), engine="compiled")
    assert len(told) > 10
    assert told == sorted(told)
    assert told[-1] == 6000


@needs_numba
def test_runs_are_handed_on_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "ROWS", 100)
    parts: dict[int, list[Any]] = {0: [], 1: []}
    fleet = fleet_for(traffic_of(5), 2, round_robin(), on_runs=lambda lane, runs: parts[lane].append(runs))
    play(fleet, engine="compiled")
    kept = play(fleet_for(traffic_of(5), 2, round_robin()), engine="python")
    for lane, own in parts.items():
        np.testing.assert_array_equal(np.concatenate(own), kept.lanes[lane].runs)


@needs_numba
def test_an_interrupted_run_tells_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "SLICE", 200)

    def stop(time: float, ended: int) -> None:
        if ended > 30:
            raise KeyboardInterrupt

    fleet = fleet_for(traffic_of(2), 2, round_robin(), progress=stop)
    played = play(fleet, engine="compiled")
    assert fleet.interrupted
    assert set(played.end.tolist()) == {DONE, UNFINISHED}


@needs_numba
@pytest.mark.parametrize("keep_runs", [True, False])
def test_a_simulation_answers_the_same_compiled(keep_runs: bool) -> None:
    case = {"model": "meta-llama/Llama-3.1-8B", "on": "2x h100-sxm", "arrivals": "poisson(20/s)", "isl": 800, "osl": 90}
    python, fast = (
        rl.simulate(requests=400, keep_runs=keep_runs, engine=engine, **case) for engine in ("python", "compiled")
    )
    assert_equal(python.played, fast.played)
    one, other = (run.answers.steady.overall for run in (python, fast))
    assert (one.ttft_s, one.tpot_s, one.e2e_s) == (other.ttft_s, other.tpot_s, other.e2e_s)


@needs_numba
def test_where_no_cache_can_be_written_it_compiles_without(monkeypatch: pytest.MonkeyPatch) -> None:
    from ridgeline.serving.compiled import driver

    asked: list[bool] = []

    def njit(*, cache: bool = False, **options: Any) -> Any:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(driver, "njit", njit)
    assert driver._entry("sources").__name__ == "advance"
    assert asked == [True, False]


@needs_numba
def test_an_empty_traffic_ends_at_once() -> None:
    traffic = traffic_of(1).select(np.zeros(120, dtype=bool))
    assert play(fleet_for(traffic, 2, round_robin()), engine="compiled").end_s == 0.0


def odd_fleets() -> dict[str, Fleet]:
    """Fleets that are for Python alone."""
    traffic = traffic_of(1)
    after = np.where(np.arange(120) % 2, np.arange(120) - 1, -1)
    fleets = {
        "written in Python": fleet_for(traffic, 2, LeastLoaded()),
        "besides its load": fleet_for(traffic, 2, round_robin(), control=Simulation()),
        "wait for others": fleet_for(traffic_of(1, after=after), 2, round_robin()),
        "drop tokens": fleet_for(traffic, 1, round_robin(), replace(RULES, kept_tokens=64.0)),
        "only prefill": fleet_for(traffic, 1, round_robin(), replace(RULES, prefill_only=True)),
        "too large": fleet_for(traffic, 1 << 8, round_robin(), replace(RULES, slots=1 << 20)),
        "no lane": fleet_for(traffic, 0, round_robin()),
    }
    for name in ("lanes differ", "first come first served", "cache of prefixes", "is down", "several pools"):
        fleets[name] = fleet_for(traffic, 2, round_robin())
    last = {name: fleet.members[-1] for name, fleet in fleets.items() if fleet.members}
    last["lanes differ"].engine.times = replace(TIMES)
    last["first come first served"].engine.queue = Keyed(lambda request, time: time)
    last["cache of prefixes"].engine.prefix = PrefixCache(lambda request: (), unit_tokens=16, block_tokens=16)
    last["is down"].up = False
    fleets["several pools"].pools *= 2
    return fleets


@pytest.mark.parametrize("reason", sorted(odd_fleets()))
def test_what_is_for_python_alone_is_named(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "installed", lambda: True)
    monkeypatch.setattr(compiled, "MOST_NODES", 1 << 14)
    monkeypatch.setattr(compiled, "WORTH_IT", 1)
    fleet = odd_fleets()[reason]
    assert reason in compiled.why_not(fleet)
    assert not compiled.applies(fleet)
    assert not compiled.chosen(fleet, "auto")
    with pytest.raises(DomainError, match=reason):
        compiled.chosen(fleet, "compiled")


def test_without_numba_auto_plays_in_python_and_compiled_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "installed", lambda: False)
    monkeypatch.setattr(compiled, "WORTH_IT", 1)
    assert not compiled.chosen(fleet_for(traffic_of(1), 1, round_robin()), "auto")
    with pytest.raises(MissingExtraError, match=r"ridgeline\[jit\]"):
        play(fleet_for(traffic_of(1), 1, round_robin()), engine="compiled")


def test_auto_compiles_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "installed", lambda: True)
    fleet = fleet_for(traffic_of(1), 1, round_robin())
    assert not compiled.chosen(fleet, "auto")
    monkeypatch.setattr(compiled, "WORTH_IT", 100)
    assert compiled.chosen(fleet, "auto")
    assert not compiled.chosen(fleet, "python")


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(DomainError, match="engine is one of"):
        play(fleet_for(traffic_of(1), 1, round_robin()), engine="fast")
