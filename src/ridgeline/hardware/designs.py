"""Chips that nobody built yet: a chip of the catalogue with some facts replaced by columns, a value per design.

A column of designs is one `Chip` whose numbers are arrays. `ChipColumns` and `MachineColumns` hold it as their only
chip, with an index into its designs, so that a grid of chips is priced in one call. Its name is in no catalogue: prices
take the coefficients of its generation and no table that was measured on one chip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError, SpecError
from ridgeline.hardware.chip import Chip
from ridgeline.hardware.topology import Machine

DESIGN = "design of"
"""How a column of designs is called: a name that no measurement goes by."""

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What designs have instead of their base chip's facts, each a number or a column; None: as the base.

    Attributes:
        compute_units: of the base's kind, each with its own caches and registers.
        clock_hz: all rates on the chip follow it.
        flops_per_unit_frac: arithmetic of a unit per cycle, in units of the base's.
        cache_bytes: last-level cache; its bandwidth follows the units and the clock.
        dram_bytes, dram_bytes_per_s: main memory.
        link_bytes_per_s: of the scale-up port, per direction, and of the innermost level of links.
        tdp_w, idle_w: board power.
    """

    compute_units: ArrayLike | None = None
    clock_hz: ArrayLike | None = None
    flops_per_unit_frac: ArrayLike | None = None
    cache_bytes: ArrayLike | None = None
    dram_bytes: ArrayLike | None = None
    dram_bytes_per_s: ArrayLike | None = None
    link_bytes_per_s: ArrayLike | None = None
    tdp_w: ArrayLike | None = None
    idle_w: ArrayLike | None = None

    def column(self, name: str, default: float) -> Column:
        """A change as a column or number. Raises DomainError: not positive and finite."""
        given = getattr(self, name)
        values = np.asarray(default if given is None else given, dtype=np.float64)
        if values.ndim > 1 or not np.all((values > 0) & (values < np.inf)):
            raise DomainError(
                "a design has positive, finite facts", at=name, got=values, fix="give numbers in SI units"
            )
        return values


def designed(base: Chip, changes: Changes) -> Chip:
    """Designs like `base` with the given changes, as one chip whose numbers are columns.

    Rent and price are unknown. Raises SpecError: a change of what the base has not got. DomainError: as `Changes`.
    """
    units = changes.column("compute_units", base.compute_units)
    clock = changes.column("clock_hz", base.clock_hz)
    lanes = units / base.compute_units * (clock / base.clock_hz)
    compute = lanes * changes.column("flops_per_unit_frac", 1.0)
    facts: dict[str, Any] = {
        "name": f"{DESIGN} {base.name}",
        "compute_units": units,
        "clock_hz": clock,
        "tdp_w": changes.column("tdp_w", base.tdp_w),
        "idle_w": changes.column("idle_w", base.idle_w),
        "matrix_flops_per_s": {name: rate * compute for name, rate in base.matrix_flops_per_s.items()},
        "vector_flops_per_s": {name: rate * compute for name, rate in base.vector_flops_per_s.items()},
        "tiers": tuple(replace(tier, **_tier(base, tier.name, lanes, changes)) for tier in base.tiers),
        "ports": tuple(replace(port, **_port(base, port.name, changes)) for port in base.ports),
        "price_usd": None,
        "rent_usd_per_s": None,
    }
    for name, there in (("cache_bytes", base.tier("l2")), ("link_bytes_per_s", base.port("scale_up"))):
        if getattr(changes, name) is not None and there is None:
            raise SpecError(f"{base.name} has nothing that {name} could change", at=name, fix="take another base")
    return replace(base, **facts)


def _tier(base: Chip, name: str, lanes: Column, changes: Changes) -> dict[str, Any]:
    tier = base.tier(name)
    assert tier is not None, "the name comes from the chip's own tiers"
    if name == "dram":
        return {
            "capacity_bytes": changes.column("dram_bytes", tier.capacity_bytes),
            "bandwidth_bytes_per_s": changes.column("dram_bytes_per_s", tier.bandwidth_bytes_per_s),
        }
    if name in ("registers", "shared", "l2"):
        capacity: Any = tier.capacity_bytes * changes.column("compute_units", base.compute_units) / base.compute_units
        if name == "l2":
            capacity = changes.column("cache_bytes", tier.capacity_bytes)
        return {"capacity_bytes": capacity, "bandwidth_bytes_per_s": tier.bandwidth_bytes_per_s * lanes}
    return {}


def _port(base: Chip, name: str, changes: Changes) -> dict[str, Any]:
    return {"bandwidth_bytes_per_s": _link(base, changes)} if name == "scale_up" else {}


def _link(base: Chip, changes: Changes) -> Column:
    port = base.port("scale_up")
    assert port is not None, "asked for its scale-up port only"
    return changes.column("link_bytes_per_s", port.bandwidth_bytes_per_s)


def machine_with(machine: Machine, changes: Changes) -> Machine:
    """The machine with designs in place of its chips; its innermost links follow `link_bytes_per_s`."""
    chip = designed(machine.chip, changes)
    port = machine.chip.port("scale_up")
    if port is None or changes.link_bytes_per_s is None or not machine.levels:
        return replace(machine, chip=chip)
    ratio = _link(machine.chip, changes) / port.bandwidth_bytes_per_s
    wider: dict[str, Any] = {"bandwidth_bytes_per_s": machine.levels[0].bandwidth_bytes_per_s * ratio}
    inner = replace(machine.levels[0], **wider)
    node = machine.node
    if node is not None:
        node = replace(node, levels=(inner, *node.levels[1:]))
    return replace(machine, chip=chip, levels=(inner, *machine.levels[1:]), node=node)
