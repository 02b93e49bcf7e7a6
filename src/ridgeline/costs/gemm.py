"""The price of a matmul: tiles over compute units, against memory traffic, after launch and activation quantisation.

time = launch + quantise + overlap(compute | operand feed | weight widening, memory | cache) + waves + split-K, where
the first group is the best candidate of the kernel family's tile menu. Constants travel as cycles and as shares of
datasheet rates, so that a chip of which only the datasheet is known is priced by its generation's numbers.

Known limit: libraries are not monotone in m (one more tile costs a wave); the tests state by how much prices step.
Sources: measured tables of four chips (docs/accuracy.md); roofline, CACM 2009; NVIDIA matrix multiplication guide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.coefficients import Coefficients, is_calibrated, merged
from ridgeline.costs.gemm_kernels import Kernel, is_foreign, kernel_of, lineage, loop_of
from ridgeline.costs.gemm_tiles import Menu, Task, evaluate, pick
from ridgeline.costs.price import Price, Setting, work, zero_where_empty
from ridgeline.costs.residual import Tables, factor_by, tables_of
from ridgeline.costs.room import units_of
from ridgeline.hardware.chip import Chip, ChipColumns, Value, spread
from ridgeline.workloads.ops import Matmul

Row = Mapping[str, Value]
"""Dimensions, facts and coefficients by name: a number, or one value per row."""

MICRO = 1e-6
CHUNK_ROWS = 16384
"""Rows priced at a time, so that the candidates' times stay in a core's cache."""
FEW_ROWS = 32.0
"""Below this many rows vLLM takes another block-scaled kernel (FlashInfer's instead of DeepGEMM's)."""
PARTIAL_BYTES = 8.0
"""A split-K partial sum is written and read once in fp32."""

DIMS = ("m", "n", "k", "batch")
SAME_RESIDUAL = {"fp16": "bf16"}
"""Formats that share the residual of another, which runs the same kernels at the same rate."""
RESULTS = ("time_s", "floor_s", "flops", "read_bytes", "write_bytes")
MACHINE = (
    "launch_cycles",
    "wave_cycles",
    "feed_bytes_per_flop",
    "dram_share",
    "write_share",
    "hot_share",
    "cache_bytes_per_cycle",
    "split_s",
    "dense_share",
    "joule_per_flop",
    "sustained_share",
)
"""Coefficients of a chip, whatever the kernel."""
KERNEL = (
    "compute_share",
    "small_tile",
    "fractional_waves",
    "edge",
    "step_cycles",
    "epilogue_cycles",
    "launch_s",
    "widen_cycles",
    "quantise_cycles",
    "quantise_launch_s",
    "quantise_row_s",
    "host_s",
    "host_few_rows_s",
    "host_odd_s",
)
"""Coefficients of a kernel family on a chip."""
CODED_SHARE = 0.88
"""Of the bandwidth of GDDR boards, where codes of inline error correction take the rest: 16-bit decode by llama.cpp
moves 0.86 to 0.90 of it on six boards without (RTX 4000, 5000, 6000 Ada, A6000, 3090, 4090) and 0.78 on L40S
(XiongjieDai/GPU-Benchmarks-on-LLM-Inference@aa72e0e, published/inference_llm.csv)."""
SIXTEEN_BITS = ("fp16", "bf16")
LOOP = ("weight_buffers", "fills_cache", "output_buffers")
"""How a runtime's benchmark loop was written, for `weights_cache: hot`."""


def price_matmul(op: Matmul, chips: ChipColumns, setting: Setting, menu: Menu | None = None) -> Price:
    """Price of one matmul, or of one per row.

    Args:
        op: dimensions are numbers or arrays that broadcast with the rows of `chips`.
        chips: chips of one kin.
        setting: runtime, cache state, duration and launch mode.
        menu: the tiles that were compiled, where they are not those of the runtime's library.
    Returns: a Price whose arrays have the broadcast shape.
    """
    kernel = kernel_of(op.scheme, setting.runtime, chips.chips[0])
    if menu is not None:
        kernel = replace(kernel, menu=menu)
    numbers = {
        **_coefficients("machine", MACHINE, chips),
        **_coefficients(kernel.name, KERNEL, chips),
        **_coefficients(loop_of(setting.runtime), LOOP, chips),
    }
    known = [is_calibrated("gemm", kernel.name, chip) for chip in chips.chips]
    calibrated: bool | NDArray[np.bool_] = known[0] if chips.index is None else spread(known, chips.index) > 0
    variant = SAME_RESIDUAL.get(op.scheme.name, op.scheme.name)
    tables = tables_of("gemm", kernel.name, variant, chips)
    return price_with(op, chips, setting, kernel, numbers, calibrated=calibrated, tables=tables)


def price_with(
    op: Matmul,
    chips: ChipColumns,
    setting: Setting,
    kernel: Kernel,
    numbers: Row,
    *,
    calibrated: bool | NDArray[np.bool_] = False,
    tables: Tables = (),
) -> Price:
    """`price_matmul` by a given kernel with given numbers: all of MACHINE, KERNEL and LOOP, scalars or one per row.

    `tables` multiply the physics by what measurements say beyond it.
    """
    shape = _shape(op, chips)
    row: dict[str, Value] = {}
    for name in DIMS:
        row[name] = np.ravel(np.broadcast_to(np.asarray(getattr(op, name), np.float64), shape))
    for name, value in {**_facts(op, chips, setting), **numbers}.items():
        row[name] = float(value) if np.ndim(value) == 0 else np.broadcast_to(value, shape).ravel()
    if tables and chips.index is not None:
        row["chip_index"] = np.ravel(np.broadcast_to(chips.index, shape))
    priced = _in_chunks(lambda part: _price_rows(op, setting, kernel, part, tables), row)
    named = {name: _shaped(values, shape) for name, values in priced.items()}
    price = Price(
        **{name: named.pop(name) for name in RESULTS},
        detail={name: named.pop(name) for name in ("tile_m", "tile_n", "splits", "waves")},
        terms=named,
        calibrated=calibrated,
        kernel="ideal" if setting.runtime == "ideal" else kernel.name,
    )
    return zero_where_empty(price, price.flops)


def _shaped(values: Value, shape: tuple[int, ...]) -> Value:
    if np.ndim(values) == 0:
        return float(values)
    flat = np.asarray(values)
    return flat.reshape(shape) if shape else float(flat[0])


def _price_rows(op: Matmul, setting: Setting, kernel: Kernel, row: Row, tables: Tables) -> dict[str, Value]:
    """Every field, term and detail of the price by name."""
    op = replace(op, m=row["m"], n=row["n"], k=row["k"], batch=row["batch"])
    flops, reads, writes = work(op)
    hot = setting.weights_cache == "hot"
    floor_s = _floor_s(flops, reads + writes, row, hot=hot)
    fields = {"floor_s": floor_s, "flops": flops, "read_bytes": reads, "write_bytes": writes}
    if setting.runtime == "ideal":
        ones = {name: np.ones_like(floor_s) for name in ("tile_m", "tile_n", "splits", "waves")}
        bounds = {"compute": flops / row["bound_flops_per_s"], "memory": floor_s}
        return {**fields, **ones, **bounds, "time_s": floor_s}
    memory_s, cache_s = _traffic_s(op, kernel, row, hot=hot)
    task = _task(op, setting, kernel, row, _smooth_max(memory_s, cache_s))
    choice = pick(task, kernel.menu)
    result = evaluate(task, choice)
    quantise_s = 0.0 if setting.fused else _quantise_s(kernel, row)
    launch_s = row["launch_cycles"] / row["clock_hz"] + row["launch_s"]
    time_s = launch_s + quantise_s + result.time_us * MICRO
    if tables:
        index = np.asarray(row["chip_index"]).astype(np.intp) if "chip_index" in row else None
        time_s = time_s * factor_by(tables, index, residual_dims(row))
    if not setting.captured:
        time_s = _smooth_max(time_s, _host_s(row))
    terms = {
        "compute": result.compute_us * MICRO,
        "memory": memory_s,
        "l2": np.maximum(result.feed_us * MICRO, cache_s),
        "dequantise": result.widen_us * MICRO,
        "launch": launch_s + result.wave_us * MICRO,
        "split_k": result.split_us * MICRO,
        "quantise": quantise_s,
        "host": 0.0 if setting.captured else _host_s(row),
    }
    detail = {"tile_m": choice.tile_m, "tile_n": choice.tile_n, "splits": choice.splits, "waves": result.waves}
    return {**fields, **detail, **terms, "time_s": np.maximum(time_s, floor_s)}


def _host_s(row: Row) -> Value:
    """What the host takes to launch an eager kernel; vLLM's block-scaled path has three kernels, chosen by shape."""
    if np.ndim(row["host_s"]) == 0 and row["host_s"] <= 0:
        return 0.0
    host = np.where(row["m"] < FEW_ROWS, row["host_few_rows_s"], row["host_s"])
    odd = (np.mod(row["k"], 128.0) > 0) | (np.mod(row["n"], 64.0) > 0)
    return np.where(odd, row["host_odd_s"], host)


def _in_chunks(price: Callable[[Row], dict[str, Value]], row: Row) -> dict[str, Value]:
    """`price` over slices of the rows, put together."""
    count = np.size(row["m"])
    if count <= CHUNK_ROWS:
        return price(row)
    out: dict[str, Value] = {}
    for start in range(0, count, CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        for name, values in price({n: v[part] if isinstance(v, np.ndarray) else v for n, v in row.items()}).items():
            if np.ndim(values) == 0:
                out[name] = values
                continue
            if start == 0:
                out[name] = np.empty(count, np.float64 if name in RESULTS else np.float32)
            column: Any = out[name]
            column[part] = values
    return out


def _coefficients(kernel: str, names: tuple[str, ...], chips: ChipColumns) -> dict[str, Value]:
    """The named coefficients of one family: floats where all chips agree, else one value per row."""
    found = [merged("gemm", kernel, chip.name, lineage(chip)) for chip in chips.chips]
    values: dict[str, Value] = {}
    for name in names:
        if any(name not in one for one in found):
            values[name] = Coefficients("gemm", kernel, chips)[name]  # raises, naming the chip
        else:
            values[name] = _per_row([float(one[name]) for one in found], chips)
    return values


def _per_row(values: list[float], chips: ChipColumns) -> Value:
    if chips.index is None or (np.ndim(values[0]) == 0 and all(value == values[0] for value in values)):
        return values[0]
    return spread(values, chips.index)


def _facts(op: Matmul, chips: ChipColumns, setting: Setting) -> dict[str, Value]:
    """What the price asks of the chips."""
    half = setting.own is not None and setting.own.half_accumulation and op.compute in SIXTEEN_BITS
    asked: Mapping[str, Callable[[Chip], float]] = {
        "units": units_of,
        "foreign": lambda chip: float(is_foreign(chip)),
        "tdp_w": lambda chip: chip.tdp_w,
        "clock_hz": lambda chip: chip.clock_hz,
        "fabric_hz": lambda chip: chip.fabric_hz,
        "bound_flops_per_s": lambda chip: chip.peak_flops_per_s(op.compute) * _half_speed(chip, half),
        "peak_flops_per_s": lambda chip: _peak(op.compute, chip) * _half_speed(chip, half),
        "peak_16bit_flops_per_s": lambda chip: chip.peak_flops_per_s("bf16"),
        "dram_bytes_per_s": lambda chip: chip.dram.bandwidth_bytes_per_s,
        "uncoded": _uncoded,
        "cache_bytes": lambda chip: chip.cache_bytes,
        "cache_bytes_per_s": _cache_bandwidth,
    }
    return {name: _per_row([ask(chip) for chip in chips.chips], chips) for name, ask in asked.items()}


def _peak(compute: str, chip: Chip) -> float:
    """Peak for a compute format; full fp32 is not lowered to tf32 unless the scheme says so."""
    if compute == "fp32" and "fp32" not in chip.matrix_flops_per_s and "fp32" in chip.vector_flops_per_s:
        return chip.vector_flops_per_s["fp32"]
    return chip.peak_flops_per_s(compute)


def _uncoded(chip: Chip) -> float:
    """Share of bandwidth that a graphics board without inline error correction reaches, over one with it.

    The measured board of that kind (L40S) has it, and its share is what others inherit (`lineage`).
    """
    plain = chip.vendor.casefold() == "nvidia" and chip.dram.technology.upper().startswith("GDDR")
    return 1.0 / CODED_SHARE if plain and not chip.dram.inline_ecc else 1.0


def _half_speed(chip: Chip, half: bool) -> float:
    """Rate of 16-bit sums over that of 32-bit ones: half of that of 8-bit products, whose sums are never slowed."""
    rates = chip.matrix_flops_per_s
    return max(rates["int8"] / 2.0 / rates["fp16"], 1.0) if half and "int8" in rates and "fp16" in rates else 1.0


def _cache_bandwidth(chip: Chip) -> float:
    """A chip without a last-level cache reads everything from memory."""
    tier = chip.tier("l2")
    rate: float = np.maximum(tier.bandwidth_bytes_per_s if tier else 0.0, chip.dram.bandwidth_bytes_per_s)
    return rate


def _feed_rate(row: Row) -> Value:
    """Bytes per second that all units take in: a share of the 16-bit rate, which tensor units were built to match."""
    built: Value = row["feed_bytes_per_flop"] * row["peak_16bit_flops_per_s"]
    return np.maximum(built, row["cache_bytes_per_s"]) if np.any(row["foreign"]) else built


def _cache_rate(row: Row) -> Value:
    """Bytes per second that all units draw from the last-level cache; its datasheet rate where none was measured."""
    drawn: Value = row["cache_bytes_per_cycle"] * row["units"] * row["fabric_hz"]
    return np.maximum(drawn, row["cache_bytes_per_s"]) if np.any(row["foreign"]) else drawn


def _shape(op: Matmul, chips: ChipColumns) -> tuple[int, ...]:
    """The shape of the answer: that of the dimensions and of the chips' rows, broadcast."""
    row_shape = () if chips.index is None else chips.index.shape
    return np.broadcast_shapes(row_shape, *(np.shape(getattr(op, name)) for name in DIMS))


def residual_dims(row: Row) -> list[NDArray[np.float64]]:
    """The axes of the residual tables: m over all batches, n and k."""
    return [np.asarray(axis) for axis in (row["m"] * row["batch"], row["n"], row["k"])]


def _floor_s(flops: Value, moved: Value, row: Row, *, hot: bool) -> Value:
    """Peak rate and bandwidth; in a hot loop, what the last-level cache can hold need not come from memory."""
    busy = flops / row["bound_flops_per_s"]
    if not hot:
        return np.maximum(busy, moved / row["dram_bytes_per_s"])
    kept = np.minimum(moved, row["cache_bytes"])
    floor: Value = np.maximum(busy, (moved - kept) / row["dram_bytes_per_s"])
    return np.maximum(floor, kept / row["cache_bytes_per_s"])


def _smooth_max(one: Value, other: Value) -> Value:
    """Smooth maximum of order 4, as between compute and traffic."""
    one2, other2 = np.square(one), np.square(other)
    smooth: Value = np.sqrt(np.sqrt(one2 * one2 + other2 * other2))
    return smooth


def _cold(held_bytes: Value, cache_bytes: Value) -> Value:
    """Share of a working set that comes from memory: near 0 below the cache's size, near 1 above it (16th power)."""
    if np.ndim(cache_bytes) == 0 and cache_bytes <= 0:
        return 1.0
    missed = np.minimum(held_bytes / np.maximum(cache_bytes, 1.0), 1e6)
    for _ in range(4):
        missed = missed * missed
    share: Value = missed / (1.0 + missed)
    return share


def _traffic_s(op: Matmul, kernel: Kernel, row: Row, *, hot: bool) -> tuple[Value, Value]:
    """Seconds of DRAM traffic and of last-level cache traffic."""
    a = row["batch"] * row["m"] * row["k"] * kernel.a_bytes
    b = row["batch"] * row["n"] * row["k"] * op.scheme.weight.element_bytes
    c = row["batch"] * row["m"] * row["n"] * op.out.element_bytes
    cache = row["cache_bytes"] * row["hot_share"]
    total = a + b + c
    together = _cold(total, cache)
    if not op.weights:
        b_cold = together
    elif hot:
        b_cold = _cold(_buffers(b, row) * b + a + c, cache)
    else:
        b_cold = 1.0
    c_cold = _cold(row["output_buffers"] * c + a + b, cache)
    dram = a * together + b * b_cold + c * c_cold / row["write_share"]
    return dram / (row["dram_bytes_per_s"] * row["dram_share"] * row["uncoded"]), total / _cache_rate(row)


def _buffers(weight_bytes: Value, row: Row) -> Value:
    """Weight buffers that a benchmark loop rotates: a number, or (`fills_cache`) no more than exceed the cache."""
    enough = np.maximum(np.ceil(row["cache_bytes"] / np.maximum(weight_bytes, 1.0)), 1.0)
    buffers: Value = np.where(
        np.asarray(row["fills_cache"]) > 0, np.minimum(row["weight_buffers"], enough), row["weight_buffers"]
    )
    return buffers


def _task(op: Matmul, setting: Setting, kernel: Kernel, row: Row, stream_s: Value) -> Task:
    share = row["compute_share"] * throttle(row, sustained=setting.sustained)
    cycle_us = 1.0 / (row["clock_hz"] * MICRO)
    return Task(
        m=row["m"],
        n=row["n"],
        k=row["k"],
        batch=row["batch"],
        units=row["units"],
        flop_us=row["units"] / (row["peak_flops_per_s"] * share * MICRO),
        feed_us=row["units"] / (_feed_rate(row) * MICRO),
        widen_us=row["widen_cycles"] * cycle_us if kernel.widens else 0.0,
        step_us=row["step_cycles"] * cycle_us,
        wave_us=row["wave_cycles"] * cycle_us,
        epilogue_us=row["epilogue_cycles"] * cycle_us,
        split_us=row["split_s"] / MICRO,
        reduce_us=PARTIAL_BYTES / (_cache_rate(row) * MICRO),
        stream_us=stream_s / MICRO,
        fractional=row["fractional_waves"],
        edge=row["edge"],
        small_tile=row["small_tile"],
        a_bytes=kernel.a_bytes,
        b_bytes=op.scheme.weight.element_bytes,
        k_step=128.0 / kernel.a_bytes,
    )


def throttle(row: Row, *, sustained: bool) -> Value:
    """Share of the rate that the power limit leaves: board power over what dense 16-bit work at full rate would draw.

    A loop of milliseconds may run above the limit; `sustained_share` is what a load of seconds keeps of that. Narrower
    formats do more work at about the same power, so that the 16-bit share holds for them too.
    """
    wanted_w = row["peak_16bit_flops_per_s"] * row["joule_per_flop"] * row["dense_share"]
    given_w = row["tdp_w"] * (row["sustained_share"] if sustained else 1.0)
    share: Value = np.minimum(1.0, given_w / np.maximum(wanted_w, 1e-9))
    return share


def _quantise_s(kernel: Kernel, row: Row) -> Value:
    """The kernel that converts activations: a launch, a cost per row, and cycles per element on every unit."""
    if not kernel.quantises:
        return 0.0
    per_element = row["quantise_cycles"] / (row["units"] * row["clock_hz"])
    return row["quantise_launch_s"] + row["batch"] * row["m"] * (row["quantise_row_s"] + row["k"] * per_element)


__all__ = ["KERNEL", "LOOP", "MACHINE", "price_matmul", "price_with", "residual_dims", "throttle"]
