"""Tables of step times: how far they are from the prices, and that a row stands alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ridgeline.core.seeding import stream
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.hardware.catalogue import chip
from ridgeline.hardware.machine import machine_of
from ridgeline.plans import Plan
from ridgeline.serving.engine.step_table import StepTimes, sample
from ridgeline.serving.runtime import runtime
from ridgeline.serving.stepper import Stepper
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.model import Batch

DEPLOYMENTS = [("meta-llama/Llama-3.1-70B", 8), ("Qwen/Qwen3-32B", 2), ("Qwen/Qwen3-30B-A3B", 4)]
DECODE_MEDIAN, DECODE_WORST = 0.01, 0.08
MIXED_MEDIAN, MIXED_WORST = 0.02, 0.12
"""Relative errors of interpolation; the worst lie where a matmul changes its tile between two points of the grid."""
SLOTS, BUDGET, LOW, HIGH = 256, 8192, 512, 4096


def stepper_of(name: str, tp: float) -> Stepper:
    machines = MachineColumns((machine_of(chip("h100-sxm"), 8),))
    setting = Setting(runtime="vllm", sustained=True, fused=True)
    return Stepper(model=model(name), plan=Plan(tp=tp), machines=machines, runtime=runtime("vllm"), setting=setting)


def table_of(stepper: Stepper, **limits: float) -> StepTimes:
    asked = {"low": LOW, "high": HIGH, "slots": SLOTS, "budget": BUDGET, **limits}
    return sample(stepper, rows=1, **asked)[0]


@pytest.mark.parametrize(("name", "tp"), DEPLOYMENTS)
def test_decode_iterations_are_as_priced(name: str, tp: int) -> None:
    stepper, draw = stepper_of(name, tp), stream(0, f"decode {name}")
    times = table_of(stepper)
    n, context = draw.integers(1, SLOTS, 300), draw.uniform(LOW, HIGH, 300)
    priced = stepper.time_s(stepper.decode(n.astype(float), context))
    table = [times.decode_s_of(int(a), a * b) for a, b in zip(n, context, strict=True)]
    error = np.abs(np.array(table) / priced - 1)
    assert np.median(error) < DECODE_MEDIAN
    assert error.max() < DECODE_WORST


@pytest.mark.parametrize(("name", "tp"), DEPLOYMENTS)
def test_iterations_with_a_prompt_chunk_are_as_priced(name: str, tp: int) -> None:
    stepper, draw = stepper_of(name, tp), stream(0, f"mixed {name}")
    times = table_of(stepper)
    n, context = draw.integers(0, SLOTS, 200), draw.uniform(LOW, HIGH, 200)
    tokens, prefix = draw.integers(64, BUDGET - SLOTS, 200).astype(float), draw.integers(0, 2048, 200).astype(float)
    batch = Batch(
        decode_seqs=n.astype(float),
        decode_context=context,
        prefill_seqs=1.0,
        prefill_tokens=tokens,
        prefill_prefix=prefix,
    )
    points = zip(n.tolist(), context.tolist(), tokens.tolist(), prefix.tolist(), strict=True)
    table = [times.mixed(some, some * each, [(new, past)]) for some, each, new, past in points]
    errors = np.abs(np.array(table) / stepper.time_s(batch) - 1)
    assert np.median(errors) < MIXED_MEDIAN
    assert errors.max() < MIXED_WORST


def test_a_row_is_the_same_alone_and_beside_others() -> None:
    stepper = stepper_of("Qwen/Qwen3-32B", 2)
    alone, wider = table_of(stepper, slots=40, budget=3000), table_of(stepper)
    for n in (1, 7, 40):
        assert alone.pieces(n)[0] == pytest.approx(wider.pieces(n)[0], rel=1e-12)
        mixed = [(700.0, 0.0), (1000.0, 512.0)]
        assert alone.mixed(n, n * 900.0, mixed) == pytest.approx(wider.mixed(n, n * 900.0, mixed), rel=1e-12)


def test_a_changed_table_does_not_remember_the_times_of_the_old() -> None:
    old = table_of(stepper_of("Qwen/Qwen3-32B", 2))
    before = old.pieces(8), old.body(100.0), old.prompts(8, [(100.0, 0.0)])
    new = replace(
        old,
        decode_s=[2 * s for s in old.decode_s],
        body_s=[2 * s for s in old.body_s],
        extra_s=[2 * s for s in old.extra_s],
    )
    after = new.pieces(8), new.body(100.0), new.prompts(8, [(100.0, 0.0)])
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_iterations_are_padded_to_the_sizes_of_device_graphs() -> None:
    padded = table_of(stepper_of("Qwen/Qwen3-32B", 2))
    bare = replace(padded, captured=())
    for n, size in ((1, 1), (3, 4), (9, 16), (16, 16), (200, 200), (201, 208)):
        added = padded.decode_s_of(n, n * 900.0) - bare.decode_s_of(n, n * 900.0)
        assert added == pytest.approx(bare.body(size) - bare.body(n), abs=1e-12)
        assert added >= 0
    assert padded.mixed(10, 9000.0, [(151.0, 0.0)]) - bare.mixed(10, 9000.0, [(151.0, 0.0)]) == pytest.approx(
        bare.body(168) - bare.body(161)
    )
    assert padded.body(513) == bare.body(513)


def test_experts_are_not_padded_and_neither_is_a_runtime_that_names_no_sizes() -> None:
    assert not table_of(stepper_of("Qwen/Qwen3-30B-A3B", 4)).captured
    assert not table_of(replace(stepper_of("Qwen/Qwen3-32B", 2), runtime=runtime("trtllm"))).captured
