"""Machines as columns of a case table: chips by row, and the levels of links that a group of ranks crosses by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.hardware.chip import Chip, ChipColumns, Value, spread
from ridgeline.hardware.topology import MESH_KINDS, Level, Machine

BUS_KINDS = frozenset({"pcie", "inter-socket"})
"""Kinds that pass through host bridges. Without peer-to-peer they act as one bus that all their chips share."""

LARGEST_PLANE = 1024
"""Chips of the largest pod with a two-dimensional torus (TPU v3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelColumns:
    """One level of links per row: a number where all rows share a machine, else one value per row.

    `size` counts the chips of one domain. Flags are 0 or 1: `mesh` (one link to each peer), `bus` (a host bus that all
    chips share), `torus` (links to neighbours only, in `dimensions`), `reduces` (the switch adds what passes).
    """

    size: Value
    bandwidth_bytes_per_s: Value
    latency_s: Value
    mesh: Value
    bus: Value
    torus: Value
    reduces: Value
    dimensions: Value


@dataclass(frozen=True, slots=True)
class MachineColumns:
    """One entry of `index` per row, pointing into `machines`; None means that every row uses `machines[0]`."""

    machines: tuple[Machine, ...]
    index: NDArray[np.intp] | None = None

    @property
    def chips(self) -> ChipColumns:
        """The chips of the same rows."""
        return ChipColumns(tuple(machine.chip for machine in self.machines), self.index)

    def gather(self, value: Callable[[Machine], float]) -> Value:
        """`value(machine)` for each row; each machine is asked once."""
        if self.index is None:
            return float(value(self.machines[0]))
        return spread([value(machine) for machine in self.machines], self.index)

    def levels(self) -> tuple[LevelColumns, ...]:
        """Levels from inner to outer; a machine with fewer repeats its last one, which then spans nothing new."""
        kept = [_merged_buses(machine.levels) for machine in self.machines]
        return tuple(self._level(kept, place) for place in range(max(len(levels) for levels in kept)))

    def _level(self, kept: list[tuple[Level, ...]], place: int) -> LevelColumns:
        chosen = [levels[min(place, len(levels) - 1)] if levels else None for levels in kept]

        def gather(value: Callable[[Level], float], without: float) -> Value:
            values = [without if level is None else value(level) for level in chosen]
            return float(values[0]) if self.index is None else spread(values, self.index)

        return LevelColumns(
            size=gather(lambda level: level.size, 1.0),
            bandwidth_bytes_per_s=gather(lambda level: level.bandwidth_bytes_per_s, 1.0),
            latency_s=gather(lambda level: level.latency_s, 0.0),
            mesh=gather(lambda level: level.kind in MESH_KINDS, 0.0),
            bus=gather(lambda level: level.kind in BUS_KINDS, 0.0),
            torus=gather(lambda level: level.kind == "torus", 0.0),
            reduces=gather(lambda level: level.reduces_in_switch, 0.0),
            dimensions=gather(_dimensions, 1.0),
        )


def alone(chips: ChipColumns) -> MachineColumns:
    """Machines of one chip each, for ops that stay on it."""
    return MachineColumns(tuple(_single(chip) for chip in chips.chips), chips.index)


def _merged_buses(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    """Host buses that follow each other, as one: a ring takes the whole buffer over every bridge, at the inner rate."""
    kept: list[Level] = []
    for level in levels:
        if kept and level.kind in BUS_KINDS and kept[-1].kind in BUS_KINDS:
            kept[-1] = replace(kept[-1], size=level.size)
        else:
            kept.append(level)
    return tuple(kept)


def _single(chip: Chip) -> Machine:
    return Machine(name=chip.name, chip=chip, count=1, levels=())


def _dimensions(level: Level) -> float:
    """Dimensions of a torus, 1 for anything else: pods of TPU v2, v3, v5e and v6e have two, the larger ones three."""
    if level.kind != "torus":
        return 1.0
    return 2.0 if level.size <= LARGEST_PLANE else 3.0
