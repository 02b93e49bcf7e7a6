"""How a training job is laid on chips: degrees, batches and switches as columns, completed and checked row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Problems, Rows
from ridgeline.training.schedules import DUALPIPE, ONE_F_ONE_B
from ridgeline.training.work import Work
from ridgeline.workloads.ops import Dim

Column = NDArray[np.float64]

CONTEXTS = ("ring", "all-to-all", "both")
"""How context parallelism exchanges: keys and values go round, or tokens change for heads, or heads inside nodes."""

RING, ALL_TO_ALL, BOTH = range(3)

OFFLOADS = ("none", "optimizer", "params", "nvme", "cxl")
"""What leaves device memory: nothing, optimizer state to the host, parameters too, or both to local drives, or to CXL
memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One training set-up per row; every field is a column (or a number for all rows).

    Attributes:
        chips: in total; tp x pp x dp x cp of them, experts spread over `ep` ranks of the tp x cp x dp group.
        seq, global_batch, micro_batch: tokens per sequence, sequences per step, sequences per rank and micro-batch.
        vp: virtual stages per pipeline rank (interleaving).
        zero: 0 nothing sharded over data parallelism, 1 optimizer state, 2 gradients too, 3 weights too (FSDP).
        redone_matmul, redone_attention, redone_vector: shares of the forward pass that are computed again.
        redone_layers: share of the layers that are computed again whole, from their input alone.
        sequence_parallel, flash, lora, captured: 0 or 1. `lora` trains adapters only: no weight gradients.
        offload: index into OFFLOADS.
        learning: share of the layers that learn, counted from the head: those before them have a forward pass only.
        base_bytes: of a frozen weight as it is kept: 2, or about half a byte in 4 bits (QLoRA).
        schedule: index into training.schedules.SCHEDULES; `context` into CONTEXTS.
        shard: ranks that share model state, 0: all of dp x cp (hierarchical partitioning: the groups are replicas).
        secondary: 1 where a second copy of the weights is sharded inside each innermost link domain (ZeRO++ hpZ).
        weight_wire_bytes, gradient_wire_bytes: per value on the wire; 0 for gradients: as the framework reduces.
        redone_free: 1 where the time of what is computed again is part of the stack's fitted share of peak.
    """

    chips: Dim
    seq: Dim
    global_batch: Dim
    micro_batch: Dim
    tp: Dim = 1.0
    pp: Dim = 1.0
    dp: Dim = 1.0
    cp: Dim = 1.0
    ep: Dim = 1.0
    vp: Dim = 1.0
    zero: Dim = 1.0
    redone_matmul: Dim = 0.0
    redone_attention: Dim = 0.0
    redone_vector: Dim = 0.0
    redone_layers: Dim = 0.0
    sequence_parallel: Dim = 1.0
    flash: Dim = 1.0
    lora: Dim = 0.0
    captured: Dim = 0.0
    offload: Dim = 0.0
    learning: Dim = 1.0
    base_bytes: Dim = 2.0
    schedule: Dim = 0.0
    context: Dim = 0.0
    shard: Dim = 0.0
    secondary: Dim = 0.0
    weight_wire_bytes: Dim = 2.0
    gradient_wire_bytes: Dim = 0.0
    redone_free: Dim = 0.0

    @property
    def micro_batches(self) -> Dim:
        """Micro-batches per rank and step."""
        return self.global_batch / (self.micro_batch * self.dp)

    def passes(self, backward: Dim) -> Dim:
        """Passes over all layers, when one that learns takes a forward pass and `backward` more."""
        return 1.0 + np.asarray(self.learning) * backward

    @property
    def matmul_passes(self) -> Dim:
        """Passes of matmuls: forward, gradients of inputs and of weights (not where only adapters learn), and again."""
        return self.passes(2.0 - np.asarray(self.lora) + self.redone_matmul)

    @property
    def learning_weights(self) -> Dim:
        """Share of the weights that have gradients and optimizer state."""
        return (1.0 - np.asarray(self.lora)) * self.learning

    @property
    def sharding_ranks(self) -> Dim:
        """Ranks that share the state of the dense weights: data and context parallelism together, or a part of it."""
        ranks = np.asarray(self.dp * self.cp, float)
        return np.where(np.asarray(self.shard) > 0, np.minimum(self.shard, ranks), ranks)

    @property
    def replicas(self) -> Dim:
        """Groups that hold the same shards."""
        return self.dp * self.cp / self.sharding_ranks

    @property
    def expert_sharding_ranks(self) -> Dim:
        """Ranks that share the state of one expert."""
        ranks = np.maximum(self.dp * self.cp * self.tp / np.asarray(self.ep, float), 1.0)
        return np.where(np.asarray(self.shard) > 0, np.minimum(self.shard, ranks), ranks)


def completed(layout: Layout) -> Layout:
    """The layout with what was left out (NaN): chips or dp from the others, one micro-batch per rank and stage."""
    block = np.asarray(layout.tp * layout.pp * layout.cp, float)
    chips = _or(layout.chips, block * _or(layout.dp, 1.0))
    dp = _or(layout.dp, chips / block)
    micro = _or(layout.micro_batch, 1.0)
    batch = _or(layout.global_batch, micro * dp * layout.pp)
    return replace(layout, chips=chips, dp=dp, micro_batch=micro, global_batch=batch)


def _or(value: Dim, other: Dim) -> Column:
    given = np.asarray(value, float)
    return np.where(np.isnan(given), other, given)


def check(layout: Layout, work: Work, problems: Problems, rows: Rows) -> None:
    """Flag the rows whose layout cannot be, each with the nearest one that can.

    Uneven pipeline stages are legal, as frameworks allow them: a stage may hold one layer more than another.
    """
    _check_counts(layout, problems, rows)
    columns = {name: _column(getattr(layout, name), rows) for name in ("chips", "tp", "pp", "dp", "cp", "ep", "vp")}
    chips, tp, pp, dp, cp, ep, vp = columns.values()

    def flag(bad: NDArray[np.bool_], message: str, values: Callable[[NDArray[np.bool_]], Sequence[Column]]) -> None:
        """Fill the message with the values of each bad row; nothing is worked out where all is well."""
        if not bad.any():
            return
        # Rows with equal values share a message: a table of a million rows has few distinct mistakes.
        distinct, which = np.unique(np.stack(values(bad)), axis=1, return_inverse=True)
        for i, row in enumerate(distinct.T.tolist()):
            text = message.format(*(f"{value:g}" for value in row))
            problems.flag(rows[bad][which.reshape(-1) == i], text)

    block = tp * pp * cp
    message = "tp x pp x cp = {} does not divide {} chips; take {} chips"
    flag(dp != np.round(dp), message, lambda b: (block[b], chips[b], np.ceil(chips[b] / block[b]) * block[b]))
    message = "tp x pp x dp x cp = {} but there are {} chips; with dp = {} it takes {}"

    def fixed(b: NDArray[np.bool_]) -> Column:
        return np.maximum(1.0, np.floor(chips[b] / block[b]))

    wrong = np.abs(block * dp - chips) > 0.01
    flag(wrong, message, lambda b: ((block * dp)[b], chips[b], fixed(b), fixed(b) * block[b]))
    for heads in work.query_heads:
        _check_divides("tp", tp, _column(heads, rows), "attention heads", flag)
    experts = _column(work.expert_count, rows)
    flag((ep > 1) & (experts == 0), "ep = {} but the model has no routed experts; use ep = 1", lambda b: (ep[b],))
    _check_divides("ep", np.where(experts > 0, ep, 1.0), np.maximum(experts, 1.0), "experts", flag)
    _check_divides("ep", ep, tp * cp * dp, "ranks of tp x cp x dp", flag)
    slots = _column(work.layers, rows) + 2.0
    message = "pp x vp = {} stages but only {} layers, embedding and head included; use at most vp = {}"
    flag(pp * vp > slots, message, lambda b: ((pp * vp)[b], slots[b], np.maximum(1.0, np.floor(slots[b] / pp[b]))))
    _check_divides("cp", cp, _column(layout.seq, rows), "tokens", flag)
    batch = _column(layout.global_batch, rows)
    step = _column(layout.micro_batch, rows) * dp
    message = "global_batch = {} is no multiple of micro_batch x dp = {}; nearest is {}"
    bad_batch = batch % step > 0
    flag(bad_batch, message, lambda b: (batch[b], step[b], np.maximum(1.0, np.round(batch[b] / step[b])) * step[b]))
    _check_ways(layout, work, rows, flag)


def _check_ways(layout: Layout, work: Work, rows: Rows, flag: Callable[..., None]) -> None:
    """What schedules, exchanges of context parallelism and groups of shards ask for."""
    names = ("tp", "pp", "dp", "cp", "vp", "schedule", "context", "shard")
    tp, pp, dp, cp, vp, schedule, context, shard = (_column(getattr(layout, name), rows) for name in names)
    message = "vp = {} but only the schedule 1f1b is interleaved; use vp = 1"
    flag((vp > 1) & (schedule != ONE_F_ONE_B), message, lambda b: (vp[b],))
    message = "dualpipe needs an even pp, not {}; nearest is {}"
    flag((schedule == DUALPIPE) & (pp > 1) & (pp % 2 > 0), message, lambda b: (pp[b], pp[b] - 1.0))
    for heads in work.query_heads:
        own = np.maximum(np.floor(_column(heads, rows) / tp), 1.0)
        exchanged = np.where(context == ALL_TO_ALL, cp, 1.0)
        _check_divides("cp with an all-to-all", exchanged, own, "heads of a tensor-parallel rank", flag)
    message = "layers that do not learn need pp = 1, not {}: they would be stages of their own"
    flag((_column(layout.learning, rows) < 1) & (pp > 1), message, lambda b: (pp[b],))
    _check_divides("shard", np.where(shard > 0, shard, 1.0), dp * cp, "ranks of dp x cp", flag)


def _check_divides(name: str, degree: Column, count: Column, what: str, flag: Callable[..., None]) -> None:
    message = f"{name} = {{}} does not divide {{}} {what}; nearest {name} is {{}}"
    flag(count % degree > 0, message, lambda b: (degree[b], count[b], _largest_divisor(count[b], degree[b])))


def _check_counts(layout: Layout, problems: Problems, rows: Rows) -> None:
    whole = ("chips", "tp", "pp", "cp", "ep", "vp", "dp", "seq", "global_batch", "micro_batch")
    for name in whole:
        value = _column(getattr(layout, name), rows)
        with np.errstate(invalid="ignore"):
            bad = ~(np.isfinite(value) & (value >= 1) & (value == np.floor(value)))
        if name == "dp":
            # A dp that was derived is no whole number where the product of degrees does not divide the chips.
            bad = ~(np.isfinite(value) & (value > 0))
        problems.flag(rows[bad], f"{name} must be a whole number >= 1")
    zero = _column(layout.zero, rows)
    problems.flag(rows[~np.isin(zero, (0.0, 1.0, 2.0, 3.0))], "zero must be 0, 1, 2 or 3")


def _column(value: Dim, rows: Rows) -> Column:
    return np.broadcast_to(np.asarray(value, float), rows.shape)


def _largest_divisor(count: Column, most: Column) -> Column:
    """The largest divisor of `count` that is at most `most`, per row (only a few distinct pairs exist in a table)."""
    pairs, inverse = np.unique(np.stack([count, most]), axis=1, return_inverse=True)
    found = [_divisor_below(int(n), int(m)) for n, m in pairs.T.tolist()]
    return np.array(found, dtype=np.float64)[inverse.reshape(-1)]


def _divisor_below(count: int, most: int) -> int:
    return next((d for d in range(min(count, most), 0, -1) if count % d == 0), 1)
