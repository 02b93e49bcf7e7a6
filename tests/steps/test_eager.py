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
from ridgeline.steps import Eager, eager_time_s, price_step
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
    eager = eager_time_s(graph, A100, Eager(host_block_s=host_us * 1e-6))
    assert eager >= price_step(graph, A100, Setting(runtime="torch", captured=False)).time_s
    assert eager >= of.layers * host_us * 1e-6
    assert eager >= eager_time_s(graph, A100, Eager(host_block_s=host_us * 1e-6, cache_copies=0.0))


def test_costs_below_nothing_are_refused() -> None:
    with pytest.raises(DomainError, match="nothing or more"):
        Eager(host_block_s=-1e-6)
    with pytest.raises(DomainError, match="nothing or more"):
        Eager(host_block_s=np.array([1e-6]), cache_copies=-1.0)
