"""Mean board power of long, steady work from the shares of compute and memory that it keeps busy (`costs.power`).

Of accelerators that are no GPU: idle power, and the joules of what they do (`costs.op_energy`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.op_energy import counted_w
from ridgeline.costs.power import demand_share
from ridgeline.hardware.chip import ChipColumns
from ridgeline.workloads.ops import Dim

NARROW = frozenset({"fp8", "int8", "fp4", "int4"})
"""Compute formats of at most 8 bits: more operations from the same wires, at more watts."""


def steady_power_w(u_bytes: Dim, u_flops: Dim, chips: ChipColumns, *, narrow: bool) -> NDArray[np.float64]:
    """Watts per chip, between idle and the power limit.

    Args:
        u_bytes: memory traffic over bandwidth, mean over the work.
        u_flops: operations over the peak of their format, mean over the work.
        chips: one per row.
        narrow: whether most operations are on at most 8 bits.
    """
    law = Coefficients("power", "matmul", chips)
    demand = demand_share(u_bytes, u_flops, law, narrow=narrow)
    compute = "fp8" if narrow else "bf16"
    flops_per_s = np.asarray(u_flops) * chips.gather(lambda chip: chip.peak_flops_per_s(compute))
    bytes_per_s = np.asarray(u_bytes) * chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
    counted = counted_w(flops_per_s, bytes_per_s, chips, compute)
    idle, tdp = chips.gather(lambda chip: chip.idle_w), chips.gather(lambda chip: chip.tdp_w)
    demand = np.where(np.isnan(counted), demand, counted / np.asarray(tdp))
    return np.asarray(np.clip(np.minimum(demand, np.asarray(law["cap"])) * tdp, idle, tdp))
