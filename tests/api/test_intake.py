"""A table as people bring it: aliases, defaults, spellings, and every edge value in every field."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.api.tables.columns import NUMBER, TASKS
from ridgeline.core.errors import RidgelineError

GOOD: dict[str, dict[str, Any]] = {
    "ops": {"kind": "gemm", "chip": "h100-sxm", "m": 128, "n": 4096, "k": 4096, "dtype": "bf16"},
    "serving": {
        "model": "meta-llama/Llama-3.1-8B",
        "chip": "h100-sxm",
        "isl": 512,
        "osl": 64,
        "concurrency": 4,
    },
    "training": {"model": "meta-llama/Llama-3.1-8B", "chip": "h100-sxm", "chips": 8, "seq": 2048, "global_batch": 16},
    "vision": {"model": "resnet50", "chip": "l40s", "batch": 8},
}
ANSWER = {"ops": "time_s", "serving": "tpot_s", "training": "step_s", "vision": "latency_s"}
EDGES: tuple[Any, ...] = (
    0,
    -1,
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    10**400,
    0.5,
    "",
    "abc",
    "naïve ☃",
    "1_000",
    None,
)
FIELDS = [(task, column) for task in GOOD for column in TASKS[task]]


def row(task: str, **changed: Any) -> dict[str, list[Any]]:
    return {name: [value] for name, value in {**GOOD[task], **changed}.items()}


def time_of(task: str, **changed: Any) -> float:
    out = rl.predict_table(task, row(task, **changed))
    assert not out["error"][0], out["error"][0]
    return float(out[ANSWER[task]][0])


@pytest.mark.parametrize("task", GOOD)
def test_a_good_row_has_a_positive_answer_and_no_error(task: str) -> None:
    assert 0 < time_of(task) < math.inf


@pytest.mark.parametrize(("task", "column"), FIELDS, ids=lambda value: getattr(value, "name", value))
def test_an_edge_value_is_a_value_or_a_named_error_of_its_row_only(task: str, column: Any) -> None:
    cells = [GOOD[task].get(column.name), *EDGES]
    table = {name: [value] * len(cells) for name, value in GOOD[task].items()} | {column.name: cells}
    out = rl.predict_table(task, table)
    for cell, error, answer in zip(cells, out["error"], out[ANSWER[task]], strict=True):
        if error:
            assert "\n" not in error
            assert len(error) < 600
            assert math.isnan(answer), (cell, answer)
        else:
            assert 0 <= answer < math.inf, (cell, answer)
    assert not out["error"][0], "the neighbours of a bad row are as good as before"


@pytest.mark.parametrize("task", GOOD)
def test_a_number_that_cannot_be_one_is_named_with_its_column(task: str) -> None:
    for column in TASKS[task]:
        if column.kind == NUMBER:
            error = rl.predict_table(task, row(task, **{column.name: "abc"}))["error"][0]
            assert column.name in error
            assert "abc" in error


@pytest.mark.parametrize(("task", "column"), FIELDS, ids=lambda value: getattr(value, "name", value))
def test_the_same_edge_value_as_a_flag_is_a_value_or_a_named_error(task: str, column: Any) -> None:
    for value in ("0", "-1", "nan", "inf", "1e308", "9" * 400, "", "abc", "☃"):
        try:
            found = rl.predict(task, **{**GOOD[task], column.name: value})
        except RidgelineError as error:
            assert error.what
        else:
            assert float(found.values[ANSWER[task]]) >= 0


@pytest.mark.parametrize(
    ("task", "spelled"),
    [
        ("ops", {"gpu": "h100_sxm", "backend": "vllm", "chip": None, "dtype": "bfloat16"}),
        ("ops", {"chip": "NVIDIA H100 80GB HBM3", "runtime": "VLLM", "dtype": "BF16"}),
        ("ops", {"chip": "H100-SXM", "table": "gemm", "kind": None}),
        ("serving", {"gpu": "H100_SXM", "chip": None, "backend": "vLLM"}),
        ("serving", {"model": None, "model_path": "meta-llama/Llama-3.1-8B", "tp_size": 1, "pp_size": 1}),
        ("serving", {"model": "Meta_Llama/llama 3.1-8b"}),
        ("training", {"gpu": "h100_sxm", "chip": None, "n_gpus": 8, "chips": None}),
        ("vision", {"gpu": "L40S", "chip": None}),
    ],
)
def test_names_of_the_shared_tables_are_aliases(task: str, spelled: dict[str, Any]) -> None:
    cells = {name: value for name, value in {**GOOD[task], **spelled}.items() if value is not None}
    out = rl.predict_table(task, {name: [value] for name, value in cells.items()})
    assert not out["error"][0], out["error"][0]
    assert out[ANSWER[task]][0] == pytest.approx(time_of(task), rel=1e-12)


def test_num_gpus_is_num_chips() -> None:
    case = {
        "kind": ["collective"],
        "op": ["all_reduce"],
        "gpu": ["h100_sxm"],
        "message_bytes": [1e6],
        "dtype": ["half"],
    }
    a, b = (rl.predict_table("ops", {**case, name: [8]})["time_s"][0] for name in ("num_gpus", "num_chips"))
    assert a == b > 0


def test_an_empty_cell_nan_and_a_missing_column_are_the_default() -> None:
    whole = time_of("ops")
    assert time_of("ops", batch=None) == whole
    assert time_of("ops", batch=math.nan) == whole
    assert time_of("ops", batch="", runtime="", kv_dtype=None) == whole


@pytest.mark.parametrize(
    ("task", "changed", "nearest"),
    [
        ("ops", {"chip": "h101-sxm"}, "h100-sxm"),
        ("ops", {"kind": "gem"}, "gemm"),
        ("ops", {"dtype": "bf17"}, "bf16"),
        ("ops", {"weights_cache": "cool"}, "cold"),
        ("serving", {"model": "meta-llama/Llama-3.1-8C"}, "meta-llama/Llama-3.1-8B"),
        ("serving", {"runtime": "vlm"}, "vllm"),
        ("serving", {"procedure": "stedy"}, "steady"),
        ("training", {"model": "meta-llama/Llama-3.1-9B"}, "meta-llama/Llama-3.1-8B"),
        ("vision", {"model": "resnet51"}, "resnet50"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest_and_never_a_default(
    task: str, changed: dict[str, str], nearest: str
) -> None:
    out = rl.predict_table(task, row(task, **changed))
    assert math.isnan(out[ANSWER[task]][0])
    assert nearest in out["error"][0]


def test_a_column_that_must_be_given_is_said_by_name() -> None:
    out = rl.predict_table("serving", {"model": ["meta-llama/Llama-3.1-8B"], "isl": [10], "osl": [10]})
    assert "chip must be given" in out["error"][0]


def test_unknown_columns_are_carried_through_untouched() -> None:
    out = rl.predict_table("ops", {**row("ops"), "note": ["=cmd|x"], "id": np.array([7])})
    assert list(out)[: len(row("ops")) + 2] == [*row("ops"), "note", "id"]
    assert out["note"][0] == "=cmd|x"
    assert out["id"][0] == 7
