"""Which graphs are legal: run between rewrites in tests, so that a bad plan or family fails where it arises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ridgeline.core.errors import SpecError
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

Sizes = dict[str, Dim]


def verify(graph: Graph) -> Graph:
    """The graph itself, if it is legal.

    Legal is: names are unique within a block and among blocks; counts are finite and not negative; sizes of work
    (tokens, sequences) are finite and not negative; sizes of weights are finite and positive; a token meets at most as
    many experts as there are; key heads divide query heads; new tokens are among the keys; windows reach at least one
    key.

    Raises:
        SpecError: the first rule that is broken, at `graph/block/op field`.
    """
    _graph(graph, graph.name)
    return graph


def _graph(graph: Graph, at: str) -> None:
    names: set[str] = set()
    for item in graph.items:
        name = item.graph.name if isinstance(item, Repeat) else item.name
        if not name:
            raise SpecError("an op or block has no name", at=at, got=type(item).__name__, fix="give it one")
        if name in names:
            raise SpecError(f"two items are called {name!r}", at=at, got=name, fix="names are unique within a block")
        names.add(name)
        if isinstance(item, Repeat):
            _check(item.count, f"{at}/{name} count", least=0.0)
            _graph(item.graph, f"{at}/{name}")
        else:
            _op(item, f"{at}/{name}")


def _op(op: Op, at: str) -> None:
    if not op.part:
        raise SpecError("an op belongs to no part of the model", at=at, got=op, fix="give it a part")
    work, weights = _sizes(op)
    for field, value in work.items():
        _check(value, f"{at} {field}", least=0.0)
    for field, value in weights.items():
        _check(value, f"{at} {field}", least=0.0, strict=True)
    for complaint, bad in _relations(op):
        if np.any(bad):
            raise SpecError(complaint, at=at, got=op, fix="check the sizes, or the rewrite that made them")
    for measure in (op.flops, op.weight_elements, op.weight_bytes):
        _check(measure(), f"{at} {measure.__name__}", least=0.0)
    for operand in op.operands():
        _check(operand.read_bytes, f"{at} {operand.role} read", least=0.0)
        _check(operand.write_bytes, f"{at} {operand.role} write", least=0.0)


def _sizes(op: Any) -> tuple[Sizes, Sizes]:
    """(sizes that may be zero, since a row may have no such work; sizes that are always positive)."""
    match op:
        case Matmul():
            return {"m": op.m, "kv_width": op.kv_width}, {"n": op.n, "k": op.k, "batch": op.batch}
        case Experts():
            return {"tokens": op.tokens}, _fields(op, "hidden", "inter", "topk", "experts", "tp", "ep")
        case Attention():
            work = _fields(op, "batch", "q_len", "kv_len", "v_head_dim", "window", "selected", "latent", "rope")
            return work, _fields(op, "heads", "kv_heads", "head_dim")
        case Vector():
            return {"elements": op.elements, "weights": op.weights, "reads": op.reads, "writes": op.writes}, {}
        case Embedding():
            return {"tokens": op.tokens, "vocab": op.vocab}, {"width": op.width}
        case Convolution():
            work = _fields(op, "batch", "in_positions", "out_positions")
            return work, _fields(op, "in_channels", "out_channels", "kernel", "groups")
        case Scan():
            return _fields(op, "batch", "q_len"), _fields(op, "heads", "head_dim", "state", "groups", "chunk")
        case Collective():
            return {"message_bytes": op.message_bytes}, {"ranks": op.ranks, "stride": op.stride}
        case Fft():
            return {"batch": op.batch, "length": op.length}, {}
        case Copy():
            return {"size_bytes": op.size_bytes}, {}
    return {}, {}


def _fields(op: Any, *names: str) -> Sizes:
    return {name: getattr(op, name) for name in names}


def _relations(op: Any) -> Iterator[tuple[str, Any]]:
    match op:
        case Experts():
            yield "a token meets more experts than there are", np.greater(op.topk, op.experts)
            yield "there are more expert ranks than experts", np.greater(op.ep, op.experts)
        case Attention():
            fraction = np.mod(op.heads, op.kv_heads)
            # Once key heads are replicated over ranks, a rank may hold a fraction of a group.
            grouped = np.greater(op.kv_heads, 1.0) & np.greater_equal(op.heads, op.kv_heads)
            yield "key heads do not divide query heads", grouped & (fraction > 1e-9)
            if op.causal and not op.cross:
                new = np.greater(op.batch, 0.0) & np.greater(op.q_len, op.kv_len)
                yield "there are more new tokens than keys", new
        case Matmul():
            yield "key and value columns exceed all columns", np.greater(op.kv_width, np.asarray(op.n) + 1e-6)
        case Convolution():
            uneven = np.mod(op.in_channels, op.groups) > 1e-9
            yield "groups do not divide the input channels", uneven


def _check(value: Dim, at: str, *, least: float, strict: bool = False) -> None:
    values = np.asarray(value, dtype=np.float64)
    good = np.isfinite(values) & ((values > least) if strict else (values >= least))
    if not np.all(good):
        bad = float(values[~good].flat[0]) if values.ndim else float(values)
        bound = "positive" if strict else "not negative"
        raise SpecError(f"a size is not finite and {bound}", at=at, got=bad, fix="check the rewrite that made it")
