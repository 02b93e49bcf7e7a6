"""Continuous batching in closed form: limits, conservation and direction of every effect."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ridgeline as rl
from ridgeline.api.tables.tasks import predict_table

BASE: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "chip": "h100-sxm",
    "isl": 1024,
    "osl": 256,
    "concurrency": 8,
}


def column(name: str, values: list[Any], **case: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Results of BASE with one column varied."""
    table = {key: [value] * len(values) for key, value in {**BASE, **case}.items()}
    table[name] = values
    return predict_table("serving", table)  # type: ignore[no-any-return]


@settings(max_examples=25)
@given(isl=st.integers(1, 30_000), osl=st.integers(1, 2_000), concurrency=st.integers(1, 300))
def test_requests_in_flight_are_throughput_times_latency(isl: int, osl: int, concurrency: int) -> None:
    """Little's law over the whole deployment, whatever waits where."""
    p = rl.predict(**{**BASE, "isl": isl, "osl": osl, "concurrency": concurrency})
    assert float(p.request_per_s) * float(p.e2e_s) == pytest.approx(concurrency, rel=1e-6)
    assert float(p.output_tokens_per_s) == pytest.approx(float(p.request_per_s) * osl, rel=1e-9)
    assert float(p.e2e_s) == pytest.approx(float(p.ttft_s) + (osl - 1) * float(p.tpot_s), rel=1e-9)


def test_one_request_at_zero_load_is_its_prefill_and_its_decode_steps() -> None:
    p = rl.predict(**{**BASE, "concurrency": 1})
    prefill, decode = (
        rl.predict("step", model=BASE["model"], chip="h100-sxm", phase=phase, tokens=1024, context=context)
        for phase, context in (("prefill", 0), ("decode", 1024 + 128 - 1))
    )
    assert float(p.tpot_s) == pytest.approx(float(decode.time_s), rel=1e-9)
    lag_s = float(p.ttft_s) - float(prefill.time_s)
    assert 0 <= lag_s <= 2 * float(decode.time_s)


def test_more_in_flight_means_more_tokens_and_slower_ones() -> None:
    out = column("concurrency", [1, 2, 4, 8, 16, 32, 64, 128, 256])
    assert np.all(np.diff(out["output_tokens_per_s"]) > 0)
    assert np.all(np.diff(out["tpot_s"]) > 0)


def test_longer_prompts_are_slower_to_the_first_token() -> None:
    out = column("isl", [128, 512, 2048, 8192, 32768], concurrency=1)
    assert np.all(np.diff(out["ttft_s"]) > 0)


def test_what_memory_does_not_hold_waits() -> None:
    out = column("concurrency", [64, 100_000])
    assert out["batch"][1] <= out["max_batch_that_fits"][1]
    assert out["ttft_s"][1] > 100 * out["ttft_s"][0]
    saturated = rl.predict(**{**BASE, "concurrency": 0, "load": "saturated"})
    assert float(saturated.output_tokens_per_s) == pytest.approx(out["output_tokens_per_s"][1], rel=0.02)


def test_a_rate_that_is_served_is_the_rate_that_leaves() -> None:
    out = column("request_rate_per_s", [0.5, 2.0, 1e6], concurrency=0)
    assert out["request_per_s"][:2] == pytest.approx([0.5, 2.0])
    assert out["tpot_s"][1] > out["tpot_s"][0]
    assert "overloaded" in out["error"][2]
    assert np.isnan(out["ttft_s"][2])


def test_cached_prefixes_save_prefill_only() -> None:
    out = column("prefix_hit_frac", [0.0, 0.9], isl=8000)
    assert out["ttft_s"][1] < out["ttft_s"][0] / 2
    assert out["max_batch_that_fits"][0] == out["max_batch_that_fits"][1]


def test_accepted_drafts_speed_decoding_up_and_rejected_ones_do_not() -> None:
    out = column("acceptance_frac", [0.0, 0.9], draft_tokens=3, concurrency=1)
    plain = rl.predict(**{**BASE, "concurrency": 1})
    assert out["tpot_s"][1] < 0.5 * float(plain.tpot_s)
    assert out["tpot_s"][0] >= float(plain.tpot_s)


def test_replicas_share_the_load() -> None:
    one = rl.predict(**{**BASE, "concurrency": 16})
    four = rl.predict(**{**BASE, "concurrency": 64, "replicas": 4})
    assert float(four.tpot_s) == pytest.approx(float(one.tpot_s), rel=1e-12)
    assert float(four.output_tokens_per_s) == pytest.approx(4 * float(one.output_tokens_per_s), rel=1e-12)


def test_two_pools_are_no_faster_than_the_slower_one() -> None:
    case = {**BASE, "isl": 8000, "osl": 64, "mode": "disagg", "concurrency": 512, "decode_workers": 1}
    few, many = (rl.predict(**{**case, "prefill_workers": workers}) for workers in (1, 8))
    assert float(many.request_per_s) > 2 * float(few.request_per_s)
    assert float(few.request_per_s) * float(few.e2e_s) == pytest.approx(512, rel=1e-3)
    assert float(few.chips) == 2.0


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    models = [
        "meta-llama/Llama-3.1-8B",
        "Qwen/Qwen3-30B-A3B",
        "deepseek-ai/DeepSeek-V3",
        "Qwen/Qwen3-8B",
        "Qwen/Qwen3-VL-8B-Instruct",
    ]
    chips = ["h100-sxm", "a100-80gb-sxm", "mi300x", "b200-sxm"]
    rows = [{**BASE, "model": m, "chip": c, "tp": 8} for m in models for c in chips]
    together = predict_table("serving", {key: [row[key] for row in rows] for key in rows[0]})
    for i, row in enumerate(rows):
        alone = predict_table("serving", {key: [value] for key, value in row.items()})
        for name in ("ttft_s", "tpot_s", "weights_bytes_per_chip", "power_w_per_chip"):
            np.testing.assert_allclose(together[name][i], alone[name][0], rtol=1e-12, err_msg=f"{row} {name}")
        assert together["bound"][i] == alone["bound"][0]


def test_chips_of_one_generation_and_other_kernels_do_not_lend_them() -> None:
    """A Jetson shares its generation with boards that have HBM, a phone's processor with its graphics unit."""
    for chips in (
        ("b200-sxm", "jetson-thor"),
        ("snapdragon-x-elite-gpu", "snapdragon-x-elite-npu"),
        ("t4", "gtx-1650"),
    ):
        rows = {"model": "Qwen/Qwen3-4B", "isl": 500, "osl": 50, "concurrency": 2, "weights": "int4_wo"}
        together = predict_table("serving", {**{key: [value] * 2 for key, value in rows.items()}, "chip": list(chips)})
        for i, chip in enumerate(chips):
            alone = predict_table("serving", {**{key: [value] for key, value in rows.items()}, "chip": [chip]})
            assert together["error"][i] == alone["error"][0]
            np.testing.assert_allclose(together["tpot_s"][i], alone["tpot_s"][0], rtol=1e-12, err_msg=chip)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "meta-llama/Llama-3.1-405B"}, "does not fit"),
        ({"tp": 3}, "does not divide"),
        ({"isl": 0}, "isl must"),
        ({"osl": float("nan")}, "osl must be given"),
        ({"chip": "h10"}, "did you mean"),
        ({"runtime": "vlm"}, "did you mean 'vLLM'"),
        ({"procedure": "inferencmax"}, "did you mean"),
        ({"kv": "fp7"}, "did you mean"),
        ({"memory_frac": 1.5}, "memory_frac must lie"),
        ({"mode": "aggregated"}, "unknown mode"),
    ],
)
def test_a_case_that_cannot_be_says_why_in_its_row(change: dict[str, Any], words: str) -> None:
    out = predict_table("serving", {key: [value] for key, value in {**BASE, **change}.items()})
    assert words in out["error"][0]
    assert np.isnan(out["tpot_s"][0])
