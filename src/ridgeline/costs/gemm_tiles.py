"""Tiles, waves and split-K: how a GEMM covers the compute units of a chip, and which candidate a library picks.

A library cuts C into tiles of `tile_m` x `tile_n`, cuts k into `splits`, and hands one piece at a time to each compute
unit; a round of pieces is a wave. `pick` evaluates every candidate of a menu for every row at once (menu on axis 0,
rows on axis 1, in chunks that stay in cache and in float32: only the choice comes from it); `evaluate` then prices the
chosen candidates in float64. Times here are in microseconds, so that fourth powers stay within float32.

Sources: NVIDIA matrix multiplication guide (tile and wave quantisation); Stream-K, arXiv 2301.03598 (fractional waves);
best-over-mappings as in LLMCompass, ISCA 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.hardware.chip import Value

FULL_TILE = 128.0 * 256.0 / (128.0 + 256.0)
"""Intensity of the largest tile (multiply-accumulates per operand element it loads), where `small_tile` is 1."""
MAX_SPLITS = 16.0
MIN_SPLIT_K = 128.0
"""A piece of k shorter than this does not fill the pipeline of a tile."""
CHUNK_ROWS = 1024
INDEX_BITS = 31
"""Low bits of a float32 time that carry the candidate's index while the minimum is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """The tiles a library has compiled, and for which m it uses each.

    Attributes:
        tile_m, tile_n: rows and columns of each tile.
        m_above, m_upto: a tile is used for m_above < m <= m_upto (a library that chooses by m alone), or for any m.
        split_k: whether a second kernel may sum pieces of k.
    """

    tile_m: tuple[float, ...]
    tile_n: tuple[float, ...]
    split_k: bool = False
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
        wave_us: start and drain of one wave.
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
    wave_us: Value
    split_us: Value
    reduce_us: Value
    stream_us: Value
    fractional: Value
    edge: Value
    small_tile: Value
    a_bytes: float
    b_bytes: float
    k_step: float

    def rows(self, part: slice) -> Task:
        """The rows of `part` in float32, numbers left as they are."""
        narrow: dict[str, Any] = {name: value[part].astype(np.float32) for name, value in _arrays(self).items()}
        return replace(self, **narrow)


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


def _arrays(task: Task) -> dict[str, NDArray[np.float64]]:
    values = {f.name: getattr(task, f.name) for f in fields(task)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def tile_count(task: Task, tile_m: Value, tile_n: Value) -> Value:
    """Tiles of C over all batches."""
    return np.ceil(task.m / tile_m) * np.ceil(task.n / tile_n) * task.batch


def wave_count(pieces: Value, units: Value, fractional: Value) -> Value:
    """Rounds of pieces over the units; a last, partly filled round counts whole, or by its share where `fractional`."""
    rounds = pieces / units
    return (1.0 - fractional) * np.ceil(rounds) + fractional * np.maximum(rounds, 1.0)


def best_splits(tiles: Value, units: Value, k: Value) -> Value:
    """As many pieces of k as fill the units once, while each piece keeps enough k."""
    most = np.clip(np.floor(k / MIN_SPLIT_K), 1.0, MAX_SPLITS)
    return np.clip(np.floor(units / np.maximum(tiles, 1.0)), 1.0, most)


def _per_k(task: Task, tile_m: Value, tile_n: Value) -> tuple[Value, Value, Value]:
    """Microseconds per unit of k that one tile spends multiplying, loading operands and widening weights."""
    intensity = tile_m * tile_n / (tile_m + tile_n) / FULL_TILE
    rate = np.minimum(1.0, intensity**task.small_tile)
    compute = 2.0 * tile_m * tile_n / rate * task.flop_us
    feed = (np.minimum(tile_m, task.m) * task.a_bytes + np.minimum(tile_n, task.n) * task.b_bytes) * task.feed_us
    return compute, feed, tile_n * task.widen_us


def _edge(task: Task, tile_m: Value) -> Value:
    """Slow-down by the empty share of the last tile row."""
    last = task.m - (np.ceil(task.m / tile_m) - 1.0) * tile_m
    return 1.0 + task.edge * (1.0 - last / tile_m)


def _overlap(busy: Value, stream: Value) -> Value:
    """Smooth maximum of order 4 (fourth powers and square roots: no general power in the inner loop)."""
    busy2, stream2 = busy * busy, stream * stream
    return np.sqrt(np.sqrt(busy2 * busy2 + stream2 * stream2))


def _total(task: Task, waves: Value, per_k: Value, splits: Value | None) -> Value:
    if splits is None:
        piece_k = np.ceil(task.k / task.k_step) * task.k_step
        return _overlap(waves * per_k * piece_k, task.stream_us) + waves * task.wave_us
    piece_k = np.ceil(task.k / (splits * task.k_step)) * task.k_step
    extra = task.split_us + splits * (task.reduce_us * task.m * task.n * task.batch)
    return _overlap(waves * piece_k * per_k, task.stream_us) + waves * task.wave_us + extra


def _ranked(time_us: Value, first: int) -> NDArray[np.int32]:
    """Times as integers of the same order, whose low bits name the candidate."""
    bits = np.asarray(time_us, np.float32).view(np.int32)
    bits &= ~INDEX_BITS
    bits |= np.arange(first, first + len(bits), dtype=np.int32)[:, None]
    return bits


def _column(values: tuple[float, ...]) -> Any:
    """One value per candidate, on axis 0."""
    return np.array(values, np.float32)[:, None]


def _pick_chunk(task: Task, menu: Menu) -> NDArray[np.int32]:
    tile_m, tile_n = _column(menu.tile_m), _column(menu.tile_n)
    compute, feed, widen = _per_k(task, tile_m, tile_n)
    per_k = np.maximum(np.maximum(compute, feed), widen) * _edge(task, tile_m)
    tiles = tile_count(task, tile_m, tile_n)
    whole = _total(task, wave_count(tiles, task.units, task.fractional), per_k, None)
    if menu.m_upto:
        used = (task.m > _column(menu.m_above)) & (task.m <= _column(menu.m_upto))
        whole = np.where(used, whole, np.float32(np.inf))
    best: NDArray[np.int32] = _ranked(whole, 0).min(axis=0)
    if menu.split_k:
        splits = best_splits(tiles, task.units, task.k)
        waves = wave_count(tiles * splits, task.units, task.fractional)
        split = _total(task, waves, per_k, splits)
        best = np.minimum(best, _ranked(split, len(menu)).min(axis=0))
    return best & INDEX_BITS


def pick(task: Task, menu: Menu) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(tile_m, tile_n, splits) of the fastest candidate for each row. `task.m` is one-dimensional."""
    count = np.size(task.m)
    chosen = np.empty(count, np.int32)
    for start in range(0, count, CHUNK_ROWS):
        part = slice(start, min(start + CHUNK_ROWS, count))
        chosen[part] = _pick_chunk(task.rows(part), menu)
    splits_k, tile = chosen >= len(menu), chosen % len(menu)
    tile_m, tile_n = np.array(menu.tile_m)[tile], np.array(menu.tile_n)[tile]
    if not menu.split_k:
        return tile_m, tile_n, np.ones(count)
    splits = best_splits(tile_count(task, tile_m, tile_n), task.units, task.k)
    return tile_m, tile_n, np.where(splits_k, splits, 1.0)


def evaluate(task: Task, tile_m: Value, tile_n: Value, splits: Value) -> Evaluated:
    """The price of given candidates, one per row."""
    compute, feed, widen = _per_k(task, tile_m, tile_n)
    edge = _edge(task, tile_m)
    waves = wave_count(tile_count(task, tile_m, tile_n) * splits, task.units, task.fractional)
    depth = waves * np.ceil(task.k / (splits * task.k_step)) * task.k_step * edge
    busy = np.maximum(np.maximum(compute, feed), widen) * depth
    partial = task.split_us + splits * (task.reduce_us * task.m * task.n * task.batch)
    split_us = np.where(np.asarray(splits) > 1.0, partial, 0.0)
    return Evaluated(
        time_us=_overlap(busy, task.stream_us) + waves * task.wave_us + split_us,
        compute_us=compute * depth,
        feed_us=feed * depth,
        widen_us=widen * depth,
        wave_us=waves * task.wave_us,
        split_us=split_us,
        waves=waves,
    )


LIBRARY_TILES = (
    (16.0, 64.0),
    (16.0, 128.0),
    (32.0, 64.0),
    (32.0, 128.0),
    (64.0, 64.0),
    (64.0, 128.0),
    (64.0, 256.0),
    (128.0, 32.0),
    (128.0, 64.0),
    (128.0, 128.0),
    (128.0, 256.0),
    (256.0, 64.0),
    (256.0, 128.0),
)
"""Tile shapes that a vendor library compiles (cuBLAS kernel names, CUTLASS profiler lists)."""

AUTO = Menu(tile_m=tuple(m for m, _ in LIBRARY_TILES), tile_n=tuple(n for _, n in LIBRARY_TILES), split_k=True)
"""cuBLAS and its kind: whichever tile and split is fastest."""

BY_M = Menu(
    tile_m=(64.0, 64.0, 128.0),
    tile_n=(64.0, 128.0, 128.0),
    m_above=(-math.inf, 64.0, 128.0),
    m_upto=(64.0, 128.0, math.inf),
)
"""CUTLASS scaled-mm kernels of serving runtimes: the tile follows from m (vLLM csrc/quantization, sm90 dispatch)."""

_BLOCK_N = tuple(float(n) for n in range(16, 136, 16))
FEWEST_WAVES = Menu(
    tile_m=(64.0,) * len(_BLOCK_N) + (128.0,) * len(_BLOCK_N),
    tile_n=_BLOCK_N * 2,
)
"""DeepGEMM: 64 or 128 rows, and the width among multiples of 16 that wastes least of the last wave."""
