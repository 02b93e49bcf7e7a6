"""Board power of serving steps: a saturating law of what an iteration moves and computes, and runs measured near it.

P / TDP = static + (1 - static) (1 - exp(-u)): tiles, caches and units fill long before rates do. The load u adds joules
per byte (equal on chips of two generations, so it is divided by the TDP), shares of the bf16 peak, and an offset for
models that route tokens to experts. Kernels of experts with 8-bit block-scaled weights compute whole tiles of rows,
however few tokens an expert has: they count as many FLOPs as the tiles hold. Host gaps draw the static share, not
idle. At a lower clock r, units draw r v^2 of their part, v the voltage over the full one; memory draws what it did.
Accelerators that are no GPU draw idle power and the joules of operations and bytes (`op_energy`), up to the same cap.
Chips whose serving was measured carry those runs: a factor, smooth in the logarithms of the loads, that fades to 1 away
from them. Numbers and errors: `coefficients/serving_power.yaml`; `api.accuracy.fit_serving_power` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.columns import map_columns
from ridgeline.costs.coefficients import Coefficients, coefficient_file
from ridgeline.costs.op_energy import counted_w, is_counted
from ridgeline.costs.room import Numbers
from ridgeline.hardware.chip import ChipColumns, Value

Array = NDArray[np.float64]

KIND = "serving_power"

SOFT = 12.0
"""Exponent of the smooth minimum that leads a mixed step up to the cap; a single kernel meets it sharply."""

LEAST, MANY = 1e-3, 1e9
"""Smallest and largest feature that the logarithms of measured runs tell apart."""

WIDTH, PULL = 0.4, 0.1
"""Width of a measured run's influence, in units of `places`, and the runs' worth of weight that pulls to no correction.

Chosen, out of nine sets of scales and three widths, by the error of each measured run when it is left out."""

MOST = 0.35
"""Largest logarithm of the correction."""

HEAVY = 2.0
"""Scale of the features that set models apart, against 1 for loads: routing, and the length of the context."""

BLOCK_ROWS = 1024
"""Rows compared with all runs at once, so that their distances fit a core's cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingLoad:
    """What one chip does per second over the mean iteration; every field a number or a column.

    Attributes:
        weight_bytes_per_s: weights read.
        kv_bytes_per_s: KV cache and recurrent state moved.
        flops_per_s: operations on prompts and outputs; half for weights of at most 8 bits.
        tiled_bytes_per_s: weights of experts in 8-bit block-scaled formats, a part of the first.
        tiled_flops_per_s: operations of those experts, a part of the third.
        mixture: 1 where the model routes tokens to experts.
        narrow: 1 where the feed-forward weights have at most 8 bits.
        chips: chips that share the model.
        context_tokens: mean context of a decoding sequence.
    """

    weight_bytes_per_s: Value
    kv_bytes_per_s: Value
    flops_per_s: Value
    tiled_bytes_per_s: Value = 0.0
    tiled_flops_per_s: Value = 0.0
    mixture: Value = 0.0
    narrow: Value = 0.0
    chips: Value = 1.0
    context_tokens: Value = 1.0

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> ServingLoad:
        """Some rows of the columns."""
        (found,) = map_columns((self,), lambda column: column[chosen])
        return found


def load_of(load: ServingLoad, c: Numbers, chips: ChipColumns) -> Array:
    """The load u of the saturating law, without unit."""
    tdp, peak = chips.gather(lambda chip: chip.tdp_w), chips.gather(lambda chip: chip.peak_flops_per_s("bf16"))
    moved = np.asarray(load.weight_bytes_per_s) + np.asarray(c["kv"]) * load.kv_bytes_per_s
    # An 8-bit weight in a tile of n rows is n multiply-accumulates at half the energy: n FLOPs of 16 bits per byte.
    filled = np.maximum(np.asarray(c["tile_rows"]) * load.tiled_bytes_per_s - load.tiled_flops_per_s, 0.0)
    computed = (np.asarray(load.flops_per_s) + filled) / peak
    routed = np.asarray(c["mixture"]) * np.asarray(load.mixture, dtype=np.float64)
    u: Array = np.asarray(c["byte_j"]) * moved / tdp + np.asarray(c["flops"]) * computed + routed
    return u


def share_of(u: Array, static: Value, cap: Value) -> Array:
    """Share of TDP at a load: from the static share up, and smoothly into the cap."""
    share = static + (1.0 - np.asarray(static)) * -np.expm1(-u)
    capped: Array = share / (1.0 + (share / np.asarray(cap)) ** SOFT) ** (1.0 / SOFT)
    return capped


def serving_power_w(load: ServingLoad, chips: ChipColumns, *, measured: bool = True) -> Value:
    """Mean board power of serving steps, W per chip; between the larger of static and idle power and the TDP.

    Args:
        load: what a chip does.
        chips: one per row.
        measured: whether runs that were measured on a chip correct the law there.
    """
    c = Coefficients(KIND, "serving", chips)
    tdp, static = chips.gather(lambda chip: chip.tdp_w), np.asarray(c["static"])
    u = load_of(load, c, chips)
    share = slowed(share_of(u, static, c["cap"]), u, load, c, chips)
    if measured:
        share = share * np.exp(correction(load, u, c, chips))
    # Energy of a switched wire goes with the square of the voltage; how often it switches is in the rates.
    computed = np.asarray(load.flops_per_s) * voltage(c, chips) ** 2
    counted = counted_w(computed, np.asarray(load.weight_bytes_per_s) + load.kv_bytes_per_s, chips)
    drawn = np.where(np.isnan(counted), share * tdp + chips.gather(lambda chip: chip.leakage_w), counted)
    power: Value = np.clip(drawn, gap_power_w(chips), np.asarray(c["cap"]) * tdp)
    return power


def slowed(share: Array, u: Array, load: ServingLoad, c: Numbers, chips: ChipColumns) -> Array:
    """Shares of TDP with the part of the units lowered to r v^2, where chips are locked below their clock.

    The load counts shares of the peak at the lower clock, so that the units are as busy as they are. Voltage falls in
    a straight line with the clock, down to a floor.
    """
    r = np.asarray(chips.gather(lambda chip: chip.clock_frac))
    if np.all(r == 1.0):
        return share
    volt = voltage(c, chips)
    moved = np.asarray(load.weight_bytes_per_s) + np.asarray(c["kv"]) * load.kv_bytes_per_s
    of_bytes = np.asarray(c["byte_j"]) * moved / chips.gather(lambda chip: chip.tdp_w)
    units = 1.0 - np.divide(of_bytes, u, out=np.ones_like(np.asarray(u)), where=np.asarray(u) > 0)
    static = np.asarray(c["static"])
    found: Array = static + (share - static) * (1.0 - units * (1.0 - r * volt * volt))
    return found


def voltage(c: Numbers, chips: ChipColumns) -> Array:
    """Voltage over the full one, at the clock to which chips are locked."""
    r = np.asarray(chips.gather(lambda chip: chip.clock_frac))
    volt: Array = np.maximum(np.asarray(c["volt_floor"]), 1.0 - np.asarray(c["volt_slope"]) * (1.0 - r))
    return volt


def gap_power_w(chips: ChipColumns) -> Value:
    """Power while kernels are resident but the host has nothing for them: the active static share, not idle.

    Of chips whose joules are counted: idle power.
    """
    static = np.asarray(Coefficients(KIND, "serving", chips)["static"])
    tdp, idle = chips.gather(lambda chip: chip.tdp_w), chips.gather(lambda chip: chip.idle_w)
    boards = np.asarray(chips.gather(lambda chip: float(not is_counted(chip))))
    static_w = np.asarray(static * tdp * boards + chips.gather(lambda chip: chip.leakage_w))
    power: Value = np.maximum(static_w, idle)
    return power


def places(load: ServingLoad, u: Array, c: Numbers, chips: ChipColumns) -> Array:
    """Where rows of loads `u` lie among measured runs: shape (rows, features)."""
    tdp, peak = chips.gather(lambda chip: chip.tdp_w), chips.gather(lambda chip: chip.peak_flops_per_s("bf16"))
    byte_j = np.asarray(c["byte_j"])
    features = (
        _log(byte_j * load.weight_bytes_per_s / tdp),
        0.5 * _log(byte_j * load.kv_bytes_per_s / tdp),
        _log(np.asarray(load.flops_per_s) / peak),
        HEAVY * np.asarray(load.mixture, np.float64),
        np.asarray(load.narrow, np.float64),
        _log(load.chips),
        HEAVY * _log(load.context_tokens),
    )
    columns = [np.broadcast_to(feature, np.shape(u)).ravel() for feature in features]
    return np.stack(columns, axis=-1)


def nearby(where: Array, runs: Array, log_ratio: Array) -> Array:
    """Mean logarithm of measured over law of the runs near each place (Nadaraya-Watson), 0 far from all of them."""
    mean = np.empty(len(where))
    for start in range(0, len(where), BLOCK_ROWS):
        rows = where[start : start + BLOCK_ROWS]
        square = (rows * rows).sum(1)[:, None] + (runs * runs).sum(1)[None, :] - 2.0 * rows @ runs.T
        weight = np.exp(np.maximum(square, 0.0) / (-2.0 * WIDTH * WIDTH))
        mean[start : start + BLOCK_ROWS] = weight @ log_ratio / (weight.sum(1) + PULL)
    return np.clip(mean, -MOST, MOST)


def correction(load: ServingLoad, u: Array, c: Numbers, chips: ChipColumns) -> Array:
    """Logarithm of the factor by which measured runs correct the law, of the shape of `u`; 0 without any."""
    found = np.zeros(np.size(u))
    runs = [measured_runs(chip.name) for chip in chips.chips]
    if any(each is not None for each in runs):
        where = places(load, u, c, chips)
        index = np.zeros(1, dtype=np.intp) if chips.index is None else chips.index
        for chip, each in enumerate(runs):
            mine = np.flatnonzero(np.broadcast_to(index == chip, found.shape))
            if each is not None and mine.size:
                found[mine] = nearby(where[mine], each[:, :-1], each[:, -1])
    return found.reshape(np.shape(u))


@cache
def measured_runs(chip: str) -> Array | None:
    """Runs that were measured on a chip: places, then the logarithm of measured over law."""
    rows = (coefficient_file(KIND).get("measured") or {}).get(chip)
    return np.array(rows, dtype=np.float64) if rows else None


def _log(value: Value) -> Array:
    logs: Array = np.log(np.clip(value, LEAST, MANY))
    return logs
