"""What an engine's own kernels add to the price of the library kernels that stand in for them (`price.OwnKernels`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgeline.costs.price import Price, Setting
from ridgeline.hardware.chip import ChipColumns
from ridgeline.workloads.ops import Attention, Matmul, Op

STREAM_SHARE = 0.75
"""Of memory bandwidth, for passes over scores: that of other kernels which stream (`coefficients/vector.yaml`)."""


WIDE_BYTES = 2.0


def widened(op: Matmul, priced: Price, chips: ChipColumns, setting: Setting) -> Price:
    """The price with a pass that writes the weights in 16 bits; what the last-level cache holds of them stays there."""
    own = setting.own
    if own is None or own.widens_above <= 0 or not op.scheme.weight_only:
        return priced
    cache = np.asarray(chips.gather(lambda chip: chip.cache_bytes))
    wide = np.asarray(op.weight_elements(), float) * WIDE_BYTES
    moved = np.asarray(op.weight_bytes(), float) + np.maximum(wide - cache, 0.0)
    bandwidth = np.asarray(chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s))
    widen_s = np.where(np.asarray(op.m) > own.widens_above, moved / bandwidth, 0.0)
    return replace(priced, time_s=priced.time_s + widen_s, terms={**priced.terms, "widen": widen_s})


def streamed(op: Op, priced: Price, chips: ChipColumns, setting: Setting) -> Price:
    """The price where each compute unit takes weights in no faster than the engine's own kernels do."""
    own = setting.own
    if own is None or own.unit_weight_rate <= 0:
        return priced
    cycles = chips.gather(lambda chip: chip.compute_units * chip.clock_hz)
    weights = sum((np.asarray(o.read_bytes) for o in op.operands() if o.role == "weights"), start=np.float64(0.0))
    stream_s = weights / (own.unit_weight_rate * np.asarray(cycles))
    terms = {**priced.terms, "stream": stream_s}
    return replace(priced, time_s=np.maximum(priced.time_s, stream_s), terms=terms)


def scored(op: Attention, priced: Price, chips: ChipColumns, setting: Setting) -> Price:
    """The price where every score is written and read: masked ones too, since the kernels do not know the mask."""
    own = setting.own
    if own is None or own.score_bytes <= 0:
        return priced
    bandwidth = chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
    scores = np.asarray(op.batch, float) * op.heads * op.q_len * op.kv_len
    scores_s = scores * own.score_bytes / (np.asarray(bandwidth) * STREAM_SHARE)
    return replace(priced, time_s=priced.time_s + scores_s, terms={**priced.terms, "scores": scores_s})
