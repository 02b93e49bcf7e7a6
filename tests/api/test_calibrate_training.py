"""One scalar from a few runs of a stack."""

from __future__ import annotations

from typing import Any

import pytest

import ridgeline as rl
from ridgeline.core.errors import DomainError, SpecError

RUNS: dict[str, Any] = {
    "model": ["meta-llama/Llama-3.1-8B"] * 3,
    "chip": ["h100-sxm"] * 3,
    "chips": [8, 16, 32],
    "seq": [8192] * 3,
    "global_batch": [128] * 3,
}


def test_a_stack_that_is_slower_by_a_fifth_is_found_and_predicted() -> None:
    plain = rl.predict_table("training", RUNS)
    slow = [step / share for step, share in zip(plain["step_s"], (0.8, 0.8, 0.7), strict=True)]
    share = rl.calibrate_training(RUNS | {"measured_step_s": slow})
    assert share.value == pytest.approx(0.8)
    assert (share.low, share.high, share.runs) == (pytest.approx(0.7), pytest.approx(0.8), 3)
    again = rl.predict_table("training", RUNS | {"stack_share": [share.value] * 3})
    assert again["step_s"][:2] == pytest.approx(slow[:2])
    assert again["mfu"] == pytest.approx([0.8 * mfu for mfu in plain["mfu"]])


def test_speeds_and_times_say_the_same() -> None:
    plain = rl.predict_table("training", RUNS)
    rates = [0.9 * rate for rate in plain["tokens_per_s_per_chip"]]
    assert rl.calibrate_training(RUNS | {"measured_tokens_per_s_per_chip": rates}).value == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({}, SpecError, "no column of measured speeds"),
        ({"measured_step_s": [1.0, 1.0, 0.0]}, DomainError, "above 0"),
        ({"measured_step_s": [1.0, 1.0, float("nan")]}, DomainError, "above 0"),
        ({"measured_step_s": [1.0] * 3, "tp": [3, 1, 1]}, SpecError, "row 0"),
    ],
)
def test_runs_that_say_nothing_are_refused(change: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        rl.calibrate_training(RUNS | change)
