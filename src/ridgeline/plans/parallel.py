"""Parallelism as a graph rewrite: sizes are divided, and the collectives that the cut requires are inserted.

Tensor parallelism follows Megatron-LM (arXiv 1909.08053, section 3): column-parallel matmuls divide their outputs,
row-parallel ones their inputs and leave partial sums for one all-reduce. Expert parallelism follows GShard (arXiv
2006.16668) with tokens sent once per destination rank (DeepSeek-V3, arXiv 2412.19437, 3.2.2). Under attention data
parallelism the graph describes the batch of one data-parallel rank; experts see the tokens of all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never, cast

import numpy as np

from ridgeline.core.dtypes import DTYPES, Scheme
from ridgeline.plans.away import fed_from_away, sent_away
from ridgeline.plans.plan import Plan
from ridgeline.workloads.graph import Graph, Repeat
from ridgeline.workloads.ops import (
    Attention,
    Collective,
    Convolution,
    Copy,
    Dim,
    Embedding,
    Experts,
    Fft,
    Matmul,
    Op,
    Scan,
    Vector,
)

WIDE_BYTES = DTYPES["bf16"].element_bytes
"""Partial sums and combined expert outputs travel in 16 bits."""

CUT_BY_HEADS = frozenset({"attention", "ffn", "shared_experts"})
"""Parts whose element-wise work is cut with their heads or inner width; norms and routers work on whole rows."""


def parallelise(graph: Graph, plan: Plan) -> Graph:
    """The graph of one rank under `plan`, collectives included. Pipeline stages still run one after another:
    the result is one pass through all of them, with a send between stages.
    """
    cut = _cut(graph, plan)
    if not _exceeds_one(plan.pp):
        return cut
    hidden_bytes = _boundary_bytes(graph)
    send = Collective(
        name="stage_send",
        part="pipeline",
        kind="send_recv",
        message_bytes=hidden_bytes,
        ranks=np.minimum(np.asarray(plan.pp, dtype=np.float64), 2.0),
        axis="pp",
        stride=plan.stage_chips,
    )
    return Graph(cut.name, (*cut.items, Repeat(Graph("pipeline", (send,)), np.asarray(plan.pp) - 1.0)))


def _cut(graph: Graph, plan: Plan) -> Graph:
    """Rewrite one level: a block is where partial sums of the experts and of the shared experts meet."""
    kv_heads = next((op.kv_heads for op in _ops(graph) if isinstance(op, Attention) and not op.is_latent), 1.0)
    routed = any(isinstance(op, Experts) for op in _ops(graph))
    items: list[Op | Repeat] = []
    for item in graph.items:
        if isinstance(item, Repeat):
            items.append(Repeat(_cut(item.graph, plan), item.count))
        else:
            items.extend(_cut_op(item, plan, kv_heads, routed=routed))
    return Graph(graph.name, tuple(items))


def _cut_op(op: Op, plan: Plan, kv_heads: Dim, *, routed: bool) -> tuple[Op, ...]:
    if isinstance(op, Experts):
        return _cut_experts(op, plan)
    if isinstance(op, Attention) and np.any(np.asarray(plan.attention) > 0):
        if op.phase == "decode":
            return sent_away(op, plan.attention)
        exchanges = fed_from_away(op)
        return (*exchanges[:1], *(_cut_other(op, plan) if _exceeds_one(plan.tp) else (op,)), *exchanges[1:])
    if not _exceeds_one(plan.tp):
        return (op,)
    if isinstance(op, Matmul):
        return _cut_matmul(op, plan, kv_heads, routed=routed)
    return _cut_other(op, plan)


def _cut_matmul(op: Matmul, plan: Plan, kv_heads: Dim, *, routed: bool) -> tuple[Op, ...]:
    tp = plan.tp
    match op.shard:
        case "column":
            kv_width = op.kv_width / np.minimum(tp, kv_heads)
            return (replace(op, n=(op.n - op.kv_width) / tp + kv_width, kv_width=kv_width),)
        case "row":
            rank = replace(op, k=op.k / tp)
            if routed and op.part == "shared_experts":  # summed together with the routed experts
                return (rank,)
            summed = _collective(
                "all_reduce", "tp", op.part, op.m * op.n * op.batch * WIDE_BYTES, tp, name=f"{op.name}_sum"
            )
            return (rank, summed)
        case "heads":
            return (replace(op, batch=op.batch / tp),)
        case "vocab":
            gathered = _collective("all_gather", "tp", op.part, op.m * op.n * WIDE_BYTES, tp, name=f"{op.name}_gather")
            return (replace(op, n=op.n / tp), gathered)
        case "none":
            return (op,)
        case _:
            raise AssertionError(f"matmul {op.name!r} has an unknown shard {op.shard!r}")


def _cut_other(op: Op, plan: Plan) -> tuple[Op, ...]:
    tp = plan.tp
    known = cast(Attention | Scan | Vector | Embedding | Convolution | Fft | Collective | Copy, op)
    match known:
        case Attention():
            if known.shard == "none":
                return (known,)
            kv_heads = known.kv_heads if known.is_latent else np.maximum(known.kv_heads / tp, 1.0)
            return (replace(known, heads=known.heads / tp, kv_heads=kv_heads),)
        case Scan():
            groups = np.maximum(known.groups / tp, 1.0)
            return (replace(known, heads=known.heads / tp, groups=groups, weights=known.weights / tp),)
        case Vector():
            if known.part not in CUT_BY_HEADS:
                return (known,)
            return (replace(known, elements=known.elements / tp, weights=known.weights / tp),)
        case Embedding():
            size_bytes = known.tokens * known.width * WIDE_BYTES
            summed = _collective("all_reduce", "tp", known.part, size_bytes, tp, name=f"{known.name}_sum")
            return (replace(known, vocab=known.vocab / tp), summed)
        case Convolution():
            depthwise = np.asarray(known.groups) > 1
            return (
                replace(
                    known,
                    out_channels=known.out_channels / tp,
                    in_channels=np.where(depthwise, known.in_channels / tp, known.in_channels),
                    groups=np.where(depthwise, known.groups / tp, known.groups),
                ),
            )
        case Fft() | Collective() | Copy():
            return (known,)
        case _:
            assert_never(known)


def _cut_experts(op: Experts, plan: Plan) -> tuple[Op, ...]:
    """Cut routed experts, and bring tokens to them and back.

    Without attention data parallelism every rank of the stage holds all tokens, so results are only summed. With it,
    each rank sends its tokens to the ranks of their experts and receives the results (dispatch and combine).
    """
    ep, moe_tp = plan.expert_degrees()
    dp, stage = np.asarray(plan.dp, float), np.asarray(plan.stage_chips, float)
    rank = replace(op, tokens=op.tokens * dp, ep=op.ep * ep, tp=op.tp * moe_tp)
    result: list[Op] = []
    shared = dp <= 1.0
    if np.any(~shared):
        wire = _wire_bytes(op.scheme)
        copies = stage * (1.0 - (1.0 - 1.0 / stage) ** np.asarray(op.topk, float))
        sent = np.where(shared, 0.0, op.tokens / plan.tp * op.hidden * copies)
        result.append(_collective("alltoall", "ep", op.part, sent * wire, stage, name="dispatch"))
        result.append(rank)
        result.append(_collective("alltoall", "ep", op.part, sent * WIDE_BYTES, stage, name="combine"))
        if _exceeds_one(plan.tp):
            whole = np.where(shared, 0.0, op.tokens * op.hidden * WIDE_BYTES)
            result.append(_collective("all_gather", "tp", op.part, whole, plan.tp, name="gather_tokens"))
    else:
        result.append(rank)
    if np.any(shared) and _exceeds_one(stage):
        summed = np.where(shared, op.tokens * op.hidden * WIDE_BYTES, 0.0)
        result.append(_collective("all_reduce", "tp", op.part, summed, stage, name="sum_experts"))
    return tuple(result)


def _wire_bytes(scheme: Scheme) -> float:
    """Tokens are dispatched in the format in which experts take them where that is fp8, else in 16 bits."""
    return scheme.activation.element_bytes if scheme.quantises else WIDE_BYTES


def _collective(kind: str, axis: str, part: str, size_bytes: Dim, ranks: Dim, *, name: str) -> Collective:
    return Collective(name=name, part=part, kind=kind, message_bytes=size_bytes, ranks=ranks, axis=axis)


def _boundary_bytes(graph: Graph) -> Dim:
    """Activations of one step at a layer boundary: the widest row-parallel output (m x hidden) in 16 bits."""
    for op, _ in graph.walk():
        if isinstance(op, Matmul) and op.shard == "row":
            return op.m * op.n * WIDE_BYTES
    return 0.0


def _ops(graph: Graph) -> list[Op]:
    return [item for item in graph.items if not isinstance(item, Repeat)]


def _exceeds_one(degree: Dim) -> bool:
    return bool(np.any(np.asarray(degree) > 1))
