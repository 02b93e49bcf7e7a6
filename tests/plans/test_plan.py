"""The notation of plans: what is written is what is read back, and mistakes are named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import PlanError, UnknownNameError
from ridgeline.plans import Plan, parse_plan

degrees = st.integers(1, 64).map(float)


@given(tp=degrees, pp=degrees, dp=degrees, cp=degrees, kv=st.sampled_from(["", "fp8", "bf16"]))
def test_a_plan_written_as_words_reads_back_equal(tp: float, pp: float, dp: float, cp: float, kv: str) -> None:
    plan = Plan(tp=tp, pp=pp, dp=dp, cp=cp, kv=kv)
    assert parse_plan(str(plan) if str(plan) != "tp1" else "") == plan


def test_formats_are_resolved_through_their_aliases() -> None:
    assert parse_plan("tp8 w=float8 kv=bfloat16") == Plan(tp=8.0, weights="fp8", kv="bf16")


@pytest.mark.parametrize("text", ["tp0", "tp8 tp4", "8tp", "tp-8", "xp8", "w=", "tp8.5", "tp99999999"])
def test_a_word_that_is_no_degree_is_refused(text: str) -> None:
    with pytest.raises(PlanError):
        parse_plan(text)


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="fp8"):
        parse_plan("w=fp9")


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan(tp=8.0), (1.0, 8.0)),
        (Plan(tp=8.0, ep=8.0), (8.0, 1.0)),
        (Plan(tp=8.0, ep=2.0), (2.0, 4.0)),
        (Plan(dp=8.0), (8.0, 1.0)),
        (Plan(tp=2.0, dp=4.0, moe_tp=2.0), (4.0, 2.0)),
    ],
)
def test_expert_degrees_left_open_follow_from_the_chips_of_a_stage(plan: Plan, expected: tuple[float, float]) -> None:
    ep, moe_tp = plan.expert_degrees()
    assert (float(ep), float(moe_tp)) == expected
    assert float(ep * moe_tp) == float(plan.stage_chips)


def test_degrees_may_be_columns() -> None:
    plan = Plan(tp=np.array([1.0, 2.0, 8.0]), pp=2.0)
    assert np.asarray(plan.chips).tolist() == [2.0, 4.0, 16.0]
