"""A fleet that runs now does what the same fleet does when it knows all arrivals beforehand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ridgeline.api.simulations.simulate_case import Asked, parted
from ridgeline.core.errors import DomainError
from ridgeline.serving.fleet.build import fleet_of
from ridgeline.serving.fleet.live import Live, expected
from ridgeline.serving.record.played import DONE, REJECTED
from ridgeline.workloads.traffic import Traffic

LONGEST = 4000
CASES: dict[str, dict[str, Any]] = {
    "one": {},
    "replicas": {"replicas": 3},
    "sglang": {"runtime": "sglang"},
    "trtllm": {"runtime": "trtllm", "replicas": 2},
    "small cache": {"memory_frac": 0.265},
    "short first": {"scheduler": "shortest"},
    "disagg": {"mode": "disagg", "prefill_workers": 2, "decode_workers": 1},
    "speculation": {"draft_tokens": 2, "acceptance_frac": 0.6},
    "failures": {"replicas": 2, "failures": "random(mtbf=20s, repair=2s)"},
}


class Told:
    """What a live fleet said."""

    def __init__(self, case: dict[str, Any], traffic: Traffic, places: int = 64) -> None:
        given = {"model": "meta-llama/Llama-3.1-8B", "on": "8x h100-sxm", "replicas": 1, **case}
        on = given.pop("on")
        asked = Asked.of(given)
        usual = expected(int(traffic.prompt_tokens.mean()), int(traffic.output_tokens.mean()), LONGEST, places)
        rest, words, choices = parted({**given, "trace": usual}, plugins=False, keep_runs=False)
        _, plans, _ = asked.pools(words, rest, on=on, plan="")
        self.tokens: dict[int, list[tuple[int, float]]] = {}
        self.ends: dict[int, tuple[int, float]] = {}
        self.number: dict[int, int] = {}
        self.late: list[float] = []
        self.live = Live(plans, usual, choices, on_tokens=self._emitted, on_end=self._ended, lateness=self.late.append)

    def _emitted(self, request: int, tokens: int, due_s: float) -> None:
        self.tokens.setdefault(self.number[request], []).append((tokens, due_s))

    def _ended(self, request: int, how: int, due_s: float) -> None:
        self.ends[self.number[request]] = (how, due_s)

    def play(self, traffic: Traffic, rng: np.random.Generator, tick_s: float) -> None:
        """Real requests at their times, with looks at random times between."""
        now = 0.0
        for i in range(len(traffic)):
            arrival = float(traffic.arrival_s[i])
            while (now := now + float(rng.exponential(tick_s))) < arrival:
                self.live.advance(now)
            now = arrival
            request = self.live.submit(now, int(traffic.prompt_tokens[i]), int(traffic.output_tokens[i]))
            assert request >= 0
            self.number[request] = i
        self.rest(now, len(traffic))

    def rest(self, now: float, count: int) -> None:
        for _ in range(1_000_000):
            if len(self.ends) == count:
                return
            now = self.live.next_s()
            assert now < math.inf, f"{count - len(self.ends)} requests wait for nothing"
            self.live.advance(now)
        raise AssertionError("no end")


def _traffic(rng: np.random.Generator, count: int = 60, rate: float = 6.0) -> Traffic:
    arrivals = np.cumsum(rng.exponential(1 / rate, count))
    return Traffic.of(arrivals, rng.integers(1, 3000, count), rng.integers(1, 300, count))


def _beforehand(case: dict[str, Any], traffic: Traffic, live: Live) -> Any:
    """The same engines, told of all arrivals."""
    given = {"model": "meta-llama/Llama-3.1-8B", "on": "8x h100-sxm", "replicas": 1, **case}
    on = given.pop("on")
    rest, words, choices = parted({**given, "trace": traffic}, plugins=False, keep_runs=True)
    _, plans, _ = Asked.of(given).pools(words, rest, on=on, plan="")
    fleet = fleet_of(plans, traffic, choices=choices).fleet
    for member, twin in zip(fleet.members, live.fleet.members, strict=True):
        member.engine.times, member.engine.rules = twin.engine.times, twin.engine.rules
        member.engine.capacity = member.engine.free = twin.engine.rules.blocks
    for pool, (_, start_s, token_s) in zip([p for p in fleet.pools if p.transfer_s], live._transfers, strict=True):
        pool.transfer_s = [start_s + token_s * tokens for tokens in traffic.prompt_tokens.tolist()]
    return fleet.play()


@pytest.mark.parametrize("name", CASES)
def test_tokens_come_when_the_simulation_says(name: str) -> None:
    rng = np.random.default_rng(len(name))
    traffic = _traffic(rng)
    told = Told(CASES[name], traffic)
    told.play(traffic, rng, tick_s=0.005)
    played = _beforehand(CASES[name], traffic, told.live)
    for i in range(len(traffic)):
        how, ended = told.ends[i]
        assert how == played.end[i]
        if how != DONE:
            continue
        assert ended == pytest.approx(played.last_s[i], rel=1e-9)
        counts = [tokens for tokens, _ in told.tokens[i]]
        assert counts == sorted(set(counts)) and counts[-1] == traffic.output_tokens[i]
        if "failures" not in CASES[name]:  # a retry has a first token of its own
            assert told.tokens[i][0][1] == pytest.approx(played.first_s[i], abs=0.03)
    assert all(late >= 0 for late in told.late)


def test_without_ticks_between_events_no_token_is_late() -> None:
    traffic = _traffic(np.random.default_rng(5), count=10)
    told = Told({}, traffic)
    for i in range(10):
        told.number[told.live.submit(0.0, int(traffic.prompt_tokens[i]), int(traffic.output_tokens[i]))] = i
    told.rest(0.0, 10)
    assert max(told.late) == pytest.approx(0.0, abs=1e-12)
    times = [due for _, due in told.tokens[int(traffic.output_tokens[:10].argmax())]]
    assert times == sorted(times)


@pytest.mark.parametrize("name", ["one", "replicas", "disagg", "small cache", "short first", "failures"])
def test_whoever_leaves_early_frees_the_cache(name: str) -> None:
    rng = np.random.default_rng(3)
    traffic = _traffic(rng, rate=20.0)
    told = Told(CASES[name], traffic)
    now, alive = 0.0, set()
    for i in range(len(traffic)):
        now = float(traffic.arrival_s[i])
        request = told.live.submit(now, int(traffic.prompt_tokens[i]), int(traffic.output_tokens[i]))
        told.number[request] = i
        alive.add(i)
        if rng.random() < 0.5:
            wanted = {number: place for place, number in told.number.items() if number not in told.ends}
            gone = int(rng.choice(sorted(wanted.keys() & alive)))
            told.live.cancel(wanted[gone], now)
            alive.discard(gone)
    told.rest(now, len(alive | told.ends.keys()))
    for _ in range(1000):
        if not told.live.running and not told.live.waiting and told.live.cache_used_frac == 0:
            break
        told.live.advance(min(told.live.next_s(), told.live.now + 1.0))
    assert told.live.running == told.live.waiting == 0
    assert told.live.cache_used_frac == pytest.approx(0.0, abs=1e-9)
    assert len(told.live._free) == 64
    assert not told.live._unwanted and not told.live._leaving


def test_places_are_used_anew_and_run_out() -> None:
    traffic = _traffic(np.random.default_rng(1))
    told = Told({}, traffic, places=3)
    first = [told.live.submit(0.0, 100, 10) for _ in range(3)]
    assert sorted(first) == [0, 1, 2]
    assert told.live.submit(0.0, 100, 10) == -1
    told.number = dict(enumerate(range(3)))
    told.rest(0.0, 3)
    assert told.live.submit(told.live.now, 100, 10) >= 0


def test_what_can_never_be_served_is_refused_at_once() -> None:
    told = Told({"longest": 2000}, _traffic(np.random.default_rng(1)))
    told.number = {63: 0, 62: 0, 0: 0}
    told.live.submit(0.0, 1990, 20)
    assert [how for how, _ in told.ends.values()] == [REJECTED]


def test_a_usual_request_fits_the_longest() -> None:
    with pytest.raises(DomainError, match="usual request"):
        expected(3000, 2000, 4096, 10)
