"""Power of serving steps: rising, saturating, above the energy of the bytes it moves, and met on measured runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.api.accuracy.energy_runs import predicted_token_j, read_energy_runs
from ridgeline.api.accuracy.fit_serving_power import fitted, model_left_out, run_left_out, scored
from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.serving_power import (
    KIND,
    MOST,
    ServingLoad,
    correction,
    gap_power_w,
    load_of,
    measured_runs,
    nearby,
    serving_power_w,
)
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns

CHIPS = ("h100-sxm", "b200-sxm", "a100-80gb-sxm", "l40s", "gb200", "mi300x")
ACCESS_J = 31e-12
"""Energy to read a byte of HBM, 3.9 pJ/bit: O'Connor et al., MICRO 2017."""

chips = st.sampled_from(CHIPS)
shares = st.floats(0.0, 1.0)


def on(*names: str, index: list[int] | None = None) -> ChipColumns:
    rows = None if index is None else np.array(index, dtype=np.intp)
    return ChipColumns(tuple(catalogue.chip(name) for name in names), rows)


def loaded(
    chip: str, weights: float, kv: float, flops: float, *, tiled: float = 0.0, mixture: float = 0.0
) -> ServingLoad:
    """A load from shares of bandwidth and of the bf16 peak."""
    facts = catalogue.chip(chip)
    bandwidth, peak = facts.dram.bandwidth_bytes_per_s, facts.peak_flops_per_s("bf16")
    return ServingLoad(
        weight_bytes_per_s=weights * bandwidth,
        kv_bytes_per_s=kv * bandwidth,
        flops_per_s=flops * peak,
        tiled_bytes_per_s=tiled * weights * bandwidth,
        tiled_flops_per_s=tiled * flops * peak,
        mixture=mixture,
    )


def watts(load: ServingLoad, chip: str, *, measured: bool = False) -> float:
    return float(np.asarray(serving_power_w(load, on(chip), measured=measured)).flat[0])


@given(chip=chips, w=shares, kv=shares, f=shares, tiled=shares, more=shares)
def test_power_of_the_law_rises_with_each_load_and_saturates(
    chip: str, w: float, kv: float, f: float, tiled: float, more: float
) -> None:
    facts = catalogue.chip(chip)
    base = watts(loaded(chip, w, kv, f, tiled=tiled), chip)
    assert float(np.asarray(gap_power_w(on(chip)))) <= base <= facts.tdp_w
    for heavier in (
        loaded(chip, w, kv + more, f, tiled=tiled),
        loaded(chip, w, kv, f, tiled=tiled, mixture=1.0),
        loaded(chip, w, kv, f + more),
        loaded(chip, w + more, kv, f),
    ):
        lighter = base if heavier.tiled_bytes_per_s or not tiled else watts(loaded(chip, w, kv, f), chip)
        assert watts(heavier, chip) >= lighter * (1 - 1e-12)


@given(chip=chips, w=shares, kv=shares, f=shares)
def test_no_byte_is_cheaper_than_its_memory_access(chip: str, w: float, kv: float, f: float) -> None:
    """Below the cap, energy per second is at least static power plus the access energy of the bytes moved."""
    facts = catalogue.chip(chip)
    load = loaded(chip, w, kv, f)
    moved = float(load.weight_bytes_per_s) + float(load.kv_bytes_per_s)
    bound = min(moved, facts.dram.bandwidth_bytes_per_s) * ACCESS_J
    assert watts(load, chip) >= bound


def test_experts_in_8_bit_tiles_draw_more_than_the_same_bytes_elsewhere() -> None:
    few, none = (loaded("h100-sxm", 0.3, 0.05, 0.005, tiled=tiled, mixture=1.0) for tiled in (1.0, 0.0))
    assert watts(few, "h100-sxm") > 1.1 * watts(none, "h100-sxm")


def test_full_tiles_cost_nothing_more() -> None:
    """Experts with as many rows as a tile holds compute what is asked, and no more."""
    load = loaded("h100-sxm", 0.1, 0.0, 0.9, tiled=1.0)
    assert watts(load, "h100-sxm") == watts(replace(load, tiled_bytes_per_s=0.0, tiled_flops_per_s=0.0), "h100-sxm")


@pytest.mark.parametrize(
    ("shares_of", "share"),
    [
        ((0.0, 0.0, 0.0), 0.20),  # host gaps
        ((0.6, 0.05, 0.005), 0.60),  # small-batch dense decode on H100: 0.6-0.7
        ((0.3, 0.3, 0.3), 0.95),  # large batch, prefill-heavy chat: 0.8-0.97
    ],
)
def test_published_levels_are_met(shares_of: tuple[float, float, float], share: float) -> None:
    assert watts(loaded("h100-sxm", *shares_of), "h100-sxm") / 700 == pytest.approx(share, abs=0.05)


def test_a_measured_run_pulls_its_own_place_and_no_place_far_away() -> None:
    runs = np.array([[0.0, 0.0], [0.1, 0.0]])
    found = nearby(np.array([[0.0, 0.0], [9.0, 9.0]]), runs, np.array([0.2, 0.2]))
    assert 0.15 < found[0] < 0.2
    assert abs(found[1]) < 1e-6
    assert nearby(runs, runs, np.array([5.0, 5.0])).max() == MOST


@given(w=shares, kv=shares, f=shares)
def test_chips_without_measured_runs_are_not_corrected(w: float, kv: float, f: float) -> None:
    assert measured_runs("l40s") is None
    load = loaded("l40s", w, kv, f)
    assert watts(load, "l40s", measured=True) == watts(load, "l40s")


def test_a_row_s_correction_is_that_of_its_own_chip() -> None:
    mixed = on("h100-sxm", "l40s", index=[0, 1, 0])
    load = replace(loaded("h100-sxm", 0.4, 0.1, 0.05), context_tokens=1000.0)
    columns = replace(load, weight_bytes_per_s=np.full(3, load.weight_bytes_per_s))
    c = Coefficients(KIND, "serving", mixed)
    found = correction(columns, load_of(columns, c, mixed), c, mixed)
    assert found[1] == 0
    assert found[0] == found[2] != 0


@pytest.mark.slow
@pytest.mark.shared_data
def test_measured_power_of_serving_is_met(shared_data: Path) -> None:
    """Targets: 9 % with no run of the model, 5 % with other runs of it on the chip; energy from our own timing."""
    runs = read_energy_runs(*(shared_data / "published" / f"{name}.csv" for name in ("energy", "inference_llm")))
    data = scored(runs)
    values = fitted(data)
    assert np.median(np.abs(model_left_out(runs, data) / data.share - 1)) < 0.09
    assert np.median(np.abs(run_left_out(data, values) / data.share - 1)) < 0.05
    off = np.abs(predicted_token_j(runs) / runs.token_j - 1)
    assert np.nanmedian(off[~runs.suspect]) < 0.15
