"""Islands of unlike chips, asked by name: against equal chips, by bounds, and what cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.core.errors import DomainError, UnitError
from ridgeline.training.unlike import Between, between_of, stages_of

CASE: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "seq": 4096,
    "global_batch": 256,
    "micro_batch": 1,
    "recompute": "full",
}


def test_two_equal_islands_are_a_pipeline_of_two_stages() -> None:
    joined = rl.predict("training", on="8x h100-sxm + 8x h100-sxm", **CASE)
    whole = rl.predict("training", on="16x h100-sxm", pp=2, vp=1, **CASE)
    # The played pipeline waits for transfers of the first micro-batch, which the closed form hides.
    assert joined.step_s == pytest.approx(whole.step_s, rel=0.02)
    assert joined.memory_bytes_per_chip == pytest.approx(whole.memory_bytes_per_chip)
    assert joined.case["chips"] == 16


def test_slower_neighbours_help_and_longer_links_hurt() -> None:
    alone = rl.predict("training", on="8x h100-sxm", **CASE)
    joined, far, thin = (
        rl.predict("training", on="8x h100-sxm + 8x a100-80gb-sxm", between=between, **CASE)
        for between in ("", "50 GB/s, 200 ms", "0.2 GB/s")
    )
    assert alone.step_s > joined.step_s > rl.predict("training", on="8x h100-sxm + 8x h100-sxm", **CASE).step_s
    # With two micro-batches in flight, each of the 32 waits for a round trip at most.
    assert joined.step_s < far.step_s < joined.step_s + 32 * 0.4
    assert joined.step_s < thin.step_s


def test_stages_agree_with_what_is_said() -> None:
    assert stages_of([8, 16], 1, 1, 0, 0) == (8.0, [1, 2])
    assert stages_of([8, 16], 2, 1, 2, 0) == (2.0, [2, 4])
    assert stages_of([8, 16], 1, 1, 0, 6) == (4.0, [2, 4])
    for wrong in ((3.0, 0.0), (8.0, 4.0), (0.0, 5.0)):
        with pytest.raises(DomainError, match="whole stages"):
            stages_of([8, 16], 1, 1, *wrong)


def test_links_are_read() -> None:
    assert between_of("") == Between()
    assert between_of("12.5 GB/s") == Between(12.5e9)
    assert between_of("1 GB/s, 30 ms") == Between(1e9, 0.03)
    with pytest.raises(UnitError):
        between_of("fast")


def test_islands_and_equal_chips_share_a_table() -> None:
    table = {name: [value] * 3 for name, value in CASE.items()}
    table |= {
        "chip": ["h100-sxm"] * 3,
        "chips": [8] * 3,
        "islands": ["", "8x h100-sxm + 8x a100-80gb-sxm", "8x h100-sxm"],
    }
    found = rl.predict_table("training", table)
    assert found["step_s"][0] > found["step_s"][1] and np.isnan(found["step_s"][2])
    assert "joined by +" in found["error"][2]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"on": "8x h100-sxm + 6x a100-80gb-sxm", "dp": 8}, "whole stages"),
        ({"on": "8x h100-sxm + 8x h1000"}, "h1000"),
        ({"on": "8x h100-sxm + 8x h100-sxm", "offload": "nvme"}, "not known over islands"),
        ({"on": "8x h100-sxm + 8x h100-sxm", "tp": 3}, "whole stages|tp = 3"),
    ],
)
def test_what_islands_cannot_be_is_said(change: dict[str, Any], told: str) -> None:
    with pytest.raises(rl.RidgelineError, match=told):
        rl.predict("training", **CASE | change)
