"""What a prediction needs besides the layout, and what all its terms share: peaks, stages, sizes of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.hardware.chip import ChipColumns, MemoryTier, Value
from ridgeline.hardware.topology import Machine
from ridgeline.training.layout import Layout
from ridgeline.training.links import Links
from ridgeline.training.memory import Memory, memory_of
from ridgeline.training.profile import Coefficients, Profile, Recipe
from ridgeline.training.work import Work
from ridgeline.workloads.ops import Dim

Column = NDArray[np.float64]

VALUE_BYTES = 2.0
"""Activations and gradients of activations are 16-bit whatever matmuls multiply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What lies beyond the chip, per rank: host memory, local drives and CXL memory, bytes/s (0: not known, or none);
    room in the host, and in CXL memory.
    """

    host_bytes_per_s: Dim = 0.0
    nvme_bytes_per_s: Dim = 0.0
    cxl_bytes_per_s: Dim = 0.0
    capacity_bytes: Dim = np.inf
    cxl_bytes: Dim = 0.0


def host_of(machines: Sequence[Machine], index: NDArray[np.intp] | None = None) -> Host:
    """What lies beyond the chips of each machine, of each row (None: of the only machine)."""

    def column(value: Callable[[Machine], MemoryTier | None], name: str) -> Dim:
        tiers = [value(machine) for machine in machines]
        found = np.array([float(getattr(tier, name)) if tier else 0.0 for tier in tiers])
        return float(found[0]) if index is None else found[index]

    return Host(
        host_bytes_per_s=column(Machine.host_tier, "bandwidth_bytes_per_s"),
        nvme_bytes_per_s=column(Machine.nvme_tier, "bandwidth_bytes_per_s"),
        cxl_bytes_per_s=column(Machine.cxl_tier, "bandwidth_bytes_per_s"),
        capacity_bytes=column(Machine.host_tier, "capacity_bytes"),
        cxl_bytes=column(Machine.cxl_tier, "capacity_bytes"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything that a prediction needs besides the layout: one framework and precision, chips and links by row."""

    chips: ChipColumns
    links: Links
    profile: Profile
    recipe: Recipe
    coefficients: Coefficients
    host: Host = Host()

    def memory(self, work: Work, layout: Layout) -> Memory:
        """What each layout keeps on its fullest rank."""
        parts = (self.profile, self.coefficients, self.chips, self.recipe, self.links.sizes[0])
        return memory_of(work, layout, *parts)


def peak_rate(setup: Setup, compute: str) -> Value:
    """Datasheet peak of the matrix engines in one format, operations/s, by row."""
    return setup.chips.gather(lambda chip: chip.peak_flops_per_s(compute))


def sixteen_bit_rate(setup: Setup) -> Value:
    """What large 16-bit matmuls sustain."""
    return np.asarray(peak_rate(setup, "bf16") * setup.coefficients.sustained_share(setup.chips))


def stage_share(work: Work, layout: Layout) -> Dim:
    """Share of the layers that the fullest pipeline rank holds: frameworks place whole layers."""
    layers = np.asarray(work.layers, float)
    return np.asarray(np.ceil(layers / layout.pp - 1e-9) / layers)
