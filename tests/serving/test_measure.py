"""Named procedures: what their runs print, beside the closed form and beside measured engines."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from ridgeline.api.accuracy import fit_serving
from ridgeline.api.tables.tasks import predict_table
from ridgeline.serving.load import procedure
from ridgeline.serving.measure import Benchmark
from ridgeline.serving.runtime import runtime

MODEL = "meta-llama/Llama-3.1-8B"
TPOT_MEDIAN, TPOT_WORST = 0.015, 0.15
"""Closed form against the engine at steady state; the worst are prompts sixteen times longer than outputs."""
RATE_MEDIAN = 0.05
"""The run's rate holds its start and its last requests, the closed form's does not."""
MEASURED_TPOT, MEASURED_TTFT = 0.12, 0.22
"""Median errors against measured engines; docs/accuracy.md has the current figures."""


def table(rows: list[tuple[int, int, int, int]], **case: Any) -> dict[str, Any]:
    columns = [np.array(column, float) for column in zip(*rows, strict=True)]
    names = ("isl", "osl", "concurrency", "tp")
    texts = {key: np.array([value] * len(rows), object) for key, value in {"model": MODEL, **case}.items()}
    out: dict[str, Any] = predict_table(
        "serving",
        {**dict(zip(names, columns, strict=True)), **{"chip": np.array(["h100-sxm"] * len(rows), object)}, **texts},
    )
    return out


def test_closed_form_and_engine_agree_at_steady_state() -> None:
    grid = list(product([250, 1000, 4000], [60, 250, 1000], [4, 16, 64], [1, 4]))
    run = table(grid, procedure="inferencemax", runtime="vllm")
    mean = [(round(isl * 0.9), round(osl * 0.9), c, tp) for isl, osl, c, tp in grid]
    closed = table(mean, runtime="vllm")
    tpot = np.abs(closed["tpot_s"] / run["steady_tpot_s"] - 1)
    assert np.median(tpot) < TPOT_MEDIAN
    assert tpot.max() < TPOT_WORST
    assert np.median(np.abs(closed["request_per_s"] / run["request_per_s"] - 1)) < RATE_MEDIAN


def test_the_first_wave_lengthens_the_printed_first_token() -> None:
    out = table([(1000, 200, 64, 1)], procedure="inferencemax")
    assert out["ttft_s"][0] > 1.5 * out["steady_ttft_s"][0]


def test_a_row_is_the_same_alone_and_in_a_table() -> None:
    rows = [(1000, 100, 8, 1), (3000, 200, 40, 2), (200, 50, 128, 4)]
    together = table(rows, procedure="aiconfigurator", runtime="trtllm")
    for i, row in enumerate(rows):
        alone = table([row], procedure="aiconfigurator", runtime="trtllm")
        for name in ("ttft_s", "tpot_s", "request_per_s"):
            assert alone[name][0] == pytest.approx(together[name][i], rel=1e-12)


def test_lengths_are_uniform_from_the_shortest_and_the_same_each_time() -> None:
    traffic = Benchmark(isl=1000, osl=500, low_frac=0.8, clients=10, count=5000, hit_frac=0.0, unique=0)
    requests = traffic.requests()
    assert (min(requests.prompts), max(requests.prompts)) == (800, 1000)
    assert np.mean(requests.prompts) == pytest.approx(900, rel=0.01)
    assert abs(np.corrcoef(requests.prompts, requests.outputs)[0, 1]) < 0.05
    assert traffic.requests() == requests


def test_repeated_prompts_are_found_in_the_cache() -> None:
    traffic = Benchmark(isl=1000, osl=50, low_frac=1.0, clients=20, count=200, hit_frac=0.0, unique=100)
    hits = traffic.requests().hits
    assert set(hits[:100]) == {0}
    assert set(hits[100:]) == {999}


@pytest.mark.parametrize(
    "name", ["steady", "inferencemax", "aiconfigurator", "aiperf", "vllm-bench", "trtllm-bench", "guidellm"]
)
@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm", "ideal"])
def test_every_procedure_imposes_a_runnable_engine(name: str, engine: str) -> None:
    imposed = procedure(name).imposed(runtime(engine))
    budget = imposed.token_budget(
        {
            "isl": np.array([100.0]),
            "osl": np.array([10.0]),
            "concurrency": np.array([4.0]),
            "max_batched_tokens": np.zeros(1),
        }
    )
    assert imposed.prompt_policy in ("chunked", "whole", "prefill-first")
    assert budget[0] >= 100


@pytest.mark.shared_data
def test_measured_engines_are_predicted(shared_data: Any) -> None:
    points = fit_serving.load(shared_data / "silicon" / "serving_points.csv")
    errors = fit_serving.errors(points.some(np.arange(points.tpot_s.size) % 4 == 0))
    assert np.nanmedian(np.abs(errors.tpot)) < MEASURED_TPOT
    assert np.nanmedian(np.abs(errors.ttft)) < MEASURED_TTFT


def test_harness_settings_follow_version_and_model() -> None:
    aic, imax, trt = procedure("aiconfigurator"), procedure("inferencemax"), runtime("trtllm")
    assert aic.imposed(trt, "1.0.0rc3").admission_lag_steps == 2
    assert aic.imposed(trt, "1.2.0rc6").admission_lag_steps == trt.admission_lag_steps
    assert aic.imposed(runtime("sglang"), "0.5.1.post1").prompt_policy == "prefill-first"
    assert aic.imposed(runtime("sglang"), "").prompt_policy == "chunked"
    assert imax.imposed(trt, experts=True).batch_wait_steps == 0
    assert imax.imposed(trt, experts=False).batch_wait_steps == 20


def test_quantisation_kernels_are_separate_before_the_version_that_fuses_them() -> None:
    assert not runtime("trtllm").fuses("1.0.0rc3")
    assert runtime("trtllm").fuses("1.2.0rc6.post1")
    assert runtime("trtllm").fuses("")
    assert not runtime("vllm").fuses("")
