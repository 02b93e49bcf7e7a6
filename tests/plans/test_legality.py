"""Illegal plans are named row by row, with the nearest legal degree."""

import numpy as np
import pytest

from ridgeline.core.cases import Problems
from ridgeline.plans import Plan, check_plan, requantise
from ridgeline.workloads.catalogue import model


def problem(name: str, plan: Plan, chips: float | None = None) -> str:
    problems = Problems(1)
    check_plan(model(name), plan, problems, np.array([0]), chips)
    return problems.column()[0]


@pytest.mark.parametrize(
    ("name", "plan", "words"),
    [
        ("meta-llama/Llama-3.1-70B", Plan(tp=3.0), "tp 3 does not divide the 64 attention heads; nearest: 1, 2, 4"),
        ("meta-llama/Llama-3.1-70B", Plan(tp=0.5), "tp must be a whole number"),
        ("meta-llama/Llama-3.1-70B", Plan(tp=float("nan")), "tp must be a whole number"),
        ("meta-llama/Llama-3.1-70B", Plan(pp=81.0), "pp 81 exceeds the model's 80 layers"),
        ("Qwen/Qwen3-235B-A22B", Plan(tp=8.0, ep=3.0), "must equal tp x dp x cp = 8"),
        ("Qwen/Qwen3-235B-A22B", Plan(tp=1.0, dp=256.0, ep=256.0), "ep 256 exceeds the model's 128 experts"),
    ],
)
def test_a_plan_that_cannot_be_is_told_why(name: str, plan: Plan, words: str) -> None:
    assert words in problem(name, plan)


def test_more_chips_than_there_are_is_a_problem() -> None:
    assert "needs 16 chips" in problem("meta-llama/Llama-3.1-70B", Plan(tp=8.0, pp=2.0), chips=8.0)


def test_a_legal_plan_has_no_problem() -> None:
    assert problem("deepseek-ai/DeepSeek-V3", Plan(dp=8.0, ep=8.0), chips=8.0) == ""


def test_only_the_bad_rows_of_a_column_are_flagged() -> None:
    problems = Problems(4)
    plan = Plan(tp=np.array([1.0, 3.0, 8.0]))
    check_plan(model("meta-llama/Llama-3.1-8B"), plan, problems, np.array([0, 2, 3]))
    assert [bool(text) for text in problems.column()] == [False, False, True, False]


def test_smaller_formats_hold_the_same_parameters_in_fewer_bytes() -> None:
    wide, narrow = (
        model("meta-llama/Llama-3.1-8B"),
        requantise(model("meta-llama/Llama-3.1-8B"), weights="fp8", kv="fp8"),
    )
    assert narrow.precision.ffn.name == "fp8"
    assert narrow.precision.kv.name == "fp8"
    assert narrow.precision.head == wide.precision.head
    assert requantise(wide) == wide
    assert requantise(wide, weights="int4_wo").precision.ffn.weight_only
    assert requantise(wide, weights="nvfp4", activations="fp8").precision.ffn.name == "w4a8_nvfp4"
