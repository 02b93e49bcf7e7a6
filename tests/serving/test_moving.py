"""Replicas that change between prefill and decode, requests that move while they decode: nothing is lost on the way."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tests.serving.test_fleet import RULES, LeastLoaded, check, fleet_of, traffic_of

from ridgeline.core.errors import DomainError
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.fleet.fleet import Fleet
from ridgeline.serving.fleet.members import Member
from ridgeline.serving.fleet.moving import Changer, Link, Rebalancing, Switching
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.rebalancers import FreeCache, Freeness
from ridgeline.serving.policies.roles import Balance, Kept
from ridgeline.serving.record.played import DONE, Played
from ridgeline.sim import Simulation

NOBODY = Facts(prompt_tokens=(), output_tokens=())


class Swings:
    """Asks for one side and the other in turn."""

    def __init__(self, interval_s: float = 0.4) -> None:
        self.interval_s, self._asked = interval_s, 0

    def decide(self, time: float, prefill: object, decode: object) -> int:
        self._asked += 1
        return 1 + 2 * (self._asked % 2)


def switching(seed: int, own: tuple[int, int], rule: object, *, switch_s: float = 0.1, **rest: object) -> tuple:
    """A fleet whose replicas stand in both pools, `own` of them prefilling and decoding at first."""
    count = sum(own)
    control = Simulation()
    fleet = fleet_of(traffic_of(seed, **rest), [count, count], router=LeastLoaded(), control=control)
    prefill, decode = fleet.pools
    changers = [
        Changer(prefill=[prefill.members[i]], decode=[decode.members[i]], prefills=i < own[0]) for i in range(count)
    ]
    return fleet, Switching(fleet, control, prefill, decode, changers, rule, switch_s=switch_s)


def chips_s(played: Played) -> float:
    return sum(lane.chips * (end - start) for lane in played.lanes for start, end in lane.alive_s)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("own", [(1, 3), (3, 1), (2, 2)])
def test_replicas_that_change_roles_lose_no_request_and_keep_their_chips(seed: int, own: tuple[int, int]) -> None:
    fleet, roles = switching(seed, own, Swings(), count=200, gap_s=0.02)
    played = fleet.play()
    check(fleet, played)
    assert np.all(played.end == DONE)
    assert roles.switches > 1
    assert chips_s(played) == pytest.approx(4 * played.end_s, rel=0.02)
    for i in range(4):
        spans = sorted([*played.lanes[i].alive_s, *played.lanes[4 + i].alive_s])
        assert all(end <= start + 1e-9 for (_, end), (start, _) in pairwise(spans))


def test_replicas_that_keep_their_roles_are_two_plain_pools() -> None:
    fleet, roles = switching(3, (1, 2), Kept(NOBODY, interval_s=0.5))
    plain = fleet_of(traffic_of(3), [1, 2], router=LeastLoaded()).play()
    played = fleet.play()
    assert roles.switches == 0
    assert np.array_equal(played.last_s, plain.last_s)


def test_a_side_that_is_short_gets_replicas() -> None:
    still, _ = switching(1, (1, 5), Kept(NOBODY), count=400, gap_s=0.004)
    moved, roles = switching(1, (1, 5), Balance(NOBODY, interval_s=0.2), count=400, gap_s=0.004)
    waits = [np.mean((played := fleet.play()).first_s - played.arrival_s) for fleet in (still, moved)]
    assert roles.switches
    assert waits[1] < waits[0]


def rebalanced(seed: int, rule: object, link: Link, lanes: int = 3) -> tuple[Fleet, Rebalancing]:
    control = Simulation()
    fleet = fleet_of(traffic_of(seed, count=250, gap_s=0.02), [lanes], control=control)
    return fleet, Rebalancing(fleet, control, fleet.pools[0], rule, link)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("link", [Link(), Link(latency_s=0.01, token_s=1e-5)])
def test_requests_that_move_all_end(seed: int, link: Link) -> None:
    fleet, moving = rebalanced(seed, FreeCache(NOBODY, interval_s=0.05, apart_frac=0.05), link)
    played = fleet.play()
    check(fleet, played)
    assert np.all(played.end == DONE)
    assert moving.moves


def test_a_lane_that_fails_while_requests_move_to_it_loses_none() -> None:
    for seed in range(8):
        fleet, moving = rebalanced(seed, FreeCache(NOBODY, interval_s=0.05, apart_frac=0.05), Link(latency_s=0.05))
        control = fleet.control
        assert control is not None
        for at in (0.5, 1.0, 1.5):
            control.schedule_at(at, fleet.fail, fleet.members[1], at)
            control.schedule_at(at + 0.2, fleet.start, fleet.members[1], at + 0.2)
        played = fleet.play()
        check(fleet, played)
        assert np.all(played.end == DONE)
        assert moving.moves


def test_moving_evens_out_caches_under_a_blind_router() -> None:
    spread = []
    for apart in (0.05, 1.0):
        fleet, _ = rebalanced(5, FreeCache(NOBODY, interval_s=0.02, apart_frac=apart), Link(latency_s=1e-4), lanes=2)
        played = fleet.play()
        used = [float(lane.runs["used_blocks"].max()) for lane in played.lanes]
        spread.append(max(used))
    assert spread[0] <= spread[1]


def test_freeness_takes_from_lanes_that_fill_soon() -> None:
    fleet, _ = rebalanced(2, FreeCache(NOBODY), Link())
    lanes = [
        Member(Engine(each.engine.times, RULES, each.engine.requests, each.engine.log), replica=0, chips=1.0)
        for each in fleet.members
    ]
    lanes[0].engine.running = dict.fromkeys(range(8), (1, 1, 0))
    lanes[0].engine.free = 10.0
    rule = Freeness(NOBODY, low=50, high=200)
    assert list(rule.decide(0.0, lanes)) == [(0, 2)]


def test_times_that_cannot_be_are_refused() -> None:
    with pytest.raises(DomainError):
        switching(1, (1, 1), Kept(NOBODY), switch_s=float("inf"))
    with pytest.raises(DomainError):
        Balance(NOBODY, used_frac=1.5)
    with pytest.raises(DomainError):
        FreeCache(NOBODY, interval_s=0.0)
