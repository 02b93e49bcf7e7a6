"""What a terminal, a notebook and a log show of a prediction."""

from __future__ import annotations

import math

import pytest

import ridgeline as rl
from ridgeline.api.predictions.explain import explain_kernel
from ridgeline.api.predictions.show import html, human, plain
from ridgeline.core.errors import SpecError


@pytest.fixture(scope="module")
def serving() -> rl.Prediction:
    return rl.predict(model="meta-llama/Llama-3.1-8B", on="2x h100-sxm", tp=2, isl=512, osl=128, concurrency=8)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ttft_s", 0.0917, "91.7 ms"),
        ("step_s", 1.79, "1.79 s"),
        ("output_tokens_per_s", 3160.0, "3.16k token/s"),
        ("output_tokens_per_s_per_chip", 395.0, "395 token/s"),
        ("request_per_s", 3.08, "3.08 request/s"),
        ("images_per_s", 7630.0, "7.63k image/s"),
        ("model_flops_per_s_per_chip", 470e12, "470 TFLOP/s"),
        ("hardware_flops_per_s_per_chip", 470e12, "470 TFLOP/s"),
        ("memory_bytes_per_chip", 2.0**34, "16.0 GiB"),
        ("read_bytes", 2.0**20, "1.00 MiB"),
        ("power_w_per_chip", 618.0, "618 W"),
        ("energy_j_per_output_token", 1.57, "1.57 J"),
        ("energy_j_per_image", 0.0399, "39.9 mJ"),
        ("cost_usd_per_1m_output_tokens", 1.89, "$1.89"),
        ("mfu", 0.475, "47.5%"),
        ("bubble_frac", 0.1, "10.0%"),
        ("flops", 550e9, "550 GFLOP"),
        ("fits", 1.0, "yes"),
        ("fits", 0.0, "no"),
        ("max_batch_that_fits", 1234.0, "1.23k"),
        ("ttft_s", math.nan, "-"),
        ("bound", "memory", "memory"),
    ],
)
def test_a_result_reads_with_the_unit_of_its_name(name: str, value: float | str, words: str) -> None:
    assert human(name, value) == words


def test_the_screen_says_metrics_memory_bound_breakdown_and_regime(serving: rl.Prediction) -> None:
    screen = plain(serving)
    for words in ("ttft_s", "tpot_s", "memory per chip", "bound by", "decode step", "prefill step", "regime:", "share"):
        assert words in screen
    assert "2x h100-sxm" in screen
    assert all(len(line) <= 110 for line in screen.splitlines())


def test_the_screen_says_what_ttft_and_tpot_mean(serving: rl.Prediction) -> None:
    screen = plain(serving)
    assert "first token" in screen
    assert "80 % interval" in screen


@pytest.mark.parametrize(
    ("task", "case"),
    [
        ("ops", {"kind": "gemm", "chip": "l40s", "m": 64, "n": 64, "k": 64}),
        ("training", {"model": "meta-llama/Llama-3.1-8B", "on": "8x h100-sxm", "seq": 2048, "global_batch": 16}),
        ("vision", {"model": "resnet50", "chip": "l40s"}),
    ],
)
def test_every_task_prints(task: str, case: dict[str, object]) -> None:
    prediction = rl.predict(task, **case)  # type: ignore[arg-type]
    screen = str(prediction)
    assert task in screen
    assert "nan" not in screen.casefold().split()


def test_a_notebook_gets_html_that_escapes_names(serving: rl.Prediction) -> None:
    hostile = rl.Prediction(
        "ops", {"kind": "<script>alert(1)</script>", "chip": "l40s"}, {"time_s": 1.0, "regime": "datasheet"}
    )
    assert "<script" not in html(hostile)
    assert serving._repr_html_().startswith("<pre")


def test_an_explanation_s_largest_bound_is_the_one_that_the_result_names() -> None:
    prediction = rl.predict("ops", kind="gemm", chip="h100-sxm", m=4096, n=8192, k=8192, dtype="bf16")
    told = explain_kernel(prediction)
    assert next(iter(told["bounds_s"])) == prediction.bound == "compute"
    assert told["time_s"] == pytest.approx(prediction.time_s)
    assert told["hardware_bound_s"] <= told["time_s"]
    assert {"tile_m", "tile_n", "waves"} <= set(told["choices"])


def test_only_kernels_are_explained(serving: rl.Prediction) -> None:
    with pytest.raises(SpecError, match="kernels"):
        explain_kernel(serving)
