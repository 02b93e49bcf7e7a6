"""Fleets: as their replicas alone where nothing ties them, and no request lost or doubled whatever happens to them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.serving.test_engine import EXACT, TIMES, scenario

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.serving.engine.alone import serve
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.fleet.fleet import Fleet
from ridgeline.serving.fleet.members import Member, Pool
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.routers import RoundRobin
from ridgeline.serving.record.played import DONE, FAILED, REJECTED, UNFINISHED, Played
from ridgeline.sim import Simulation
from ridgeline.workloads.traffic import Traffic


def round_robin() -> RoundRobin:
    return RoundRobin(Facts(prompt_tokens=(), output_tokens=()))


RULES = Rules(slots=8, token_budget=200.0, cache_tokens=4000.0, block_tokens=16)


class LeastLoaded:
    """Of the lanes that are up, the first with the fewest requests."""

    def route(self, request: int, time: float, lanes: Sequence[Member]) -> int:
        return min((lane.load, i) for i, lane in enumerate(lanes) if lane.up)[1]


def traffic_of(seed: int, count: int = 120, gap_s: float = 0.03, **rest: Any) -> Traffic:
    draw = stream(seed, "fleet")
    arrivals = np.cumsum(draw.exponential(gap_s, count))
    prompts, outputs = draw.integers(1, 300, count), draw.integers(1, 80, count)
    return Traffic.of(arrivals if "clients" not in rest else np.zeros(count), prompts, outputs, **rest)


def fleet_of(traffic: Traffic, lanes: Sequence[int], rules: Rules = RULES, router: Any = None, **rest: Any) -> Fleet:
    """`lanes` per pool: one number, or prefill and decode."""
    requests = Requests(
        prompts=array("q", traffic.prompt_tokens.tolist()), outputs=array("q", traffic.output_tokens.tolist())
    )
    log = Log(len(traffic))
    pools: list[Pool] = []
    for i, count in reversed(list(enumerate(lanes))):
        own = replace(rules, prefill_only=len(lanes) > 1 and i == 0)
        members = [
            Member(Engine(TIMES, own, requests, log, keep_runs=True), replica=r, chips=1.0) for r in range(count)
        ]
        pool = Pool(name=f"pool{i}", members=members, router=router or round_robin())
        if pools:
            pool.passes_to, pool.transfer_s = pools[0], [1e-5 * p for p in requests.prompts]
        pools.insert(0, pool)
    return Fleet(traffic, requests, log, pools, **rest)


def check(fleet: Fleet, played: Played) -> None:
    """What holds in every run: each request ends once, in order, and every lane is empty."""
    assert np.all(np.isin(played.end, [DONE, REJECTED, FAILED]))
    done = played.end == DONE
    for earlier, later in (("arrival_s", "admitted_s"), ("admitted_s", "first_s"), ("first_s", "last_s")):
        assert np.all(getattr(played, earlier)[done] <= getattr(played, later)[done] + EXACT)
    assert np.all(played.lane[done] >= 0)
    for member in fleet.members:
        engine = member.engine
        assert not any((engine.running, engine.queue, engine.redo, engine.ready, engine.parked))
        assert engine.free == pytest.approx(engine.capacity)
    assert fleet.ended == len(played.end)


@pytest.mark.parametrize("seed", range(40))
def test_a_fleet_of_one_is_its_engine(seed: int) -> None:
    case = scenario(seed)
    requests = replace(case.requests, hits=None)
    arrivals = requests.arrivals or [0.0] * len(requests.prompts)
    clients = 0 if requests.arrivals else min(requests.clients, len(requests.prompts))
    traffic = Traffic.of(arrivals, np.array(requests.prompts), np.array(requests.outputs), clients=clients)
    alone = Engine(TIMES, case.rules, requests, Log(len(requests.prompts)))
    serve(alone, requests)
    played = fleet_of(traffic, [1], case.rules).play()
    np.testing.assert_allclose(played.last_s, alone.log.last, rtol=EXACT)
    np.testing.assert_allclose(played.first_s, alone.log.first, rtol=EXACT)


@pytest.mark.parametrize("seed", range(10))
def test_under_round_robin_replicas_are_as_if_alone(seed: int) -> None:
    traffic, lanes = traffic_of(seed), 3
    played = fleet_of(traffic, [lanes]).play()
    for lane in range(lanes):
        mine = np.arange(len(traffic)) % lanes == lane
        alone = fleet_of(traffic.select(mine), [1]).play()
        assert np.array_equal(played.last_s[mine], alone.last_s)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("lanes", [[1], [3], [1, 1], [2, 3]])
@pytest.mark.parametrize("router", [round_robin, LeastLoaded])
def test_every_request_ends_once(seed: int, lanes: list[int], router: Any) -> None:
    fleet = fleet_of(traffic_of(seed), lanes, router=router())
    played = fleet.play()
    check(fleet, played)
    assert np.all(played.end == DONE)
    decoded = sum((lane.runs["iterations"] * lane.runs["sequences"]).sum() for lane in played.lanes)
    if not played.preemptions.any():
        assert decoded == (played.output_tokens - 1).sum()


def test_least_loaded_beats_round_robin_when_lengths_vary() -> None:
    traffic = traffic_of(1, count=400, gap_s=0.02)
    waits = [
        np.mean(fleet_of(traffic, [4], router=router).play().first_s - traffic.arrival_s)
        for router in (round_robin(), LeastLoaded())
    ]
    assert waits[1] < waits[0]


def test_a_closed_loop_keeps_its_clients_in_flight() -> None:
    traffic = traffic_of(3, count=200, clients=12)
    fleet = fleet_of(traffic, [3], router=LeastLoaded())
    played = fleet.play()
    check(fleet, played)
    times = np.sort(np.concatenate([played.arrival_s, played.last_s]))[20:-40:10]
    flying = [(played.arrival_s <= t).sum() - (played.last_s <= t).sum() for t in times]
    assert max(flying) <= 12
    assert min(flying) >= 11


def test_a_turn_arrives_when_the_one_before_is_answered_and_read() -> None:
    count = 60
    after = np.where(np.arange(count) % 3 > 0, np.arange(count) - 1, -1)
    think = np.where(after >= 0, 0.5, 0.0)
    traffic = traffic_of(4, count=count, after=after, think_s=think)
    played = fleet_of(traffic, [2]).play()
    turns = after >= 0
    np.testing.assert_allclose(played.arrival_s[turns], played.last_s[after[turns]] + 0.5, rtol=EXACT)
    np.testing.assert_array_equal(played.arrival_s[~turns], traffic.arrival_s[~turns])


def test_a_transfer_delays_the_first_token_by_its_time() -> None:
    traffic = Traffic.of([0.0], 200, 50)
    fleet, together = fleet_of(traffic, [1, 1]), fleet_of(traffic, [1])
    apart, alone = fleet.play(), together.play()
    assert apart.first_s[0] == pytest.approx(alone.first_s[0] + 1e-5 * 200, rel=EXACT)
    assert apart.last_s[0] - apart.first_s[0] == pytest.approx(alone.last_s[0] - alone.first_s[0], rel=EXACT)


def test_separate_pools_spare_decoding_the_prompts_of_others() -> None:
    played = fleet_of(traffic_of(5, count=300), [1, 2]).play()
    prefill, *decode = played.lanes
    assert not prefill.runs["sequences"].any()
    assert (prefill.runs["iterations"] * prefill.runs["prompt_tokens"]).sum() == played.prompt_tokens.sum()
    assert all(not lane.runs["prompts"].any() for lane in decode)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("lanes", [[3], [2, 2]])
def test_failures_lose_no_request(seed: int, lanes: list[int]) -> None:
    control = Simulation()
    fleet = fleet_of(traffic_of(seed), lanes, router=LeastLoaded(), control=control)
    for member, at in ((fleet.members[0], 0.7), (fleet.members[-1], 1.3)):
        control.schedule_at(at, fleet.fail, member, at)
        control.schedule_at(at + 0.5, fleet.start, member, at + 0.5)
    played = fleet.play()
    check(fleet, played)
    assert np.all(played.end == DONE)
    assert played.lanes[0].alive_s[0] == pytest.approx((0.0, 0.7), abs=0.1)


def test_without_retries_a_failure_gives_up_what_the_lane_had() -> None:
    control = Simulation()
    fleet = fleet_of(traffic_of(1), [2], control=control)
    control.schedule_at(1.0, lambda: fleet.fail(fleet.members[0], 1.0, retry=False))
    played = fleet.play()
    check(fleet, played)
    failed = played.end == FAILED
    assert 0 < failed.sum() <= 20
    assert np.all(played.arrival_s[failed] <= 1.0)


@pytest.mark.parametrize("seed", range(8))
def test_a_drained_lane_finishes_what_runs_and_hands_on_what_waits(seed: int) -> None:
    control = Simulation()
    fleet = fleet_of(traffic_of(seed, gap_s=0.01), [3], router=LeastLoaded(), control=control)
    control.schedule_at(0.6, fleet.drain, fleet.members[1], 0.6)
    played = fleet.play()
    check(fleet, played)
    assert np.all(played.end == DONE)
    later = played.admitted_s > 0.6
    assert not np.any(played.lane[later] == 1)
    assert played.lanes[1].alive_s[0][1] < played.end_s


@pytest.mark.parametrize("seed", range(8))
def test_a_migrated_request_goes_on_elsewhere(seed: int) -> None:
    control = Simulation()
    fleet = fleet_of(traffic_of(seed, gap_s=0.05), [2], control=control)

    def move() -> None:
        source, target = fleet.members
        decoding = sorted(source.engine.joined)
        if decoding:
            fleet.migrate(decoding[0], source, target, control.now_s, 0.02)
            moved.append(decoding[0])

    moved: list[int] = []
    for at in (0.5, 1.0, 1.5, 2.0):
        control.schedule_at(at, move)
    played = fleet.play()
    check(fleet, played)
    assert moved
    assert np.all(played.end == DONE)
    assert any(played.lane[request] == 1 for request in moved)


def test_requests_that_can_never_fit_are_rejected_and_the_rest_served() -> None:
    prompts = [100, 5000, 100, 100]
    fleet = fleet_of(Traffic.of([0.0, 0.1, 0.2, 0.3], prompts, 10), [1], longest=4500)
    played = fleet.play()
    assert played.end.tolist() == [DONE, REJECTED, DONE, DONE]


def test_a_run_that_is_cut_off_tells_what_is_unfinished() -> None:
    played = fleet_of(traffic_of(2), [1]).play(until_s=1.0)
    assert set(played.end.tolist()) == {DONE, UNFINISHED}
    assert np.all(np.isnan(played.last_s[played.end == UNFINISHED]))
    assert played.end_s <= 1.0 + EXACT


def test_with_no_lane_up_requests_wait_and_the_run_ends() -> None:
    fleet = fleet_of(traffic_of(2, count=5), [1])
    fleet.members[0].up = False
    played = fleet.play()
    assert np.all(played.end == UNFINISHED)


def test_a_router_that_names_no_lane_is_an_error() -> None:
    class Wrong:
        def route(self, request: int, time: float, lanes: Sequence[Member]) -> int:
            return 7

    with pytest.raises(DomainError, match="not up"):
        fleet_of(traffic_of(1), [2], router=Wrong()).play()


def test_time_in_iterations_is_the_time_of_the_runs() -> None:
    played = fleet_of(traffic_of(6), [2]).play()
    for lane in played.lanes:
        k = lane.runs["iterations"]
        assert (k * lane.runs["first_s"] + lane.runs["rise_s"] * k * (k - 1) / 2).sum() == pytest.approx(lane.busy_s)
        assert lane.busy_s <= sum(end - start for start, end in lane.alive_s) + EXACT
    assert math.isfinite(played.end_s)
