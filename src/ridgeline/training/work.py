"""What one sequence makes a model do in training: the ops of its forward graph summed by kind.

A training step is long and regular, so its time hangs on totals: operations of matmuls, experts and attention, values
that pass through memory, values that go to experts, weights that are kept. The forward graph is the only description of
a model that is read; sizes in it may be columns, and so may every field here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ridgeline.workloads.families.transformer import forward
from ridgeline.workloads.graph import Graph
from ridgeline.workloads.model import Batch, Model
from ridgeline.workloads.ops import Attention, Convolution, Dim, Embedding, Experts, Matmul, Op, Scan, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Totals of one forward pass over one sequence, and the parameters behind it. "Values" are tensor elements.

    Attributes:
        seq, hidden: tokens of the sequence and width of the residual stream.
        layers, mixtures: blocks, and those with routed experts; `ops` operations that a framework launches.
        matmul_flops: matmuls outside experts and head; `matmul_values` what enters and leaves them.
        matmul_tiles, expert_tiles: the operations of matmuls, and of experts, with sizes rounded up to whole tiles.
        head_flops: vocabulary projections; `logit_values` what they produce.
        expert_flops: routed experts; `routed_values` what is sent to them; `expert_values` what passes through memory
            there.
        attention_flops: softmax attention, masked pairs left out; `score_values` entries of the full score matrices;
            `key_values` keys and values of all layers.
        scan_flops: recurrences.
        whole_values: what norms and residuals read and write, which tensor parallelism alone does not divide;
            `sharded_values` what activations, rope and the like read and write, which it does.
        reduced_values: partial sums that a tensor-parallel group must add.
        query_values: queries of all layers; as many values leave the attention.
        saved_whole, saved_sharded: what the backward pass needs, divided as above; `saved_layer` the block input alone.
        normed, activated: the parts of these that redoing norms, and activations, frees.
        saved_operands: the part of both that matmuls read, which narrow formats keep narrow.
        dense_weights, expert_weights, table_weights: parameters of blocks, routed experts, and embedding and head.
        expert_count: routed experts per layer (0: none); `expert_copies` how many of them a token goes to.
        query_heads: heads of each kind of attention.
        recurrent: whether some layers are recurrences (state-space or linear attention).
    """

    seq: Dim
    hidden: Dim
    layers: Dim
    mixtures: Dim
    ops: Dim
    matmul_flops: Dim
    matmul_values: Dim
    matmul_tiles: Dim
    head_flops: Dim
    logit_values: Dim
    expert_flops: Dim
    expert_tiles: Dim
    routed_values: Dim
    expert_values: Dim
    attention_flops: Dim
    score_values: Dim
    key_values: Dim
    scan_flops: Dim
    whole_values: Dim
    sharded_values: Dim
    reduced_values: Dim
    query_values: Dim
    saved_whole: Dim
    saved_sharded: Dim
    saved_layer: Dim
    normed: Dim
    activated: Dim
    saved_operands: Dim
    dense_weights: Dim
    expert_weights: Dim
    table_weights: Dim
    expert_count: Dim
    expert_copies: Dim
    query_heads: tuple[Dim, ...]
    recurrent: bool

    @property
    def weights(self) -> Dim:
        """All stored parameters."""
        return self.dense_weights + self.expert_weights + self.table_weights

    @property
    def flops(self) -> Dim:
        """Forward operations with matrix engines, causal attention, logits in, embedding out."""
        products = self.matmul_flops + self.head_flops + self.expert_flops
        return products + self.attention_flops + self.scan_flops


def work_of(model: Model, seq: Dim) -> Work:
    """Sum one forward pass over one sequence of `seq` tokens, multi-token prediction blocks included."""
    graph = forward(model, Batch(prefill_seqs=1.0, prefill_tokens=seq, logits=seq), drafts=True)
    layers = sum((np.asarray(block.count, float) for block in (*model.blocks, *model.drafts)), start=np.float64(0.0))
    weights = _total(graph, object, lambda op: op.weight_elements())
    experts = _total(graph, Experts, lambda op: op.weight_elements())
    tables = _total(graph, Embedding, lambda op: op.weight_elements()) + _matmuls(graph, _weights, head=True)
    mixtures = [op for op, _ in graph.walk() if isinstance(op, Experts)]
    return Work(
        seq=seq,
        hidden=model.hidden,
        layers=layers,
        mixtures=_total(graph, Experts, lambda op: 1.0),
        ops=_total(graph, object, lambda op: 1.0),
        matmul_flops=_matmuls(graph, lambda op: op.flops(), head=False),
        matmul_values=_matmuls(graph, lambda op: op.batch * op.m * (op.n + op.k), head=False),
        matmul_tiles=_matmuls(graph, lambda op: op.flops() * _tiled(op.n, op.k), head=False),
        head_flops=_matmuls(graph, lambda op: op.flops(), head=True),
        logit_values=_matmuls(graph, lambda op: op.m * op.n, head=True),
        expert_flops=_total(graph, Experts, lambda op: op.flops()),
        expert_tiles=_total(graph, Experts, lambda op: op.flops() * _tiled(op.hidden, op.inter)),
        routed_values=_total(graph, Experts, lambda op: op.rows() * op.hidden),
        expert_values=_total(graph, Experts, lambda op: op.rows() * (4.0 * op.hidden + op.matrices * op.inter)),
        attention_flops=_total(graph, Attention, lambda op: op.flops()),
        score_values=_total(graph, Attention, lambda op: op.heads * op.q_len * op.kv_len),
        key_values=_total(graph, Attention, lambda op: op.q_len * op.kv_values_per_token()),
        scan_flops=_total(graph, Scan, lambda op: op.flops()),
        whole_values=_total(graph, Vector, lambda op: _passes(op) if _is_norm(op) else 0.0),
        sharded_values=graph.total(_sharded_values),
        reduced_values=_matmuls(graph, lambda op: op.m * op.n if op.shard == "row" else 0.0, head=False),
        query_values=_total(graph, Attention, lambda op: op.batch * op.q_len * op.heads * op.v_head_dim),
        saved_whole=graph.total(_saved_whole),
        saved_sharded=graph.total(_saved_sharded),
        saved_layer=seq * model.hidden,
        normed=_matmuls(graph, _normed_input, head=False),
        activated=graph.total(_activated),
        saved_operands=graph.total(_saved_operands),
        dense_weights=weights - experts - tables + model.extra_parameters,
        expert_weights=experts,
        table_weights=tables,
        expert_count=next((op.experts for op in mixtures), 0.0),
        expert_copies=next((op.topk for op in mixtures), 1.0),
        query_heads=tuple(op.heads for op, _ in graph.walk() if isinstance(op, Attention) and op.shard == "heads"),
        recurrent=any(isinstance(op, Scan) for op, _ in graph.walk()),
    )


def _total(graph: Graph, kind: type, measure: Callable[..., Dim]) -> Dim:
    return graph.total(lambda op: measure(op) if isinstance(op, kind) else 0.0)


def _matmuls(graph: Graph, measure: Callable[[Matmul], Dim], *, head: bool) -> Dim:
    return _total(graph, Matmul, lambda op: measure(op) if (op.part == "head") == head else 0.0)


def _weights(op: Matmul) -> Dim:
    return op.weight_elements()


TILE = 256.0
"""Columns of an output tile of a large matmul: what remains of the last one is computed and thrown away."""


def _tiled(columns: Dim, inner: Dim) -> Dim:
    """Operations with whole tiles over operations, mean of the forward pass and both gradients."""
    wide, deep = _whole_tiles(columns), _whole_tiles(inner)
    return np.asarray((wide + deep + wide * deep) / 3.0)


def _whole_tiles(size: Dim) -> Dim:
    """Sizes below one tile have tiles of their own."""
    value = np.maximum(np.asarray(size, float), 1.0)
    return np.where(value < TILE, 1.0, np.ceil(value / TILE) * TILE / value)


def _is_norm(op: Vector) -> bool:
    return op.kind == "norm"


def _passes(op: Vector) -> Dim:
    return op.elements * (op.reads + op.writes)


def _sharded_values(op: Op) -> Dim:
    """Activations, rope and gates; short convolutions and scans, which are memory-bound too."""
    if isinstance(op, Vector):
        return 0.0 if _is_norm(op) else _passes(op)
    if isinstance(op, Convolution):
        return op.batch * (op.in_channels * op.in_positions + op.out_channels * op.out_positions)
    if isinstance(op, Scan):
        return op.batch * op.q_len * (3.0 * op.heads * op.head_dim + 2.0 * op.groups * op.state)
    return 0.0


def _saved_whole(op: Op) -> Dim:
    """Inputs of norms, and of matmuls that read the residual stream."""
    if isinstance(op, Vector):
        return op.elements if _is_norm(op) else 0.0
    if isinstance(op, Matmul) and op.part not in ("head", "router") and op.shard != "row":
        return op.batch * op.m * op.k
    return 0.0


def _saved_sharded(op: Op) -> Dim:
    """Inputs of activations, of attention and of matmuls behind them; rows of the routed experts."""
    if isinstance(op, Vector):
        return op.elements * op.reads if op.kind == "activation" else 0.0
    if isinstance(op, Attention):
        expanded = op.is_latent and not op.absorbed
        keys = op.heads * (op.head_dim + op.v_head_dim) if expanded else op.kv_values_per_token()
        return op.batch * op.q_len * (op.heads * op.head_dim + keys)
    if isinstance(op, Matmul):
        return op.batch * op.m * op.k if op.shard == "row" else 0.0
    if isinstance(op, (Convolution, Scan)):
        return _sharded_values(op) / 2.0
    if isinstance(op, Experts):
        # Inputs and activations of each matmul; weights of the copies are applied inside, so outputs are not kept.
        return op.rows() * (op.hidden + op.matrices * op.inter)
    return 0.0


def _normed_input(op: Matmul) -> Dim:
    return op.batch * op.m * op.k if op.part not in ("head", "router") and op.shard != "row" else 0.0


def _activated(op: Op) -> Dim:
    """What activations produce: inputs of the second matmul of a feed-forward, dense or routed."""
    if isinstance(op, Vector):
        return op.elements if op.kind == "activation" else 0.0
    return op.rows() * op.inter if isinstance(op, Experts) else 0.0


def _saved_operands(op: Op) -> Dim:
    if isinstance(op, Matmul):
        return op.batch * op.m * op.k if op.part not in ("head", "router") else 0.0
    return op.rows() * (op.hidden + op.inter) if isinstance(op, Experts) else 0.0
