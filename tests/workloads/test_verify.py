"""The verifier passes what families build and names the op that a bad rewrite broke."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ridgeline.core.errors import SpecError
from ridgeline.workloads import Batch, Graph, Repeat, forward, rewrite
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.ops import Op
from ridgeline.workloads.verify import verify

BATCH = Batch(decode_seqs=np.array([0.0, 8.0]), decode_context=100.0, prefill_seqs=1.0, prefill_tokens=10.0)


def _broken(name: str, **fields: object) -> Graph:
    graph = forward(model("Qwen/Qwen3-30B-A3B"), BATCH)
    assert name in {op.name for op, _ in graph.walk()}
    return rewrite(graph, lambda op: [replace(op, **fields)] if op.name == name else [op])  # type: ignore[type-var]


def test_a_legal_graph_is_given_back() -> None:
    graph = forward(model("Qwen/Qwen3-30B-A3B"), BATCH)
    assert verify(graph) is graph


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("qkv", {"n": 0.0}),
        ("qkv", {"n": -8.0}),
        ("qkv", {"k": float("nan")}),
        ("qkv", {"m": np.array([1.0, np.inf])}),
        ("qkv", {"kv_width": 1e9}),
        ("qkv", {"part": ""}),
        ("experts", {"topk": 200.0}),
        ("experts", {"ep": 256.0}),
        ("experts", {"tokens": -1.0}),
        ("attention_decode", {"kv_heads": 3.0}),
        ("attention_prefill", {"q_len": 50.0}),
        ("rope", {"elements": float("inf")}),
    ],
)
def test_a_broken_size_is_named_with_its_op(name: str, fields: dict[str, object]) -> None:
    with pytest.raises(SpecError) as caught:
        verify(_broken(name, **fields))
    assert name in caught.value.at


def test_two_ops_of_one_name_are_refused() -> None:
    def twice(op: Op) -> list[Op]:
        return [op, op] if op.name == "qkv" else [op]

    with pytest.raises(SpecError, match="qkv"):
        verify(rewrite(forward(model("Qwen/Qwen3-8B"), BATCH), twice))


def test_two_blocks_of_one_name_and_impossible_counts_are_refused() -> None:
    inner = Graph("layer", ())
    with pytest.raises(SpecError, match="layer"):
        verify(Graph("g", (Repeat(inner, 1.0), Repeat(inner, 2.0))))
    with pytest.raises(SpecError, match="count"):
        verify(Graph("g", (Repeat(inner, -1.0),)))


def test_replicated_keys_may_leave_a_rank_a_fraction_of_a_group() -> None:
    graph = _broken("attention_decode", heads=0.5, kv_heads=1.0)
    assert verify(graph) is graph
