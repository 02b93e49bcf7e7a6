"""Parallelism as a rewrite: work is conserved, collectives carry what was cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.plans import Plan, parallelise
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.families.transformer import forward
from ridgeline.workloads.graph import Graph
from ridgeline.workloads.model import Batch
from ridgeline.workloads.ops import Attention, Collective, Experts, Matmul

DENSE, MOE = "meta-llama/Llama-3.1-70B", "Qwen/Qwen3-235B-A22B"
BATCH = Batch(decode_seqs=16.0, decode_context=1000.0, prefill_seqs=1.0, prefill_tokens=512.0)


def graph_of(name: str, plan: Plan, batch: Batch = BATCH) -> Graph:
    return parallelise(forward(model(name), batch), plan)


def total_flops(graph: Graph, *kinds: type) -> float:
    return float(sum(np.asarray(op.flops()) * times for op, times in graph.walk() if isinstance(op, kinds)))


@given(tp=st.sampled_from([1, 2, 4, 8]))
def test_tensor_parallel_ranks_share_the_arithmetic_exactly(tp: int) -> None:
    whole = graph_of(DENSE, Plan())
    cut = graph_of(DENSE, Plan(tp=float(tp)))
    for kind in (Matmul, Attention):
        assert total_flops(cut, kind) * tp == pytest.approx(total_flops(whole, kind), rel=1e-12)


def test_key_and_value_heads_are_replicated_once_there_are_more_ranks_than_heads() -> None:
    eight, sixteen = (graph_of(DENSE, Plan(tp=tp)) for tp in (8.0, 16.0))
    width = {graph: next(op for op, _ in graph.walk() if op.name == "qkv") for graph in (eight, sixteen)}
    assert float(width[eight].n) == (8192 + 2 * 8 * 128) / 8  # type: ignore[attr-defined]
    assert float(width[sixteen].n) == 8192 / 16 + 2 * 128  # type: ignore[attr-defined]


def test_a_dense_layer_has_two_all_reduces_of_its_activations() -> None:
    layer = [
        (op, times)
        for op, times in graph_of(DENSE, Plan(tp=8.0)).walk()
        if isinstance(op, Collective) and float(np.asarray(times)) == 80.0
    ]
    assert [op.kind for op, _ in layer] == ["all_reduce", "all_reduce"]
    for op, _ in layer:
        assert float(np.asarray(op.message_bytes)) == float(np.asarray(BATCH.tokens)) * 8192 * 2


def test_one_chip_has_no_collectives() -> None:
    assert not [op for op, _ in graph_of(MOE, Plan()).walk() if isinstance(op, Collective)]


@given(ep=st.sampled_from([1, 2, 4, 8]))
def test_expert_ranks_share_the_rows_of_the_experts(ep: int) -> None:
    whole = total_flops(graph_of(MOE, Plan()), Experts)
    cut = total_flops(graph_of(MOE, Plan(tp=8.0, ep=float(ep), moe_tp=8.0 / ep)), Experts)
    assert cut * 8 == pytest.approx(whole, rel=1e-12)


def test_attention_data_parallelism_sends_tokens_to_experts_and_back() -> None:
    graph = graph_of(MOE, Plan(dp=8.0, ep=8.0))
    kinds = [op.name for op, _ in graph.walk() if isinstance(op, Collective)]
    assert kinds == ["dispatch", "combine"]
    experts = next(op for op, _ in graph.walk() if isinstance(op, Experts))
    assert float(np.asarray(experts.tokens)) == float(np.asarray(BATCH.tokens)) * 8


def test_pipeline_stages_send_activations_once_per_boundary() -> None:
    sends = [(op, times) for op, times in graph_of(DENSE, Plan(pp=4.0)).walk() if isinstance(op, Collective)]
    assert [(op.kind, float(np.asarray(times))) for op, times in sends] == [("send_recv", 3.0)]


def test_a_column_of_degrees_equals_each_degree_alone() -> None:
    column = np.array([1.0, 2.0, 8.0])
    together = graph_of(DENSE, Plan(tp=column)).total(lambda op: op.flops())
    alone = [float(np.asarray(graph_of(DENSE, Plan(tp=tp)).total(lambda op: op.flops()))) for tp in column]
    np.testing.assert_allclose(np.broadcast_to(together, column.shape), alone, rtol=1e-12)
