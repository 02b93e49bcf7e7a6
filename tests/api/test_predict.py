"""`rl.predict`: one case, its units, its plan in words, what cannot be, and the same answer as a table's."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.core.errors import DomainError, RidgelineError, SpecError, UnitError, UnknownNameError
from ridgeline.core.units import parse
from ridgeline.hardware.catalogue import chips
from ridgeline.workloads.catalogue import models

LLAMA = {"model": "meta-llama/Llama-3.1-70B", "isl": 1024, "osl": 1024, "concurrency": 64}
SMALL = {"model": "meta-llama/Llama-3.1-8B", "isl": 512, "osl": 128, "concurrency": 8}
STRIDE_FAST, STRIDE_SLOW = 173, 11
"""Every so many of the (model, chip) pairs; primes, so that every model and chip comes by."""


@pytest.fixture(scope="module")
def llama() -> rl.Prediction:
    return rl.predict(on="8x h100-sxm", tp=8, **LLAMA)


def test_the_main_case_has_every_result_of_the_contract(llama: rl.Prediction) -> None:
    expected = (
        "ttft_s tpot_s e2e_s request_per_s output_tokens_per_s output_tokens_per_s_per_chip total_tokens_per_s batch "
        "memory_bytes_per_chip weights_bytes_per_chip kv_bytes_per_chip fits power_w_per_chip "
        "energy_j_per_output_token cost_usd_per_1m_output_tokens bound regime"
    )
    assert set(expected.split()) <= set(llama.values)
    assert llama.fits == 1
    assert 0.005 < float(llama.tpot_s) < 0.05
    assert 0.02 < float(llama.ttft_s) < 0.5


def test_results_of_one_case_agree_with_each_other(llama: rl.Prediction) -> None:
    v = {name: value for name, value in llama.values.items() if isinstance(value, float)}
    assert v["e2e_s"] == pytest.approx(v["ttft_s"] + 1023 * v["tpot_s"], rel=1e-6)
    assert v["output_tokens_per_s"] == pytest.approx(v["request_per_s"] * 1024, rel=1e-6)
    assert v["output_tokens_per_s"] == pytest.approx(8 * v["output_tokens_per_s_per_chip"], rel=1e-9)
    assert v["total_tokens_per_s"] == pytest.approx(2 * v["output_tokens_per_s"], rel=1e-6)
    assert v["energy_j_per_output_token"] == pytest.approx(
        v["power_w_per_chip"] * 8 / v["output_tokens_per_s"], rel=1e-6
    )
    assert v["tpot_low_s"] <= v["tpot_s"] <= v["tpot_high_s"]
    assert v["memory_bytes_per_chip"] >= v["weights_bytes_per_chip"] + v["kv_bytes_per_chip"]


def test_a_prediction_is_the_row_of_a_table_with_the_same_columns(llama: rl.Prediction) -> None:
    out = rl.predict_table("serving", {name: [value] for name, value in llama.case.items()})
    assert not out["error"][0]
    for name, value in llama.values.items():
        if isinstance(value, float) and not math.isnan(value):
            assert float(out[name][0]) == pytest.approx(value, rel=1e-12), name


def test_results_are_attributes_and_a_wrong_one_names_the_nearest(llama: rl.Prediction) -> None:
    assert llama.tpot_s == llama.values["tpot_s"]
    with pytest.raises(AttributeError, match="tpot_s"):
        _ = llama.tpto_s


def test_a_prediction_is_plain_json_with_its_breakdown(llama: rl.Prediction) -> None:
    told = json.loads(json.dumps(llama.to_dict(), allow_nan=False))
    assert told["results"]["tpot_s"] == llama.tpot_s
    assert set(told["breakdown"]) == {"decode", "prefill"}
    for rows in told["breakdown"].values():
        assert sum(row["share"] for row in rows) == pytest.approx(1.0, rel=1e-6)
        assert all(row["bound"] for row in rows)


@pytest.mark.parametrize(
    ("words", "columns"),
    [
        ("tp8 kv=fp8", {"tp": 8, "kv": "fp8"}),
        ("tp4 pp2 w=fp8", {"tp": 4, "pp": 2, "weights": "fp8"}),
        ("TP2 dp4", {"tp": 2, "dp": 4}),
    ],
)
def test_a_plan_in_words_is_its_columns(words: str, columns: dict[str, Any]) -> None:
    a = rl.predict(on="8x h100-sxm", plan=words, **LLAMA)
    b = rl.predict(on="8x h100-sxm", **columns, **LLAMA)
    assert a.values == b.values


def test_saying_a_degree_twice_is_refused() -> None:
    with pytest.raises(SpecError, match="tp"):
        rl.predict(on="8x h100-sxm", plan="tp8", tp=4, **LLAMA)


@pytest.mark.parametrize(
    ("column", "text", "number"),
    [
        ("request_rate_per_s", "2/s", 2.0),
        ("request_rate_per_s", "120/min", 2.0),
        ("isl", "1k", 1000.0),
        ("isl", "2000", 2000.0),
        ("concurrency", "4", 4.0),
    ],
)
def test_quantities_take_units(column: str, text: str, number: float) -> None:
    case = {**SMALL, "chip": "h100-sxm"} | ({"concurrency": 0} if column == "request_rate_per_s" else {})
    a, b = (rl.predict(**{**case, column: value}) for value in (text, number))
    assert a.values == b.values
    assert a.case[column] == pytest.approx(number)


@pytest.mark.parametrize(
    ("column", "text"), [("request_rate_per_s", "2 GB"), ("isl", "4 ms"), ("isl", "four"), ("tp", "8x")]
)
def test_a_quantity_of_another_dimension_is_refused(column: str, text: str) -> None:
    with pytest.raises((UnitError, DomainError)) as refusal:
        rl.predict(**{**SMALL, "chip": "h100-sxm", column: text})
    assert column in str(refusal.value)


def test_an_unknown_column_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="concurrency"):
        rl.predict(on="h100-sxm", concurency=4, **{k: v for k, v in SMALL.items() if k != "concurrency"})
    with pytest.raises(UnknownNameError, match="serving"):
        rl.predict("servng", **SMALL)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"on": "8x h100-sxm", "tp": 3}, "tp 3 does not divide"),
        ({"on": "8x h100-sxm", "tp": 128}, "chips"),
        ({"on": "2x h100-sxm", "tp": 4}, "needs 4 chips"),
        ({"on": "h100-sxm"}, "does not fit"),
        ({"on": "8x h100-sxm", "tp": 8, "pp": 200}, ""),
        ({"on": "8x h100-sxm", "tp": 8, "concurrency": -1}, "concurrency"),
        ({"on": "8x h100-sxm", "tp": 8, "isl": 10_000_000}, ""),
        ({"on": "8x h100-sxm", "tp": 0}, "tp"),
        ({"on": "0x h100-sxm", "tp": 8}, "chips"),
        ({"on": "8x h100-sxm", "tp": 8, "weights": "fp7"}, "fp"),
        ({"on": "8x h100-sxm", "tp": 8, "memory_frac": 2}, "memory_frac"),
    ],
)
def test_an_impossible_case_is_one_error_that_says_why(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(RidgelineError) as refusal:
        rl.predict(**{**LLAMA, **changed})
    message = refusal.value.screen()
    assert says in message
    assert len(message.splitlines()) <= 8


def test_what_does_not_fit_says_by_how_much_against_what_the_engine_may_use() -> None:
    case = {"model": ["google/gemma-7b"], "chip": ["a10"], "isl": [512], "osl": [128], "concurrency": [8]}
    error = rl.predict_table("serving", case)["error"][0]
    assert "does not fit" in error
    short = error.partition(" per chip, ")[2].partition(" more than")[0]
    assert parse(short, "byte") > 0


def test_pipelines_and_single_stages_share_a_table() -> None:
    plans = [(8, 1), (1, 8), (4, 2), (2, 1)]
    table = {name: [value] * len(plans) for name, value in SMALL.items()}
    table |= {"chip": ["h100-sxm"] * 4, "tp": [tp for tp, _ in plans], "pp": [pp for _, pp in plans]}
    mixed = rl.predict_table("serving", table)
    assert not any(mixed["error"])
    for place, (tp, pp) in enumerate(plans):
        alone = rl.predict_table(
            "serving", {**{k: [v] for k, v in SMALL.items()}, "chip": ["h100-sxm"], "tp": [tp], "pp": [pp]}
        )
        assert float(alone["tpot_s"][0]) == pytest.approx(float(mixed["tpot_s"][place]), rel=1e-9)


def test_a_serving_row_alone_is_the_row_in_a_mixed_and_shuffled_table() -> None:
    names, boards = models()[::40], ("h100-sxm", "l40s", "mi300x", "b200")
    rows = [(name, chip, tp, load) for name in names for chip in boards for tp in (1, 4) for load in (1, 32)]
    order = np.random.default_rng(3).permutation(len(rows))

    def answer(chosen: list[tuple[str, str, int, int]]) -> dict[str, Any]:
        columns = dict(zip(("model", "chip", "tp", "concurrency"), map(list, zip(*chosen, strict=True)), strict=True))
        return rl.predict_table("serving", {**columns, "isl": [700] * len(chosen), "osl": [90] * len(chosen)})

    whole, shuffled = answer(rows), answer([rows[place] for place in order])
    for name in ("ttft_s", "tpot_s", "output_tokens_per_s", "power_w_per_chip", "memory_bytes_per_chip"):
        np.testing.assert_allclose(shuffled[name], np.asarray(whole[name])[order], rtol=1e-12, err_msg=name)
    for place in order[:12]:
        alone = answer([rows[place]])
        for name in ("ttft_s", "tpot_s", "power_w_per_chip"):
            np.testing.assert_allclose(alone[name][0], whole[name][place], rtol=1e-9, err_msg=f"{name} {rows[place]}")
        assert alone["error"][0] == whole["error"][place]


def check_pairs(stride: int) -> None:
    pairs = [(model, chip) for model in models() for chip in chips()][::stride]
    rows = [(model, chip, tp) for model, chip in pairs for tp in (1, 8)]
    columns = dict(zip(("model", "chip", "tp"), map(list, zip(*rows, strict=True)), strict=True))
    constants = {"isl": [512] * len(rows), "osl": [128] * len(rows), "concurrency": [8] * len(rows)}
    out = rl.predict_table("serving", {**columns, **constants})
    good = np.array([not error for error in out["error"]])
    assert good.sum() > len(rows) / 4
    for name in ("ttft_s", "tpot_s", "output_tokens_per_s", "power_w_per_chip", "energy_j_per_output_token"):
        values = np.asarray(out[name], dtype=float)
        assert np.all(np.isfinite(values[good]) & (values[good] > 0)), name
        assert np.all(np.isnan(values[~good])), name
    for error in out["error"]:
        assert not error or ("\n" not in error and ("does not fit" in error or "does not divide" in error)), error


def test_models_on_chips_answer_or_say_why_not() -> None:
    check_pairs(STRIDE_FAST)


@pytest.mark.slow
def test_many_more_models_on_chips_answer_or_say_why_not() -> None:
    check_pairs(STRIDE_SLOW)


def test_caches_are_kept_as_the_engine_s_checkpoints_have_them() -> None:
    """Fp8 beside fp8 weights in TensorRT-LLM: half the bytes of 16 bits; what the case says comes first."""

    def bytes_of(runtime: str, **formats: str) -> float:
        case = {"model": "meta-llama/Llama-3.1-8B", "chip": "h100-sxm", "runtime": runtime, "concurrency": 8}
        return float(rl.predict("serving", **case, isl=1000, osl=100, **formats).kv_bytes_per_chip)

    wide = bytes_of("trtllm", weights="fp8", kv="bf16")
    assert bytes_of("trtllm", weights="fp8") == pytest.approx(wide / 2)
    assert bytes_of("trtllm") == pytest.approx(wide)
    assert bytes_of("trtllm", weights="fp8_block") == pytest.approx(wide)
    assert bytes_of("vllm", weights="fp8") == pytest.approx(wide, rel=0.05)
