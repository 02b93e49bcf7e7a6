"""Chips as a design space: costs that agree with the base, laws of the proxies, grids that are one call."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.search.spaces import front_values

from ridgeline.api.sweeps.problems import chip_problem, task_problem
from ridgeline.api.tables.tasks import predict_table
from ridgeline.core.errors import RidgelineError
from ridgeline.hardware import catalogue
from ridgeline.hardware.designs import Changes
from ridgeline.search import search
from ridgeline.search.chip_costs import costs_of, die_cost_usd, facts

BASES = ("h100-sxm", "h200-sxm", "a100-80gb-sxm", "b200-sxm")
CHAT = {"model": "Qwen/Qwen3-32B", "tp": 2, "isl": 1000, "osl": 300, "concurrency": 32}
AXES = {
    "compute_units": [66, 132, 264],
    "flops_per_unit_frac": [0.5, 1.0],
    "dram_bytes_per_s": ["2 TB/s", "3.35 TB/s", "6 TB/s"],
    "dram_bytes": ["20 GiB", "80 GiB"],
    "cache_bytes": ["50 MiB"],
    "link_bytes_per_s": ["450 GB/s"],
}


@pytest.mark.parametrize("base", BASES)
def test_a_design_without_changes_costs_what_its_base_does(base: str) -> None:
    chip = catalogue.chip(base)
    found = costs_of(chip, Changes())
    dies = float(chip.facts["dies"].value)
    assert found.area_m2 == pytest.approx(dies * float(chip.facts["die_area"].value))
    assert found.tdp_w == pytest.approx(chip.tdp_w)
    assert found.idle_w == pytest.approx(chip.idle_w)
    assert found.fits


@given(
    st.sampled_from(
        ["compute_units", "flops_per_unit_frac", "cache_bytes", "dram_bytes", "dram_bytes_per_s", "link_bytes_per_s"]
    ),
    st.floats(1.01, 4.0),
)
def test_more_of_anything_is_never_smaller_cooler_or_cheaper(name: str, factor: float) -> None:
    chip = catalogue.chip("h100-sxm")
    base = {
        "compute_units": 132.0,
        "flops_per_unit_frac": 1.0,
        "cache_bytes": 50e6,
        "dram_bytes": 80e9,
        "dram_bytes_per_s": 3e12,
        "link_bytes_per_s": 4e11,
    }[name]
    found = costs_of(chip, Changes(**{name: np.array([base, base * factor])}))
    for column in (found.area_m2, found.tdp_w, found.cost_usd):
        small, large = np.broadcast_to(column, (2,))
        assert large >= small
    small, large = np.broadcast_to(found.cost_usd, (2,))
    assert large > small


def test_a_die_costs_more_than_its_share_of_the_wafer_and_large_ones_far_more() -> None:
    cost = die_cost_usd(np.array([100e-6, 400e-6, 800e-6]), 17000.0)
    wafer_m2 = np.pi * (facts()["wafer_diameter"] * 1e-3) ** 2 / 4
    assert np.all(cost > 17000.0 * np.array([100e-6, 400e-6, 800e-6]) / wafer_m2)
    assert np.all(np.diff(cost / np.array([100, 400, 800])) > 0)


def test_designs_beyond_the_reticle_are_illegal_and_those_without_room_infeasible() -> None:
    problem = chip_problem(base="h100-sxm", axes=AXES, workloads={"chat": CHAT}, objectives=["slowdown", "cost_usd"])
    points = np.concatenate(list(problem.space.grid()))
    columns = problem.space.columns(points)
    assert not np.any(columns["compute_units"] == 264)
    values = problem.values(points)
    assert np.array_equal(np.isfinite(values).all(axis=1), columns["dram_bytes"] > 40 * 2**30)
    base = (columns["compute_units"] == 132) & (columns["flops_per_unit_frac"] == 1.0)
    base &= (columns["dram_bytes_per_s"] == 3.35e12) & (columns["dram_bytes"] == 80 * 2**30)
    assert values[base, 0] == pytest.approx(1.0, abs=1e-6)
    found = search(problem, agent="nsga2", budget=1000)
    assert np.array_equal(front_values(found.values), front_values(values))


def test_throughput_counts_the_other_way_round() -> None:
    fast = {**CHAT, "metric": "output_tokens_per_s_per_chip"}
    problem = chip_problem(base="h100-sxm", axes=AXES, workloads={"chat": fast}, objectives=["slowdown"])
    points = np.concatenate(list(problem.space.grid()))
    results = problem.results(points)
    good = np.isfinite(results["slowdown"])
    assert np.corrcoef(results["slowdown"][good], results["chat.output_tokens_per_s_per_chip"][good])[0, 1] < -0.5


def test_a_search_over_deployments_agrees_with_the_table_of_all_of_them() -> None:
    problem = task_problem(
        "serving",
        axes={"tp": [1, 2, 4, 8], "replicas": [1, 2, 4], "weights": ["", "fp8"], "chip": ["h100-sxm", "h200-sxm"]},
        objectives=["cost_usd_per_1m_output_tokens", "tpot_s"],
        at_most={"ttft_s": "2s"},
        most_chips=8,
        model="Qwen/Qwen3-32B", isl=1000, osl=300, rate=2,
    )  # fmt: skip
    everything = search(problem, agent="exhaustive", budget=100)
    assert everything.evaluations == 2 * 2 * (3 + 3 + 2 + 1)
    found = search(problem, agent="ga", budget=100)
    assert np.array_equal(front_values(found.values), front_values(everything.values))
    best = everything.designs(everything.best)
    assert best["tp"][0] * best["replicas"][0] <= 8


def test_plans_that_a_model_cannot_follow_are_never_evaluated() -> None:
    axes = {"tp": [1, 2, 3, 4, 5, 64], "pp": [1, 2, 100], "ep": [0, 2, 3], "dp": [1, 2]}
    case = {"model": "Qwen/Qwen3-30B-A3B", "chip": "h100-sxm", "isl": 100, "osl": 10, "concurrency": 8}
    problem = task_problem("serving", axes=axes, objectives=["tpot_s"], **case)
    points = np.concatenate(list(problem.space.grid()))
    whole = problem.space.numbered(np.arange(int(problem.space.size)))
    table = {**{name: [value] * len(whole) for name, value in case.items()}, **problem.space.columns(whole)}
    errors = predict_table("serving", table)["error"]
    texts = errors.texts() if hasattr(errors, "texts") else [str(error or "") for error in errors]
    fits = np.array(["does not fit" in text or not text for text in texts])
    assert np.array_equal(problem.space.is_legal(whole), fits)
    assert 0 < len(points) < len(whole)


def test_training_layouts_are_a_problem_like_any_other() -> None:
    problem = task_problem(
        "training",
        axes={"tp": [1, 2, 8], "micro_batch": [1, 4], "recompute": ["none", "full"]},
        objectives=["step_s"],
        model="meta-llama/Llama-3.1-8B", chip="h100-sxm", chips=64, seq=4096, global_batch=512,
    )  # fmt: skip
    found = search(problem, agent="exhaustive", budget=12)
    assert found.designs(found.best)["step_s"][0] == found.values.min()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"axes": {"dram": [1.0]}}, "no axis 'dram'"),
        ({"axes": {"clock_hz": [1e9]}}, "no axis 'clock_hz'"),
        ({"workloads": {}}, "judged by workloads"),
        ({"workloads": {"a": {**CHAT, "metric": "tpot"}}}, "did you mean"),
        ({"workloads": {"a": {**CHAT, "model": "nobody"}}}, "nobody"),
        ({"base": "h101"}, "did you mean"),
        ({"base": "l40s"}, "memory's interface|no transistors|no die_area"),
    ],
)
def test_chip_problems_that_cannot_be_are_named(change, words: str) -> None:
    with pytest.raises(RidgelineError, match=words):
        chip_problem(**{"base": "h100-sxm", "axes": AXES, "workloads": {"chat": CHAT}, **change})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"axes": {"tpp": [1]}}, "unknown column 'tpp'"),
        ({"axes": {"isl": [1, 2]}}, "a column of the case too"),
        ({"axes": {"tp": {"low": 1, "high": 8}}}, "no range"),
        ({"axes": {"tp": []}}, "at least one value"),
        ({"objectives": ["latency"]}, "does not evaluate 'latency'"),
        ({"at_most": {"ttft_s": "2 GB"}}, "ttft_s"),
        ({"task": "servin"}, "serving"),
    ],
)
def test_task_problems_that_cannot_be_are_named(change, words: str) -> None:
    given = {"task": "serving", "axes": {"tp": [1, 2]}, "objectives": ["tpot_s"], **change}
    case = {"model": "Qwen/Qwen3-32B", "chip": "h100-sxm", "isl": 10, "osl": 10, "concurrency": 1}
    with pytest.raises(RidgelineError, match=words):
        search(task_problem(**given, **case), agent="random", budget=2)
