"""Embodied carbon and water of chips and servers, from area, node, yield, memory and packaging.

A die costs the electricity, gases and materials of its area over its yield (Gupta et al., ACT, ISCA 2022); the yield is
Murphy's. Stacked memory counts its bytes with a factor for stacking. What a chip's facts do not hold is absent, not 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ridgeline.core import units
from ridgeline.core.errors import DomainError, SpecError, did_you_mean
from ridgeline.hardware.chip import Chip
from ridgeline.hardware.topology import Node
from ridgeline.impact.quantity import Quantity, exact, total
from ridgeline.impact.scopes import sockets_of
from ridgeline.impact.sheets import fact, sheet

STACKED = "HBM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Silicon:
    """The logic dies of one chip: their number, the area of each in m2, and the fabrication node that they share."""

    dies: int
    die_area_m2: float
    node: str


def silicon_of(chip: Chip) -> Silicon:
    """What the catalogue says of a chip's dies. Raises SpecError: no area, or a process whose node is not known."""
    if "die_area" not in chip.facts or "process" not in chip.facts:
        raise SpecError(
            f"the die area or the process of {chip.name} is not published",
            at=f"{chip.name}.die_area",
            fix="add both to the chip's file, with their source",
        )
    written = str(chip.facts["process"].value)
    names = sheet("fabrication").need("nodes", "names", kind=dict)
    rows = sheet("fabrication").need("nodes", "rows", kind=dict)
    node = names.get(written, written if written in rows else "")
    if not node:
        fix = did_you_mean(written, names, listing=f"known: {', '.join(names)}")
        raise SpecError(f"no fabrication data for the process {written!r}", at=f"{chip.name}.process", fix=fix)
    dies = chip.facts.get("dies")
    return Silicon(
        dies=int(float(dies.value)) if dies else 1, die_area_m2=float(chip.facts["die_area"].value), node=node
    )


def die_yield(area_m2: float, defects_per_m2: float) -> float:
    """Share of dies without a defect: Murphy's model, ((1 - exp(-AD)) / AD)^2."""
    if not (area_m2 > 0 and defects_per_m2 >= 0 and math.isfinite(area_m2 * defects_per_m2)):
        raise DomainError("an area is > 0 and a defect density >= 0", at="area_m2", got=area_m2, fix="give both in SI")
    expected = area_m2 * defects_per_m2
    return (-math.expm1(-expected) / expected) ** 2 if expected > 1e-9 else 1.0


def dies_per_wafer(area_m2: float) -> float:
    """Whole dies of a round wafer: pi r^2 / A - pi d / sqrt(2 A) (de Vries, IEEE Trans. Semicond. Manuf. 2005)."""
    diameter = fact("fabrication", "wafer_diameter", "m").value
    found = math.pi * (diameter / 2.0) ** 2 / area_m2 - math.pi * diameter / math.sqrt(2.0 * area_m2)
    if found < 1.0:
        raise DomainError("such a die does not fit on a wafer", at="area_m2", got=area_m2, fix="give the area in m2")
    return found


def die_carbon_kg(area_m2: float, node: str) -> Quantity:
    """Carbon of one good die of that area and node."""
    row = sheet("fabrication").need("nodes", "rows", node, kind=dict)
    unit = sheet("fabrication").need("nodes", "unit", kind=dict)
    electricity = units.parse(f"{row['electricity']} {unit['electricity']}", "j/m2")
    gases = [units.parse(f"{row[name]} {unit[name]}", "kg/m2") for name in ("gas_99", "gas_95")]
    materials = units.parse(f"{row['materials']} {unit['materials']}", "kg/m2")
    # Abatement of 95 % is the value; a fab that abates 99 % lies at the lower end.
    per_area = fact("fabrication", "fab_carbon_intensity", "kg/j").quantity * electricity
    per_area = per_area + Quantity(gases[1], gases[0], gases[1]) + exact(materials)
    return per_area * _area_per_good(area_m2)


def embodied_carbon(chip: Chip) -> dict[str, Quantity]:
    """Carbon of making one accelerator module by part, kg: dies, interposer, memory, packaging, board and cooler.

    Raises: SpecError: the catalogue lacks the area or the process.
    """
    silicon = silicon_of(chip)
    stacked = chip.dram.technology.startswith(STACKED)
    memory = fact("fabrication", "dram_per_byte", "kg/byte").quantity * chip.dram.capacity_bytes
    parts = {
        "dies": die_carbon_kg(silicon.die_area_m2, silicon.node) * silicon.dies,
        "memory": memory * fact("fabrication", "stacked_dram_factor").quantity if stacked else memory,
        "packaging": fact("fabrication", "package_per_die", "kg").quantity * silicon.dies,
        "board": fact("fabrication", "board_and_cooler", "kg").quantity,
    }
    if stacked:
        # An interposer is wired on an old node, without transistors: its electricity alone.
        area = fact("fabrication", "interposer_area_ratio").quantity * (silicon.die_area_m2 * silicon.dies)
        row = sheet("fabrication").need("nodes", "rows", "28", kind=dict)
        per_area = fact("fabrication", "fab_carbon_intensity", "kg/j").quantity * units.parse(
            f"{row['electricity']} kWh/cm^2", "j/m2"
        )
        parts["interposer"] = area * per_area
    return parts


def server_embodied_carbon(chip: Chip, node: Node) -> dict[str, Quantity]:
    """Carbon of making one server by part, kg: accelerators, processors, memory, drives, chassis."""
    memory, drives = node.host_memory_bytes or 0.0, node.nvme_bytes or 0.0
    parts = {"accelerators": total(embodied_carbon(chip).values()) * node.chips}
    if node.host_memory_bytes:
        parts["processors"] = fact("fabrication", "host_processor", "kg").quantity * sockets_of(node)
        parts["memory"] = fact("fabrication", "dram_per_byte", "kg/byte").quantity * memory
        parts["drives"] = fact("fabrication", "ssd_per_byte", "kg/byte").quantity * drives
        parts["chassis"] = fact("fabrication", "chassis", "kg").quantity * (node.chips / 8.0)
    return parts


def fabrication_water_l(chip: Chip) -> Quantity:
    """Water that the fab consumes for the dies of one module, L: per mask layer and wafer, over good dies."""
    silicon = silicon_of(chip)
    row = sheet("fabrication").need("nodes", "rows", silicon.node, kind=dict)
    wafer = fact("fabrication", "wafer_layer_water", "l").value * float(row["mask_layers"])
    wafer_area = math.pi * (fact("fabrication", "wafer_diameter", "m").value / 2.0) ** 2
    # Rims of a wafer yield no die: the water of a die is that of the wafer over its whole dies.
    rim = wafer_area / (dies_per_wafer(silicon.die_area_m2) * silicon.die_area_m2)
    return _area_per_good(silicon.die_area_m2) * (wafer / wafer_area * rim * silicon.dies)


def _area_per_good(area_m2: float) -> Quantity:
    """Area that one good die takes, m2, over the range of defect densities."""
    density = fact("fabrication", "defect_density").quantity
    per_m2 = [value * 1e4 for value in (density.value, density.high, density.low)]
    value, worst, best = (area_m2 / die_yield(area_m2, each) for each in per_m2)
    return Quantity(value, best, worst)
