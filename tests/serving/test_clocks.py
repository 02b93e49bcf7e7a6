"""Clocks and power caps: the cap is kept by the highest clock, memory-bound work hardly slows, prompts slow with it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.api.predictions.predict import CaseError
from ridgeline.api.simulations.simulate import Simulated
from ridgeline.core.errors import DomainError, SpecError
from ridgeline.hardware import catalogue
from ridgeline.hardware.clocking import at_clock
from ridgeline.serving.record.energy import attributed
from ridgeline.serving.record.series import windows_of

DECODE = {"model": "meta-llama/Llama-3.1-8B", "on": "h100-sxm", "isl": 200, "osl": 500, "concurrency": 8}
PROMPTS = {"model": "meta-llama/Llama-3.1-8B", "on": "h100-sxm", "isl": 8000, "osl": 1, "concurrency": 8}
STEP = 1 / 64


def test_a_slower_clock_saves_watts_and_costs_prompts_more_time_than_decoding() -> None:
    for case, most in ((DECODE, 1.2), (PROMPTS, 2.0)):
        full, slow = rl.predict(**case), rl.predict(**case, clock_frac=0.6)
        assert slow.power_w_per_chip < 0.92 * full.power_w_per_chip
        assert 1.0 <= slow.e2e_s / full.e2e_s < most
        assert slow.clock_frac_held == 0.6
    kept = rl.predict(**DECODE, clock_frac=0.6).e2e_s / rl.predict(**DECODE).e2e_s
    slowed = rl.predict(**PROMPTS, clock_frac=0.6).e2e_s / rl.predict(**PROMPTS).e2e_s
    assert slowed > kept + 0.2


@pytest.mark.parametrize("cap", [300.0, 400.0, 500.0, 600.0])
def test_the_highest_clock_below_the_cap_is_held(cap: float) -> None:
    held = rl.predict(**PROMPTS, power_cap_w=cap)
    assert held.power_w_per_chip <= cap
    frac = float(held.clock_frac_held)
    assert rl.predict(**PROMPTS, clock_frac=frac).ttft_s == pytest.approx(held.ttft_s)
    if frac < 1:
        assert rl.predict(**PROMPTS, clock_frac=frac + STEP).power_w_per_chip > cap


def test_a_cap_above_the_demand_changes_nothing() -> None:
    free, capped = rl.predict(**DECODE), rl.predict(**DECODE, power_cap_w=690)
    assert capped.values == free.values


def test_rows_of_a_table_keep_their_own_clocks() -> None:
    cases = {"model": ["meta-llama/Llama-3.1-8B"] * 4, "chip": ["h100-sxm", "h100-sxm", "a100-80gb-sxm", "h100-sxm"]}
    cases |= {"isl": [8000.0] * 4, "osl": [20.0] * 4, "concurrency": [16.0] * 4}
    caps = {"power_cap_w": [0.0, 400.0, 300.0, 60.0], "clock_frac": [1.0, 1.0, 0.9, 1.0]}
    table = {name: np.array(column) for name, column in {**cases, **caps}.items()}
    found = rl.predict_table("serving", table)
    assert found["clock_frac_held"][0] == 1.0
    assert found["clock_frac_held"][1] < 1.0
    assert found["power_w_per_chip"][1] <= 400
    assert found["clock_frac_held"][2] <= 0.9
    assert "below the 77 W of the idle chip" in found["error"][3]
    alone = rl.predict(
        model="meta-llama/Llama-3.1-8B", on="h100-sxm", isl=8000, osl=20, concurrency=16, power_cap_w=400
    )
    assert alone.power_w_per_chip == pytest.approx(found["power_w_per_chip"][1])


@pytest.mark.parametrize(("cap", "words"), [(10, "below the 77 W"), (150, "even at a quarter clock")])
def test_caps_that_no_clock_meets_are_refused(cap: float, words: str) -> None:
    with pytest.raises(CaseError, match=words):
        rl.predict(**PROMPTS, power_cap_w=cap)


def test_a_locked_chip_keeps_its_memory_and_its_name() -> None:
    chip = catalogue.chip("h100-sxm")
    half = at_clock(chip, 0.5)
    assert half.name == chip.name
    assert half.dram == chip.dram
    assert half.clock_hz == chip.clock_hz / 2
    assert half.fabric_hz == chip.fabric_hz
    assert half.peak_flops_per_s("bf16") == chip.peak_flops_per_s("bf16") / 2
    assert at_clock(half, 1.0) == chip
    with pytest.raises(DomainError):
        at_clock(chip, 0.01)


SERVED = {"model": "meta-llama/Llama-3.1-8B", "on": "h100-sxm", "isl": 2000, "osl": 50, "concurrency": 32}
CAPS = (700.0, 600.0, 500.0, 400.0, 350.0)
APART = 0.03
"""Relative: what a cap does to the throughput of a run, against what it does to that of the closed form."""


@pytest.fixture(scope="module")
def runs() -> list[Simulated]:
    return [rl.simulate(**SERVED, requests=400, power_cap_w=cap) for cap in CAPS]


def test_no_iteration_of_a_run_draws_more_than_the_cap(runs: list[Simulated]) -> None:
    for run, cap in zip(runs, CAPS, strict=True):
        watts = windows_of(run.played, width_s=0.05, powers=run.powers)["power_w"]
        assert watts.max() <= cap * (1 + 1e-9)
        assert run.answers.whole.power_peak_w_per_chip <= cap


def test_a_lower_cap_never_makes_a_run_faster(runs: list[Simulated]) -> None:
    found = [(run.played.end_s, run.answers.whole.power_w) for run in runs]
    assert all(later[0] >= sooner[0] and later[1] <= sooner[1] for sooner, later in pairwise(found))
    assert found[-1][0] > 1.2 * found[0][0]


def test_a_cap_slows_runs_as_it_slows_the_closed_form(runs: list[Simulated]) -> None:
    closed = np.array([rl.predict(**SERVED, power_cap_w=cap).output_tokens_per_s for cap in CAPS])
    steady = np.array([run.answers.steady.overall.output_tokens_per_s for run in runs])
    np.testing.assert_allclose(steady / steady[0], closed / closed[0], rtol=APART)
    assert closed[-1] < 0.9 * closed[0]


def test_energy_stays_the_integral_of_power_under_a_cap(runs: list[Simulated]) -> None:
    for run in runs:
        found = attributed(run.played, run.powers)
        windows = windows_of(run.played, width_s=0.37, powers=run.powers)
        assert found.per_request_j.sum() + found.idle_j == pytest.approx(found.total_j, rel=1e-9)
        assert windows["energy_j"].sum() == pytest.approx(run.answers.whole.energy_j, rel=1e-9)


def test_a_cap_beyond_all_iterations_leaves_a_run_as_it_was(runs: list[Simulated]) -> None:
    free = rl.simulate(**SERVED, requests=400)
    np.testing.assert_array_equal(free.played.last_s, runs[0].played.last_s)
    assert free.answers.whole.energy_j == runs[0].answers.whole.energy_j


def test_a_locked_clock_slows_runs_as_it_slows_the_closed_form() -> None:
    full, slow = (rl.simulate(**SERVED, requests=400, clock_frac=frac) for frac in (1.0, 0.5))
    closed = [rl.predict(**SERVED, clock_frac=frac).request_per_s for frac in (1.0, 0.5)]
    assert full.played.end_s / slow.played.end_s == pytest.approx(closed[1] / closed[0], rel=APART)
    assert slow.answers.whole.power_w < 0.8 * full.answers.whole.power_w


@pytest.mark.parametrize(("cap", "words"), [(10, "below the 77 W"), (150, "even at a quarter clock")])
def test_runs_refuse_caps_that_no_clock_meets(cap: float, words: str) -> None:
    with pytest.raises(DomainError, match=words):
        rl.simulate(**SERVED, requests=10, power_cap_w=cap)


def test_lanes_that_share_a_chip_have_no_cap_of_their_own() -> None:
    with pytest.raises(SpecError, match="whole lanes"):
        rl.simulate(**SERVED, requests=10, power_cap_w=500, phase_split_frac=0.5)


def test_sizes_that_no_iteration_has_do_not_refuse_a_cap() -> None:
    """Step tables reach to the most sequences that a lane may run; what counts is what ran."""
    case = {"model": "Qwen/Qwen3-30B-A3B", "on": "b200-sxm", "isl": 1000, "osl": 100, "concurrency": 16}
    held = rl.simulate(**case, requests=200, power_cap_w=450)
    assert held.answers.whole.power_peak_w_per_chip <= 450
    with pytest.raises(DomainError, match="even at a quarter clock"):
        rl.simulate(**case, requests=200, power_cap_w=300)
