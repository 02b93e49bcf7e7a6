"""The event-skipping engine: equal to an eager reference, indifferent to cuts, and right in its limits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.serving.reference import simulate

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.serving.engine import Engine, steps_until
from ridgeline.serving.rules import CACHES, POLICIES, Record, Requests, Rules
from ridgeline.serving.step_table import StepTimes

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


def scenario(seed: int) -> tuple[Rules, Requests]:
    """A random engine under a random load: long and short prompts, scarce caches, lags, waits, front ends."""
    draw = stream(seed, "scenario")
    count = int(draw.integers(1, 40))
    prompts = draw.integers(1, 300, count)
    outputs = draw.integers(1, 80, count)
    scarce = draw.random() < 0.6
    longest = int((prompts + outputs).max())
    rules = Rules(
        slots=int(draw.integers(1, 20)),
        token_budget=float(draw.integers(24, 400)),
        prompts=str(draw.choice(POLICIES)),
        cache=str(draw.choice(CACHES)),
        cache_tokens=longest * float(draw.uniform(1.0, 4.0)) // 1 if scarce else math.inf,
        lag=float(draw.choice([0.0, 0.5, 1.0, 1.5, 2.0])),
        wait_steps=int(draw.choice([0, 0, 5])),
        wait_frac=float(draw.uniform(0.2, 1.0)),
        front_end_s=float(draw.choice([0.0, 0.0, 4e-4, 2e-3])),
    )
    closed = draw.random() < 0.6
    gaps = draw.exponential(0.05, count)
    return rules, Requests(
        prompts=prompts.tolist(),
        outputs=outputs.tolist(),
        hits=[int(h) if draw.random() < 0.3 else 0 for h in draw.integers(0, prompts)],
        clients=int(draw.integers(1, 16)),
        arrivals=None if closed else np.cumsum(gaps).tolist(),
    )


@pytest.mark.parametrize("seed", range(SCENARIOS))
def test_engine_equals_the_eager_reference(seed: int) -> None:
    rules, requests = scenario(seed)
    expected = simulate(TIMES, rules, requests)
    record = Engine(TIMES, rules, requests).run()
    np.testing.assert_allclose(record.sent_s, [s.sent for s in expected], rtol=EXACT, atol=EXACT)
    np.testing.assert_allclose(record.first_s, [s.first for s in expected], rtol=EXACT)
    np.testing.assert_allclose(record.last_s, [s.last for s in expected], rtol=EXACT)


def test_scenarios_reach_every_mechanism() -> None:
    records = [Engine(TIMES, *scenario(seed)).run() for seed in range(SCENARIOS)]
    assert sum(record.preempted for record in records) > 20
    assert sum(record.iterations for record in records) > 2 * sum(record.events for record in records)


@pytest.mark.parametrize("seed", range(0, SCENARIOS, 3))
@pytest.mark.parametrize("longest", [1, 3])
def test_cuts_of_runs_change_nothing(seed: int, longest: int) -> None:
    rules, requests = scenario(seed)
    whole, cut = Engine(TIMES, rules, requests).run(), Engine(TIMES, rules, requests, longest_run=longest).run()
    assert cut.iterations == whole.iterations
    assert cut.preempted == whole.preempted
    np.testing.assert_allclose(cut.last_s, whole.last_s, rtol=EXACT)


@pytest.mark.parametrize("seed", range(0, SCENARIOS, 5))
def test_all_requests_end_and_give_back_what_they_held(seed: int) -> None:
    rules, requests = scenario(seed)
    engine = Engine(TIMES, rules, requests)
    record = engine.run()
    assert not any(math.isnan(x) for x in (*record.sent_s, *record.first_s, *record.last_s))
    assert all(s < f <= e for s, f, e in zip(record.sent_s, record.first_s, record.last_s, strict=True))
    if math.isfinite(rules.cache_tokens):
        assert engine.free == pytest.approx(rules.cache_tokens)
    assert (engine.n, engine.outstanding) == (0, 0.0)
    assert engine.offset == pytest.approx(0.0, abs=1e-6)


def test_one_client_pays_its_prefill_and_then_each_decode_iteration() -> None:
    requests = Requests(prompts=[200, 120], outputs=[50, 30], hits=[0, 0], clients=1)
    record = Engine(TIMES, Rules(slots=4, token_budget=1000.0, lag=2.0), requests).run()
    t = 0.0
    for i, (prompt, output) in enumerate(zip(requests.prompts, requests.outputs, strict=True)):
        t += TIMES.mixed(0, 0.0, [(prompt, 0.0)])
        assert record.first_s[i] == pytest.approx(t, rel=EXACT)
        base, slope = TIMES.decode(1)
        t += sum(base + slope * (prompt + j) for j in range(1, output))
        assert record.last_s[i] == pytest.approx(t, rel=EXACT)


def test_a_lag_delays_first_tokens_of_a_closed_loop_by_so_many_iterations() -> None:
    def first(lag: float) -> Record:
        requests = Requests(prompts=[50] * 40, outputs=[30 + i % 7 for i in range(40)], hits=[0] * 40, clients=6)
        return Engine(TIMES, Rules(slots=6, token_budget=1000.0, lag=lag), requests).run()

    waits = [np.mean(np.subtract(r.first_s, r.sent_s)[6:]) for r in (first(0.0), first(1.0), first(2.0))]
    iteration = TIMES.decode(5)[0]
    assert waits[1] - waits[0] == pytest.approx(iteration, rel=0.3)
    assert waits[2] - waits[1] == pytest.approx(iteration, rel=0.3)


def test_a_front_end_bounds_the_token_rate() -> None:
    requests = Requests(prompts=[20] * 200, outputs=[60] * 200, hits=[0] * 200, clients=30)
    limit_s = 1e-3
    record = Engine(TIMES, Rules(slots=32, token_budget=1000.0, front_end_s=limit_s), requests).run()
    rate = 200 * 60 / max(record.last_s)
    assert 0.9 / limit_s < rate <= 1.0 / limit_s


def test_scarce_cache_makes_requests_wait_and_never_overflows() -> None:
    requests = Requests(prompts=[100] * 60, outputs=[50] * 60, hits=[0] * 60, clients=20)
    rules = Rules(slots=32, token_budget=1000.0, cache="reserve", cache_tokens=600.0)
    scarce, ample = Engine(TIMES, rules, requests), Engine(TIMES, replace(rules, cache_tokens=math.inf), requests)
    scarce_record, ample_record = scarce.run(), ample.run()
    assert np.mean(np.subtract(scarce_record.first_s, scarce_record.sent_s)) > 3 * np.mean(
        np.subtract(ample_record.first_s, ample_record.sent_s)
    )
    assert scarce_record.decode_area / scarce_record.end_s <= 4.0


def test_a_request_longer_than_the_cache_is_refused() -> None:
    requests = Requests(prompts=[100], outputs=[50], hits=[0])
    with pytest.raises(DomainError, match="longer than the cache"):
        Engine(TIMES, Rules(slots=1, token_budget=100.0, cache_tokens=149.0), requests)


@pytest.mark.parametrize("rise", [0.0, 1e-9, 1e-5, 1e-3])
def test_steps_until_is_the_fewest_that_suffice(rise: float) -> None:
    for wait in (1e-6, 0.0099, 0.01, 0.0101, 0.5, 7.3):
        k = steps_until(wait, 0.01, rise)
        assert k * 0.01 + rise * k * (k - 1) / 2 >= wait
        assert k == 1 or (k - 1) * 0.01 + rise * (k - 1) * (k - 2) / 2 < wait
