"""Models that take turns on a lane: equal to the eager engine, and the switches, loads and waits that must be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.serving.reference import Reference, Shelf
from tests.serving.test_engine import TIMES, scenario

import ridgeline as rl
from ridgeline.api.simulations.simulate import simulate
from ridgeline.core.errors import RidgelineError
from ridgeline.core.seeding import stream
from ridgeline.hardware.catalogue import chip
from ridgeline.serving.engine.adapters import Adapters, HostTier
from ridgeline.serving.engine.alone import serve
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.policies import kv
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.models import ByModel
from ridgeline.workloads.traffic import Traffic

ORDERS = {"lru": kv.lru, "lfu": kv.Lfu, "fifo": kv.Fifo}
SMALL = {"model": "meta-llama/Llama-3.1-8B", "on": "h100-sxm", "isl": 200, "osl": 20}


def engine_of(
    rules: Rules,
    requests: Requests,
    models: list[int],
    *,
    kept: int,
    eviction: str = "lru",
    host: int = 0,
    **more: object,
) -> Engine:
    tier = HostTier(kept=host, load_s=0.05, fetch_s=0.2) if host else None
    residents = Adapters(models, slots=1, kept=kept, load_s=0.05, whole=True, order=ORDERS[eviction](), host=tier)
    engine = Engine(TIMES, rules, requests, Log(len(models)), adapters=residents, keep_runs=True, **more)  # type: ignore[arg-type]
    serve(engine, requests)
    return engine


@pytest.mark.parametrize("seed", range(60))
def test_an_engine_of_several_models_equals_the_eager_reference(seed: int) -> None:
    case, draw = scenario(seed), stream(seed, "models")
    count = len(case.requests.prompts)
    models = draw.integers(0, int(draw.integers(2, 7)), count).tolist()
    kept, host = int(draw.integers(1, 4)), int(draw.choice([0, 0, 1, 3]))
    eviction = str(draw.choice(list(ORDERS)))
    engine = engine_of(case.rules, case.requests, models, kept=kept, eviction=eviction, host=host)
    shelf = Shelf(models, slots=1, kept=kept, load_s=0.05, each_s=0.0, first_s=0.0, whole=True, eviction=eviction)
    shelf.host, shelf.fetch_s = host, 0.2
    expected = Reference(TIMES, case.rules, case.requests, shelf=shelf).run()
    for ours, theirs in ((engine.log.first, "first"), (engine.log.last, "last"), (engine.log.admitted, "admitted")):
        np.testing.assert_allclose(ours, [getattr(s, theirs) for s in expected], rtol=1e-9)
    found = engine.adapters
    assert found is not None
    assert (found.loads, found.switches, found.fetches) == (shelf.loads, shelf.switches, shelf.fetches)
    assert not found.using
    assert not found.decoding


@pytest.mark.parametrize("seed", range(10))
def test_cuts_of_runs_change_nothing_under_the_grouping_scheduler(seed: int) -> None:
    draw = stream(seed, "grouped")
    count = 50
    models = draw.integers(0, 4, count).tolist()
    requests = Requests(
        prompts=draw.integers(1, 200, count).tolist(),
        outputs=draw.integers(1, 60, count).tolist(),
        arrivals=np.cumsum(draw.exponential(0.02, count)).tolist(),
    )
    rules = Rules(slots=6, token_budget=150.0, cache_tokens=1500.0, block_tokens=16, preemption="swap", copy_s=1e-4)
    facts = Facts(prompt_tokens=requests.prompts, output_tokens=requests.outputs, model=models)
    runs = [
        engine_of(rules, requests, models, kept=2, queue=ByModel(facts, most=3), longest_run=k) for k in (1 << 60, 1, 3)
    ]
    for cut in runs[1:]:
        np.testing.assert_allclose(cut.log.last, runs[0].log.last, rtol=1e-9)
        assert cut.adapters.switches == runs[0].adapters.switches


def test_models_in_turn_that_do_not_fit_load_their_weights_at_every_switch() -> None:
    """Closed form: one client, K models in turn, LRU: each request waits for weights / bandwidth, then is served."""
    count, kinds = 30, 5
    requests = Requests(prompts=[100] * count, outputs=[10] * count, clients=1)
    rules = Rules(slots=8, token_budget=400.0)
    alone = engine_of(rules, requests, [0] * count, kept=1)
    for kept in (1, kinds - 1):
        turns = engine_of(rules, requests, [i % kinds for i in range(count)], kept=kept)
        assert turns.adapters.loads == turns.adapters.switches == count
        assert max(turns.log.last) == pytest.approx(max(alone.log.last) + (count - 1) * 0.05)
    fits = engine_of(rules, requests, [i % kinds for i in range(count)], kept=kinds)
    assert fits.adapters.loads == kinds
    assert fits.adapters.switches == count
    assert max(fits.log.last) == pytest.approx(max(alone.log.last) + (kinds - 1) * 0.05)


def test_a_batch_is_of_one_model() -> None:
    draw, count = stream(0, "one model"), 80
    models = draw.integers(0, 3, count).tolist()
    requests = Requests(prompts=[50] * count, outputs=draw.integers(2, 40, count).tolist(), clients=16)
    log = engine_of(Rules(slots=8, token_budget=400.0), requests, models, kept=3).log
    spans = sorted(zip(log.admitted, log.last, models, strict=True))
    for start, end, kind in spans:
        others = [one for one in spans if one[2] != kind and one[0] < end - 1e-12 and one[1] > start + 1e-12]
        assert not others


@pytest.mark.parametrize("machine", ["h100-sxm", "sn40l"])
def test_simulated_switches_cost_weights_over_the_link_in_ttft(machine: str) -> None:
    load = {**SMALL, "on": machine, "concurrency": 1, "requests": 30}
    traffic = rl.make_traffic(arrivals="closed(1)", prompt=200, output=20, requests=30)
    turns = replace(traffic, model=np.arange(30, dtype=np.int32) % 3)
    del load["requests"], load["concurrency"], load["isl"], load["osl"]
    plain, mixed = simulate(**load, trace=traffic), simulate(**load, trace=turns)
    weights = rl.predict(**{**SMALL, "on": machine}, concurrency=1).weights_bytes_per_chip
    one = chip(machine)
    tier, port = one.tier("host"), one.port("host")
    rate = tier.bandwidth_bytes_per_s if tier else port.bandwidth_bytes_per_s
    waited = mixed.answers.whole.overall.ttft_s.mean.value - plain.answers.whole.overall.ttft_s.mean.value
    assert waited == pytest.approx(weights / rate, rel=1e-6)
    assert (mixed.answers.model_switches, mixed.answers.model_loads) == (30, 30)
    assert mixed.answers.model_hit_frac == 0.0
    assert plain.answers.model_switches == 0
    assert any("switches between models" in note for note in mixed.answers.notes)


def test_more_room_for_models_is_less_cache_and_fewer_loads() -> None:
    load = {**SMALL, "on": "h100-sxm", "arrivals": "poisson(2/s)", "requests": 150, "models": "zipf(6, 1)"}
    runs = [simulate(**load, models_cache=kept) for kept in (1, 2, 3)]
    loads = [run.answers.model_loads for run in runs]
    blocks = [run.played.lanes[0].blocks for run in runs]
    assert loads == sorted(loads, reverse=True)
    assert loads[0] > 1.5 * loads[-1]
    assert blocks[0] > blocks[1] > blocks[2]
    assert runs[0].answers.to_dict()["model_hit_frac"] < runs[-1].answers.to_dict()["model_hit_frac"]
    for run in runs:
        assert np.all(np.isfinite(run.played.last_s))


def test_an_affine_router_and_a_grouping_scheduler_spare_loads() -> None:
    load = {**SMALL, "on": "4x h100-sxm", "arrivals": "poisson(12/s)", "requests": 400, "models": "uniform(1, 8)"}
    plain = simulate(**load, models_cache=2)
    affine = simulate(**load, models_cache=2, router="model-affine")
    both = simulate(**load, models_cache=2, router="model-affine", scheduler="by-model(most=32)")
    loads = [run.answers.model_loads for run in (plain, affine, both)]
    assert loads[1] < 0.7 * loads[0]
    assert loads[2] <= loads[1]
    assert both.answers.whole.overall.e2e_s.mean.value < plain.answers.whole.overall.e2e_s.mean.value


def test_what_host_memory_does_not_hold_comes_from_drives() -> None:
    load = {
        **SMALL,
        "on": "dgx-h100",
        "replicas": 1,
        "arrivals": "poisson(2/s)",
        "requests": 100,
        "models": "uniform(1, 6)",
    }
    all_there, few = simulate(**load), simulate(**load, models_host=2)
    fetched = sum(lane.model_fetches for lane in few.played.lanes)
    assert sum(lane.model_fetches for lane in all_there.played.lanes) == 0
    assert 6 <= fetched <= few.answers.model_loads
    assert few.answers.whole.overall.ttft_s.mean.value > all_there.answers.whole.overall.ttft_s.mean.value


def test_traces_and_traffic_files_name_models(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("arrival_s,prompt_tokens,output_tokens,model\n0,10,5,chat\n1,10,5,code\n2,10,5,chat\n3,9,5,\n")
    found = rl.load_traffic(table)
    assert found.model.tolist() in ([0, 1, 0, -1], [1, 0, 1, -1])
    words = tmp_path / "t.yaml"
    words.write_text(
        "classes:\n"
        "  a: {arrivals: constant(2/s), prompt: 10, output: 5, model: 3}\n"
        "  b: {arrivals: constant(2/s), prompt: 10, output: 5, model: 'uniform(5, 6)'}\n"
        "duration: 20s\n"
    )
    made = rl.load_traffic(words)
    assert set(made.model.tolist()) == {3, 5, 6}
    run = simulate(model=SMALL["model"], on="h100-sxm", trace=made, models_cache=2)
    assert 2 <= run.answers.model_loads <= run.answers.model_switches


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"models_cache": 9}, "lower models_cache to"),
        ({"models_cache": 0}, "models_cache"),
        ({"adapters": "uniform(1, 3)"}, "not both"),
        ({"on": "2x h100-sxm", "pp": 2}, "take dp 1 and pp 1"),
        ({"on": "4x h100-sxm", "rebalance": "free-cache"}, "mixed pools"),
        ({"models_host": 2, "load_from": "1 GB/s"}, "models_host"),
        ({"models_eviction": "lur"}, "lru"),
    ],
)
def test_asks_that_cannot_be_are_named(more: dict[str, object], words: str) -> None:
    load = {**SMALL, "concurrency": 2, "requests": 10, "models": "uniform(1, 4)"}
    with pytest.raises(RidgelineError, match=words):
        simulate(**{**load, **more})


@pytest.mark.parametrize("name", ["by-model", "by-model(most=1)"])
def test_the_scheduler_and_the_router_keep_their_contracts(name: str) -> None:
    assert rl.check_policy(name).ok
    assert rl.check_policy("model-affine").ok


def test_failures_of_lanes_with_models_lose_no_request() -> None:
    load = {**SMALL, "on": "2x h100-sxm", "arrivals": "poisson(6/s)", "requests": 300, "models": "uniform(1, 5)"}
    run = simulate(**load, failures="random(mtbf=20s, repair=2s)", router="model-affine")
    assert isinstance(run.traffic, Traffic)
    assert run.answers.whole.overall.done == 300
