"""What to move off a chip, asked by name."""

from __future__ import annotations

from typing import Any

import pytest

import ridgeline as rl
from ridgeline.core.errors import DomainError
from ridgeline.training.offload import DEVICE, Moves

ASK: dict[str, Any] = {
    "on": "1x rtx-4090",
    "seq": 2048,
    "batch": 4,
    "host_memory": "256 GiB",
    "host_link": "25 GB/s",
    "drives": "20 GB/s",
}


def test_eight_billion_parameters_train_on_one_card_with_their_state_elsewhere() -> None:
    plan = rl.plan_offload("meta-llama/Llama-3.1-8B", **ASK)
    assert plan.moves.state != DEVICE and plan.moves.weights != DEVICE
    assert plan.device_bytes <= plan.chain.device_bytes < 24 * 2**30
    assert plan.host_bytes <= 256 * 2**30
    assert 0 < plan.model_flops_per_s_per_chip < rl.chip("rtx-4090").peak_flops_per_s("bf16")
    assert plan.tokens_per_s == pytest.approx(4 * 2048 / plan.step_s)
    assert all(0 < share <= 1 + 1e-9 for share in plan.busy_frac.values())
    worse = Moves(weights=plan.moves.weights, state=plan.moves.state, redone_frac=1.0, overlapped=False)
    assert plan.with_moves(worse) > plan.step_s
    assert plan.to_dict()["results"]["step_s"] == plan.step_s


def test_cxl_memory_takes_what_the_host_has_no_room_for() -> None:
    little = ASK | {"host_memory": "16 GiB"}
    drives = rl.plan_offload("meta-llama/Llama-3.1-8B", **little)
    memory = rl.plan_offload("meta-llama/Llama-3.1-8B", **little, cxl_memory="256 GiB", cxl="36 GB/s")
    assert "cxl" in (memory.moves.state, memory.moves.weights) and memory.step_s < drives.step_s
    assert memory.host_bytes <= 16 * 2**30


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"batch": 0}, "whole number"),
        ({"host_memory": "1 GiB", "drives": 0}, "the leanest needs"),
        ({"host_memory": 0}, "the host of this chip is not known"),
    ],
)
def test_what_cannot_be_offloaded_is_said(change: dict[str, Any], told: str) -> None:
    with pytest.raises(DomainError, match=told):
        rl.plan_offload("meta-llama/Llama-3.1-8B", **ASK | change)
