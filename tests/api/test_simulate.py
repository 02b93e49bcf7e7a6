"""`rl.simulate` and `rl.capacity`: from words to answers, agreement with the closed form, and what is refused."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.api.simulations.simulate_case import parted
from ridgeline.api.tables.tasks import predict_table
from ridgeline.core.errors import RidgelineError
from ridgeline.core.seeding import stream

MODEL = {"model": "meta-llama/Llama-3.1-8B", "on": "h100-sxm"}
LOOP_MEDIAN, LOOP_WORST = 0.05, 0.30
"""Closed form against simulation in closed loops; the worst are prompts longer than the token budget."""
OPEN_MEDIAN = 0.10
"""For random arrivals, up to 70 % of the capacity."""


def play(**case: Any) -> rl.Simulated:
    return rl.simulate(**{**MODEL, **case})


def test_one_request_alone_takes_its_prefill_and_its_decode_steps() -> None:
    """L9: the limit of no load is the analytic latency (the table of step times is within a percent of the prices)."""
    run = play(trace=rl.Traffic.of([0.0], 1000, 101), prefix_hit_frac=0.0)
    assert run.played.end.tolist() == [0]
    prefill = rl.predict("step", model=MODEL["model"], chip="h100-sxm", phase="prefill", tokens=1000)
    decode = rl.predict("step", model=MODEL["model"], chip="h100-sxm", phase="decode", context=1050)
    assert run.played.first_s[0] == pytest.approx(prefill.time_s, rel=0.03)
    assert (run.played.last_s - run.played.first_s)[0] == pytest.approx(100 * float(decode.time_s), rel=0.03)


def test_the_same_words_give_the_same_bytes_and_other_seeds_other_loads() -> None:
    words = {"arrivals": "poisson(6/s)", "prompt": "uniform(100, 900)", "output": 60, "requests": 200}
    first, again, other = play(**words), play(**words), play(**words, seed=1)
    assert json.dumps(first.to_dict(), sort_keys=True) == json.dumps(again.to_dict(), sort_keys=True)
    assert first.provenance["traffic_sha256"] != other.provenance["traffic_sha256"]


def test_what_each_client_of_a_loop_sees_adds_up_to_the_loop() -> None:
    run = play(isl=500, osl=100, concurrency=16, requests=400)
    lasting = run.played.last_s - run.played.arrival_s
    assert lasting.sum() == pytest.approx(16 * run.played.end_s, rel=0.05)


def test_energy_is_between_idle_and_the_power_limit_for_as_long_as_it_lasts() -> None:
    run = play(arrivals="poisson(2/s)", prompt=500, output=100, requests=100)
    chip, whole = rl.chip("h100-sxm"), run.answers.whole
    lasting = whole.end_s - whole.start_s
    assert chip.idle_w * lasting <= whole.energy_j <= chip.tdp_w * lasting


def closed_form(rows: list[tuple[Any, ...]], names: tuple[str, ...]) -> dict[str, Any]:
    columns = {name: np.array(column, float) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    texts = {"model": MODEL["model"], "chip": "h100-sxm"}
    table = {**columns, **{name: np.array([text] * len(rows), object) for name, text in texts.items()}}
    out: dict[str, Any] = predict_table("serving", table)
    return out


def spread(tokens: int) -> str:
    return f"uniform({tokens * 4 // 5}, {tokens * 6 // 5})"


def means(run: rl.Simulated, chosen: slice) -> tuple[float, float]:
    p = run.played
    tpot = (p.last_s - p.first_s) / np.maximum(p.output_tokens - 1, 1)
    return float(np.mean((p.first_s - p.arrival_s)[chosen])), float(np.mean(tpot[chosen]))


def test_closed_form_and_simulation_agree_in_closed_loops() -> None:
    rows = list(product([250, 1000, 4000], [60, 250], [1, 16, 64]))
    closed = closed_form(rows, ("isl", "osl", "concurrency"))
    errors = []
    for i, (isl, osl, clients) in enumerate(rows):
        run = play(prompt=spread(isl), output=spread(osl), concurrency=clients, requests=max(15 * clients, 60))
        ttft, tpot = means(run, slice(2 * clients, -clients))
        errors.append((closed["ttft_s"][i] / ttft - 1, closed["tpot_s"][i] / tpot - 1))
    wrong = np.abs(np.array(errors))
    assert np.all(np.median(wrong, axis=0) < LOOP_MEDIAN)
    assert wrong.max() < LOOP_WORST


def test_closed_form_and_simulation_agree_for_random_arrivals_below_saturation() -> None:
    shapes = list(product([250, 1000, 4000], [60, 250]))
    most = closed_form([(*shape, 128) for shape in shapes], ("isl", "osl", "concurrency"))["request_per_s"]
    rows = [(*shape, rate * share) for shape, rate in zip(shapes, most, strict=True) for share in (0.2, 0.6)]
    closed = closed_form(rows, ("isl", "osl", "request_rate_per_s"))
    errors = []
    for i, (isl, osl, rate) in enumerate(rows):
        run = play(prompt=spread(isl), output=spread(osl), rate=float(rate), requests=1500)
        ttft, tpot = means(run, slice(150, None))
        errors.append((closed["ttft_s"][i] / ttft - 1, closed["tpot_s"][i] / tpot - 1))
    assert np.all(np.median(np.abs(np.array(errors)), axis=0) < OPEN_MEDIAN)


def test_a_named_procedure_is_simulated_as_it_is_predicted() -> None:
    case = {"isl": 1024, "osl": 128, "concurrency": 32, "procedure": "inferencemax"}
    run, predicted = play(**case), rl.predict(**MODEL, **case)
    ttft, tpot = means(run, slice(None))
    assert ttft == pytest.approx(predicted.ttft_s, rel=0.03)
    assert tpot == pytest.approx(predicted.tpot_s, rel=0.03)


def test_two_replicas_behind_one_router_serve_twice_the_rate() -> None:
    load = {"prompt": spread(1000), "output": spread(100), "requests": 800}
    one = play(**load, rate=4.0)
    two = play(**load, rate=8.0, on="2x h100-sxm")
    assert two.answers.whole.chips == pytest.approx(2.0)
    assert means(two, slice(100, None))[0] <= 1.05 * means(one, slice(100, None))[0]


def test_more_cache_hits_mean_earlier_first_tokens() -> None:
    waits = [
        means(play(arrivals="poisson(3/s)", prompt=2000, output=50, requests=150, prefix_hit_frac=frac), slice(None))[0]
        for frac in (0.0, 0.5, 0.9)
    ]
    assert waits[0] > waits[1] > waits[2]


def test_sessions_find_what_earlier_turns_left_in_the_cache(tmp_path: Path) -> None:
    chats = tmp_path / "chats.yaml"
    chats.write_text(
        "requests: 200\nclasses:\n  chat:\n    arrivals: poisson(0.5/s)\n    prompt: 200\n    output: 100\n"
        "    sessions: {turns: 5, think: 10s, system: 512}\n"
    )
    found = play(trace=chats).answers.whole.overall.prefix_hit_frac
    assert 0.4 < found < 1.0


def test_separate_pools_answer_with_chips_power_and_causality() -> None:
    pools = {"mode": "disagg", "prefill_workers": 1, "decode_workers": 2, "chip": "h100-sxm"}
    run = rl.simulate(model=MODEL["model"], **pools, arrivals="poisson(4/s)", prompt=1500, output=100, requests=200)
    assert run.answers.whole.chips == pytest.approx(3.0)
    assert set(run.answers.whole.busy_frac) == {"prefill", "decode"}
    assert np.all(run.played.first_s < run.played.last_s)
    assert math.isfinite(run.answers.whole.energy_j)


def test_a_capacity_lies_between_a_rate_that_holds_and_one_that_fails() -> None:
    found = rl.capacity(
        **MODEL, arrivals="poisson(1/s)", prompt=1000, output=100, requests=400, ttft_slo_s="400ms", tolerance=0.1
    )
    assert 0 < found.rate_per_s < found.fails_per_s <= 1.1 * found.rate_per_s
    assert all(one.holds for one in found.tried if one.rate_per_s <= found.rate_per_s)
    assert found.at_rate is not None
    assert found.at_rate.answers.steady.overall.slo_met_frac >= found.target


@pytest.mark.parametrize("beside", ["fleet", "phase_split_frac"])
def test_a_capacity_of_pools_and_of_split_chips_is_searched_too(beside: str) -> None:
    pools = {"pools": {"one": {"on": "h100-sxm"}, "two": {"on": "a100-sxm"}}}
    case = {"fleet": pools} if beside == "fleet" else {"on": "h100-sxm", "phase_split_frac": 0.5}
    load = {"arrivals": "poisson(1/s)", "prompt": 1000, "output": 50, "requests": 200, "ttft_slo_s": "800ms"}
    found = rl.capacity(model=MODEL["model"], **case, **load, tolerance=0.1)
    assert 0 < found.rate_per_s < found.fails_per_s
    assert all(one.low >= 0.0 and one.high <= 1.0 for one in found.tried)


def test_a_stricter_objective_never_holds_at_a_higher_rate() -> None:
    case = {"arrivals": "poisson(1/s)", "prompt": 1000, "output": 100, "requests": 300, "tolerance": 0.1}
    rates = [rl.capacity(**MODEL, **case, tpot_slo_s=tpot).rate_per_s for tpot in ("12ms", "20ms")]
    assert rates[0] <= rates[1] * 1.1


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({}, "nothing says which requests come"),
        ({"arrivals": "poisson(1/s)"}, "how long requests are"),
        ({"arrivals": "poison(1/s)", "isl": 10, "osl": 10}, "poisson"),
        ({"isl": 10, "osl": 10, "rate": 1.0, "scheduler": "fcfss"}, "fcfs"),
        ({"isl": 10, "osl": 10, "rate": 1.0, "router": "least-load"}, "least-loaded"),
        ({"isl": 10, "osl": 10, "rate": 1.0, "failures": "random(mtbf=0s)"}, "above 0"),
        ({"isl": 10, "osl": 10, "rate": 1.0, "failures": "often"}, "law of failures"),
        ({"isl": 10, "osl": 10, "rate": 1.0, "tiers": "host(1GB)"}, "bandwidth"),
        ({"trace": "no/such/file.csv"}, "no/such/file.csv"),
        ({"isl": 10, "osl": 10, "rate": 1.0, "modle": "x"}, "unknown column"),
        ({"isl": 10, "osl": 10, "rate": 1.0, "until": "1 parsec"}, "parsec"),
    ],
)
def test_what_cannot_be_is_named(case: dict[str, Any], words: str) -> None:
    with pytest.raises(RidgelineError, match=words):
        play(**case)


def test_a_model_that_does_not_fit_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(RidgelineError, match="does not fit"):
        rl.simulate(model="meta-llama/Llama-3.1-70B", on="h100-sxm", isl=100, osl=10, rate=1.0)


def test_requests_longer_than_is_served_are_rejected_and_counted() -> None:
    prompts = stream(0, "prompts").integers(100, 3000, 60)
    run = play(trace=rl.Traffic.of(np.arange(60) * 0.2, prompts, 20), longest=2000)
    assert run.answers.whole.overall.rejected == (prompts + 20 > 2000).sum()
    assert run.answers.whole.overall.done == (prompts + 20 <= 2000).sum()


def test_arguments_part_into_case_load_and_fleet() -> None:
    rest, load, choices = parted(
        {
            "isl": 5,
            "trace": "x",
            "duration_s": "1min",
            "router": "random",
            "longest": 0,
            "seed": 3,
            "tiers": "a(1)+b(2)",
        },
        plugins=False,
        keep_runs=True,
    )
    assert rest == {"isl": 5}
    assert (load.trace, load.duration_s, load.seed) == ("x", 60.0, 3)
    assert (choices.router, choices.longest, choices.seed, choices.tiers) == ("random", math.inf, 3, ["a(1)", "b(2)"])


def test_ctrl_c_ends_with_what_is_known_so_far() -> None:
    def stop(time_s: float, ended: int, total: int, so_far: str) -> None:
        assert 0 < ended < total
        assert "TTFT p50" in so_far
        raise KeyboardInterrupt

    run = play(arrivals="poisson(5/s)", prompt=300, output=30, requests=8000, router="power-of-two", progress=stop)
    assert run.interrupted
    whole = run.answers.whole.overall
    assert 0 < whole.done < 8000
    assert math.isfinite(run.answers.steady.overall.ttft_s.mean.value)


def test_files_of_a_run_are_written(tmp_path: Path) -> None:
    run = play(arrivals="poisson(4/s)", prompt=300, output=30, requests=50)
    assert "run.html" in run.write_page(tmp_path / "run.html")
    run.write_timeline(tmp_path / "run.parquet")
    run.write_perfetto(tmp_path / "run.json")
    assert "<h1>" in (tmp_path / "run.html").read_text()
    assert json.loads((tmp_path / "run.json").read_text())["traceEvents"]
    assert {path.name for path in tmp_path.glob("run.*.parquet")} == {
        "run.requests.parquet",
        "run.runs.parquet",
        "run.windows.parquet",
    }


def test_runs_that_are_not_kept_are_summed_up_and_answer_the_same(tmp_path: Path) -> None:
    case = {"model": "meta-llama/Llama-3.1-8B", "on": "h100-sxm", "isl": 256, "osl": 32, "requests": 300}
    kept, summed = (rl.simulate(**case, arrivals="poisson(20/s)", keep_runs=keep) for keep in (True, False))
    for name in ("batch", "kv_use_frac", "energy_j", "energy_j_per_output_token"):
        assert getattr(summed.answers.whole, name) == pytest.approx(getattr(kept.answers.whole, name), rel=1e-9)
    assert not any(lane.runs.size for lane in summed.played.lanes)
    summed.write_page(tmp_path / "page.html")
    assert "were not kept" in (tmp_path / "page.html").read_text(encoding="utf-8")
    with pytest.raises(rl.RidgelineError, match="not kept"):
        summed.write_timeline(tmp_path / "t.duckdb")
