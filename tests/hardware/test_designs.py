"""Designs as columns: a grid of chips is one call, and gives what each chip gives by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.api.tables.intake import intake, wanted
from ridgeline.core.cases import Problems
from ridgeline.core.errors import RidgelineError
from ridgeline.core.tables import from_mapping
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.hardware import catalogue
from ridgeline.hardware.designs import Changes, designed, machine_with
from ridgeline.hardware.machine import machine_of
from ridgeline.serving.deployment import Deployment, evaluate
from ridgeline.serving.disaggregated import evaluate_pools
from ridgeline.serving.predict import deployment_of

RELATIVE = 1e-9
BASES = ("h100-sxm", "mi300x", "a100-80gb-sxm")
WIDER = ("compute_units", "clock_hz", "cache_bytes", "dram_bytes", "dram_bytes_per_s", "link_bytes_per_s")


def _deployment(base: str, model: str, mode: str = "agg") -> Deployment:
    pools = {"prefill_tp": [2.0], "decode_tp": [2.0]} if mode == "disagg" else {"tp": [4.0]}
    columns = {"model": [model], "chip": [base], "isl": [1000.0], "osl": [200.0], "concurrency": [16.0], "mode": [mode]}
    cases, problems = intake("serving", from_mapping({**columns, **pools}, columns=wanted("serving")))
    found = deployment_of(cases, problems, 0)
    assert found is not None
    return replace(found, bulk=True)


def _evaluated(d: Deployment, machines: MachineColumns, rows: int, evaluate=evaluate) -> dict[str, np.ndarray]:
    wide = replace(
        d,
        machines=machines,
        cases={name: np.repeat(column, rows) for name, column in d.cases.items()},
        saturated=np.repeat(d.saturated, rows),
    )
    with np.errstate(all="ignore"):
        numbers = evaluate(wide, Problems(rows), np.arange(rows)).numbers()
    return {name: np.broadcast_to(np.asarray(value, float), (rows,)) for name, value in numbers.items()}


def _facts(base, rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    l2, link = base.tier("l2"), base.port("scale_up")
    known = {
        "compute_units": base.compute_units,
        "clock_hz": base.clock_hz,
        "cache_bytes": l2.capacity_bytes,
        "dram_bytes": base.dram.capacity_bytes,
        "dram_bytes_per_s": base.dram.bandwidth_bytes_per_s,
        "link_bytes_per_s": link.bandwidth_bytes_per_s,
    }
    facts = {name: value * rng.uniform(0.7, 2.0, rows) for name, value in known.items()}
    facts["compute_units"] = np.round(facts["compute_units"])
    return {
        **facts,
        "flops_per_unit_frac": rng.uniform(0.5, 2.0, rows),
        "tdp_w": base.tdp_w * rng.uniform(0.7, 2, rows),
    }


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("model", ["Qwen/Qwen3-32B", "Qwen/Qwen3-30B-A3B"])
def test_a_column_of_designs_gives_what_each_gives_alone(base: str, model: str) -> None:
    d, rows = _deployment(base, model), 7
    machine = machine_of(catalogue.chip(base), 4)
    facts = _facts(machine.chip, np.random.default_rng(1), rows)
    together = _evaluated(d, MachineColumns((machine_with(machine, Changes(**facts)),), np.arange(rows)), rows)
    for row in range(rows):
        alone = machine_with(machine, Changes(**{name: float(column[row]) for name, column in facts.items()}))
        by_itself = _evaluated(d, MachineColumns((alone,)), 1)
        for name, column in together.items():
            assert column[row] == pytest.approx(by_itself[name][0], rel=RELATIVE, nan_ok=True), name


def test_designs_like_their_base_are_an_unmeasured_base() -> None:
    d, machine = _deployment("h100-sxm", "Qwen/Qwen3-32B"), machine_of(catalogue.chip("h100-sxm"), 4)
    same = machine_with(machine, Changes(dram_bytes_per_s=np.full(3, machine.chip.dram.bandwidth_bytes_per_s)))
    renamed = replace(machine, chip=replace(machine.chip, name="nobody's", rent_usd_per_s=None))
    ours = _evaluated(d, MachineColumns((same,), np.array([2, 0])), 2)
    theirs = _evaluated(d, MachineColumns((renamed,)), 2)
    for name, column in ours.items():
        assert np.allclose(column, theirs[name], rtol=RELATIVE, equal_nan=True), name


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(WIDER), st.floats(1.01, 4.0))
def test_more_of_anything_never_makes_serving_slower(name: str, factor: float) -> None:
    d = _deployment("h100-sxm", "Qwen/Qwen3-32B")
    machine = machine_of(catalogue.chip("h100-sxm"), 4)
    before = _facts(machine.chip, np.random.default_rng(3), 1)[name][0]
    grown = before * np.array([1.0, factor])
    if name == "compute_units":
        grown = np.round(grown)
    found = _evaluated(d, MachineColumns((machine_with(machine, Changes(**{name: grown})),), np.arange(2)), 2)
    slack = 1.02 if name == "compute_units" else 1.0 + RELATIVE  # waves of tiles fill unevenly
    assert found["tpot_s"][1] <= found["tpot_s"][0] * slack


def test_separate_pools_of_designs_pay_for_their_links() -> None:
    d = _deployment("h100-sxm", "Qwen/Qwen3-32B", "disagg")
    machine = machine_of(catalogue.chip("h100-sxm"), 4)
    designs = machine_with(machine, Changes(link_bytes_per_s=np.array([10e9, 900e9])))
    found = _evaluated(d, MachineColumns((designs,), np.arange(2)), 2, evaluate_pools)
    assert found["ttft_s"][0] > found["ttft_s"][1]
    for row, link in enumerate((10e9, 900e9)):
        alone = MachineColumns((machine_with(machine, Changes(link_bytes_per_s=link)),))
        assert found["ttft_s"][row] == pytest.approx(_evaluated(d, alone, 1, evaluate_pools)["ttft_s"][0], rel=RELATIVE)


@pytest.mark.parametrize(
    "changes",
    [
        Changes(dram_bytes=-1.0),
        Changes(clock_hz=[1e9, float("nan")]),
        Changes(dram_bytes_per_s=[[1.0]]),
        Changes(tdp_w=10.0),
    ],
)
def test_designs_that_cannot_be_are_refused(changes: Changes) -> None:
    with pytest.raises(RidgelineError):
        designed(catalogue.chip("h100-sxm"), changes)


def test_a_chip_without_links_cannot_change_them() -> None:
    with pytest.raises(RidgelineError, match="nothing that link_bytes_per_s"):
        designed(catalogue.chip("l4"), Changes(link_bytes_per_s=1e9))
