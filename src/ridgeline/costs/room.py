"""What the attention and expert rooms share: facts as columns, the floor, rows priced by the kernel they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.gemm_kernels import is_foreign
from ridgeline.costs.price import Price, Setting, work
from ridgeline.costs.residual import factor, tables
from ridgeline.hardware.chip import Chip, ChipColumns, Value
from ridgeline.workloads.ops import Op

Dims = TypeVar("Dims")

MANY = 64
"""More kernels than any menu has."""

UNIT_FLOPS_PER_CYCLE = 4096.0
"""16-bit FLOPs per cycle of the unit that kernels are cut for (a Hopper SM)."""

CHUNK = 16_384
"""Rows priced at once: an intermediate column of them takes 128 KiB."""


class Numbers(Protocol):
    """Coefficients by name: `Coefficients`, or the dict of a fit in progress."""

    def __getitem__(self, name: str) -> Value:
        """The value for each row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a kernel meets: peak of one compute dtype, memory bandwidth, last-level cache, compute units, and clocks.

    `plain_flops_per_s` is the rate of vector instructions where kernels may do without matrix tiles, else 0: those of
    chips that were measured are known to use tiles.
    """

    peak_flops_per_s: Value
    plain_flops_per_s: Value
    bandwidth_bytes_per_s: Value
    cache_bytes: Value
    units: Value
    clock_hz: Value
    fabric_hz: Value


def units_of(chip: Chip) -> float:
    """Compute units of the size that kernels are cut for: another maker's large unit (a TPU core) counts for more."""
    of_a_size = chip.peak_flops_per_s("bf16") / (chip.clock_hz * UNIT_FLOPS_PER_CYCLE)
    units: float = np.maximum(chip.compute_units, np.ceil(of_a_size) if is_foreign(chip) else 1.0)
    return units


def facts_of(chips: ChipColumns, compute: str) -> Facts:
    """Facts of every row; a chip without a last-level cache has one of 0 bytes."""

    def plain(chip: Chip) -> float:
        return chip.plain_flops_per_s if is_foreign(chip) or not chip.matrix_flops_per_s else 0.0

    return Facts(
        peak_flops_per_s=chips.gather(lambda chip: chip.peak_flops_per_s(compute)),
        plain_flops_per_s=chips.gather(plain),
        bandwidth_bytes_per_s=chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s),
        cache_bytes=chips.gather(lambda chip: chip.cache_bytes),
        units=chips.gather(units_of),
        clock_hz=chips.gather(lambda chip: chip.clock_hz),
        fabric_hz=chips.gather(lambda chip: chip.fabric_hz),
    )


def two_level(moved: Value, facts: Facts, c: Numbers, resident: bool) -> dict[str, Value]:
    """Seconds of bytes beyond what the last-level cache keeps at memory rate, and of all bytes at cache rate.

    The cache rate is a number of bytes per clock and compute unit, which carries over between chips better than a share
    of memory bandwidth. Nothing is kept unless it may be `resident`.
    """
    kept = np.asarray(c["cache_share"]) * facts.cache_bytes if resident else 0.0
    rate = np.asarray(c["cache_bytes_per_clock"]) * facts.units * facts.fabric_hz
    return {
        "memory": np.maximum(moved - kept, 0.0) / (facts.bandwidth_bytes_per_s * np.asarray(c["memory_share"])),
        "l2": np.asarray(moved) / rate,
    }


def floor_of(op: Op, facts: Facts, setting: Setting) -> Value:
    """Seconds below which no kernel can be: peak arithmetic, and bytes at memory rate.

    In a benchmark loop (`hot`) the bytes that fit the last-level cache need not move.
    """
    return _floor(work(op), facts, setting)


def _floor(done: tuple[Value, Value, Value], facts: Facts, setting: Setting) -> Value:
    flops, reads, writes = done
    moved = np.asarray(reads) + writes
    if setting.weights_cache == "hot":
        moved = np.maximum(moved - facts.cache_bytes, 0.0)
    floor: Value = np.maximum(flops / facts.peak_flops_per_s, moved / facts.bandwidth_bytes_per_s)
    return floor


def priced(
    op: Op, total: Value, facts: Facts, setting: Setting, terms: dict[str, Value], c: Coefficients, kernel: str
) -> Price:
    """The price of a kernel whose terms are known; the floor holds whatever the coefficients say."""
    done = work(op)
    floor = _floor(done, facts, setting)
    flops, reads, writes = done
    return Price(
        time_s=np.maximum(total, floor),
        floor_s=floor,
        flops=flops,
        read_bytes=reads,
        write_bytes=writes,
        terms=terms,
        calibrated=c.calibrated,
        kernel=kernel,
    )


def ideal(op: Op, chips: ChipColumns, setting: Setting) -> Price:
    """The hardware floor as a price."""
    facts = facts_of(chips, op.compute)
    flops, reads, writes = work(op)
    floor = floor_of(op, facts, setting)
    terms: dict[str, Value] = {
        "compute": np.asarray(flops) / facts.peak_flops_per_s,
        "memory": (np.asarray(reads) + writes) / facts.bandwidth_bytes_per_s,
    }
    return Price(
        time_s=floor, floor_s=floor, flops=flops, read_bytes=reads, write_bytes=writes, terms=terms, kernel="ideal"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Rows (one-dimensional) that share a variant of a residual table, and all rows' sizes along the table's axes.

    `strength` in [0, 1] says how much of the correction holds for a row that is only partly like the measured ones.
    """

    variant: str
    rows: NDArray[np.bool_]
    dims: tuple[NDArray[np.float64], ...]
    strength: NDArray[np.float64] | float = 1.0


def corrected(
    kind: str, kernel: str, chips: ChipColumns, seconds: Value, places: Callable[[], Sequence[Place]]
) -> Value:
    """Seconds times what measurements of these very chips say beyond the physics (1 where there are none)."""
    prefixes = tuple(f"{chip.name}|{kernel}|" for chip in chips.chips)
    if not any(key.startswith(prefixes) for key in tables(kind)):
        return seconds
    shape = np.shape(seconds)
    whole = np.array(seconds, np.float64).ravel()
    index = None if chips.index is None else np.broadcast_to(chips.index, shape).ravel()
    for place in places():
        rows = np.broadcast_to(place.rows, whole.shape)
        if np.any(rows):
            mine = chips if index is None else ChipColumns(chips.chips, index[rows])
            dims = [np.broadcast_to(dim, whole.shape)[rows] for dim in place.dims]
            found = factor(kind, kernel, place.variant, mine, dims)
            if np.ndim(place.strength):
                found = found ** np.broadcast_to(place.strength, whole.shape)[rows]
            whole[rows] *= found
    return whole.reshape(shape)


def columns(*dims: Value) -> tuple[NDArray[np.float64], ...]:
    """Dims as one-dimensional arrays of one length."""
    return tuple(
        np.ascontiguousarray(dim).ravel() for dim in np.broadcast_arrays(*(np.asarray(d, float) for d in dims))
    )


def rows_of(op: Dims, chips: ChipColumns, rows: NDArray[np.bool_]) -> tuple[Dims, ChipColumns]:
    """The op (any dataclass of dims) and chips of the chosen rows; dims that are not arrays stay as they are."""
    taken: dict[str, object] = {}
    for field in fields(op):  # type: ignore[arg-type]
        value = getattr(op, field.name)
        if isinstance(value, np.ndarray) and value.ndim:
            taken[field.name] = np.broadcast_to(value, rows.shape)[rows]
    index = None if chips.index is None else np.broadcast_to(chips.index, rows.shape)[rows]
    return replace(op, **taken), ChipColumns(chips.chips, index)  # type: ignore[type-var]


def in_chunks(op: Dims, chips: ChipColumns, price: Callable[[Dims, ChipColumns], Price]) -> Price:
    """Price many rows a chunk at a time, so that intermediate columns stay in the processor's cache."""
    sizes = {value.shape for field in fields(op) if np.ndim(value := getattr(op, field.name))}  # type: ignore[arg-type]
    if chips.index is not None:
        sizes.add(chips.index.shape)
    if len(sizes) != 1 or len(shape := next(iter(sizes))) != 1 or shape[0] <= CHUNK:
        return price(op, chips)
    parts = []
    for start in range(0, shape[0], CHUNK):
        rows = slice(start, start + CHUNK)
        taken = {
            field.name: value[rows]
            for field in fields(op)  # type: ignore[arg-type]
            if np.ndim(value := getattr(op, field.name))
        }
        index = None if chips.index is None else chips.index[rows]
        parts.append((rows, price(replace(op, **taken), ChipColumns(chips.chips, index))))  # type: ignore[type-var]
    return _assemble(parts, shape)


def price_by_kernel(
    op: Dims,
    chips: ChipColumns,
    codes: NDArray[np.intp],
    price: Callable[[Dims, ChipColumns, int], Price],
) -> Price:
    """Price each row by its kernel: `codes` (0-d, or one per row) go to `price`, results are put back in row order."""
    first, last = int(codes.min(initial=MANY)), int(codes.max(initial=0))
    if first >= last:
        return price(op, chips, last)
    parts = []
    for code in np.unique(codes):
        rows = codes == code
        taken_op, taken_chips = rows_of(op, chips, rows)
        parts.append((rows, price(taken_op, taken_chips, int(code))))
    return _assemble(parts, codes.shape)


def fastest(prices: tuple[Price, ...]) -> Price:
    """Per row the fastest of several kernels that might run."""
    best = prices[0]
    for other in prices[1:]:
        wins = np.asarray(other.time_s) < np.asarray(best.time_s)
        best = _choose(wins, other, best)
    return best


def _choose(wins: NDArray[np.bool_], new: Price, old: Price) -> Price:
    def pick(a: Mapping[str, Value], b: Mapping[str, Value]) -> dict[str, Value]:
        names = [*b, *(name for name in a if name not in b)]
        return {name: np.where(wins, a.get(name, 0.0), b.get(name, 0.0)) for name in names}

    return replace(
        old,
        time_s=np.where(wins, new.time_s, old.time_s),
        floor_s=np.minimum(new.floor_s, old.floor_s),
        terms=pick(new.terms, old.terms),
        detail=pick(new.detail, old.detail),
        calibrated=np.where(wins, new.calibrated, old.calibrated),
        kernel=old.kernel if old.kernel == new.kernel or not np.any(wins) else _joined(old.kernel, new.kernel),
    )


def _assemble(parts: Sequence[tuple[NDArray[np.bool_] | slice, Price]], shape: tuple[int, ...]) -> Price:
    def column(value: Callable[[Price], Value]) -> NDArray[np.float64]:
        whole = np.empty(shape)
        for rows, part in parts:
            whole[rows] = value(part)
        return whole

    def table(of: Callable[[Price], Mapping[str, Value]]) -> dict[str, Value]:
        names = dict.fromkeys(name for _, part in parts for name in of(part))
        return {name: column(lambda part, name=name: of(part).get(name, 0.0)) for name in names}  # type: ignore[misc]

    kernel = parts[0][1].kernel
    for _, part in parts[1:]:
        kernel = _joined(kernel, part.kernel)
    return Price(
        time_s=column(lambda part: part.time_s),
        floor_s=column(lambda part: part.floor_s),
        flops=column(lambda part: part.flops),
        read_bytes=column(lambda part: part.read_bytes),
        write_bytes=column(lambda part: part.write_bytes),
        terms=table(lambda part: part.terms),
        detail=table(lambda part: part.detail),
        calibrated=column(lambda part: np.asarray(part.calibrated, float)) > 0,
        kernel=kernel,
    )


def _joined(first: str, second: str) -> str:
    names = dict.fromkeys([*first.split("+"), *second.split("+")])
    return "+".join(name for name in names if name)
