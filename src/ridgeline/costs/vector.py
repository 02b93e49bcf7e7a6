"""Kernels that stream through memory: elementwise work and row-wise norms, embedding look-ups, Fourier transforms.

Each kernel starts (a number of cycles), then moves its bytes: from the last-level cache what fits there, since in a
step the kernel before has just written it, from memory the rest. Arithmetic hides behind the bytes or bounds them.
Runtimes for serving fuse (one kernel per op); eager code runs several, each a pass and a launch of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.price import Price, Setting, pnorm, work, zero_where_empty
from ridgeline.costs.room import Numbers
from ridgeline.hardware.chip import Chip, ChipColumns, Value
from ridgeline.workloads.ops import Embedding, Fft, Op, Vector

Array = NDArray[np.float64]

EAGER_RUNTIMES = frozenset({"torch", "huggingface", "deepspeed"})
"""Runtimes that run model code operator by operator; all others fuse."""

UNFUSED_KINDS = frozenset({"norm", "qk_norm", "rope", "softmax"})
"""Kinds that eager code writes as several operators; an activation or a sum is one kernel everywhere."""

SHARP = 4.0
"""Exponent of the smooth maximum of arithmetic and bytes, and of the turn from cache to memory."""


def price_vector(op: Vector, chips: ChipColumns, setting: Setting) -> Price:
    """Price elementwise and row-wise work; all dimensions broadcast."""
    kernel = _family(setting)
    c = Coefficients("vector", kernel, chips)
    several = op.kind in UNFUSED_KINDS
    kernels, passes = (c["kernels"], c["passes"]) if several else (1.0, 1.0)
    if setting.own is not None:
        kernels, passes = np.asarray(kernels) * setting.own.kernels, np.asarray(passes) * setting.own.passes
    _, reads, writes = work(op)
    moved = (np.asarray(reads) + writes) * passes
    flops = np.asarray(op.flops())
    compute = flops / (vector_peak(chips) * np.asarray(c["vector_efficiency"]))
    stream = stream_s(moved, chips, c)
    return _price(op, chips, setting, kernel, c, kernels, {"memory": stream, "compute": compute}, op.elements)


def price_embedding(op: Embedding, chips: ChipColumns, setting: Setting) -> Price:
    """Price gathered rows: each comes from memory once, at random addresses, and is written once."""
    kernel = _family(setting)
    c = Coefficients("vector", kernel, chips)
    _, reads, writes = work(op)
    gathered = np.asarray(reads) / (_dram(chips) * np.asarray(c["gather_efficiency"])) + stream_s(writes, chips, c)
    return _price(op, chips, setting, kernel, c, 1.0, {"memory": gathered}, op.tokens)


def price_fft(op: Fft, chips: ChipColumns, setting: Setting) -> Price:
    """Price batched transforms: one pass over memory per factor that fits the shared memory of a compute unit.

    Source: the four-step transform, Bailey, J. Supercomputing 1990.
    """
    kernel = _family(setting)
    c = Coefficients("vector", kernel, chips)
    _, reads, writes = work(op)
    points = np.maximum(np.asarray(op.length, dtype=np.float64), 2.0)
    passes = np.ceil(np.log2(points) / np.log2(np.asarray(c["transform_points"])) - 1e-9)
    stream = passes * stream_s(np.asarray(reads) + writes, chips, c)
    compute = np.asarray(op.flops()) / (vector_peak(chips) * np.asarray(c["vector_efficiency"]))
    terms = {"memory": stream, "compute": compute}
    return _price(op, chips, setting, kernel, c, passes, terms, np.asarray(op.batch) * op.length)


def stream_s(moved: Value, chips: ChipColumns, c: Numbers) -> Array:
    """Seconds to move bytes that the kernel before has touched: cache rate while they fit, memory rate beyond."""
    moved = np.asarray(moved, dtype=np.float64)
    memory = moved / (_dram(chips) * np.asarray(c["memory_efficiency"]))
    cache = moved / (chips.gather(_cache_bandwidth) * np.asarray(c["cache_efficiency"]))
    return np.asarray(_blend(moved, chips, np.asarray(c["cache_share"]), np.minimum(cache, memory), memory))


def stream_floor_s(moved: Value, chips: ChipColumns) -> Array:
    """The bound of the same bytes at full rates, with the whole last-level cache to hold them."""
    moved = np.asarray(moved, dtype=np.float64)
    memory, cache = moved / _dram(chips), moved / chips.gather(_cache_bandwidth)
    return np.minimum(
        np.maximum(moved - chips.gather(lambda chip: chip.cache_bytes), 0.0) / _dram(chips) + cache, memory
    )


def start_s(chips: ChipColumns, c: Numbers, kernels: Value = 1.0) -> Array:
    """Seconds that `kernels` launches from a device graph take before and after they stream."""
    start: Array = np.asarray(kernels) * np.asarray(c["start_cycles"]) / chips.gather(lambda chip: chip.clock_hz)
    return start


def vector_peak(chips: ChipColumns) -> Value:
    """`Chip.plain_flops_per_s` of every row."""
    return chips.gather(lambda chip: chip.plain_flops_per_s)


def _family(setting: Setting) -> str:
    return "eager" if setting.runtime in EAGER_RUNTIMES else "fused"


def _price(
    op: Op,
    chips: ChipColumns,
    setting: Setting,
    kernel: str,
    c: Coefficients,
    kernels: Value,
    terms: Mapping[str, Value],
    size: Value,
) -> Price:
    flops, reads, writes = work(op)
    floor = np.maximum(np.asarray(flops) / vector_peak(chips), stream_floor_s(np.asarray(reads) + writes, chips))
    all_terms: dict[str, Value] = dict(terms)
    if setting.runtime == "ideal":
        time: Value = floor
    else:
        all_terms["launch"] = start_s(chips, c, kernels)
        time = all_terms["launch"] + np.asarray(pnorm(SHARP, *terms.values()))
        if not setting.captured:
            all_terms["host"] = np.asarray(kernels) * np.asarray(c["host_s"])
            time = pnorm(SHARP, time, all_terms["host"])
    price = Price(
        time_s=np.maximum(time, floor),
        floor_s=floor,
        flops=flops,
        read_bytes=reads,
        write_bytes=writes,
        terms=all_terms,
        calibrated=c.calibrated,
        kernel="ideal" if setting.runtime == "ideal" else kernel,
    )
    return zero_where_empty(price, size)


def _blend(moved: Array, chips: ChipColumns, share: Array, cache: Array, memory: Array) -> Array:
    """Cache rate below `share` of the last-level cache, memory rate far above; rises with every byte."""
    held = np.maximum(share * chips.gather(lambda chip: chip.cache_bytes), 1.0)
    cold = 1.0 / (1.0 + (held / np.maximum(moved, 1.0)) ** SHARP)
    blend: Array = cold * memory + (1.0 - cold) * cache
    return blend


def _dram(chips: ChipColumns) -> Value:
    return chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)


def _cache_bandwidth(chip: Chip) -> float:
    """Of the last-level cache; a chip without one streams from memory."""
    tier = chip.tier("l2")
    return tier.bandwidth_bytes_per_s if tier is not None else chip.dram.bandwidth_bytes_per_s
