"""`predict ops` over tables: rows do not see each other, results obey what every price obeys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ridgeline as rl

CHIPS = ("h100-sxm", "a100-80gb-sxm", "l40s", "h200-sxm", "b200", "mi300x", "tpu-v5p", "apple-m2-max")
COMMON: tuple[dict[str, Any], ...] = (
    {"kind": "gemm", "m": 64, "n": 4096, "k": 4096, "dtype": "bf16"},
    {"kind": "gemm", "m": 8192, "n": 8192, "k": 8192, "dtype": "fp8"},
    {"kind": "gemm", "m": 1, "n": 128256, "k": 8192, "dtype": "int4_wo", "runtime": "trtllm"},
    {
        "kind": "attention_prefill",
        "batch": 2,
        "isl": 3000,
        "heads": 32,
        "kv_heads": 8,
        "head_dim": 128,
        "dtype": "bf16",
    },
    {"kind": "attention_prefill", "batch": 1, "isl": 512, "prefix": 8000, "heads": 8, "kv_heads": 1, "head_dim": 64},
    {"kind": "attention_decode", "batch": 64, "kv_len": 4000, "heads": 8, "kv_heads": 1, "head_dim": 128},
    {"kind": "attention_decode", "batch": 4, "kv_len": 100, "heads": 128, "op": "mla"},
    {
        "kind": "attention_decode",
        "batch": 4,
        "kv_len": 1000,
        "heads": 16,
        "op": "mla_module",
        "gemm_dtype": "fp8_block",
    },
    {"kind": "moe", "tokens": 300, "hidden": 4096, "inter": 1536, "topk": 8, "experts": 128, "ep": 8},
    {
        "kind": "moe",
        "tokens": 5,
        "hidden": 7168,
        "inter": 2048,
        "topk": 8,
        "experts": 256,
        "distribution": "power_law_1.2",
    },
    {"kind": "collective", "op": "all_reduce", "num_chips": 8, "message_bytes": 1e6, "runtime": "trtllm"},
    {"kind": "collective", "op": "alltoall", "num_chips": 4, "message_bytes": 1e8, "runtime": "nccl"},
    {
        "kind": "conv",
        "batch": 8,
        "in_channels": 64,
        "out_channels": 64,
        "in_size": 56,
        "kernel_size": 3,
        "dtype": "fp16",
    },
    {"kind": "elementwise", "elements": 1e7},
    {"kind": "softmax", "elements": 1e6},
    {"kind": "norm", "elements": 1e6},
    {"kind": "embedding", "tokens": 1024, "hidden": 4096, "vocab": 128000},
    {"kind": "scan", "batch": 2, "tokens": 1000, "heads": 64, "head_dim": 64, "state": 128},
    {"kind": "fft", "batch": 16, "length": 4096},
    {"kind": "copy", "message_bytes": 1e9},
)
ROWS = [{**case, "chip": chip} for case in COMMON for chip in CHIPS]
NUMBERS = ("time_s", "time_low_s", "time_high_s", "flops", "read_bytes", "write_bytes", "energy_j", "power_w")


def table_of(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = sorted({name for each in rows for name in each})
    return {name: [each.get(name) for each in rows] for name in names}


@pytest.fixture(scope="module")
def priced() -> dict[str, Any]:
    return rl.predict_table("ops", table_of(ROWS))


def test_every_kind_on_every_kind_of_chip_has_a_price(priced: dict[str, Any]) -> None:
    assert [error for error in priced["error"] if error] == []
    for name in ("time_s", "energy_j", "power_w"):
        assert np.all(np.isfinite(priced[name]) & (priced[name] > 0)), name
    assert np.all(priced["time_low_s"] <= priced["time_s"])
    assert np.all(priced["time_s"] <= priced["time_high_s"])
    assert set(priced["regime"]) == {"calibrated", "datasheet"}


def test_power_lies_between_idle_and_tdp_and_energy_is_power_times_time(priced: dict[str, Any]) -> None:
    for chip, power in zip(priced["chip"], priced["power_w"], strict=True):
        facts = rl.chip(chip)
        assert facts.idle_w * (1 - 1e-9) <= power <= facts.tdp_w * (1 + 1e-9)
    assert priced["energy_j"] == pytest.approx(priced["power_w"] * priced["time_s"], rel=1e-12)


def test_no_row_is_faster_than_its_arithmetic_at_peak(priced: dict[str, Any]) -> None:
    for row, seconds, flops in zip(ROWS, priced["time_s"], priced["flops"], strict=True):
        if row["kind"] in ("gemm", "moe", "conv") or row["kind"].startswith("attention"):
            peak = max(rl.chip(row["chip"]).matrix_flops_per_s.values(), default=np.inf)
            assert seconds >= flops / peak * (1 - 1e-9), row


@pytest.mark.parametrize("seed", [0, 1])
def test_a_row_alone_is_the_row_in_any_mixed_and_shuffled_table(priced: dict[str, Any], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(ROWS))
    shuffled = rl.predict_table("ops", table_of([ROWS[place] for place in order]))
    for name in NUMBERS:
        np.testing.assert_allclose(shuffled[name], np.asarray(priced[name])[order], rtol=1e-12, err_msg=name)
    for place in order[:25]:
        alone = rl.predict_table("ops", table_of([ROWS[place]]))
        for name in NUMBERS:
            np.testing.assert_allclose(alone[name][0], priced[name][place], rtol=1e-12, err_msg=f"{name} {ROWS[place]}")
        assert alone["bound"][0] == priced["bound"][place]


def test_a_row_that_is_refused_takes_no_other_with_it(priced: dict[str, Any]) -> None:
    bad: list[dict[str, Any]] = [
        {"kind": "attention_decode", "chip": "h100-sxm", "batch": 64, "kv_len": 4000, "heads": 8, "head_dim": 0},
        {"kind": "collective", "chip": "h100-sxm", "op": "all_rduce", "num_chips": 8, "message_bytes": 1e6},
        {"kind": "gemm", "chip": "h100-sxm", "m": -4, "n": 4096, "k": 4096},
        {"kind": "gemm", "chip": "no such chip", "m": 4, "n": 4096, "k": 4096},
        {"kind": "moe", "chip": "l40s", "tokens": 5, "hidden": 64, "inter": 64, "topk": 9, "experts": 8},
    ]
    out = rl.predict_table("ops", table_of([*bad, *ROWS]))
    assert all(out["error"][: len(bad)])
    assert not any(out["error"][len(bad) :])
    np.testing.assert_allclose(out["time_s"][len(bad) :], priced["time_s"], rtol=1e-12)


def test_hot_weights_are_never_slower_than_cold_ones_that_stream() -> None:
    cases = [
        {**COMMON[0], "chip": chip, "weights_cache": state}
        for chip in ("h100-sxm", "l40s")
        for state in ("hot", "cold")
    ]
    times = rl.predict_table("ops", table_of(cases))["time_s"]
    assert times[1] > 0
    assert times[3] > 0


def test_versions_may_be_numbers_or_words() -> None:
    out = rl.predict_table(
        "ops", table_of([{**ROWS[0], "version": version} for version in ("0.24.0", "1.3.0rc20", "")])
    )
    assert not any(out["error"])
