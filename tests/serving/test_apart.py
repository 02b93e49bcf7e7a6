"""Lanes played one after the other: the same numbers as from event to event."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.serving.test_compiled import assert_equal, case_of, fleet_for, router_of
from tests.serving.test_fleet import RULES, LeastLoaded, check, traffic_of

from ridgeline.core.errors import DomainError
from ridgeline.serving.fleet import apart
from ridgeline.serving.fleet.fleet import Fleet
from ridgeline.serving.fleet.playing import play
from ridgeline.serving.record.played import DONE, REJECTED, UNFINISHED, Played
from ridgeline.sim import Simulation


def event_by_event(fleet: Fleet, until_s: float = math.inf) -> Played:
    fleet.run_to(until_s)
    return fleet.played()


@pytest.mark.parametrize("router", ["RoundRobin", "Random"])
@pytest.mark.parametrize("seed", range(40))
def test_lanes_apart_are_the_lanes_together(seed: int, router: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "WINDOW", 1 + seed % 7 * 6)
    times, rules, _ = case_of(seed)
    rules = replace(rules, cache_tokens=max(rules.cache_tokens, 500.0))
    one, other = (fleet_for(traffic_of(seed), 3, router_of(router), rules, times) for _ in range(2))
    assert apart.applies(one)
    played = play(one, engine="python")
    assert_equal(played, event_by_event(other))
    check(one, played)


@pytest.mark.parametrize("seed", range(30))
def test_a_single_lane_is_played_apart_whatever_its_router_looks_at(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "WINDOW", 1 + seed % 7 * 6)
    times, rules, _ = case_of(seed)
    rules = replace(rules, cache_tokens=max(rules.cache_tokens, 500.0))
    one, other = (fleet_for(traffic_of(seed), 1, router_of("LeastLoaded"), rules, times) for _ in range(2))
    assert apart.applies(one)
    played = play(one, engine="python")
    assert_equal(played, event_by_event(other))
    check(one, played)


@pytest.mark.parametrize("until_s", [0.0, 0.3, 1.0, 1.7])
@pytest.mark.parametrize("window", [1, 10, 1000])
def test_a_run_that_is_cut_off_is_cut_off_alike(until_s: float, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "WINDOW", window)
    one, other = (fleet_for(traffic_of(2), 2, router_of("RoundRobin")) for _ in range(2))
    played = play(one, until_s, engine="python")
    assert UNFINISHED in played.end
    assert_equal(played, event_by_event(other, until_s))


def test_what_never_fits_is_rejected_alike() -> None:
    rules = replace(RULES, cache_tokens=320.0)
    one, other = (fleet_for(traffic_of(3), 3, router_of("RoundRobin"), rules, longest=340.0) for _ in range(2))
    played = play(one, engine="python")
    assert set(played.end.tolist()) == {DONE, REJECTED}
    assert_equal(played, event_by_event(other))


def test_an_interrupted_run_has_all_lanes_at_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "WINDOW", 8)
    times: list[float] = []

    def stop(time: float, ended: int) -> None:
        times.append(time)
        if len(times) > 3:
            raise KeyboardInterrupt

    fleet = fleet_for(traffic_of(2), 2, router_of("RoundRobin"), progress=stop)
    played = play(fleet, engine="python")
    assert fleet.interrupted
    assert times == sorted(times)
    assert set(played.end.tolist()) == {DONE, UNFINISHED}
    came = played.arrival_s <= times[-1]
    assert np.all(np.isnan(played.arrival_s[~came]))
    assert all(abs(member.engine.t - times[-1]) < 1.0 for member in fleet.members)


class Wrong:
    blind = True

    def route(self, request: int, time: float, lanes: Any) -> int:
        return 7


def test_a_router_that_names_no_lane_is_an_error() -> None:
    with pytest.raises(DomainError, match="not up"):
        play(fleet_for(traffic_of(1), 2, Wrong()), engine="python")


def test_whatever_ties_lanes_is_played_from_event_to_event() -> None:
    traffic, after = traffic_of(1), np.where(np.arange(120) % 2, np.arange(120) - 1, -1)
    down = fleet_for(traffic, 2, router_of("RoundRobin"))
    down.members[1].up = False
    fleets = [
        down,
        fleet_for(traffic, 2, LeastLoaded()),
        fleet_for(traffic, 2, router_of("RoundRobin"), control=Simulation()),
        fleet_for(traffic_of(1, clients=4), 2, router_of("RoundRobin")),
        fleet_for(traffic_of(1, after=after), 2, router_of("RoundRobin")),
        fleet_for(traffic, 0, router_of("RoundRobin")),
    ]
    assert not any(apart.applies(fleet) for fleet in fleets)
