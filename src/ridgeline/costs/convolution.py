"""Convolutions as implicit matmuls: m = batch x output positions, n = output channels, k = taps x input channels.

The menu of output tiles quantises m and n and decides how many compute units have work; input, weights and output move
once each (overlapping windows hit caches). Groups with few channels, depthwise above all, run on the vector engine
and are bound by bytes. No Winograd: half-precision libraries do not choose it. Sources: cuDNN developer guide; arXiv
1410.0759.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.price import Price, Setting, pnorm, work, zero_where_empty
from ridgeline.costs.room import Numbers
from ridgeline.costs.vector import start_s, stream_floor_s, stream_s, vector_peak
from ridgeline.hardware.chip import ChipColumns, Value
from ridgeline.workloads.ops import Convolution

Array = NDArray[np.float64]

TILES = ((256.0, 128.0), (128.0, 128.0), (128.0, 64.0), (64.0, 64.0), (128.0, 32.0), (64.0, 32.0))
"""Output tiles (positions, channels) of the kernels that libraries hold."""

FULL_TILE = 64.0
"""mn/(m+n) of a 128 x 128 tile, from which on shared memory feeds the matrix engine at full rate."""

SHARP = 4.0
"""Exponent of the smooth maximum of arithmetic and bytes."""


def price_convolution(op: Convolution, chips: ChipColumns, setting: Setting) -> Price:
    """Price a convolution; all dimensions broadcast, `groups` too."""
    c = Coefficients("convolution", "implicit_matmul", chips)
    flops, reads, writes = work(op)
    shallow = np.asarray(op.in_channels) / op.groups < np.asarray(c["shallow_channels"])
    # A first layer has few channels too, but one group: it pads them and stays on the matrix engine.
    shallow = shallow & (np.asarray(op.groups) > 1.0)
    moved = np.asarray(reads) + writes
    slower = np.asarray(c["memory_efficiency"]) / np.asarray(c["depthwise_memory_efficiency"])
    by_vector = np.asarray(flops) / (vector_peak(chips) * np.asarray(c["vector_efficiency"]))
    terms: dict[str, Value] = {
        "compute": np.where(shallow, by_vector, _matrix_s(op, chips, c)),
        "memory": stream_s(moved, chips, c) * np.where(shallow, slower, 1.0),
        "launch": start_s(chips, c),
    }
    peak = chips.gather(lambda chip: chip.peak_flops_per_s(op.compute))
    floor = np.maximum(np.asarray(flops) / peak, stream_floor_s(moved, chips))
    time = np.asarray(terms["launch"]) + pnorm(SHARP, terms["compute"], terms["memory"])
    ideal = setting.runtime == "ideal"
    price = Price(
        time_s=floor if ideal else np.maximum(time, floor),
        floor_s=floor,
        flops=flops,
        read_bytes=reads,
        write_bytes=writes,
        terms=terms,
        calibrated=c.calibrated,
        kernel="ideal" if ideal else "implicit_matmul",
    )
    return zero_where_empty(price, np.asarray(op.batch) * op.out_positions * op.out_channels)


def _matrix_s(op: Convolution, chips: ChipColumns, c: Numbers) -> Array:
    """The fastest tile of the menu: rounded-up work over the compute units that have tiles, waves counted whole."""
    pad = np.asarray(c["channel_pad"])
    rows = np.asarray(op.batch, dtype=np.float64) * op.out_positions
    columns = np.asarray(op.out_channels, dtype=np.float64) / op.groups
    depth = np.asarray(op.kernel) * np.ceil(np.asarray(op.in_channels, dtype=np.float64) / op.groups / pad) * pad
    units = chips.gather(lambda chip: chip.compute_units)
    rate = chips.gather(lambda chip: chip.peak_flops_per_s(op.compute)) * np.asarray(c["matrix_efficiency"]) / units
    best: Array | None = None
    for tall, wide in TILES:
        tiles = np.ceil(rows / tall) * np.ceil(columns / wide) * op.groups
        feed = min(1.0, tall * wide / (tall + wide) / FULL_TILE) ** 0.5
        split = np.clip(np.floor(units / np.maximum(tiles, 1.0)), 1.0, np.asarray(c["split_limit"]))
        waves = np.maximum(np.ceil(tiles * split / units), 1.0)
        seconds = waves * 2.0 * tall * wide * depth / split / (rate * feed)
        best = seconds if best is None else np.minimum(best, seconds)
    assert best is not None, "the menu has tiles"
    return best
