"""The price of a matmul: tiles over compute units, against memory traffic, after launch and activation quantisation.

time = launch + quantise + overlap(compute | operand feed | weight widening, memory | cache) + waves + split-K, where
the first group is the best candidate of the kernel family's tile menu. Constants travel as cycles and as shares of
datasheet rates, so that a chip of which only the datasheet is known is priced by its generation's numbers.

Known limit: libraries are not monotone in m (one more tile costs a wave); the tests state by how much prices step.
Sources: measured tables of four chips (docs/accuracy.md); roofline, CACM 2009; NVIDIA matrix multiplication guide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.gemm_kernels import Kernel, kernel_of
from ridgeline.costs.gemm_tiles import Evaluated, Task, evaluate, pick
from ridgeline.costs.price import Price, Setting, hardware_floor_s, work, zero_where_empty
from ridgeline.hardware.chip import Chip, ChipColumns, Value
from ridgeline.workloads.ops import Matmul

MICRO = 1e-6
PARTIAL_BYTES = 8.0
"""A split-K partial sum is written and read once in fp32."""
CLIFF = 10.0
"""Steepness of the hit-to-miss transition of the last-level cache (sharp in the measured tables)."""


class Numbers(Protocol):
    """Coefficients by name: a scalar or one value per row."""

    def __getitem__(self, name: str) -> Value:
        """The coefficient of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the price asks of the chips: one number, or one per row."""

    units: Value
    clock_hz: Value
    peak_flops_per_s: Value
    peak_16bit_flops_per_s: Value
    dram_bytes_per_s: Value
    cache_bytes: Value


def price_matmul(op: Matmul, chips: ChipColumns, setting: Setting) -> Price:
    """Price of one matmul, or of one per row.

    Args:
        op: dimensions are numbers or arrays that broadcast with the rows of `chips`.
        chips: chips of one generation.
        setting: runtime, cache state, duration and launch mode.
    Returns: a Price whose arrays have the broadcast shape.
    """
    if setting.runtime == "ideal":
        return _ideal(op, chips, setting)
    kernel = kernel_of(op.scheme, setting.runtime, chips.chips[0])
    numbers = Coefficients("gemm", kernel.name, chips)
    return price_with(op, chips, setting, kernel, Coefficients("gemm", "machine", chips), numbers, numbers.calibrated)


def price_with(
    op: Matmul,
    chips: ChipColumns,
    setting: Setting,
    kernel: Kernel,
    machine: Numbers,
    numbers: Numbers,
    calibrated: bool | NDArray[np.bool_] = False,
) -> Price:
    """`price_matmul` with given coefficients: those of the chip (`machine`) and of the kernel family (`numbers`)."""
    floor_s = gemm_floor_s(op, chips, setting)
    shape = np.broadcast_shapes(np.shape(floor_s), np.shape(op.batch))
    flat = _flatten(shape)
    facts = _facts(op, chips, flat)
    dims = tuple(np.broadcast_to(np.asarray(d, float), shape).ravel() for d in (op.m, op.n, op.k, op.batch))
    machine, numbers = _Flat(machine, flat), _Flat(numbers, flat)
    memory_s, cache_s = _traffic_s(op, setting, kernel, facts, machine, numbers, dims)
    task = _task(op, setting, kernel, facts, machine, numbers, dims, (memory_s**4 + cache_s**4) ** 0.25)
    tile_m, tile_n, splits = pick(task, kernel.menu)
    result = evaluate(task, tile_m, tile_n, splits)
    terms = {
        "compute": result.compute_us * MICRO,
        "memory": memory_s,
        "l2": np.maximum(result.feed_us * MICRO, cache_s),
        "dequantise": result.widen_us * MICRO,
        "launch": machine["launch_cycles"] / facts.clock_hz + numbers["launch_s"] + result.wave_us * MICRO,
        "split_k": result.split_us * MICRO,
        "quantise": _quantise_s(kernel, facts, numbers, dims),
    }
    device_s = (
        machine["launch_cycles"] / facts.clock_hz + numbers["launch_s"] + result.time_us * MICRO + terms["quantise"]
    )
    time_s = device_s
    if not setting.captured:
        terms["host"] = numbers["host_s"]
        time_s = (device_s**4 + np.asarray(numbers["host_s"]) ** 4) ** 0.25
    flops, reads, writes = work(op)
    restore = _restore(shape)
    price = Price(
        time_s=np.maximum(restore(time_s), floor_s),
        floor_s=floor_s,
        flops=flops,
        read_bytes=reads,
        write_bytes=writes,
        terms={name: restore(term) for name, term in terms.items()},
        detail=_detail(result, tile_m, tile_n, splits, restore),
        calibrated=calibrated,
        kernel=kernel.name,
    )
    return zero_where_empty(price, flops)


def gemm_floor_s(op: Matmul, chips: ChipColumns, setting: Setting) -> Value:
    """Peak rate and bandwidth; in a hot loop, what the last-level cache can hold need not come from memory."""
    if setting.weights_cache == "cold":
        return hardware_floor_s(op, chips)
    flops, reads, writes = work(op)
    moved = np.asarray(reads + writes)
    kept = np.minimum(moved, chips.gather(_cache_bytes))
    peak = chips.gather(lambda chip: chip.peak_flops_per_s(op.compute))
    from_memory = (moved - kept) / chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
    floor: Value = np.maximum(np.maximum(flops / peak, from_memory), kept / chips.gather(_cache_bandwidth))
    return floor


def _cache_bytes(chip: Chip) -> float:
    tier = chip.tier("l2")
    return tier.capacity_bytes if tier else 0.0


def _cache_bandwidth(chip: Chip) -> float:
    tier = chip.tier("l2")
    return max(tier.bandwidth_bytes_per_s if tier else 0.0, chip.dram.bandwidth_bytes_per_s)


def _rate(compute: str) -> Callable[[Chip], float]:
    """Peak for a compute format; full fp32 is not lowered to tf32 unless the scheme says so."""

    def rate(chip: Chip) -> float:
        if compute == "fp32" and "fp32" not in chip.matrix_flops_per_s:
            return chip.vector_flops_per_s.get("fp32") or chip.peak_flops_per_s("fp32")
        return chip.peak_flops_per_s(compute)

    return rate


def _flatten(shape: tuple[int, ...]) -> Callable[[Value], Value]:
    """Values per row become one-dimensional; a number, or rows that all hold the same number, become a float."""

    def flat(value: Value) -> Value:
        if np.ndim(value) == 0:
            return float(value)
        values = np.asarray(value, float)
        first = values.flat[0] if values.size else 0.0
        if np.all(values == first):
            return float(first)
        return np.broadcast_to(values, shape).ravel()

    return flat


def _restore(shape: tuple[int, ...]) -> Callable[[Value], Value]:
    def restore(value: Value) -> Value:
        if np.ndim(value) == 0:
            return float(value)
        return np.asarray(value).reshape(shape) if shape else float(np.asarray(value)[0])

    return restore


class _Flat:
    """Coefficients whose rows match the flattened dimensions."""

    __slots__ = ("_flat", "_numbers")

    def __init__(self, numbers: Numbers, flat: Callable[[Value], Value]) -> None:
        self._numbers, self._flat = numbers, flat

    def __getitem__(self, name: str) -> Value:
        return self._flat(self._numbers[name])


def _facts(op: Matmul, chips: ChipColumns, flat: Callable[[Value], Value]) -> Facts:
    return Facts(
        units=flat(chips.gather(lambda chip: float(chip.compute_units))),
        clock_hz=flat(chips.gather(lambda chip: chip.clock_hz)),
        peak_flops_per_s=flat(chips.gather(_rate(op.compute))),
        peak_16bit_flops_per_s=flat(chips.gather(lambda chip: chip.peak_flops_per_s("bf16"))),
        dram_bytes_per_s=flat(chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)),
        cache_bytes=flat(chips.gather(_cache_bytes)),
    )


def _cold(held_bytes: Value, cache_bytes: Value) -> Value:
    """Share of a working set that comes from memory: near 0 below the cache's size, near 1 above it."""
    if np.ndim(cache_bytes) == 0 and cache_bytes <= 0:
        return 1.0
    ratio = np.minimum(held_bytes / np.maximum(cache_bytes, 1.0), 1e6)
    square = ratio * ratio
    missed = square * square
    missed = missed * missed * square
    share: Value = missed / (1.0 + missed)
    return share


def _traffic_s(
    op: Matmul,
    setting: Setting,
    kernel: Kernel,
    facts: Facts,
    machine: Numbers,
    numbers: Numbers,
    dims: tuple[Value, ...],
) -> tuple[Value, Value]:
    """Seconds of DRAM traffic and of last-level cache traffic."""
    m, n, k, batch = dims
    a, b = batch * m * k * kernel.a_bytes, batch * n * k * op.scheme.weight.element_bytes
    c = batch * m * n * op.out.element_bytes
    cache = facts.cache_bytes * machine["hot_share"]
    together = _cold(a + b + c, cache)
    if not op.weights:
        b_cold = together
    elif setting.weights_cache == "hot":
        b_cold = _cold(numbers["weight_buffers"] * b + a + c, cache)
    else:
        b_cold = 1.0
    c_cold = _cold(numbers["output_buffers"] * c + a + b, cache)
    dram = a * together + b * b_cold + c * c_cold / machine["write_share"]
    memory_s = dram / (facts.dram_bytes_per_s * machine["dram_share"])
    cache_s = (a + b + c) / (machine["cache_bytes_per_cycle"] * facts.units * facts.clock_hz)
    return memory_s, cache_s


def _task(
    op: Matmul,
    setting: Setting,
    kernel: Kernel,
    facts: Facts,
    machine: Numbers,
    numbers: Numbers,
    dims: tuple[Value, ...],
    stream_s: Value,
) -> Task:
    m, n, k, batch = dims
    share = numbers["compute_share"] * (machine["sustained_share"] if setting.sustained else 1.0)
    feed_bytes_per_s = machine["feed_bytes_per_flop"] * facts.peak_16bit_flops_per_s / facts.units
    cache_bytes_per_s = machine["cache_bytes_per_cycle"] * facts.units * facts.clock_hz
    return Task(
        m=m,
        n=n,
        k=k,
        batch=batch,
        units=facts.units,
        flop_us=facts.units / (facts.peak_flops_per_s * share) / MICRO,
        feed_us=1.0 / (feed_bytes_per_s * MICRO),
        widen_us=numbers["widen_cycles"] / facts.clock_hz / MICRO if kernel.widens else 0.0,
        wave_us=machine["wave_cycles"] / facts.clock_hz / MICRO,
        split_us=machine["split_s"] / MICRO,
        reduce_us=PARTIAL_BYTES / (cache_bytes_per_s * MICRO),
        stream_us=stream_s / MICRO,
        fractional=numbers["fractional_waves"],
        edge=numbers["edge"],
        small_tile=numbers["small_tile"],
        a_bytes=kernel.a_bytes,
        b_bytes=op.scheme.weight.element_bytes,
        k_step=128.0 / kernel.a_bytes,
    )


def _quantise_s(kernel: Kernel, facts: Facts, numbers: Numbers, dims: tuple[Value, ...]) -> Value:
    """The kernel that converts activations: a launch, a cost per row, and cycles per element on every unit."""
    if not kernel.quantises:
        return 0.0
    m, _, k, batch = dims
    per_element = numbers["quantise_cycles"] / (facts.units * facts.clock_hz)
    return numbers["quantise_launch_s"] + batch * m * (numbers["quantise_row_s"] + k * per_element)


def _detail(
    result: Evaluated, tile_m: Value, tile_n: Value, splits: Value, restore: Callable[[Value], Value]
) -> dict[str, Value]:
    return {
        "tile_m": restore(tile_m),
        "tile_n": restore(tile_n),
        "splits": restore(splits),
        "waves": restore(result.waves),
    }


def _ideal(op: Matmul, chips: ChipColumns, setting: Setting) -> Price:
    """The hardware bound itself, for `runtime: ideal`."""
    floor_s = gemm_floor_s(op, chips, setting)
    flops, reads, writes = work(op)
    peak = chips.gather(lambda chip: chip.peak_flops_per_s(op.compute))
    memory = (reads + writes) / chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
    price = Price(
        time_s=floor_s,
        floor_s=floor_s,
        flops=flops,
        read_bytes=reads,
        write_bytes=writes,
        terms={"compute": flops / peak, "memory": np.minimum(memory, floor_s)},
        kernel="ideal",
    )
    return zero_where_empty(price, flops)


__all__ = ["Facts", "gemm_floor_s", "price_matmul", "price_with"]
