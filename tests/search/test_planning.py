"""The search against brute force through `predict`, row by row; its front; and the laws of what it must not do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ridgeline as rl
from ridgeline.api.planning.plan import serving_intake
from ridgeline.core.errors import PlanError, SpecError
from ridgeline.hardware.machine import machine
from ridgeline.search.pareto import front
from ridgeline.search.planning import Allowed, Choices, Found, Predictor, Question, Slo, find, sensitivity
from ridgeline.search.planning.aggregated import MOST_LOADED
from ridgeline.search.planning.question import most_sequences
from ridgeline.search.planning.spaces import degrees, spaces
from ridgeline.serving.runtime import runtime
from ridgeline.workloads.catalogue import model as find_model

PREDICTOR = Predictor(intake=serving_intake)
EXACT = 1e-9
"""Relative; the search and `predict` run the same equations."""

ROOT = 1e-7
"""Relative, in closed loops: `predict` stops at the root of its equations when the slowest row of a table is there."""

EDGE = 2e-3
"""Relative: the highest rate is bracketed to a thousandth of the saturated one."""

FEW, MANY = 6, 200
SMALL = Choices(runtimes=("vllm",), max_batches=(0, 16), token_budgets=(0, 2048), prefill_batches=(1, 2))


def allowed(text: str, usd_per_h: float = 2.0) -> Allowed:
    return Allowed(machine=machine(text), node="", usd_per_s=usd_per_h / 3600.0)


def question(**changed: Any) -> Question:
    usual: dict[str, Any] = {
        "model": "meta-llama/Llama-3.1-8B",
        "machines": (allowed("4x h100-sxm"),),
        "isl": 1000.0,
        "osl": 200.0,
        "slo": Slo(ttft_s=0.5, tpot_s=0.03),
        "objectives": ("cost", "latency"),
        "choices": SMALL,
        "rate_per_s": 10.0,
    }
    return Question(**{**usual, **changed})


def search(asked: Question, **more: Any) -> Found:
    with np.errstate(all="ignore"):
        return find(asked, PREDICTOR, **more)


def values_of(found: Any, asked: Question) -> NDArray[np.float64]:
    """Objectives of chosen rows, from what the search screened."""
    from ridgeline.search.planning.kept import objectives

    return objectives(asked, found.screened)


# ---- brute force: every row of a small space, written out here and predicted as a table


def every_case(asked: Question) -> Iterator[dict[str, Any]]:
    c = asked.choices
    for one in asked.machines:
        heads = 32
        cuts = [
            (tp, pp)
            for tp, pp in product((1, 2, 4, 8), (1, 2, 4, 8))
            if heads % tp == 0 and tp * pp <= one.chips and pp <= 32
        ]
        common = {"model": asked.model, "chip": one.machine.chip.name, "isl": asked.isl, "osl": asked.osl}
        common |= {"prefix_hit_frac": asked.prefix_hit_frac}
        load = {"request_rate_per_s": asked.rate_per_s, "concurrency": asked.concurrency}
        for (tp, pp), batch, budget in product(cuts, c.max_batches, c.token_budgets):
            for replicas in range(1, one.chips // (tp * pp) + 1):
                limits = {"max_batch": batch, "max_batched_tokens": budget, "replicas": replicas}
                yield {**common, **load, "mode": "agg", "tp": tp, "pp": pp, **limits}
        if "disagg" not in c.modes:
            continue
        for (tp, pp), (other, stages) in product(cuts, cuts):
            for x, y in product(range(1, one.chips), range(1, one.chips)):
                if x * tp * pp + y * other * stages > one.chips:
                    continue
                for prompts, batch in product(c.prefill_batches, c.max_batches):
                    pools = {"prefill_tp": tp, "prefill_pp": pp, "prefill_workers": x, "prefill_batch": prompts}
                    pools |= {"decode_tp": other, "decode_pp": stages, "decode_workers": y, "decode_batch": batch}
                    yield {**common, **load, "mode": "disagg", **pools}


@dataclass
class Brute:
    """Rows that keep all limits, with their objectives."""

    objectives: NDArray[np.float64]
    rows: list[dict[str, Any]]


def brute_force(asked: Question) -> Brute:
    rows = list(every_case(asked))
    names = dict.fromkeys(name for row in rows for name in row)
    table = {name: [row.get(name, np.nan) for row in rows] for name in names if name not in ("model", "chip", "mode")}
    table |= {name: [row[name] for row in rows] for name in ("model", "chip", "mode")}
    result = rl.predict_table("serving", table)
    ttft, tpot, e2e, per_s, chips, batch, fits_most = (
        np.asarray(result[name], float)
        for name in ("ttft_s", "tpot_s", "e2e_s", "request_per_s", "chips", "batch", "max_batch_that_fits")
    )
    good = np.array([not error for error in result["error"]])
    good &= (ttft <= asked.slo.ttft_s) & (tpot <= asked.slo.tpot_s) & (e2e <= asked.slo.e2e_s)
    if asked.rate_per_s:
        good &= (per_s >= asked.rate_per_s * (1 - EXACT)) & room(rows, batch, fits_most) & spare(asked, rows)
    price = {one.machine.chip.name: one.usd_per_s for one in asked.machines}
    usd = chips * np.array([price[row["chip"]] for row in rows])
    tokens = np.maximum(per_s * asked.osl, 1e-300)
    known = {"cost": usd / tokens, "latency": e2e, "chips": chips, "tpot": tpot, "ttft": ttft, "throughput": 1 / tokens}
    known["energy"] = np.asarray(result["energy_j_per_output_token"], float)
    kept = np.flatnonzero(good)
    table_of = np.column_stack([known[name][kept] for name in asked.objectives])
    return Brute(table_of, [rows[i] for i in kept])


def room(rows: list[dict[str, Any]], batch: NDArray[np.float64], fits: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Room for bursts in the batch of each lane."""
    limits = []
    for row, most in zip(rows, fits, strict=True):
        pool = "decode_" if row["mode"] == "disagg" else ""
        stages = row[f"{pool}pp"]
        memory = most / row.get("replicas", 1) / stages
        asked = row.get("decode_batch" if pool else "max_batch", 0) or runtime("vllm").max_batch
        budget = row.get("max_batched_tokens", 0) or runtime("vllm").max_batched_tokens
        limits.append(max(min(memory, asked, budget - 1), 1.0))
    return batch <= most_sequences(np.array(limits)) * (1 + EXACT)


def spare(asked: Question, rows: list[dict[str, Any]]) -> NDArray[np.bool_]:
    """The spare capacity that is asked of replicas: their rate is below a share of the saturated one."""
    table: dict[str, list[Any]] = {name: [row.get(name, np.nan) for row in rows] for name in ("tp", "pp", "replicas")}
    for name in ("max_batch", "max_batched_tokens", "isl", "osl", "prefix_hit_frac"):
        table[name] = [row.get(name, np.nan) for row in rows]
    agg = np.array([row["mode"] == "agg" for row in rows])
    table |= {name: [row[name] for row in rows] for name in ("model", "chip")} | {"load": ["saturated"] * len(rows)}
    most = np.asarray(rl.predict_table("serving", table)["request_per_s"], float)
    return ~agg | (asked.rate_per_s <= MOST_LOADED * most * (1 + EXACT))


def random_question(seed: int) -> Question:
    """A small space with limits that some of it keeps. TTFT is short, so that no prefill pool is nearly full."""
    draw = np.random.default_rng(seed)
    kinds = [("h100-sxm", 3.0), ("a100-80gb-sxm", 1.5), ("l40s", 0.8), ("h200-sxm", 3.6)]
    chosen = draw.permutation(len(kinds))[: draw.integers(1, 3)]
    machines = tuple(allowed(f"{draw.integers(1, 5)}x {kinds[i][0]}", kinds[i][1]) for i in chosen)
    objectives = [("cost", "latency"), ("chips", "tpot"), ("latency",), ("energy", "latency"), ("ttft", "cost")]
    isl = float(draw.choice([200, 1000, 3000]))
    closed = draw.random() < 0.3
    return question(
        machines=machines,
        isl=isl,
        osl=float(draw.choice([2, 50, 300])),
        prefix_hit_frac=float(draw.choice([0.0, 0.5])),
        rate_per_s=0.0 if closed else float(draw.uniform(0.5, 15.0)),
        concurrency=float(draw.integers(1, 100)) if closed else 0.0,
        slo=Slo(ttft_s=3e-5 * isl + 0.05, tpot_s=float(draw.uniform(0.01, 0.06))),
        objectives=objectives[draw.integers(len(objectives))],
        choices=replace(SMALL, modes=("agg", "disagg") if draw.random() < 0.7 else ("agg",)),
    )


def assert_equals_brute_force(asked: Question) -> None:
    brute = brute_force(asked)
    found = search(asked)
    assert found.feasible > 0 or not len(brute.objectives)
    if not len(brute.objectives):
        assert found.best.count == 0
        return
    best = np.lexsort(np.round(np.log(np.maximum(brute.objectives, 1e-300)), 9).T[::-1])[0]
    np.testing.assert_allclose(values_of(found.best, asked)[0], brute.objectives[best], rtol=ROOT)
    ours = np.unique(np.round(values_of(found.front, asked), 12), axis=0)
    theirs = np.unique(np.round(brute.objectives[front(brute.objectives)], 12), axis=0)
    for point in theirs:  # each point of the true front is there
        assert np.isclose(ours, point, rtol=ROOT, atol=0).all(axis=1).any(), point
    for point in ours:  # and nothing else is
        assert np.isclose(theirs, point, rtol=ROOT, atol=0).all(axis=1).any(), point


@pytest.mark.parametrize("seed", range(FEW))
def test_small_space_gives_what_brute_force_gives(seed: int) -> None:
    assert_equals_brute_force(random_question(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FEW, MANY))
def test_many_small_spaces_give_what_brute_force_gives(seed: int) -> None:
    assert_equals_brute_force(random_question(seed))


# ---- what is shown is what `predict` says


@pytest.mark.parametrize("load", [{"rate_per_s": 0.0}, {"rate_per_s": 20.0}, {"rate_per_s": 0.0, "concurrency": 50.0}])
def test_screened_times_are_those_of_predict(load: dict[str, float]) -> None:
    asked = question(**load, objectives=("energy", "latency"))
    found = search(asked)
    for chosen in (found.best, found.front, found.families):
        assert chosen.rows is not None
        again = PREDICTOR.evaluate(chosen.rows)
        for name in ("ttft_s", "tpot_s", "e2e_s", "request_per_s"):
            rtol = ROOT if asked.concurrency else EXACT
            np.testing.assert_allclose(chosen.screened[name], again[name], rtol=rtol)
        energy = chosen.screened["energy_j_per_output_token"] / again["energy_j_per_output_token"]
        assert np.abs(energy - 1.0).max() < 0.02  # loads of a decode step are taken from three batches


def test_steps_that_are_priced_once_give_what_each_rate_gives_alone() -> None:
    asked = question(rate_per_s=0.0, choices=replace(SMALL, modes=("agg",), runtimes=("vllm", "sglang", "trtllm")))
    for space in spaces(asked):
        rows = space.rows
        rates = np.random.default_rng(1).uniform(0.1, 8.0, rows.count)
        times = PREDICTOR.open_loop(rows)(rates, np.arange(rows.count))
        alone = PREDICTOR.evaluate(rows.put(request_rate_per_s=rates))
        fits = np.isfinite(alone["ttft_s"])
        assert fits.any()
        for name in ("ttft_s", "tpot_s", "e2e_s", "request_per_s"):
            np.testing.assert_allclose(times[name][fits], alone[name][fits], rtol=EXACT)


# ---- a load that is free


@pytest.mark.parametrize("mode", ["agg", "disagg"])
@pytest.mark.parametrize("e2e_s", [math.inf, 4.0])
def test_highest_rate_keeps_the_limits_and_no_more_does(mode: str, e2e_s: float) -> None:
    slo = Slo(ttft_s=0.4, tpot_s=0.02, e2e_s=e2e_s)
    asked = question(rate_per_s=0.0, slo=slo, objectives=("throughput",), choices=replace(SMALL, modes=(mode,)))
    found = search(asked, top=5)
    assert found.best.rows is not None
    times = PREDICTOR.evaluate(found.best.rows)
    assert (slo.excess(times) <= 1.0 + EXACT).all()
    rate = times["request_per_s"]
    fixed = [search(replace(asked, rate_per_s=float(rate[0]) * share)) for share in (1.0 - EDGE, 1.0 + EDGE)]
    assert fixed[0].best.count > 0
    assert fixed[1].best.count == 0


def test_front_holds_the_winner_and_nothing_that_is_beaten() -> None:
    asked = question(rate_per_s=0.0, objectives=("throughput", "tpot", "chips"))
    found = search(asked)
    values = values_of(found.front, asked)
    assert front(values).all()
    assert values[:, 0].min() == pytest.approx(values_of(found.best, asked)[0, 0], rel=EXACT)


# ---- laws


def least(asked: Question) -> float:
    """The first objective of the winner; infinite where there is none."""
    found = search(asked)
    return float(values_of(found.best, asked)[0, 0]) if found.best.count else math.inf


@pytest.mark.parametrize("seed", range(3))
def test_looser_limits_never_cost_more(seed: int) -> None:
    asked = random_question(100 + seed)
    costs = []
    for share in (0.5, 1.0, 3.0):
        slo = Slo(ttft_s=asked.slo.ttft_s * share, tpot_s=asked.slo.tpot_s * share)
        costs.append(least(replace(asked, slo=slo)))
    assert all(after <= before * (1 + EXACT) for before, after in pairwise(costs)), costs


@pytest.mark.parametrize("seed", range(2))
def test_a_cheaper_chip_never_makes_the_winner_dearer(seed: int) -> None:
    asked = replace(random_question(200 + seed), objectives=("cost",))
    costs = []
    for share in (1.0, 0.7, 0.3):
        first = replace(asked.machines[0], usd_per_s=asked.machines[0].usd_per_s * share)
        costs.append(least(replace(asked, machines=(first, *asked.machines[1:]))))
    assert all(after <= before * (1 + EXACT) for before, after in pairwise(costs)), costs


@pytest.mark.parametrize("objective", ["cost", "chips", "latency"])
def test_more_machines_are_never_worse(objective: str) -> None:
    found = [least(question(machines=(allowed(f"{n}x h100-sxm"),), objectives=(objective,))) for n in (1, 4, 8)]
    assert all(after <= before * (1 + EXACT) for before, after in pairwise(found)), found
    both = (allowed("8x h100-sxm"), allowed("8x a100-80gb-sxm", 0.5))
    assert least(question(machines=both, objectives=(objective,))) <= found[-1] * (1 + EXACT)


def test_higher_rate_never_needs_fewer_chips() -> None:
    machines = (allowed("8x h100-sxm"),)
    needed = [least(question(machines=machines, rate_per_s=rate, objectives=("chips",))) for rate in (1.0, 10.0, 40.0)]
    assert needed == sorted(needed)


# ---- the space


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-30B-A3B"])
@pytest.mark.parametrize("chips", [1, 3, 8, 32])
def test_every_generated_cut_is_legal_and_none_is_twice(name: str, chips: int) -> None:
    cuts = degrees(find_model(name), allowed("32x h200-sxm"), chips, (1, 2))
    assert len(cuts)
    assert len(np.unique(cuts, axis=0)) == len(cuts)
    tp, pp, dp, _, _, cp = cuts.T
    assert (tp * pp * dp * cp <= chips).all()
    if chips == 32:  # across nodes too
        assert (tp * dp * cp > 8).any()


def test_larger_machines_are_searched_to_their_end() -> None:
    asked = question(machines=(allowed("400x h100-sxm"),), rate_per_s=2000.0, objectives=("chips",))
    found = search(asked)
    assert found.best.rows is not None
    exact = PREDICTOR.evaluate(found.best.rows)
    np.testing.assert_allclose(exact["request_per_s"], 2000.0)
    assert 20 < found.best.screened["chips"][0] < 400


@pytest.mark.parametrize("rate", [0.0, 60.0])
def test_matched_sizes_find_what_all_sizes_do(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    objectives = ("throughput",) if not rate else ("chips",)
    asked = question(machines=(allowed("16x h100-sxm"),), rate_per_s=rate, objectives=objectives)
    asked = replace(asked, choices=replace(SMALL, modes=("disagg",)))
    every = search(asked)
    monkeypatch.setattr("ridgeline.search.planning.pools.MOST_PRODUCTS", 10)
    fewer = search(asked)
    assert fewer.seen < every.seen
    assert fewer.notes and not every.notes
    assert values_of(fewer.best, asked)[0, 0] == pytest.approx(values_of(every.best, asked)[0, 0], rel=0.02)


def test_limits_on_power_and_price_bound_the_chips() -> None:
    free = question(rate_per_s=0.0, objectives=("throughput",))
    tdp_w = free.machines[0].machine.chip.tdp_w
    by_power = search(replace(free, power_w=2.5 * tdp_w))
    by_price = search(replace(free, usd_per_s=2.0 * 2.0 / 3600.0))
    for found in (by_power, by_price):
        assert found.best.screened["chips"][0] == 2
    with pytest.raises(SpecError, match="power budget"):
        search(replace(free, power_w=10.0))
    with pytest.raises(SpecError, match="does not pay"):
        search(replace(free, usd_per_s=1e-6))


def test_model_that_fits_nowhere_is_told_with_what_it_lacks() -> None:
    with pytest.raises(PlanError, match=r"needs 1\.\d+ TiB per chip|needs \d+ GiB per chip"):
        search(question(model="deepseek-ai/DeepSeek-V3"))


# ---- what would change the winner


def test_sensitivity_moves_each_assumption_the_way_it_must() -> None:
    asked = question(
        rate_per_s=0.0,
        machines=(allowed("4x h100-sxm", 2.0), allowed("4x a100-80gb-sxm", 1.0)),
        objectives=("cost", "latency"),
        prefix_hit_frac=0.3,
        choices=replace(SMALL, modes=("agg",), max_batches=(0,)),
    )
    found = search(asked)
    with np.errstate(all="ignore"):
        moved = list(sensitivity(found, PREDICTOR))
    by_name = {(one.name, round(one.factor, 3)): one for one in moved}
    known = {"prompt tokens (ISL)", "limit on TTFT", "prefix hits", "price of h100-sxm", "host time per iteration"}
    assert known <= {one.name for one in moved}
    for name, better in (("limit on TPOT", 1.1), ("price of h100-sxm", 0.9), ("memory bandwidth of h100-sxm", 1.1)):
        assert by_name[name, better].objective <= 1.0 + EDGE
        assert by_name[name, round(2.0 - better, 3)].objective >= 1.0 - EDGE
    unmoved = [one for one in moved if not one.plan_changes and not one.sizes_change]
    assert unmoved, "a tenth does not turn everything over"
    assert any(abs(one.objective - 1.0) > 0.01 for one in moved)


def test_a_search_that_is_stopped_has_the_best_of_what_it_saw() -> None:
    asked = question(choices=replace(SMALL, runtimes=("vllm", "sglang")))
    whole = search(asked)

    def stops(at: int) -> Any:
        def told(done: int, _: int, __: str) -> None:
            if done == at:
                raise KeyboardInterrupt

        return told

    with pytest.raises(KeyboardInterrupt):
        search(asked, progress=stops(0))
    found = search(asked, progress=stops(2))
    assert found.interrupted and not whole.interrupted
    assert 0 < found.seen < whole.seen
    assert set(found.family_names) < set(whole.family_names)
    best = dict(zip(whole.family_names, cases_of(whole.families), strict=True))
    assert cases_of(found.families) == [best[name] for name in found.family_names]


def cases_of(chosen: Any) -> list[str]:
    return [str(chosen.rows.case(i)) for i in range(chosen.count)]
