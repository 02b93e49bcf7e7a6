"""Area, power and cost of designs near a chip of the catalogue: its own die and TDP, moved by what a piece takes.

Proxies for comparing designs, not a floor plan: pieces come from `chip_costs.yaml`; what is left of the base chip after
them follows its compute units. Packaging, design and margins are left out, as are clocks and voltages other than the
base's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from ridgeline.core import units
from ridgeline.core.errors import SpecError
from ridgeline.core.files import Document, parse_yaml
from ridgeline.hardware.chip import Chip
from ridgeline.hardware.designs import Changes

Column = NDArray[np.float64]

FACTS: Mapping[str, str] = {
    "transistors_per_mac": "",
    "memory_interface_area": "m2",
    "memory_interface_transistors": "",
    "link_area": "m2",
    "link_transistors": "",
    "link_bandwidth": "byte/s",
    "cache_area_per_megabyte": "m2",
    "memory_energy": "j/byte",
    "link_energy": "j/byte",
    "memory_price_per_gigabyte": "usd",
    "reticle": "m2",
    "wafer_diameter": "",
    "defects_per_square_centimetre": "",
    "defect_clustering": "",
}
"""Facts of the file, and the dimension of each ("" for plain numbers)."""

MEGABYTE, GIGABYTE = 1e6, 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What designs take, one value per design.

    Attributes:
        area_m2: of all dies of a chip.
        fits: whether each die fits the reticle, and nothing of the chip became negative.
        tdp_w: board power.
        idle_w: of it, what an idle board takes.
        cost_usd: of good dies and memory.
    """

    area_m2: Column
    fits: NDArray[np.bool_]
    tdp_w: Column
    idle_w: Column
    cost_usd: Column


@cache
def _document() -> Document:
    source = resources.files("ridgeline.search") / "chip_costs.yaml"
    return parse_yaml(source.read_text("utf-8"), name=source.name)


@cache
def facts() -> Mapping[str, float]:
    """The facts of `chip_costs.yaml` in SI units."""
    return {name: _number(("facts", name), unit) for name, unit in FACTS.items()}


def _number(keys: tuple[str | int, ...], unit: str) -> float:
    document = _document()
    if not unit:
        return document.need(*keys, "value", kind=float)
    return units.parse(document.need(*keys, "value", kind=str), unit, at=document.where(*keys))


def costs_of(base: Chip, changes: Changes) -> Costs:
    """Area, power and cost of designs.

    Raises: SpecError: a base whose die, process or memory the file cannot judge.
    Source: areas and prices of pieces: LLMCompass, ISCA 2024; dies per wafer and negative binomial yield as in Chiplet
        Cloud, arXiv 2307.02666.
    """
    known, own = facts(), _Base.of(base)
    compute = changes.column("compute_units", base.compute_units) / base.compute_units
    wider = changes.column("flops_per_unit_frac", 1.0)
    cache_bytes = changes.column("cache_bytes", own.cache_bytes)
    memory = changes.column("dram_bytes_per_s", own.memory_bytes_per_s)
    link = changes.column("link_bytes_per_s", own.link_bytes_per_s) if own.link_bytes_per_s else np.float64(0.0)
    pieces = own.pieces_m2(own.cache_bytes, own.memory_bytes_per_s, own.link_bytes_per_s)
    matrix = own.macs * known["transistors_per_mac"] / own.density
    rest = own.area_m2 - pieces - matrix
    area = compute * (rest + matrix * wider) + own.pieces_m2(cache_bytes, memory, link)
    idle = base.idle_w * area / own.area_m2
    moving = own.moving_w(own.memory_bytes_per_s, own.link_bytes_per_s)
    computing = base.tdp_w - base.idle_w - moving
    if min(float(rest), float(computing)) <= 0:
        raise SpecError("the parts of this chip exceed its whole", at=base.name, fix="take another base")
    each = area / own.dies
    capacity = changes.column("dram_bytes", base.dram.capacity_bytes)
    return Costs(
        area_m2=area,
        fits=np.asarray(each <= known["reticle"]),
        tdp_w=idle + computing * compute * wider + own.moving_w(memory, link),
        idle_w=idle,
        cost_usd=own.dies * die_cost_usd(each, own.wafer_usd)
        + capacity / GIGABYTE * known["memory_price_per_gigabyte"],
    )


def die_cost_usd(area_m2: Column, wafer_usd: float) -> Column:
    """Cost of one good die: the wafer over the dies that fit on it and the share of them that works."""
    known = facts()
    diameter = known["wafer_diameter"] * 1e-3
    count = math.pi * diameter**2 / (4.0 * area_m2) - math.pi * diameter / np.sqrt(2.0 * area_m2)
    defects = area_m2 * known["defects_per_square_centimetre"] * 1e4
    good = (1.0 + defects / known["defect_clustering"]) ** -known["defect_clustering"]
    return np.asarray(wafer_usd / (np.maximum(count, 1.0) * good))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What the proxies need of the base chip."""

    area_m2: float
    density: float
    dies: float
    macs: float
    cache_bytes: float
    memory_bytes_per_s: float
    link_bytes_per_s: float
    stack_bytes_per_s: float
    wafer_usd: float

    @classmethod
    def of(cls, base: Chip) -> _Base:
        missing = [name for name in ("die_area", "transistors", "process") if name not in base.facts]
        if missing:
            raise SpecError(f"the catalogue has no {missing[0]} of {base.name}", at=base.name, fix="take another base")
        dies = float(base.facts["dies"].value) if "dies" in base.facts else 1.0
        area = dies * float(base.facts["die_area"].value)
        l2, port = base.tier("l2"), base.port("scale_up")
        return cls(
            area_m2=area,
            density=float(base.facts["transistors"].value) / area,
            dies=dies,
            macs=base.peak_flops_per_s("bf16") / 2.0 / base.clock_hz,
            cache_bytes=l2.capacity_bytes if l2 is not None else 0.0,
            memory_bytes_per_s=base.dram.bandwidth_bytes_per_s,
            link_bytes_per_s=port.bandwidth_bytes_per_s if port is not None else 0.0,
            stack_bytes_per_s=_stack(base),
            wafer_usd=_wafer(base),
        )

    def pieces_m2(self, cache_bytes: Column | float, memory: Column | float, link: Column | float) -> Column:
        """Cache, memory interfaces and links."""
        known = facts()
        interface = known["memory_interface_area"] + known["memory_interface_transistors"] / self.density
        one_link = known["link_area"] + known["link_transistors"] / self.density
        return np.asarray(
            np.asarray(cache_bytes) / MEGABYTE * known["cache_area_per_megabyte"]
            + np.asarray(memory) / self.stack_bytes_per_s * interface
            + np.asarray(link) / known["link_bandwidth"] * one_link
        )

    def moving_w(self, memory: Column | float, link: Column | float) -> Column:
        """Memory at full rate, and links at full rate in both directions."""
        known = facts()
        return np.asarray(np.asarray(memory) * known["memory_energy"] + 2.0 * np.asarray(link) * known["link_energy"])


def _stack(base: Chip) -> float:
    technology = base.dram.technology.casefold()
    for name in _document().need("stacks", kind=dict):
        if name.casefold() == technology:
            return _number(("stacks", name), "byte/s")
    known = ", ".join(_document().need("stacks", kind=dict))
    raise SpecError(
        "the area of this memory's interface is not known", at=base.name, got=base.dram.technology,
        fix=f"take a base with {known}",
    )  # fmt: skip


def _wafer(base: Chip) -> float:
    process = str(base.facts["process"].value)
    wafers = _document().need("wafers", kind=list)
    for place, wafer in enumerate(wafers):
        if any(process == name or process.startswith(f"{name} ") for name in wafer["processes"]):
            return _number(("wafers", place), "usd")
    raise SpecError("the price of this chip's wafers is not known", at=base.name, got=process, fix="take another base")
