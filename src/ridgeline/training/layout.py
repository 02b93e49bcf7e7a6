"""How a training job is laid on chips: degrees, batches and switches as columns, completed and checked row by row."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Problems, Rows
from ridgeline.training.work import Work
from ridgeline.workloads.ops import Dim

Column = NDArray[np.float64]

OFFLOADS = ("none", "optimizer", "params", "nvme")
"""What leaves device memory: nothing, optimizer state to the host, parameters too, or both to local drives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One training set-up per row; every field is a column (or a number for all rows).

    Attributes:
        chips: in total; tp x pp x dp x cp of them, experts spread over `ep` ranks of the tp x cp x dp group.
        seq, global_batch, micro_batch: tokens per sequence, sequences per step, sequences per rank and micro-batch.
        vp: virtual stages per pipeline rank (interleaving).
        zero: 0 nothing sharded over data parallelism, 1 optimizer state, 2 gradients too, 3 weights too (FSDP).
        redone_matmul, redone_attention, redone_vector: shares of the forward pass that are computed again.
        sequence_parallel, flash, lora, captured: 0 or 1. `lora` trains adapters only: no weight gradients.
        offload: index into OFFLOADS.
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
    sequence_parallel: Dim = 1.0
    flash: Dim = 1.0
    lora: Dim = 0.0
    captured: Dim = 0.0
    offload: Dim = 0.0

    @property
    def micro_batches(self) -> Dim:
        """Micro-batches per rank and step."""
        return self.global_batch / (self.micro_batch * self.dp)

    @property
    def sharding_ranks(self) -> Dim:
        """Ranks that share the state of the dense weights: data and context parallelism together."""
        return self.dp * self.cp

    @property
    def expert_sharding_ranks(self) -> Dim:
        """Ranks that share the state of one expert."""
        return np.maximum(self.dp * self.cp * self.tp / self.ep, 1.0)


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

    def flag(bad: NDArray[np.bool_], message: str, *values: Column) -> None:
        where = np.zeros(problems.rows, dtype=bool)
        where[rows[bad]] = True
        position = {int(row): i for i, row in enumerate(rows)}
        problems.flag_each(where, lambda row: message.format(*(f"{value[position[row]]:g}" for value in values)))

    block = tp * pp * cp
    more = np.ceil(chips / block) * block
    flag(dp != np.round(dp), "tp x pp x cp = {} does not divide {} chips; take {} chips", block, chips, more)
    product = block * dp
    fixed = np.maximum(1.0, np.floor(chips / block))
    message = "tp x pp x dp x cp = {} but there are {} chips; dp = {} needs {} chips"
    flag(np.abs(product - chips) > 0.01, message, product, chips, fixed, fixed * block)
    for heads in work.query_heads:
        count = _column(heads, rows)
        legal = _largest_divisor(count, tp)
        flag(count % tp > 0, "tp = {} does not divide {} attention heads; nearest tp is {}", tp, count, legal)
    experts = _column(work.expert_count, rows)
    flag((ep > 1) & (experts == 0), "ep = {} but the model has no routed experts; use ep = 1", ep)
    legal = _largest_divisor(np.maximum(experts, 1.0), ep)
    flag((experts > 0) & (experts % ep > 0), "ep = {} does not divide {} experts; nearest ep is {}", ep, experts, legal)
    ranks = tp * cp * dp
    message = "ep = {} does not divide the {} ranks of tp x cp x dp; nearest ep is {}"
    flag(ranks % ep > 0, message, ep, ranks, _largest_divisor(ranks, ep))
    slots = _column(work.layers, rows) + 2.0
    message = "pp x vp = {} stages but only {} layers, embedding and head included; use at most vp = {}"
    flag(pp * vp > slots, message, pp * vp, slots, np.maximum(1.0, np.floor(slots / pp)))
    seq = _column(layout.seq, rows)
    flag(seq % cp > 0, "cp = {} does not divide {} tokens; nearest cp is {}", cp, seq, _largest_divisor(seq, cp))
    batch, micro = _column(layout.global_batch, rows), _column(layout.micro_batch, rows)
    step = micro * dp
    nearest = np.maximum(1.0, np.round(batch / step)) * step
    message = "global_batch = {} is no multiple of micro_batch x dp = {}; nearest is {}"
    flag(batch % step > 0, message, batch, step, nearest)


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
