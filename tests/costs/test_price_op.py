"""The door to all rooms: every op has one, none undercuts the hardware, rows keep their places."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from ridgeline.core.dtypes import scheme
from ridgeline.core.errors import DomainError
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price, throttled
from ridgeline.hardware.machine import machine
from ridgeline.workloads import ops as module
from ridgeline.workloads.ops import (
    Attention,
    Collective,
    Convolution,
    Copy,
    Embedding,
    Experts,
    Fft,
    Matmul,
    Op,
    Scan,
    Vector,
)

DGX = MachineColumns((machine("8x h100-sxm"),))
MACHINES = ("8x h100-sxm", "8x a100-80gb-sxm", "8x l40s", "8x b200-sxm", "8x mi300x")
BF16 = scheme("bf16")

EXAMPLES: tuple[Op, ...] = (
    Matmul(name="o", part="p", m=256.0, n=4096.0, k=4096.0, scheme=BF16),
    Experts(name="o", part="p", tokens=256.0, hidden=4096.0, inter=1536.0, topk=8.0, experts=128.0, scheme=BF16),
    Attention(
        name="o",
        part="p",
        phase="decode",
        batch=16.0,
        q_len=1.0,
        kv_len=2048.0,
        heads=32.0,
        kv_heads=8.0,
        head_dim=128.0,
        v_head_dim=128.0,
    ),
    Vector(name="o", part="p", kind="norm", elements=1e6),
    Embedding(name="o", part="p", tokens=256.0, width=4096.0, vocab=128000.0),
    Convolution(
        name="o",
        part="p",
        batch=8.0,
        in_channels=64.0,
        out_channels=64.0,
        in_positions=3136.0,
        out_positions=3136.0,
        kernel=9.0,
        scheme=BF16,
    ),
    Scan(
        name="o",
        part="p",
        kind="mamba2",
        phase="prefill",
        batch=2.0,
        q_len=2048.0,
        heads=64.0,
        head_dim=64.0,
        state=128.0,
    ),
    Fft(name="o", part="p", batch=64.0, length=4096.0),
    Collective(name="o", part="p", kind="all_reduce", message_bytes=1e6, ranks=8.0),
    Copy(name="o", part="p", size_bytes=1e8, target="host"),
)


def classes() -> set[type]:
    """Every class of the module that says it is an op."""
    found = {
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__ and hasattr(kind, "operands")
    }
    return found - {Op}


def test_every_op_has_an_example_here() -> None:
    assert {type(op) for op in EXAMPLES} == classes()


@pytest.mark.parametrize("op", EXAMPLES, ids=lambda op: type(op).__name__)
@pytest.mark.parametrize("on", MACHINES)
@pytest.mark.parametrize("runtime", ["vllm", "trtllm", "torch", "ideal"])
def test_every_op_is_priced_on_every_kind_of_chip(op: Op, on: str, runtime: str) -> None:
    found = price(op, MachineColumns((machine(on),)), Setting(runtime=runtime))
    assert np.isfinite(found.time_s)
    assert np.asarray(found.time_s) >= np.asarray(found.floor_s) > 0
    assert found.kernel
    assert str(found.bound()) in found.terms


@pytest.mark.parametrize("op", EXAMPLES, ids=lambda op: type(op).__name__)
def test_the_ideal_runtime_is_never_slower(op: Op) -> None:
    ideal, real = (np.asarray(price(op, DGX, Setting(runtime=runtime)).time_s) for runtime in ("ideal", "vllm"))
    assert ideal <= real


@pytest.mark.parametrize("op", EXAMPLES, ids=lambda op: type(op).__name__)
def test_two_rows_cost_what_each_costs_alone(op: Op) -> None:
    rows = MachineColumns((machine("8x h100-sxm"), machine("8x h200-sxm")), np.array([0, 1]))
    together = np.broadcast_to(np.asarray(price(op, rows, Setting()).time_s), 2)
    alone = [float(price(op, MachineColumns((each,)), Setting()).time_s) for each in rows.machines]
    assert together == pytest.approx(alone, rel=1e-6)


def test_ops_that_stay_on_a_chip_need_no_machine() -> None:
    for op in EXAMPLES[:8]:
        assert price(op, DGX.chips, Setting()).time_s == price(op, DGX, Setting()).time_s


def test_something_else_is_refused() -> None:
    class Other:
        name = part = compute = "other"

        def flops(self) -> float:
            return 0.0

        def operands(self) -> tuple[()]:
            return ()

        def weight_elements(self) -> float:
            return 0.0

        def weight_bytes(self) -> float:
            return 0.0

    with pytest.raises(DomainError, match="no room"):
        price(Other(), DGX, Setting())


def test_only_a_lasting_load_is_throttled() -> None:
    op = EXAMPLES[0]
    hot = replace(op, m=16384.0, n=16384.0, k=16384.0)  # type: ignore[type-var]
    burst = price(hot, DGX, Setting())
    assert throttled(hot, burst, DGX.chips, Setting()) is burst
    lasting = throttled(hot, burst, DGX.chips, Setting(sustained=True))
    assert 1.0 <= float(lasting.time_s) / float(burst.time_s) < 1.4
