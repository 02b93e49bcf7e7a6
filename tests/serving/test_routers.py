"""Routers: each equal to its plain definition, even where the law says even, and deaf to what it must not hear."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.serving.policies import routers
from ridgeline.serving.policies.facts import Facts

LANES = 20


@dataclass
class Lane:
    """A lane of a test: loads are set, prefixes are kept whole."""

    up: bool = True
    waiting: int = 0
    running: int = 0
    pending_tokens: float = 0.0
    free_blocks: float = 1000.0
    capacity_blocks: float = 1000.0
    block_tokens: int = 1
    groups: set[int] = field(default_factory=set)
    group: dict[int, int] = field(default_factory=dict)

    @property
    def load(self) -> int:
        return self.waiting + self.running

    def found_tokens(self, request: int) -> int:
        return 800 if self.group.get(request) in self.groups else 0


def facts(count: int = 1000, **columns: object) -> Facts:
    return Facts(prompt_tokens=[1000] * count, output_tokens=[10] * count, **columns)


def send(router: routers.Router, lanes: list[Lane], count: int) -> list[int]:
    """Requests that stay where they are sent."""
    chosen = []
    for request in range(count):
        index = router.route(request, float(request), lanes)
        lanes[index].running += 1
        if hasattr(router, "changed"):
            router.changed(index, lanes[index].load)
        chosen.append(index)
    return chosen


def test_round_robin_passes_over_lanes_that_are_down() -> None:
    lanes = [Lane() for _ in range(4)]
    lanes[2].up = False
    assert send(routers.RoundRobin(facts()), lanes, 7) == [0, 1, 3, 0, 1, 3, 0]


@pytest.mark.parametrize(
    "make",
    [
        routers.RoundRobin,
        routers.Random,
        routers.LeastLoaded,
        routers.PowerOfChoices,
        routers.LeastTokens,
        routers.Freest,
        routers.Session,
        routers.Prefix,
        routers.PrefixCost,
        lambda facts: routers.Weighted(facts, 1.0, 2.0),
    ],
)
def test_only_lanes_that_are_up_are_chosen(make: object) -> None:
    router = make(facts())
    lanes = [Lane(up=False) for _ in range(LANES)]
    lanes[13].up = True
    assert set(send(router, lanes, 50)) == {13}
    lanes[13].up = False
    with pytest.raises(DomainError, match="no lane is up"):
        router.route(0, 0.0, lanes)
    lanes[4].up = True
    assert set(send(router, lanes, 5)) == {4}


@pytest.mark.parametrize("seed", range(10))
def test_least_loaded_equals_a_scan(seed: int) -> None:
    """Loads that rise and fall, lanes that fail and come back, and new ones."""
    draw, router = stream(seed, "scan"), routers.LeastLoaded(facts())
    lanes = [Lane() for _ in range(5)]
    for step in range(3000):
        dice = draw.random()
        index = int(draw.integers(len(lanes)))
        if dice < 0.5:
            expected = min((lane.load, i) for i, lane in enumerate(lanes) if lane.up)[1]
            assert router.route(step, float(step), lanes) == expected
            lanes[expected].running += 1
            router.changed(expected, lanes[expected].load)
        elif dice < 0.9:
            lanes[index].running = max(lanes[index].running - int(draw.integers(1, 3)), 0)
            router.changed(index, lanes[index].load)
        elif dice < 0.98:
            lanes[index].up = not lanes[index].up
            lanes[(index + 1) % len(lanes)].up = True
        elif len(lanes) < 30:
            lanes.append(Lane(running=int(draw.integers(3))))
    assert len(router._heap) <= 8 * len(lanes) + 64 + len(lanes)


def test_two_choices_balance_better_than_one_and_worse_than_all() -> None:
    def most(router: routers.Router) -> int:
        lanes = [Lane() for _ in range(100)]
        send(router, lanes, 10_000)
        return max(lane.load for lane in lanes)

    one, two = most(routers.Random(facts())), most(routers.PowerOfChoices(facts()))
    four, every = most(routers.PowerOfChoices(facts(), choices=4)), most(routers.LeastLoaded(facts()))
    assert every == 100 < four <= two < 106 < 120 < one


def test_power_of_choices_draws_different_lanes() -> None:
    """With as many choices as lanes it is the least loaded of all."""
    lanes = [Lane(running=5) for _ in range(6)]
    lanes[3].running = 1
    router = routers.PowerOfChoices(facts(), choices=9)
    assert {router.route(request, 0.0, lanes) for request in range(200)} == {3}
    with pytest.raises(DomainError):
        routers.PowerOfChoices(facts(), choices=0)


def test_random_is_even_and_the_same_for_the_same_seed() -> None:
    runs = [send(routers.Random(facts(seed=seed)), [Lane() for _ in range(LANES)], 8000) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    counts = np.bincount(runs[0], minlength=LANES)
    chi_square = float(((counts - 400.0) ** 2 / 400.0).sum())
    assert chi_square < 43.8, "0.1 % point of chi-square with 19 degrees of freedom"


def test_fewest_tokens_to_compute_is_chosen() -> None:
    lanes = [Lane(pending_tokens=t, running=r) for t, r in ((50, 0), (10, 9), (10, 3), (900, 0))]
    assert routers.LeastTokens(facts()).route(0, 0.0, lanes) == 2


def test_the_cache_that_lasts_longest_is_chosen() -> None:
    prompt = sum(facts().prompt_tokens) / len(facts())
    lanes = [
        Lane(free_blocks=f, running=r, waiting=w) for f, r, w in ((90, 30, 0), (50, 5, 0), (90, 5, 0), (90, 5, 40))
    ]
    best = max(range(4), key=lambda i: routers.freeness(lanes[i], prompt))
    assert routers.Freest(facts()).route(0, 0.0, lanes) == best == 2
    assert routers.freeness(lanes[3], prompt) < routers.freeness(lanes[2], prompt)


# Sessions ------------------------------------------------------------------------------------------------------------


def owners(count: int, down: int = -1) -> list[int]:
    router = routers.Session(facts(2000, session=list(range(2000))))
    lanes = [Lane(up=index != down) for index in range(count)]
    return [router.route(request, 0.0, lanes) for request in range(2000)]


def test_a_session_stays_on_its_lane_and_sessions_spread() -> None:
    sessions = [int(s) for s in stream(0, "sessions").integers(0, 300, 3000)]
    chosen = send(routers.Session(facts(3000, session=sessions)), [Lane() for _ in range(LANES)], 3000)
    homes: dict[int, set[int]] = {}
    for session, lane in zip(sessions, chosen, strict=True):
        homes.setdefault(session, set()).add(lane)
    assert all(len(lanes) == 1 for lanes in homes.values())
    counts = np.bincount(owners(10), minlength=10)
    assert 0.7 * 200 < counts.min() < counts.max() < 1.35 * 200


def test_a_lane_more_or_less_moves_only_its_own_sessions() -> None:
    before, after, without = owners(10), owners(11), owners(10, down=4)
    moved = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert {b for _, b in moved} == {10}
    assert 0.5 / 11 < len(moved) / 2000 < 1.5 / 11
    assert all(a == b for a, b in zip(before, without, strict=True) if a != 4)
    assert len({b for a, b in zip(before, without, strict=True) if a == 4}) > 4, "its sessions do not fall on one lane"


def test_session_hashes_are_the_same_on_every_machine() -> None:
    assert owners(10)[:8] == [2, 2, 7, 5, 3, 0, 4, 8]


# Prefixes ------------------------------------------------------------------------------------------------------------


def hits(router: routers.Router, count: int = 2000) -> tuple[int, list[Lane]]:
    """Requests that find their prefix, where each of twenty lanes keeps the last ten of sixty groups."""
    group = {r: int(g) for r, g in enumerate(stream(0, "groups").integers(0, 60, count))}
    lanes = [Lane(group=group) for _ in range(LANES)]
    kept: list[list[int]] = [[] for _ in lanes]
    found = 0
    for request in range(count):
        index = router.route(request, 0.0, lanes)
        lane, order = lanes[index], kept[index]
        found += lane.found_tokens(request) > 0
        if group[request] in order:
            order.remove(group[request])
        order.append(group[request])
        lane.groups = set(order[-10:])
        lane.free_blocks = 1000.0 - len(lane.groups)
        lane.running += 1
        lanes[(request * 7) % LANES].running = max(lanes[(request * 7) % LANES].running - 1, 0)
    return found, lanes


def test_prefix_routers_find_more_than_random() -> None:
    blind, _ = hits(routers.Random(facts(2000)))
    for router in (routers.Prefix(facts(2000)), routers.PrefixCost(facts(2000))):
        found, _ = hits(router)
        assert found > 1.5 * blind


def test_prefix_gives_way_to_balance() -> None:
    group = {0: 1}
    lanes = [Lane(groups={1}, group=group, running=80), *(Lane(group=group, running=30) for _ in range(3))]
    assert routers.Prefix(facts()).route(0, 0.0, lanes) == 0, "50 requests apart is not far enough"
    lanes[0].running = 120
    assert routers.Prefix(facts()).route(0, 0.0, lanes) == 1
    assert routers.Prefix(facts(), balance_requests=200).route(0, 0.0, lanes) == 0
    assert routers.Prefix(facts(), least_frac=0.9, balance_requests=200).route(0, 0.0, lanes) != 0


def test_cost_weighs_what_is_found_against_what_is_in_use() -> None:
    group = {0: 1}
    lanes = [Lane(groups={1}, group=group, free_blocks=500.0), Lane(group=group)]
    assert routers.PrefixCost(facts()).route(0, 0.0, lanes) == 0, "800 tokens found, 500 more in use"
    assert routers.PrefixCost(facts(), overlap=0.5).route(0, 0.0, lanes) == 1
    lanes[0].block_tokens = lanes[1].block_tokens = 2
    assert routers.PrefixCost(facts()).route(0, 0.0, lanes) == 1


# Weights -------------------------------------------------------------------------------------------------------------


def test_weighted_shares_are_in_proportion_and_even_in_time() -> None:
    chosen = send(routers.Weighted(facts(), 5.0, 1.0, 2.0), [Lane() for _ in range(3)], 800)
    assert np.bincount(chosen).tolist() == [500, 100, 200]
    for start in range(0, 800, 80):
        part = np.bincount(chosen[start : start + 80], minlength=3)
        assert np.all(np.abs(part - [50, 10, 20]) <= 1)


def test_weights_repeat_over_more_lanes_and_refuse_nonsense() -> None:
    chosen = send(routers.Weighted(facts(), 3.0, 1.0), [Lane() for _ in range(4)], 800)
    assert np.allclose(np.bincount(chosen), [300, 100, 300, 100], atol=2)
    for weights in ((), (0.0,), (1.0, -1.0), (math.inf,), (math.nan,)):
        with pytest.raises(DomainError):
            routers.Weighted(facts(), *weights)
