"""Tiles, waves and split-K: how a GEMM covers the compute units of a chip, and which candidate a library picks.

A library cuts C into tiles of `tile_m` x `tile_n`, cuts k into `splits`, and hands one piece at a time to each compute
unit; a round of pieces is a wave. `pick` evaluates every candidate of a menu for every row at once (menu on axis 0,
rows on axis 1, in float32: only the choice comes from it); `evaluate` then prices the chosen candidates in float64.
Times here are in microseconds, so that fourth powers stay within float32.

Sources: NVIDIA matrix multiplication guide (tile and wave quantisation); Stream-K, arXiv 2301.03598 (fractional waves);
best-over-mappings as in LLMCompass, ISCA 2024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.hardware.chip import Value

FULL_TILE = 128.0 * 256.0 / (128.0 + 256.0)
"""Intensity of the largest tile (multiply-accumulates per operand element it loads), where `small_tile` is free."""
MIN_SPLIT_K = 128.0
"""A piece of k shorter than this does not fill the pipeline of a tile."""
INDEX_BITS = 31
"""Low bits of a float32 time that carry the candidate's index while the minimum is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """The tiles a library has compiled, and for which m it uses each.

    Attributes:
        tile_m, tile_n: rows and columns of each tile; at most 16 tiles.
        m_above, m_upto: a tile is used for m_above < m <= m_upto (a library that chooses by m alone), or for any m.
        max_splits: most pieces of k, summed by a second kernel; 1: k is never split.
        split_tiles: how many of the tiles, from the first on, have a kernel that splits k.
    """

    tile_m: tuple[float, ...]
    tile_n: tuple[float, ...]
    max_splits: float = 1.0
    split_tiles: int = 0
    m_above: tuple[float, ...] = ()
    m_upto: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.tile_m)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One GEMM per row, and what each of its pieces costs on one compute unit; numbers or one value per row.

    Attributes:
        m, n, k, batch: dimensions.
        units: compute units.
        flop_us: microseconds per FLOP on one unit, with the largest tile.
        feed_us: per byte brought from the last-level cache to one unit.
        widen_us: per weight element widened on one unit (0: weights are multiplied as stored).
        step_us: least time of one step of `k_step` along k: a load and a multiply in sequence.
        wave_us: start and drain of one wave.
        epilogue_us: per element of a tile of C that is scaled, converted and written when its sum is complete.
        split_us, reduce_us: per split-K launch, and per element of one partial result.
        stream_us: the whole GEMM's traffic from memory and cache, which overlaps with compute.
        fractional: share of a partly filled last wave that is saved (0: waves are whole, 1: stream-K).
        edge: how much slower a partly filled tile row is than a full one.
        small_tile: exponent by which tiles of less intensity than the largest lose rate.
        a_bytes, b_bytes: per element of A and B as the engine reads them.
        k_step: k is padded to this.
    """

    m: Value
    n: Value
    k: Value
    batch: Value
    units: Value
    flop_us: Value
    feed_us: Value
    widen_us: Value
    step_us: Value
    wave_us: Value
    epilogue_us: Value
    split_us: Value
    reduce_us: Value
    stream_us: Value
    fractional: Value
    edge: Value
    small_tile: Value
    a_bytes: float
    b_bytes: float
    k_step: float

    def narrow(self) -> Task:
        """The same in float32."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays: dict[str, Any] = {n: v.astype(np.float32) for n, v in values.items() if isinstance(v, np.ndarray)}
        return replace(self, **arrays)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A candidate per row.

    Attributes:
        tile_m, tile_n, splits: its tile, and the pieces of k.
        rows, tiles: tiles along m, and over all of C and all batches.
        flops: FLOPs of one tile per unit of k, counted for longer where small tiles lose rate.
    """

    tile_m: Value
    tile_n: Value
    splits: Value
    rows: Value
    tiles: Value
    flops: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What one candidate costs: total and shares in microseconds, and how it covers the chip."""

    time_us: Value
    compute_us: Value
    feed_us: Value
    widen_us: Value
    wave_us: Value
    split_us: Value
    waves: Value


def wave_count(pieces: Value, units: Value, fractional: Value) -> Value:
    """Rounds of pieces over the units; a last, partly filled round counts whole, or by its share where `fractional`."""
    rounds = pieces / units
    return (1.0 - fractional) * np.ceil(rounds) + fractional * np.maximum(rounds, 1.0)


def split_count(tiles: Value, units: Value, k: Value, limit: float) -> Value:
    """As many pieces of k as fill the units once while each keeps enough k; below 2 where a split makes no sense."""
    most = np.minimum(np.floor(k / MIN_SPLIT_K), limit)
    return np.minimum(np.floor(units / np.maximum(tiles, 1.0)), most)


def tile_flops(task: Task, tile_m: Value, tile_n: Value) -> Value:
    """FLOPs of a tile per unit of k, over the share of the rate that its intensity reaches."""
    intensity = tile_m * tile_n / (tile_m + tile_n) / FULL_TILE
    return 2.0 * tile_m * tile_n / np.minimum(1.0, intensity**task.small_tile)


def wave_us(task: Task, tile_m: Value, tile_n: Value) -> Value:
    """What every wave adds, whatever k is."""
    return task.wave_us + tile_m * tile_n * task.epilogue_us


def edge_factor(task: Task, tile_m: Value, rows: Value) -> Value:
    """Slow-down by the empty share of the last of `rows` tile rows."""
    return 1.0 + task.edge * (rows - task.m / tile_m)


def pick(task: Task, menu: Menu) -> Choice:
    """The fastest candidate for each row; `task.m` is one-dimensional."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        chosen = _pick(task.narrow(), menu)
    at = _tiles(menu)
    tile_m, tile_n = (at[side].take(chosen, mode="wrap") for side in ("m", "n"))
    if np.ndim(task.small_tile) == 0:
        flops: Value = np.asarray(tile_flops(task, at["m"], at["n"])).take(chosen, mode="wrap")
    else:
        flops = tile_flops(task, tile_m, tile_n)
    rows = np.ceil(task.m / tile_m)
    tiles = rows * np.ceil(task.n / tile_n) * task.batch
    splits: Value = 1.0
    if menu.max_splits > 1.0:
        splits = split_count(tiles, task.units, task.k, menu.max_splits)
        splits = np.where(chosen >= len(menu), np.maximum(splits, 1.0), 1.0)
    return Choice(tile_m=tile_m, tile_n=tile_n, splits=splits, rows=rows, tiles=tiles, flops=flops)


def choose(task: Task, tile_m: Value, tile_n: Value, splits: Value) -> Choice:
    """A given candidate."""
    rows = np.ceil(task.m / tile_m)
    tiles = rows * np.ceil(task.n / tile_n) * task.batch
    flops = tile_flops(task, tile_m, tile_n)
    return Choice(tile_m=tile_m, tile_n=tile_n, splits=splits, rows=rows, tiles=tiles, flops=flops)


@cache
def _tiles(menu: Menu) -> Mapping[str, NDArray[Any]]:
    """The menu on axis 0: each tile, the distinct heights and widths, and which of these a tile has."""
    heights, high = np.unique(np.array(menu.tile_m), return_inverse=True)
    widths, wide = np.unique(np.array(menu.tile_n), return_inverse=True)
    return {
        "m": np.array(menu.tile_m)[:, None],
        "n": np.array(menu.tile_n)[:, None],
        "heights": heights.astype(np.float32)[:, None],
        "widths": widths.astype(np.float32)[:, None],
        "high": high,
        "wide": wide,
        "above": np.array(menu.m_above, np.float32)[:, None],
        "upto": np.array(menu.m_upto, np.float32)[:, None],
    }


def _pick(task: Task, menu: Menu) -> NDArray[np.int32]:
    """Index of the best candidate: a tile of the menu, or (from `len(menu)` on) the same tile with k split."""
    at = _tiles(menu)
    down: Any = np.ceil(task.m / at["heights"])
    across: Any = np.ceil(task.n / at["widths"])
    feed_m = np.minimum(at["heights"], task.m) * (task.a_bytes * task.feed_us * task.k_step)
    feed_n = np.minimum(at["widths"], task.n) * (task.b_bytes * task.feed_us * task.k_step)
    least = tile_flops(task, at["m"], at["n"]) * (task.flop_us * task.k_step)
    least = np.maximum(least, at["n"] * (task.widen_us * task.k_step))
    least = np.maximum(least, task.step_us).astype(np.float32)
    per_step = _each(np.add, feed_m, feed_n, at)
    np.maximum(per_step, least, out=per_step)
    if np.any(task.edge):
        per_step *= np.take(edge_factor(task, at["heights"], down), at["high"], axis=0)
    down *= task.batch
    tiles = _each(np.multiply, down, across, at)
    fixed = np.asarray(wave_us(task, at["m"], at["n"]), np.float32)
    best = _unsplit(task, tiles, per_step, fixed, menu)
    if menu.max_splits > 1.0:
        some = slice(menu.split_tiles)
        best = np.minimum(best, _split(task, tiles[some], per_step[some], fixed[some], menu))
    best &= INDEX_BITS
    return best


def _each(combine: np.ufunc, by_height: Any, by_width: Any, at: Mapping[str, NDArray[Any]]) -> Any:
    """What a height and a width give together, for every tile of the menu."""
    found = np.empty((len(at["high"]), by_height.shape[1]), np.float32)
    for tile, (high, wide) in enumerate(zip(at["high"], at["wide"], strict=True)):
        combine(by_height[high], by_width[wide], out=found[tile])
    return found


def _unsplit(task: Task, tiles: Any, per_step: Any, fixed: Any, menu: Menu) -> NDArray[np.int32]:
    waves = tiles / task.units
    whole = np.ceil(waves)
    if np.any(task.fractional):
        np.maximum(waves, 1.0, out=waves)
        waves -= whole
        waves *= task.fractional
        waves += whole
    else:
        waves = whole
    busy = waves * per_step
    busy *= np.ceil(task.k / task.k_step)
    time = _overlap(busy, task.stream_us)
    waves *= fixed
    time += waves
    if menu.m_upto:
        at = _tiles(menu)
        time = np.where((task.m > at["above"]) & (task.m <= at["upto"]), time, np.float32(np.inf))
    return _ranked(time, 0)


def _split(task: Task, tiles: Any, per_step: Any, fixed: Any, menu: Menu) -> NDArray[np.int32]:
    """Splits fill the units at most once: one wave. Where not even one piece fits, the division by 0 gives infinity."""
    splits = task.units / tiles
    np.floor(splits, out=splits)
    np.minimum(splits, np.minimum(np.floor(task.k / MIN_SPLIT_K), menu.max_splits), out=splits)
    busy = (task.k / task.k_step) / splits
    np.ceil(busy, out=busy)
    busy *= per_step
    time = _overlap(busy, task.stream_us)
    splits *= task.reduce_us * (task.m * task.n * task.batch)
    time += splits
    time += fixed + task.split_us
    return _ranked(time, len(menu))


def _overlap(busy: Any, stream: Value) -> Any:
    """Smooth maximum of order 4 (squares and square roots: no general power in the inner loop); `busy` is consumed."""
    busy *= busy
    busy *= busy
    square = stream * stream
    busy += square * square
    np.sqrt(busy, out=busy)
    return np.sqrt(busy, out=busy)


def _ranked(time: Any, first: int) -> NDArray[np.int32]:
    """The least time of each row as an integer of the same order, whose low bits name the candidate."""
    bits: NDArray[np.int32] = time.view(np.int32)
    bits &= ~INDEX_BITS
    bits |= np.arange(first, first + len(bits), dtype=np.int32)[:, None]
    least: NDArray[np.int32] = bits.min(axis=0)
    return least


def evaluate(task: Task, choice: Choice) -> Evaluated:
    """The price of given candidates, one per row."""
    waves = wave_count(choice.tiles * choice.splits, task.units, task.fractional)
    depth = waves * np.ceil(task.k / (choice.splits * task.k_step)) * task.k_step
    if np.any(task.edge):
        depth = depth * edge_factor(task, choice.tile_m, choice.rows)
    compute = choice.flops * task.flop_us * depth
    loaded = np.minimum(choice.tile_m, task.m) * task.a_bytes + np.minimum(choice.tile_n, task.n) * task.b_bytes
    feed = np.maximum(loaded * task.feed_us, task.step_us / task.k_step) * depth
    widen = choice.tile_n * task.widen_us * depth if np.any(task.widen_us) else 0.0
    busy = np.maximum(np.maximum(compute, feed), widen)
    fixed_us = waves * wave_us(task, choice.tile_m, choice.tile_n)
    time_us = _overlap(busy, task.stream_us) + fixed_us
    split_us: Value = 0.0
    if np.ndim(choice.splits) > 0 or choice.splits > 1.0:
        partial = task.split_us + choice.splits * (task.reduce_us * task.m * task.n * task.batch)
        split_us = np.where(np.asarray(choice.splits) > 1.0, partial, 0.0)
        time_us = time_us + split_us
    return Evaluated(
        time_us=time_us,
        compute_us=compute,
        feed_us=feed,
        widen_us=widen,
        wave_us=fixed_us,
        split_us=split_us,
        waves=waves,
    )


LIBRARY_TILES = (
    (16.0, 64.0),
    (64.0, 64.0),
    (64.0, 128.0),
    (128.0, 128.0),
    (128.0, 256.0),
    (32.0, 128.0),
    (64.0, 256.0),
    (128.0, 32.0),
    (256.0, 128.0),
)
"""Tile shapes that a vendor library compiles (cuBLAS kernel names, CUTLASS profiler); the first five also split k."""

_HEIGHTS = tuple(height for height, _ in LIBRARY_TILES)
_WIDTHS = tuple(width for _, width in LIBRARY_TILES)

AUTO = Menu(tile_m=_HEIGHTS, tile_n=_WIDTHS, max_splits=16.0, split_tiles=5)
"""cuBLAS and its kind: whichever tile and split is fastest."""

ANY_ROWS = Menu(tile_m=(*_HEIGHTS, 1.0, 4.0), tile_n=(*_WIDTHS, 64.0, 64.0), max_splits=16.0, split_tiles=5)
"""The same with tiles of few rows: vector engines and processors do not pad m to the rows of a matrix instruction."""

WHOLE_K = Menu(tile_m=_HEIGHTS, tile_n=_WIDTHS)
"""Libraries with as many tiles, k never split: DeepGEMM, the TensorRT weight-only and int8 plug-ins, CUTLASS fp4."""

BLOCK_WIDE = Menu(tile_m=(16.0, 32.0, 64.0, 128.0), tile_n=(128.0,) * 4)
"""Kernels whose tile is as wide as one 128-column block of weight scales."""

BY_M = Menu(
    tile_m=(64.0, 64.0, 128.0),
    tile_n=(64.0, 128.0, 128.0),
    m_above=(-math.inf, 64.0, 128.0),
    m_upto=(64.0, 128.0, math.inf),
)
"""CUTLASS scaled-mm kernels of serving runtimes: the tile follows from m (vLLM csrc/quantization, sm90 dispatch)."""

BY_M_ADA = Menu(
    tile_m=(16.0, 32.0, 64.0, 128.0, 128.0, 128.0),
    tile_n=(64.0, 64.0, 64.0, 64.0, 64.0, 128.0),
    m_above=(-math.inf, 16.0, 32.0, 64.0, 128.0, 256.0),
    m_upto=(16.0, 32.0, 64.0, 128.0, 256.0, math.inf),
)
"""The same for sm89, whose smaller tiles follow m in powers of two."""
