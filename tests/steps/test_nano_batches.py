"""Two half batches at once: bounded by every resource, no slower than one batch, and faster where resources differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.serving.test_step_table import stepper_of, table_of

import ridgeline as rl
from ridgeline.api.simulations.simulate import simulate
from ridgeline.core.seeding import stream
from ridgeline.steps.nano_batches import split_time_s
from ridgeline.workloads.model import Batch
from ridgeline.workloads.ops import Collective

NAMES = [("meta-llama/Llama-3.1-70B", 8), ("Qwen/Qwen3-32B", 2), ("Qwen/Qwen3-30B-A3B", 4)]
SEQS = np.array([1.0, 2.0, 8.0, 64.0, 256.0, 1024.0])
MIXED = Batch(
    decode_seqs=SEQS, decode_context=1500.0, prefill_seqs=1.0, prefill_tokens=2.0 * SEQS + 32.0, prefill_prefix=512.0
)
DECODE = Batch(decode_seqs=SEQS, decode_context=4000.0)
PROMPTS = Batch(prefill_seqs=1.0, prefill_tokens=8.0 * SEQS)
LOAD = {"model": "meta-llama/Llama-2-70B", "on": "8x a100-sxm", "tp": 8, "isl": 1024, "osl": 512}


def steps_of(name: str, tp: float, batch: Batch):  # type: ignore[no-untyped-def]
    stepper = stepper_of(name, tp)
    return stepper.step(batch), replace(stepper, nano_batches=2.0).step(batch)


@pytest.mark.parametrize("batch", [MIXED, DECODE, PROMPTS])
@pytest.mark.parametrize(("name", "tp"), NAMES)
def test_a_split_step_keeps_to_its_resources_and_is_no_slower(name: str, tp: float, batch: Batch) -> None:
    whole, split = steps_of(name, tp, batch)
    chip = stepper_of(name, tp).machines.machines[0].chip
    assert np.all(split.time_s <= whole.time_s)
    inside = [cost for cost in split.half if cost.op.part not in ("head", "embedding")]
    own = [cost for cost in inside if not isinstance(cost.op, Collective)]
    kept = sum(
        2.0 * cost.times * operand.read_bytes
        for cost in own
        for operand in cost.op.operands()
        if operand.role in ("weights", "kv")
    )
    flops = sum(2.0 * cost.times * cost.price.flops for cost in own)
    links = sum(2.0 * cost.time_s for cost in inside if isinstance(cost.op, Collective))
    apart = split_time_s(split.ops, split.half)
    assert np.all(apart >= kept / chip.dram.bandwidth_bytes_per_s)
    assert np.all(apart >= flops / chip.peak_flops_per_s("bf16"))
    assert np.all(apart >= links)
    assert np.all(apart >= sum(cost.time_s for cost in inside))


@pytest.mark.parametrize(("name", "tp"), NAMES)
def test_one_sequence_and_one_nano_batch_stay_as_they_are(name: str, tp: float) -> None:
    whole, split = steps_of(name, tp, DECODE)
    assert split.time_s[0] == whole.time_s[0]
    rows = replace(stepper_of(name, tp), nano_batches=np.array([1.0, 2.0] * 3)).step(DECODE)
    np.testing.assert_array_equal(rows.time_s[::2], whole.time_s[::2])
    np.testing.assert_array_equal(rows.time_s[1::2], split.time_s[1::2])


def test_a_large_batch_over_links_gains_and_its_interval_holds_the_time() -> None:
    whole, split = steps_of("meta-llama/Llama-3.1-70B", 8, MIXED)
    assert split.time_s[-1] < 0.9 * whole.time_s[-1]
    low, high = split.interval()
    assert np.all(low <= split.time_s)
    assert np.all(split.time_s <= high)


@pytest.mark.parametrize(("name", "tp"), NAMES)
def test_tables_of_split_steps_are_near_their_prices(name: str, tp: float) -> None:
    """A table adds what prompts take to what decodes take: it overlaps within both, not across, and is often slower."""
    stepper, draw = replace(stepper_of(name, tp), nano_batches=2.0), stream(0, f"split {name}")
    times = table_of(stepper)
    n, context = draw.integers(1, 257, 100), draw.uniform(512, 4096, 100)
    tokens = draw.integers(64, 7000, 100).astype(float)
    points = list(zip(n.tolist(), context.tolist(), tokens.tolist(), strict=True))
    alone = stepper.decode(n.astype(float), context)
    decodes = np.array([times.decode_s_of(some, some * each) for some, each, _ in points]) / stepper.time_s(alone)
    mixed = stepper.time_s(replace(alone, prefill_seqs=1.0, prefill_tokens=tokens))
    mixtures = np.array([times.mixed(some, some * each, [(new, 0.0)]) for some, each, new in points]) / mixed
    assert np.median(np.abs(decodes - 1)) < 0.015
    assert 0.99 < np.median(mixtures) < 1.07
    assert mixtures.min() > 0.88


@pytest.mark.parametrize("ask", ["predict", "simulate"])
def test_nano_batches_raise_the_rate_of_a_full_system(ask: str) -> None:
    def rate(count: int) -> float:
        if ask == "predict":
            return float(rl.predict("serving", **LOAD, load="saturated", nano_batches=count).output_tokens_per_s)
        played = simulate(**LOAD, concurrency=512, requests=700, nano_batches=count)
        return float(played.answers.whole.overall.output_tokens_per_s)

    assert 1.02 < rate(2) / rate(1) < 2.0
