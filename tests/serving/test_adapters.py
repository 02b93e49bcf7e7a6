"""LoRA adapters in engines and fleets, and static batching: what they do, beside equality with the reference."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tests.serving.test_engine import TIMES, Scenario
from tests.serving.test_fleet import LeastLoaded, check

from ridgeline.api.simulations.simulate import simulate
from ridgeline.core.errors import CapacityError, DomainError
from ridgeline.core.seeding import stream
from ridgeline.serving.engine.adapters import Adapters
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.fleet.fleet import Fleet
from ridgeline.serving.fleet.lanes import units_of
from ridgeline.serving.fleet.members import Member, Pool
from ridgeline.sim import Simulation
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.families.size import adapter_size
from ridgeline.workloads.traffic import Traffic, parse_law

COUNT = 60
RULES = Rules(slots=16, token_budget=400.0)
REQUESTS = Requests(prompts=[50] * COUNT, outputs=[20 + i % 9 for i in range(COUNT)], clients=24)
COSTS = {"load_s": 4e-3, "each_s": 2e-4, "first_s": 1e-3}


def run(adapters: list[int], rules: Rules = RULES, **shelf: float) -> Engine:
    return Scenario(rules, REQUESTS, adapters=tuple(adapters), shelf={"slots": 4, "kept": 4, **COSTS, **shelf}).engine()


def test_an_adapter_of_a_7b_model_is_as_large_as_published() -> None:
    """16,777,216 trainable parameters at rank 16 on q, k, v and o of LLaMA-7B (tloen/alpaca-lora, README)."""
    size = adapter_size(model("llama-7b"), 16.0)
    assert size.size_bytes == 2 * 16_777_216
    assert size.matmuls == 2 * 32


@pytest.mark.parametrize("targets", ["attention", "all"])
def test_tensor_parallelism_cuts_one_matrix_of_each_pair(targets: str) -> None:
    whole, part = (adapter_size(model("meta-llama/Llama-3.1-70B"), 16.0, targets=targets, tp=tp) for tp in (1, 8))
    assert whole.size_bytes / 8 < part.size_bytes < whole.size_bytes
    assert part.matmuls == whole.matmuls


def test_one_adapter_costs_its_load_once_and_its_kernels_in_every_iteration() -> None:
    plain, one = run([-1] * COUNT), run([0] * COUNT)
    assert (plain.adapters.loads, one.adapters.loads) == (0, 1)
    assert one.iteration == plain.iteration
    each = COSTS["first_s"] + COSTS["each_s"]
    assert one.busy - plain.busy == pytest.approx(COSTS["load_s"] + each * one.iteration)


def test_many_adapters_take_longer_than_few_and_wait_for_slots() -> None:
    draw = stream(0, "many adapters")
    ends = [max(run(draw.integers(0, many, COUNT).tolist()).log.last) for many in (2, 8, 40)]
    assert ends == sorted(ends)
    assert ends[-1] > 1.2 * ends[0]


def test_a_larger_cache_saves_loads() -> None:
    adapters = stream(0, "cache").integers(0, 10, COUNT).tolist()
    loads = [run(adapters, kept=kept).adapters.loads for kept in (4, 7, 10)]
    assert loads == sorted(loads, reverse=True)
    assert loads[-1] == 10


@pytest.mark.parametrize("kept", [4, 6])
def test_cuts_of_runs_change_nothing(kept: int) -> None:
    adapters = tuple(stream(0, "cuts").integers(-1, 12, COUNT).tolist())
    case = Scenario(RULES, REQUESTS, adapters=adapters, shelf={"slots": 4, "kept": kept, **COSTS})
    whole, cut = case.engine(), case.engine(longest_run=2)
    np.testing.assert_allclose(cut.log.last, whole.log.last, rtol=1e-9)
    assert cut.adapters.loads == whole.adapters.loads


def test_rooms_too_small_are_refused() -> None:
    with pytest.raises(DomainError, match="room for its adapters"):
        Adapters([0], slots=4, kept=3)


def test_a_static_batch_runs_to_its_end_before_the_next_is_formed() -> None:
    log = run([-1] * COUNT, replace(RULES, batching="static")).log
    batches = sorted(set(log.admitted))
    assert len(batches) == -(-COUNT // RULES.slots)
    for start, following in pairwise(batches):
        ends = [last for admitted, last in zip(log.admitted, log.last, strict=True) if admitted == start]
        assert max(ends) == pytest.approx(following)
    assert max(log.last) > max(run([-1] * COUNT).log.last)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("batching", ["continuous", "static"])
def test_failures_of_lanes_with_adapters_lose_no_request(seed: int, batching: str) -> None:
    draw = stream(seed, "fleet of adapters")
    traffic = Traffic.of(
        np.cumsum(draw.exponential(0.03, 80)),
        draw.integers(1, 300, 80),
        draw.integers(1, 80, 80),
        adapter=draw.integers(-1, 8, 80),
    )
    requests = Requests(prompts=traffic.prompt_tokens.tolist(), outputs=traffic.output_tokens.tolist())
    log, control = Log(80), Simulation()
    rules = Rules(slots=8, token_budget=200.0, cache_tokens=4000.0, block_tokens=16, batching=batching)
    members = [
        Member(
            Engine(TIMES, rules, requests, log, adapters=Adapters(traffic.adapter.tolist(), slots=3, **COSTS)),
            replica=replica,
            chips=1.0,
        )
        for replica in range(2)
    ]
    pool = Pool(name="serving", members=members, router=LeastLoaded())
    fleet = Fleet(traffic, requests, log, [pool], control=control)
    control.schedule_at(0.7, fleet.fail, members[0], 0.7)
    control.schedule_at(1.2, fleet.start, members[0], 1.2)
    check(fleet, fleet.play())
    assert not any(member.engine.adapters.using or member.engine.adapters.decoding for member in members)


def test_prefixes_of_two_adapters_are_not_one() -> None:
    blocks = (np.array([0, 2, 4, 6]), np.array([7, 8, 7, 8, 7, 8]), 16)
    traffic = Traffic.of([0.0, 1.0, 2.0], 32, 5, blocks=blocks, adapter=[0, 1, 0])
    first, second, third = (list(units_of(traffic)(i)) for i in range(3))
    assert first == third
    assert not set(first) & set(second)


def test_simulations_count_loads_and_leave_their_bytes_out_of_the_cache() -> None:
    load = {"model": "meta-llama/Llama-3.1-8B", "on": "h100-sxm", "isl": 200, "osl": 50, "concurrency": 8}
    plain = simulate(**load, requests=100)
    asked = {"adapters": "zipf(20, 0.5)", "lora_rank": 64, "lora_slots": 4, "lora_cache": 16, "lora_targets": "all"}
    many = simulate(**load, requests=100, **asked)
    assert plain.answers.adapter_loads == 0
    assert many.answers.adapter_loads > 15
    assert many.played.lanes[0].blocks < plain.played.lanes[0].blocks
    assert many.answers.whole.overall.tpot_s.mean.value > plain.answers.whole.overall.tpot_s.mean.value
    assert any("adapters were loaded" in note for note in many.answers.notes)


def test_adapters_that_leave_no_cache_are_refused() -> None:
    load = {"model": "meta-llama/Llama-3.1-8B", "on": "h100-sxm", "isl": 200, "osl": 50, "concurrency": 8}
    with pytest.raises(CapacityError, match="leave no memory"):
        simulate(**load, requests=10, adapters="uniform(1, 9)", lora_rank=256, lora_cache=2000)


def test_a_zipf_law_has_its_shares() -> None:
    drawn = parse_law("zipf(4, 1)").sample(200_000, stream(0, "zipf"))
    shares = np.bincount(drawn, minlength=5)[1:] / drawn.size
    assert shares == pytest.approx(np.array([1, 1 / 2, 1 / 3, 1 / 4]) / (25 / 12), abs=0.01)
    assert parse_law("zipf(4, 1)").mean == pytest.approx(drawn.mean(), rel=0.01)
