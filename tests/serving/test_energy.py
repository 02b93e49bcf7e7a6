"""Power and energy of simulated runs: two ways to the same joules, and bounds that no lane leaves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.serving.played_cases import CHIPS, random_played, with_unserved
from tests.serving.test_step_table import stepper_of

from ridgeline.core.errors import DomainError
from ridgeline.costs.serving_power import serving_power_w
from ridgeline.hardware.chip import ChipColumns
from ridgeline.serving.record.energy import attributed, energy_j
from ridgeline.serving.record.played import Lane, Played, runs_of
from ridgeline.serving.record.power_table import PowerTable, sample_power
from ridgeline.serving.record.run_windows import run_times_s
from ridgeline.serving.record.series import windows_of
from ridgeline.serving.step_work import work_of
from ridgeline.workloads.model import Batch

EXACT = 1e-9
"""Relative: the same joules summed in another order."""
TABLE = 0.02
"""Relative: a table of power against the law at the same batch, between points of the grid."""


@pytest.fixture(scope="module")
def power() -> PowerTable:
    return sample_power(stepper_of("Qwen/Qwen3-30B-A3B", 2), low=1, high=400, tokens=420)


@pytest.mark.parametrize("seed", range(40))
def test_requests_and_idle_add_up_to_the_integral_of_power(seed: int, power: PowerTable) -> None:
    """Law L2: the integral, the windows and the bills of requests are three ways to one number."""
    played = with_unserved(random_played(seed))
    powers = {"serving": power}
    found = attributed(played, powers)
    assert found.per_request_j.sum() + found.idle_j == pytest.approx(found.total_j, rel=EXACT)
    assert (found.per_request_j >= -EXACT).all()
    assert found.idle_j >= 0
    assert windows_of(played, width_s=0.37, powers=powers)["energy_j"].sum() == pytest.approx(found.total_j, rel=EXACT)
    middle = played.end_s / 3
    halves = energy_j(played, powers, 0.0, middle) + energy_j(played, powers, middle, played.end_s)
    assert halves == pytest.approx(found.total_j, rel=EXACT)


@pytest.mark.parametrize("seed", range(40))
def test_energy_lies_between_idle_and_tdp_over_the_time(seed: int, power: PowerTable) -> None:
    played = random_played(seed)
    total = energy_j(played, {"serving": power}, 0.0, played.end_s)
    chip_s = CHIPS * len(played.lanes) * played.end_s
    assert power.chip.idle_w * chip_s <= total <= power.chip.tdp_w * chip_s
    for lane in played.lanes:
        watts = power.power_w(lane.runs)
        assert ((watts >= power.chip.idle_w) & (watts <= power.chip.tdp_w)).all()


def test_a_lane_without_requests_draws_idle_power_and_one_that_is_down_none(power: PowerTable) -> None:
    empty = runs_of([])  # type: ignore[arg-type]
    lane = Lane(
        pool="serving", replica=0, runs=empty, alive_s=((1.0, 4.0),), blocks=math.inf, block_tokens=1, slots=1,
        chips=4.0, busy_s=0.0,
    )  # fmt: skip
    none, ints = np.empty(0), np.empty(0, np.int64)
    played = Played(
        arrival_s=none, admitted_s=none, first_s=none, last_s=none, prompt_tokens=ints, output_tokens=ints,
        found_tokens=ints, preemptions=np.empty(0, np.int32), end=np.empty(0, np.int8), lane=np.empty(0, np.int32),
        lanes=(lane,), end_s=10.0,
    )  # fmt: skip
    found = attributed(played, {"serving": power})
    assert found.total_j == found.idle_j == pytest.approx(3.0 * 4.0 * power.chip.idle_w)


def test_a_request_alone_pays_for_all_but_idle(power: PowerTable) -> None:
    runs = runs_of([1.0, 0.05, 0.0, 1.0, 0.0, 0.0, 64.0, 1.0, 4.0, 1.05, 0.01, 1e-6, 20.0, 1.0, 65.0, 0.0, 0.0, 4.0])  # type: ignore[arg-type]
    lane = Lane(
        pool="serving", replica=0, runs=runs, alive_s=((0.0, 3.0),), blocks=99.0, block_tokens=16, slots=1, chips=1.0,
        busy_s=0.0,
    )  # fmt: skip
    end = 1.05 + float(run_times_s(runs)[1])
    one = np.ones(1, np.int64)
    played = Played(
        arrival_s=np.ones(1), admitted_s=np.ones(1), first_s=np.array([1.05]), last_s=np.array([end]),
        prompt_tokens=64 * one, output_tokens=21 * one, found_tokens=0 * one, preemptions=np.zeros(1, np.int32),
        end=np.zeros(1, np.int8), lane=np.zeros(1, np.int32), lanes=(lane,), end_s=3.0,
    )  # fmt: skip
    found = attributed(played, {"serving": power})
    assert found.idle_j == pytest.approx((3.0 - (end - 1.0)) * power.chip.idle_w, rel=EXACT)
    assert found.per_request_j[0] == pytest.approx(float(run_times_s(runs) @ power.power_w(runs)), rel=EXACT)


def test_prompts_of_a_pool_of_their_own_are_billed_to_those_that_prefill(power: PowerTable) -> None:
    played = random_played(7)
    lanes = tuple(
        replace(lane, pool=pool, role=pool) for lane, pool in zip(played.lanes, ("prefill", "decode"), strict=True)
    )
    apart = replace(played, lanes=lanes, lane=np.ones_like(played.lane))
    found = attributed(apart, {"prefill": power, "decode": power})
    assert found.per_request_j.sum() + found.idle_j == pytest.approx(found.total_j, rel=EXACT)
    assert found.per_request_j.sum() > 0.5 * found.total_j


def test_renaming_requests_changes_nobody_s_energy(power: PowerTable) -> None:
    played = random_played(5)
    order = np.random.default_rng(0).permutation(played.arrival_s.size)
    names = [f for f in Played.__dataclass_fields__ if f not in ("lanes", "end_s")]
    renamed = replace(played, **{name: getattr(played, name)[order] for name in names})
    found, other = (attributed(each, {"serving": power}) for each in (played, renamed))
    np.testing.assert_allclose(other.per_request_j, found.per_request_j[order], rtol=EXACT)
    assert other.total_j == found.total_j


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-70B", "Qwen/Qwen3-30B-A3B"])
def test_a_table_s_power_is_the_law_at_that_batch(name: str) -> None:
    stepper = stepper_of(name, 4)
    table = sample_power(stepper, low=100, high=4000, tokens=512)
    chip = table.chip
    for n, context in ((1, 200), (40, 1000), (300, 3500)):
        step = stepper.step(Batch(decode_seqs=float(n), decode_context=float(context)))
        time_s = float(step.time_s)
        work = work_of(step, stepper.model)
        load = work.load(1.0 / time_s, 0.0, chips=stepper.plan.chips, context=float(context))
        law = serving_power_w(load, ChipColumns((chip,)))
        runs = runs_of([0.0, time_s, 0.0, 1.0, n, n * context, 0.0, 0.0, 0.0])  # type: ignore[arg-type]
        assert table.power_w(runs)[0] == pytest.approx(float(np.asarray(law).flat[0]), rel=TABLE)


def test_power_rises_with_the_batch_and_with_prompts(power: PowerTable) -> None:
    def watts(n: int, prompt: int) -> float:
        runs = runs_of([0.0, 0.02, 0.0, 1.0, n, n * 100, prompt, prompt > 0, 0.0])  # type: ignore[arg-type]
        return float(power.power_w(runs)[0])

    assert watts(1, 0) < watts(8, 0) < watts(64, 0) < watts(64, 512)
    assert power.chip.idle_w < power.static_w < watts(1, 0)


def test_a_pool_whose_power_is_not_known_is_named(power: PowerTable) -> None:
    with pytest.raises(DomainError, match="serving"):
        energy_j(random_played(1), {"decode": power}, 0.0, 1.0)
