"""Steps: sums of their ops, never below the hardware, memory that adds up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price
from ridgeline.hardware.machine import machine
from ridgeline.plans import Plan, parallelise, requantise
from ridgeline.steps import memory_of, price_step
from ridgeline.steps.memory import weight_bytes
from ridgeline.steps.shared import Alike, alike, step_time_s
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.families.size import parameters
from ridgeline.workloads.families.transformer import forward
from ridgeline.workloads.model import Batch

NAME = "meta-llama/Llama-3.1-8B"
ENGINE = Setting(runtime="vllm", fused=True, sustained=True)
ON = MachineColumns((machine("8x h100-sxm"),))


def step_of(plan: Plan, batch: Batch, setting: Setting = ENGINE, name: str = NAME):  # type: ignore[no-untyped-def]
    return price_step(parallelise(forward(model(name), batch), plan), ON, setting)


def test_batch_one_on_one_chip_is_the_sum_of_its_operators() -> None:
    batch = Batch(decode_seqs=1.0, decode_context=512.0)
    graph = forward(model(NAME), batch)
    alone = sum(float(np.asarray(price(op, ON, ENGINE).time_s * times)) for op, times in graph.walk())
    assert float(np.asarray(step_of(Plan(), batch).time_s)) == pytest.approx(alone, rel=1e-9)


@given(
    seqs=st.integers(1, 512),
    context=st.integers(1, 100_000),
    tp=st.sampled_from([1, 2, 4, 8]),
    runtime=st.sampled_from(["vllm", "trtllm", "sglang", "ideal"]),
)
def test_no_step_is_faster_than_the_hardware(seqs: int, context: int, tp: int, runtime: str) -> None:
    step = step_of(
        Plan(tp=float(tp)), Batch(decode_seqs=float(seqs), decode_context=float(context)), Setting(runtime=runtime)
    )
    assert float(np.asarray(step.time_s)) >= float(np.asarray(step.floor_s)) * (1 - 1e-12)


def test_time_by_bound_shares_out_the_whole_step() -> None:
    step = step_of(Plan(tp=8.0), Batch(decode_seqs=64.0, decode_context=2000.0))
    assert sum(float(np.asarray(v)) for v in step.time_by_bound().values()) >= float(np.asarray(step.time_s)) * (
        1 - 1e-9
    )


def test_the_interval_holds_the_time() -> None:
    low, high = step_of(Plan(tp=4.0), Batch(decode_seqs=8.0, decode_context=500.0)).interval()
    time_s = step_of(Plan(tp=4.0), Batch(decode_seqs=8.0, decode_context=500.0)).time_s
    assert 0 < float(np.asarray(low)) <= float(np.asarray(time_s)) <= float(np.asarray(high))


def test_weights_on_one_chip_are_all_the_parameters() -> None:
    whole = model(NAME)
    assert float(np.asarray(weight_bytes(whole, Plan()))) == pytest.approx(
        2.0 * float(np.asarray(parameters(whole).total))
    )


@given(tp=st.sampled_from([1, 2, 4, 8]), pp=st.sampled_from([1, 2, 4, 8, 16]))
def test_more_chips_never_hold_more_weights_each(tp: int, pp: int) -> None:
    whole = model(NAME)
    cut = float(np.asarray(weight_bytes(whole, Plan(tp=float(tp), pp=float(pp)))))
    assert cut <= float(np.asarray(weight_bytes(whole, Plan()))) / tp * (1 + 1e-2)
    assert cut * tp * pp >= float(np.asarray(weight_bytes(whole, Plan()))) * (1 - 1e-9)


def memory(frac: float, *, of_free: bool, kv: str = "") -> float:
    fitted = memory_of(
        requantise(model(NAME), kv=kv),
        Plan(),
        context=4096.0,
        capacity_bytes=80e9,
        memory_frac=frac,
        reserve_bytes=5e9,
        of_free=of_free,
    )
    assert bool(np.asarray(fitted.fits)) == (float(np.asarray(fitted.max_sequences)) >= 1)
    return float(np.asarray(fitted.max_sequences))


def test_a_cache_of_half_the_bytes_holds_twice_the_sequences() -> None:
    assert memory(0.9, of_free=False, kv="fp8") == pytest.approx(2 * memory(0.9, of_free=False), abs=1)


def test_a_share_of_what_is_free_differs_from_a_share_of_the_whole() -> None:
    assert memory(0.9, of_free=True) > memory(0.9, of_free=False)
    assert memory(0.2, of_free=False) == 0.0


@pytest.mark.parametrize("name", [NAME, "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-235B-A22B"])
def test_ops_that_rows_share_cost_what_they_cost_row_by_row(name: str) -> None:
    rng = np.random.default_rng(0)
    seqs, tp = rng.integers(1, 40, 6000).astype(float), rng.choice([1.0, 2.0, 4.0, 8.0], 6000)
    batch = Batch(decode_seqs=seqs, decode_context=rng.uniform(1, 30_000, 6000))
    graph = parallelise(forward(model(name), batch), Plan(tp=tp))
    shared = alike(tp, seqs)
    assert shared and shared[0].some.size < 200
    whole = price_step(graph, ON, ENGINE).time_s
    np.testing.assert_allclose(step_time_s(graph, ON, ENGINE, shared), whole, rtol=1e-12)


def test_rows_taken_for_equal_that_are_not_are_priced_apart() -> None:
    """Classes come from hashes; two sizes in one class must not share a price."""
    seqs = np.array([1.0, 300.0, 1.0, 8.0])
    graph = parallelise(forward(model(NAME), Batch(decode_seqs=seqs, decode_context=100.0)), Plan())
    wrong = Alike(some=np.array([0, 3]), of_row=np.array([0, 0, 0, 1]))
    whole = price_step(graph, ON, ENGINE).time_s
    np.testing.assert_allclose(step_time_s(graph, ON, ENGINE, [wrong]), whole, rtol=1e-12)
