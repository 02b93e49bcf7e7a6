"""Board power and energy of one kernel, from what it moves and computes (of serving steps: `serving_power`).

P = static + bytes/s and FLOP/s, each with its energy; above the cap a sustained load slows down until it fits, a burst
does not. Static power is that of busy units while the kernel streams and that of a host gap while it launches. All
shares are of TDP, so that one law serves every board. Sources and fits: `coefficients/power.yaml`. Accelerators that
are no GPU draw idle power and the joules of what they do (`op_energy`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.op_energy import counted_w
from ridgeline.costs.price import Price, Setting
from ridgeline.costs.room import Numbers
from ridgeline.hardware.chip import ChipColumns, Value
from ridgeline.workloads.ops import Attention, Collective, Copy, Experts, Op

Array = NDArray[np.float64]

NARROW = frozenset({"fp8", "int8", "fp4", "int4"})
"""Compute dtypes of at most 8 bits: more FLOP/s from the same wires, at more watts."""


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
    c = Coefficients("power", law_of(op, price.kernel), chips)
    time = np.asarray(price.time_s, dtype=np.float64)
    lasting = np.where(time > 0.0, time, 1.0)
    moved = np.asarray(price.read_bytes, dtype=np.float64) + price.write_bytes
    u_bytes = moved / lasting / chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
    u_flops = np.asarray(price.flops) / lasting / chips.gather(lambda chip: chip.peak_flops_per_s(op.compute))
    waiting = np.minimum(np.asarray(price.terms.get("launch", 0.0)) / lasting, 1.0)
    idle, tdp = chips.gather(lambda chip: chip.idle_w), chips.gather(lambda chip: chip.tdp_w)
    demand = demand_share(u_bytes, u_flops, c, narrow=op.compute in NARROW, waiting=waiting)
    cap, static = np.asarray(c["cap"]), np.asarray(c["static"])
    counted = counted_w(np.asarray(price.flops) / lasting, moved / lasting, chips, op.compute)
    boards = np.isnan(counted)
    demand, static = np.where(boards, demand, counted / tdp), np.where(boards, static, idle / np.asarray(tdp))
    # Slower work costs fewer watts but for the static share: time stretches until demand is the cap.
    throttle = np.maximum((demand - static) / (cap - static), 1.0) if setting.sustained else np.ones_like(demand)
    power = np.clip(np.minimum(demand, cap) * tdp, idle, tdp)
    energy = np.where(time > 0.0, power * lasting * throttle, 0.0)
    return Power(power_w=power, energy_j=energy, throttle=throttle)


def law_of(op: Op, kernel: str = "") -> str:
    """Which of the laws a kernel follows.

    A whole latent-attention block is many short kernels with passes between them: its units are less busy than those of
    one attention kernel with the same utilisations.
    """
    if isinstance(op, Attention):
        return "block" if kernel.startswith("module-") else "attention"
    if isinstance(op, Experts):
        return "experts"
    return "transfer" if isinstance(op, Collective | Copy) else "matmul"


def demand_share(u_bytes: Value, u_flops: Value, c: Numbers, *, narrow: bool, waiting: Value = 0.0) -> Array:
    """Power that a kernel would draw without a cap, in units of TDP.

    Args:
        u_bytes: share of the memory bandwidth that it uses, counted up to 1.
        u_flops: share of the compute rate that it uses, counted up to 1.
        c: the numbers of its law.
        narrow: whether it computes in at most 8 bits.
        waiting: share of its time in which it launches.
    """
    static, gap = np.asarray(c["static"]), np.asarray(c["gap"])
    flop_share = np.asarray(c["flop_share"]) * (np.asarray(c["narrow"]) if narrow else 1.0)
    resident = gap + np.maximum(static - gap, 0.0) * (1.0 - np.asarray(waiting))
    demand: Array = (
        resident + np.asarray(c["byte_share"]) * np.minimum(u_bytes, 1.0) + flop_share * np.minimum(u_flops, 1.0)
    )
    return demand


def kernel_power_w(price: Price, op: Op, chips: ChipColumns, setting: Setting) -> Value:
    """Mean board power while the op runs, W per chip."""
    return kernel_power(price, op, chips, setting).power_w


def energy_j(price: Price, op: Op, chips: ChipColumns, setting: Setting) -> Value:
    """Energy of one execution, J per chip, static power included."""
    return kernel_power(price, op, chips, setting).energy_j
