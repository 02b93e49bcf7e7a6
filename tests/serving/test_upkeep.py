"""Replicas that fail, and replicas that come and go with the load: no request is lost, and what is bought follows."""

from __future__ import annotations

import numpy as np
import pytest
from tests.serving.test_fleet import LeastLoaded, check, fleet_of, traffic_of

from ridgeline.core.errors import DomainError
from ridgeline.serving.fleet.upkeep import Failures, Scaling, arm_failures
from ridgeline.serving.policies.autoscalers import Concurrency, Fixed, QueueLength
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.record.played import DONE, FAILED, Played
from ridgeline.sim import Simulation

NOBODY = Facts(prompt_tokens=(), output_tokens=())


def up_s(played: Played) -> float:
    return sum(end - start for lane in played.lanes for start, end in lane.alive_s)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lanes", [[3], [2, 2]])
def test_random_failures_lose_no_request(seed: int, lanes: list[int]) -> None:
    control = Simulation(seed=seed)
    fleet = fleet_of(traffic_of(seed, count=200), lanes, router=LeastLoaded(), control=control)
    arm_failures(fleet, control, Failures(mtbf_s=1.5, repair_s=0.4))
    played = fleet.play()
    check(fleet, played)
    assert np.all(played.end == DONE)
    assert sum(len(lane.alive_s) for lane in played.lanes) > len(played.lanes)


def test_failures_cost_time_and_without_retries_requests() -> None:
    outcomes = []
    for failures in (None, Failures(mtbf_s=1.0, repair_s=0.5), Failures(mtbf_s=1.0, repair_s=0.5, retry=False)):
        control = Simulation(seed=1)
        fleet = fleet_of(traffic_of(7, count=300), [2], router=LeastLoaded(), control=control)
        if failures is not None:
            arm_failures(fleet, control, failures)
        played = fleet.play()
        check(fleet, played)
        done = played.end == DONE
        outcomes.append((np.mean((played.last_s - played.arrival_s)[done]), (played.end == FAILED).sum()))
    assert outcomes[1][0] > outcomes[0][0]
    assert [lost for _, lost in outcomes[:2]] == [0, 0]
    assert outcomes[2][1] > 0


def test_failures_of_a_replica_do_not_depend_on_how_many_there_are() -> None:
    downs = []
    for lanes in (2, 4):
        control = Simulation(seed=3)
        fleet = fleet_of(traffic_of(3), [lanes], router=LeastLoaded(), control=control)
        arm_failures(fleet, control, Failures(mtbf_s=0.8, repair_s=0.1))
        downs.append(fleet.play().lanes[0].alive_s[0][1])
    assert downs[0] == pytest.approx(downs[1], abs=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_a_scaled_pool_serves_everyone_with_fewer_replicas(seed: int) -> None:
    traffic = traffic_of(seed, count=400, gap_s=0.05)
    always = fleet_of(traffic, [8], router=LeastLoaded()).play()
    control = Simulation()
    fleet = fleet_of(traffic, [8], router=LeastLoaded(), control=control)
    scaler = QueueLength(NOBODY, target=1.0, minimum=1, maximum=8, interval_s=0.5, cool_down_s=2.0)
    scaling = Scaling(fleet, control, fleet.pools[0], scaler, cold_start_s=0.3)
    played = fleet.play()
    check(fleet, played)
    assert np.all(played.end == DONE)
    assert up_s(played) < 0.8 * up_s(always)
    assert scaling.starts >= scaling.stops


def test_a_longer_cold_start_keeps_first_tokens_waiting() -> None:
    waits = []
    for cold in (0.0, 3.0):
        control = Simulation()
        fleet = fleet_of(traffic_of(2, count=300, gap_s=0.02), [6], router=LeastLoaded(), control=control)
        scaler = Concurrency(NOBODY, target=4.0, minimum=1, maximum=6, interval_s=0.25)
        Scaling(fleet, control, fleet.pools[0], scaler, cold_start_s=cold)
        played = fleet.play()
        check(fleet, played)
        waits.append(np.mean(played.first_s - played.arrival_s))
    assert waits[1] > 1.5 * waits[0]


def test_a_fixed_number_of_replicas_is_that_fleet() -> None:
    control = Simulation()
    traffic = traffic_of(5)
    fleet = fleet_of(traffic, [5], router=LeastLoaded(), control=control)
    Scaling(fleet, control, fleet.pools[0], Fixed(NOBODY, 2), cold_start_s=1.0)
    assert np.array_equal(fleet.play().last_s, fleet_of(traffic, [2], router=LeastLoaded()).play().last_s)


def test_times_that_no_replica_has_are_refused() -> None:
    with pytest.raises(DomainError, match="above 0"):
        Failures(mtbf_s=0.0, repair_s=1.0)
