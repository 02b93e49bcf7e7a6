"""Board power and energy: of one kernel from what it moves and computes, of a serving step from its mean utilisations.

Kernel: P = static + bytes/s and FLOP/s, each with its energy; above the cap a sustained load slows down until it fits,
a burst does not. Serving: a saturating law of the loads, since tiles, caches and units fill long before rates do. All
shares are of TDP: memory at full rate draws about three quarters of it on four generations. Sources stand in
`coefficients/power.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.price import Price, Setting
from ridgeline.costs.room import Numbers
from ridgeline.hardware.chip import ChipColumns, Value
from ridgeline.workloads.ops import Attention, Op

Array = NDArray[np.float64]

NARROW = frozenset({"fp8", "int8", "fp4", "int4"})
"""Compute dtypes of at most 8 bits: more FLOP/s from the same wires, at more watts."""

SOFT = 12.0
"""Exponent of the smooth minimum that leads a serving step's power up to the cap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Mean board power of a kernel while it runs, its energy, and what the power limit does to its time.

    Attributes:
        power_w: mean over the kernel; between idle and TDP.
        energy_j: power times the (slowed) time.
        throttle: factor by which a sustained load lowers its speed, >= 1; 1 for bursts.
    """

    power_w: Value
    energy_j: Value
    throttle: Value


def kernel_power(price: Price, op: Op, chips: ChipColumns, setting: Setting) -> Power:
    """Power, energy and slow-down of a priced op; rows broadcast. An op without time uses no energy."""
    c = Coefficients("power", "kernel", chips)
    time = np.asarray(price.time_s, dtype=np.float64)
    moved = np.asarray(price.read_bytes, dtype=np.float64) + price.write_bytes
    return power_of(op, time, np.asarray(price.flops, dtype=np.float64), moved, chips, setting, c)


def power_of(
    op: Op, time: Array, flops: Array, moved: Array, chips: ChipColumns, setting: Setting, c: Numbers
) -> Power:
    """The kernel law with the given coefficients: `flops` and `moved` bytes within `time` seconds."""
    tdp = chips.gather(lambda chip: chip.tdp_w)
    idle = chips.gather(lambda chip: chip.idle_w)
    busy = np.where(time > 0.0, time, 1.0)
    u_bytes = np.minimum(moved / busy / chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s), 1.0)
    u_flops = np.minimum(flops / busy / chips.gather(lambda chip: chip.peak_flops_per_s(op.compute)), 1.0)
    flop_share = np.asarray(c["attention_flop_share"] if isinstance(op, Attention) else c["flop_share"])
    flop_share = flop_share * (np.asarray(c["narrow"]) if op.compute in NARROW else 1.0)
    static = np.asarray(c["static"])
    demand = static + np.asarray(c["byte_share"]) * u_bytes + flop_share * u_flops
    cap = np.asarray(c["cap"])
    throttle = np.maximum((demand - static) / (cap - static), 1.0) if setting.sustained else np.ones_like(demand)
    power = np.clip(np.minimum(demand, cap) * tdp, idle, tdp)
    return Power(power_w=power, energy_j=np.where(time > 0.0, power * busy * throttle, 0.0), throttle=throttle)


def kernel_power_w(price: Price, op: Op, chips: ChipColumns, setting: Setting) -> Value:
    """Mean board power while the op runs, W per chip."""
    return kernel_power(price, op, chips, setting).power_w


def energy_j(price: Price, op: Op, chips: ChipColumns, setting: Setting) -> Value:
    """Energy of one execution, J per chip, static power included."""
    return kernel_power(price, op, chips, setting).energy_j


def serving_power_w(
    weight_load: Value, kv_load: Value, flop_load: Value, mixture: bool | NDArray[np.bool_], chips: ChipColumns
) -> Value:
    """Mean board power of serving steps, W per chip.

    Args:
        weight_load: weight bytes read per second over the memory bandwidth.
        kv_load: the same for the KV cache.
        flop_load: 2 x active parameters x tokens per second over the bf16 peak; half for weights of at most 8 bits.
        mixture: whether the model routes tokens to experts.
        chips: one per row.
    """
    c = Coefficients("power", "serving", chips)
    tdp = chips.gather(lambda chip: chip.tdp_w)
    static, cap = np.asarray(c["static"]), np.asarray(c["cap"])
    load = np.asarray(c["bytes"]) * (np.asarray(weight_load) + np.asarray(c["kv"]) * kv_load)
    load = load + np.asarray(c["flops"]) * flop_load + np.asarray(c["mixture"]) * np.asarray(mixture, dtype=np.float64)
    share = static + (1.0 - static) * -np.expm1(-load)
    capped = share / (1.0 + (share / cap) ** SOFT) ** (1.0 / SOFT)
    power: Value = np.maximum(capped * tdp, chips.gather(lambda chip: chip.idle_w))
    return power


def gap_power_w(chips: ChipColumns) -> Value:
    """Power while kernels are resident but the host has nothing for them: the active static share, not idle."""
    power: Value = np.asarray(Coefficients("power", "serving", chips)["static"]) * chips.gather(lambda chip: chip.tdp_w)
    return power
