"""Eager steps: no faster than their kernels, bound by the host for small work, and by the cache that they copy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core.errors import DomainError
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.hardware import machine
from ridgeline.plans import copied_cache
from ridgeline.steps import Eager, eager_kernels, eager_time_s, price_step
from ridgeline.workloads import Batch, cache_bytes, forward
from ridgeline.workloads.catalogue import model

A100 = MachineColumns((machine("a100-80gb-sxm"),))
NAMES = ("llama-2-7b", "llama-3-8b", "deepseek-v2-lite")


@pytest.mark.parametrize("name", NAMES)
def test_a_copied_cache_is_read_and_written_whole_but_for_the_new_token(name: str) -> None:
    of, seqs, context = model(name), 3.0, 1000.0
    graph = forward(of, Batch(decode_seqs=seqs, decode_context=context))
    grown = copied_cache(graph).moved_bytes("kv") - graph.moved_bytes("kv")
    assert grown == pytest.approx(2.0 * seqs * cache_bytes(of, context - 1.0))
    assert copied_cache(graph).flops() == graph.flops()


def test_prompts_copy_nothing() -> None:
    graph = forward(model("llama-2-7b"), Batch(prefill_seqs=1.0, prefill_tokens=512.0))
    assert copied_cache(graph) == graph


@given(seqs=st.integers(1, 64), context=st.integers(2, 4000), host_us=st.floats(0, 2000))
def test_eager_code_is_no_faster_than_its_kernels_or_its_host(seqs: int, context: int, host_us: float) -> None:
    of = model("llama-2-7b")
    graph = forward(of, Batch(decode_seqs=float(seqs), decode_context=float(context)))
    eager = eager_time_s(graph, A100, Eager(host_kernel_s=host_us * 1e-6))
    assert eager >= price_step(graph, A100, Setting(runtime="torch", captured=False)).time_s
    assert eager >= of.layers * host_us * 1e-6 * 40.0
    assert eager >= eager_time_s(graph, A100, Eager(host_kernel_s=host_us * 1e-6, cache_copies=0.0))


def test_kernels_are_those_of_the_blocks_that_code_runs_one_by_one() -> None:
    """Layer norm is one kernel where RMS norm is eight, and a block without rotary positions has none of theirs."""

    def per_layer(name: str) -> float:
        of, batch = model(name), Batch(decode_seqs=2.0, decode_context=100.0)
        return float(eager_kernels(forward(of, batch)) // of.layers)

    assert per_layer("llama-2-7b") == 51
    assert per_layer("mpt-7b") == per_layer("opt-6.7b") == 18
    once, twice = (eager_kernels(forward(model("mpt-7b"), Batch(decode_seqs=1.0)), cache_copies=n) for n in (1, 2))
    assert twice - once == 2 * 32


def test_costs_below_nothing_are_refused() -> None:
    with pytest.raises(DomainError, match="nothing or more"):
        Eager(host_kernel_s=-1e-6)
    with pytest.raises(DomainError, match="nothing or more"):
        Eager(host_kernel_s=np.array([1e-6]), cache_copies=-1.0)
