"""A chip cut into two by compute units: prompts on one part, decoding on the other, in one memory.

The units are divided and the storage is not, as in semi-PD (arXiv 2504.19867). A part with a share f of the units
computes at f of the rates of the whole chip: an assumption, that a kernel's waves fill any part as well as all of it.
Memory is shared: a part streams at most `reach` times its share of the bandwidth, since what a unit keeps in flight is
bounded (Little's law), and no more than all of it. While both parts run they are served max-min fairly: each gets what
the other does not ask for, and at least its share of what is there. Weights are there once, and a request changes sides
without a copy. The cache is cut once, not block by block: prompts under way have room for the longest prompt or two
budgets of tokens, at most half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ridgeline.core.errors import DomainError
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.hardware.chip import Chip
from ridgeline.serving.stepper import Stepper
from ridgeline.workloads.model import Batch

REACH = 2.0
"""Half of the units of a chip stream all of its bandwidth: an assumption, between 1 (none to spare) and what
microbenchmarks of streaming kernels show on chips with many units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How a chip is cut.

    Attributes:
        frac: share of the compute units that prompts have; decoding has the rest.
        reach: share of the bandwidth that a share of the units can stream, over that share.
    """

    frac: float
    reach: float = REACH

    def __post_init__(self) -> None:
        """Refuse parts that hold nothing."""
        if not 0 < self.frac < 1:
            raise DomainError("a share of the units is between 0 and 1", at="split", got=self.frac, fix="give 0.4")
        if not 1 <= self.reach < math.inf:
            raise DomainError("reach is at least 1", at="split", got=self.reach, fix="give reach=2")

    def alone(self, share: float) -> float:
        """Share of the bandwidth that a part with that share of the units has to itself."""
        return min(self.reach * share, 1.0)

    def beside(self, share: float, asked_frac: float) -> float:
        """The same while the other part runs and asks for that share of the bandwidth."""
        mine, other = self.alone(share), self.alone(1.0 - share)
        return min(max(1.0 - min(asked_frac, other), mine / (mine + other)), mine)


def sliced(chip: Chip, units_frac: float, bandwidth_frac: float) -> Chip:
    """A part of a chip, with the memory of the whole."""

    def less(rates: Mapping[str, float]) -> dict[str, float]:
        return {name: rate * units_frac for name, rate in rates.items()}

    shares = {"dram": bandwidth_frac}
    tiers = tuple(
        replace(tier, bandwidth_bytes_per_s=tier.bandwidth_bytes_per_s * shares.get(tier.name, units_frac))
        for tier in chip.tiers
    )
    return replace(
        chip,
        matrix_flops_per_s=less(chip.matrix_flops_per_s),
        vector_flops_per_s=less(chip.vector_flops_per_s),
        tiers=tiers,
        compute_units=max(round(chip.compute_units * units_frac), 1),
    )


def sliced_machines(machines: MachineColumns, units_frac: float, bandwidth_frac: float) -> MachineColumns:
    """Machines of such parts."""
    parts = tuple(replace(one, chip=sliced(one.chip, units_frac, bandwidth_frac)) for one in machines.machines)
    return replace(machines, machines=parts)


def asked_frac(stepper: Stepper, batch: Batch, whole: MachineColumns) -> float:
    """Share of the bandwidth of the whole chip that steps of a batch ask for, with weights and cache."""
    step = stepper.step(batch)
    moved = np.asarray(step.role_bytes("weights")) + np.asarray(step.role_bytes("kv"))
    bandwidth = whole.gather(lambda machine: machine.chip.dram.bandwidth_bytes_per_s)
    return float(np.ravel(moved / (np.asarray(stepper.time_s(batch)) * bandwidth))[0])
