"""Allocations against brute force on instances small enough for it, and reasons that say by how much."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from ridgeline.core.errors import RidgelineError
from ridgeline.search.allocate import bit_widths, place_models, pool_sizes, replicas, stages

CLOSE = 1e-6
"""What the solver's feasibility tolerance lets through."""

seeds = st.integers(0, 2**32 - 1)


def _served(rates: np.ndarray, counts: np.ndarray, demand: np.ndarray) -> float:
    """The largest multiple of the demand that these replicas serve, by a linear program of its own."""
    kinds, classes = rates.shape
    cost = np.zeros(kinds * classes + 1)
    cost[-1] = -1.0
    rows, most = [], []
    for kind in range(kinds):
        row = np.zeros_like(cost)
        row[kind * classes : (kind + 1) * classes] = 1.0
        rows.append(row)
        most.append(float(counts[kind]))
    for one in range(classes):
        row = np.zeros_like(cost)
        row[one : kinds * classes : classes] = -rates[:, one]
        row[-1] = demand[one]
        rows.append(row)
        most.append(0.0)
    found = linprog(cost, A_ub=rows, b_ub=most)
    return float("inf") if found.status == 3 else -found.fun


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_replicas_cost_no_more_than_any_other_counts_that_serve(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds, classes = 2, int(rng.integers(1, 3))
    rates = np.round(rng.uniform(0.5, 4.0, (kinds, classes)), 2) * (rng.random((kinds, classes)) < 0.85)
    demand, cost = np.round(rng.uniform(0.5, 5.0, classes), 2), np.round(rng.uniform(1.0, 4.0, kinds), 2)
    uses, limits = rng.integers(1, 4, (kinds, 1)).astype(float), np.array([float(rng.integers(4, 14))])
    found = replicas(rates, demand, cost, uses=uses, limits=limits, resources=["chips"])
    best, most = np.inf, 0.0
    for counts in itertools.product(range(14), repeat=kinds):
        if np.dot(counts, uses[:, 0]) > limits[0]:
            continue
        scale = _served(rates, np.array(counts), demand)
        most = max(most, scale)
        if scale >= 1.0 - CLOSE:
            best = min(best, float(np.dot(counts, cost)))
    assert found.status == ("optimal" if np.isfinite(best) else "infeasible")
    if np.isfinite(best):
        assert found.cost == pytest.approx(best)
        assert np.all(found.shares.sum(axis=1) <= found.counts + CLOSE)
        assert np.all((found.shares * rates).sum(axis=0) >= demand - CLOSE)
    else:
        assert "chips: needs" in found.reason or "no kind serves" in found.reason
    largest = replicas(rates, demand, cost, uses=uses, limits=limits, maximise=True)
    assert largest.scale == pytest.approx(most, abs=CLOSE)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_pools_of_prompts_and_tokens_are_the_cheapest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompt, token, cost = np.round(rng.uniform(0.5, 3.0, (3, 2)), 2)
    demand = float(np.round(rng.uniform(1.0, 5.0), 2))
    found = pool_sizes(prompt, token, demand, cost)
    counts = list(itertools.product(range(12), repeat=2))
    cheapest = [
        min(float(np.dot(c, cost)) for c in counts if np.dot(c, speed) >= demand - 1e-9) for speed in (prompt, token)
    ]
    assert found.cost == pytest.approx(sum(cheapest))
    limited = pool_sizes(prompt, token, demand, cost, uses=np.ones((2, 1)), limits=[5.0], maximise=True)
    every = [(p, t) for p in itertools.product(range(6), repeat=2) for t in itertools.product(range(6), repeat=2)]
    most = max(min(np.dot(p, prompt), np.dot(t, token)) for p, t in every if sum(p) + sum(t) <= 5)
    assert limited.request_per_s == pytest.approx(most, rel=CLOSE)


def _placeable(rates, demand, needs, room, placed) -> bool:
    """Whether servers that hold these models can share their time so that all are served."""
    models, servers = rates.shape
    if np.any((placed * needs).sum(axis=0) > room):
        return False
    rows, most = [], []
    for server in range(servers):
        row = np.zeros((models, servers))
        row[:, server] = 1.0
        rows.append(row.ravel())
        most.append(1.0)
    for model in range(models):
        row = np.zeros((models, servers))
        row[model] = -rates[model]
        rows.append(row.ravel())
        most.append(-demand[model])
    bounds = [(0.0, float(held)) for held in placed.ravel()]
    return linprog(np.zeros(models * servers), A_ub=rows, b_ub=most, bounds=bounds).status == 0


@settings(max_examples=12, deadline=None)
@given(seeds)
def test_models_are_placed_on_the_cheapest_servers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    models, servers = 2, 3
    rates = np.round(rng.uniform(1.0, 4.0, (models, servers)), 2)
    demand = np.round(rng.uniform(0.5, 3.0, models), 2)
    needs = rng.integers(2, 7, (models, servers)).astype(float)
    room, cost = rng.integers(4, 12, servers).astype(float), np.round(rng.uniform(1.0, 3.0, servers), 2)
    found = place_models(rates, demand, needs, room, cost=cost)
    best = np.inf
    for bits in itertools.product((0.0, 1.0), repeat=models * servers):
        placed = np.array(bits).reshape(models, servers)
        price = float(cost[placed.any(axis=0)].sum())
        if price < best - 1e-9 and _placeable(rates, demand, needs, room, placed):
            best = price
    assert (found.status == "optimal") == bool(np.isfinite(best))
    if np.isfinite(best):
        assert found.cost == pytest.approx(best)
        assert np.all((found.placed * needs).sum(axis=0) <= room)
        assert np.all((found.shares * rates).sum(axis=1) >= demand - CLOSE)
        assert np.all(found.shares <= found.placed + CLOSE)
    else:
        assert found.reason


def _slowest(times, layer_bytes, memory, added, cuts, devices) -> float:
    worst = 0.0
    for (start, end), kind in zip(itertools.pairwise(cuts), devices, strict=True):
        if start == end:
            continue
        if layer_bytes[start:end].sum() > memory[kind]:
            return np.inf
        worst = max(worst, times[start:end, kind].sum() + added[kind])
    return worst


@settings(max_examples=60, deadline=None)
@given(seeds, st.booleans())
def test_no_cut_into_stages_is_faster(seed: int, fixed: bool) -> None:
    rng = np.random.default_rng(seed)
    layers, kinds = int(rng.integers(1, 7)), 2
    times = rng.integers(1, 9, (layers, kinds)).astype(float)
    sizes, memory = rng.integers(1, 4, layers).astype(float), rng.integers(2, 9, kinds).astype(float)
    added, counts = rng.integers(0, 3, kinds).astype(float), rng.integers(0, 3, kinds)
    devices = [kind for kind in range(kinds) for _ in range(counts[kind])]
    assume(devices)
    orders = [tuple(devices)] if fixed else sorted(set(itertools.permutations(devices)))
    found = stages(
        times, counts, layer_bytes=sizes, memory_bytes=memory, stage_s=added, order=devices if fixed else None
    )
    best = min(
        _slowest(times, sizes, memory, added, (0, *cuts, layers), order)
        for order in orders
        for cuts in itertools.combinations_with_replacement(range(layers + 1), len(devices) - 1)
    )
    assert found.status == ("optimal" if np.isfinite(best) else "infeasible")
    if np.isfinite(best):
        assert found.time_s == best
        assert _slowest(times, sizes, memory, added, found.starts, found.kinds) == best
        assert np.all(np.bincount(found.kinds, minlength=kinds) <= counts)
    else:
        assert found.reason


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from(["loss", "size", "time"]))
def test_no_choice_of_formats_is_better(seed: int, minimise: str) -> None:
    rng = np.random.default_rng(seed)
    layers, formats = int(rng.integers(1, 5)), 3
    tables = {name: rng.integers(0, 9, (layers, formats)).astype(float) for name in ("loss", "size", "time")}
    most = {name: float(rng.integers(0, 5 * layers)) for name in tables if name != minimise}
    limits = {"most_loss": "loss", "most_bytes": "size", "most_time_s": "time"}
    found = bit_widths(
        tables["loss"], tables["size"], time_s=tables["time"], minimise=minimise,
        **{name: most[of] for name, of in limits.items() if of in most},
    )  # fmt: skip
    best = np.inf
    for chosen in itertools.product(range(formats), repeat=layers):
        totals = {name: float(column[np.arange(layers), chosen].sum()) for name, column in tables.items()}
        if all(totals[name] <= most[name] for name in most):
            best = min(best, totals[minimise])
    assert (found.status == "optimal") == bool(np.isfinite(best))
    if np.isfinite(best):
        assert {"loss": found.loss, "size": found.size_bytes, "time": found.time_s}[minimise] == pytest.approx(best)
        assert found.loss == pytest.approx(tables["loss"][np.arange(layers), found.chosen].sum())
    else:
        assert "more than" in found.reason


def test_a_reason_names_the_limit_and_the_excess() -> None:
    found = replicas([[2.0], [1.0]], [10.0], [3.0, 1.0], uses=[[8.0], [8.0]], limits=[16.0], resources=["h100 chips"])
    assert found.status == "infeasible"
    assert found.reason == "h100 chips: needs 40, 24 more than the 16 there are"
    few = replicas([[2.0], [1.0]], [10.0], [3.0, 1.0], most=[2, 1], classes=["chat"])
    assert few.reason == "requests of chat: gets 5 per s, 5 per s less than the 10 per s asked for"
    none = replicas([[2.0, 0.0]], [1.0, 1.0], [1.0], classes=["chat", "code"])
    assert none.reason == "no kind serves code"
    home = place_models([[1.0]], [0.5], [[80.0 * 2**30]], [40.0 * 2**30], models=["big"])
    assert home.reason == "no server holds and serves big"
    full = place_models([[1.0], [1.0]], [0.5, 0.4], [[30.0 * 2**30]] * 2, [40.0 * 2**30], servers=["node-1"])
    assert full.reason == "memory of node-1: needs 60.0 GiB, 20.0 GiB more than the 40.0 GiB there are"
    large = stages([[1.0]] * 3, [2], layer_bytes=[1e9, 5e9, 1e9], memory_bytes=[4e9], kinds=["t4"])
    assert "layer 1 takes" in large.reason and "more than t4 holds" in large.reason
    grain = stages([[1.0]] * 3, [2], layer_bytes=[3e9] * 3, memory_bytes=[5e9])
    assert "do not pack" in grain.reason


def test_a_large_pipeline_over_unlike_devices_is_cut_at_once() -> None:
    rng = np.random.default_rng(0)
    times = rng.uniform(1.0, 2.0, (96, 1)) * np.array([[1.0, 2.0, 3.0]])
    found = stages(times, [8, 8, 8])
    speed = 8 / 1 + 8 / 2 + 8 / 3
    assert times[:, 0].sum() / speed <= found.time_s <= times[:, 0].sum() / speed + 2 * 2.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: replicas([[1.0]], [1.0, 2.0], [1.0]),
        lambda: replicas([[np.nan]], [1.0], [1.0]),
        lambda: replicas([[-1.0]], [1.0], [1.0]),
        lambda: replicas([[1.0]], [1.0], [1.0], maximise=True),
        lambda: replicas([[1.0]], [1.0], [1.0], uses=[[1.0]], limits=[1.0], resources=["a", "b"]),
        lambda: pool_sizes([1.0], [1.0], 0.0, [1.0]),
        lambda: stages(np.empty((0, 1)), [1]),
        lambda: stages([[1.0]], [1], order=[3]),
        lambda: stages(np.ones((4, 9)), [9] * 9),
        lambda: bit_widths([[1.0]], [[1.0]], minimise="bits"),
    ],
)
def test_inputs_that_cannot_be_are_refused(make) -> None:
    with pytest.raises(RidgelineError):
        make()
