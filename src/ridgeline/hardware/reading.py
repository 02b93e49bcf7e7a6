"""Catalogue files into the frozen values of the layer: units parsed, ranges checked, evidence kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from ridgeline.core import units
from ridgeline.core.errors import RidgelineError, SpecError, UnitError, nearest
from ridgeline.core.files import Document
from ridgeline.hardware.chip import Chip, Fact, MemoryTier, Port
from ridgeline.hardware.schema import (
    ChipFile,
    FactModel,
    LevelModel,
    NodeFile,
    PortModel,
    PortName,
    SiteFile,
    SourceModel,
    Tier,
    TierModel,
    validate,
)
from ridgeline.hardware.site import Site
from ridgeline.hardware.topology import UNBOUNDED, Level, Node

RANGES: Mapping[str, tuple[str, float, float]] = {
    "launch_year": ("count", 2005, 2035),
    "dies": ("count", 1, 64),
    "die_area": ("m2", 1e-5, 5e-3),
    "transistors": ("count", 1e8, 1e13),
    "compute_units": ("count", 1, 1e4),
    "clock": ("hz", 1e8, 7e9),
    "tdp": ("w", 1, 5e3),
    "idle_power": ("w", 1e-2, 1e3),
    "price": ("usd", 5, 1e7),
    "rental": ("usd/s", 1e-3 / 3600, 2e3 / 3600),
    "rate": ("flop/s", 1e9, 1e18),
    "capacity.registers": ("byte", 1e3, 1e9),
    "capacity.shared": ("byte", 1e3, 1e9),
    "capacity.l2": ("byte", 1e5, 2e9),
    "capacity.dram": ("byte", 2**28, 4e12),
    "capacity.flash": ("byte", 1e4, 1e9),
    "capacity.host": ("byte", 2**30, 2e14),
    "capacity.cxl": ("byte", 2**30, 2e14),
    "capacity.nvme": ("byte", 2**30, 1e16),
    "bandwidth.registers": ("byte/s", 1e10, 1e16),
    "bandwidth.shared": ("byte/s", 1e10, 1e16),
    "bandwidth.l2": ("byte/s", 1e9, 1e15),
    "bandwidth.dram": ("byte/s", 1e9, 1e14),
    "bandwidth.flash": ("byte/s", 1e7, 1e11),
    "bandwidth.host": ("byte/s", 1e8, 1e13),
    "bandwidth.cxl": ("byte/s", 1e9, 1e13),
    "bandwidth.nvme": ("byte/s", 1e7, 1e12),
    "bandwidth.link": ("byte/s", 1e7, 1e13),
    "latency": ("s", 1e-10, 1e-2),
    "host_memory_bandwidth": ("byte/s", 1e8, 1e15),
    "chips": ("count", 1, 1e5),
    "size": ("count", 2, 1e6),
    "nics": ("count", 0, 1e4),
    "max_power": ("w", 5, 1e8),
    "pue": ("1", 1, 4),
    "carbon": ("kg/j", 0, 2 / 3.6e6),
    "electricity": ("usd/j", 0, 2 / 3.6e6),
    "water": ("l/j", 0, 20 / 3.6e6),
}
"""Field -> dimension, least and greatest believable value in SI; a slipped unit or digit lands outside."""

MICROCONTROLLER_RANGES = {
    **RANGES,
    "clock": ("hz", 1e6, 2e9),
    "tdp": ("w", 1e-3, 1e1),
    "idle_power": ("w", 1e-6, 1e0),
    "price": ("usd", 1e-1, 1e3),
    "rate": ("flop/s", 1e6, 1e13),
    "capacity.l2": ("byte", 1e3, 1e7),
    "capacity.dram": ("byte", 1e4, 2**28),
    "bandwidth.dram": ("byte/s", 1e7, 1e12),
}
"""The same for chips of kind mcu, whose main memory is SRAM on the die."""


class _Reader:
    """Turns facts as written into SI numbers, checks their range, and keeps the evidence by dotted key."""

    def __init__(
        self,
        document: Document,
        sources: Mapping[str, SourceModel],
        ranges: Mapping[str, tuple[str, float, float]] = RANGES,
    ) -> None:
        self._document, self._sources, self._ranges = document, sources, ranges
        self.facts: dict[str, Fact] = {}

    def _at(self, *path: str | int) -> str:
        return self._document.where(*path)

    def number(self, model: FactModel, field: str, *path: str | int, key: str = "") -> float:
        """The SI value of the fact at `path`, within the range of `field`."""
        dimension, least, greatest = self._ranges[field]
        try:
            value = units.parse(model.value, dimension)
        except UnitError as fault:
            # Places are found only for messages: finding one parses the file a second time.
            raise UnitError(fault.what, at=self._at(*path, "value"), got=fault.got, fix=fault.fix) from None
        if not least <= value <= greatest:
            raise SpecError(
                f"{'.'.join(map(str, path))} is not plausible",
                at=self._at(*path, "value"),
                got=model.value,
                fix=f"it lies between {least:g} and {greatest:g} in SI ({dimension}); check digits and unit",
            )
        self._keep(model, value, path, key)
        return value

    def optional(self, model: FactModel | None, field: str, *path: str | int, key: str = "") -> float | None:
        """As `number`, None where the file is silent."""
        return None if model is None else self.number(model, field, *path, key=key)

    def whole(self, model: FactModel, field: str, *path: str | int, key: str = "") -> int:
        """As `number`, for things that come in wholes."""
        value = self.number(model, field, *path, key=key)
        if value != int(value):
            raise SpecError("not a whole number", at=self._at(*path, "value"), got=model.value)
        return int(value)

    def text(self, model: FactModel | None, *path: str | int, key: str = "") -> str:
        """The words of the fact, empty where the file is silent."""
        if model is None:
            return ""
        if not isinstance(model.value, str):
            raise SpecError("this fact is text", at=self._at(*path, "value"), got=model.value)
        self._keep(model, model.value, path, key)
        return model.value

    def flag(self, model: FactModel | None, *path: str | int, key: str = "") -> bool:
        """The truth of the fact, False where the file is silent."""
        if model is None:
            return False
        if not isinstance(model.value, bool):
            raise SpecError("this fact is true or false", at=self._at(*path, "value"), got=model.value)
        self._keep(model, str(model.value).lower(), path, key)
        return model.value

    def _keep(self, model: FactModel, value: float | str, path: Sequence[str | int], key: str) -> None:
        source = self._sources.get(model.source)
        if source is None:
            hits = nearest(model.source, self._sources)
            raise SpecError(
                f"no source {model.source!r} in this file",
                at=self._at(*path, "source"),
                fix=f"did you mean {hits[0]!r}?" if hits else f"add it to sources ({', '.join(self._sources)})",
            )
        kind = model.kind or source.kind
        if kind in ("estimated", "assumed") and not model.how:
            raise SpecError(f"an {kind} fact says how", at=self._at(*path), got=model.value, fix="add `how:`")
        where = model.where or source.where
        said = f"{source.document} ({source.date})" + (f", {where}" if where else "")
        self.facts[key or ".".join(map(str, path)).removeprefix("facts.")] = Fact(
            value=value, kind=kind, source=said, how=model.how
        )


def read_chip(document: Document) -> Chip:
    """The chip that a file describes. Raises SpecError or UnitError with file, line and column."""
    file = validate(ChipFile, document)
    reader = _Reader(document, file.sources, MICROCONTROLLER_RANGES if file.kind == "mcu" else RANGES)
    facts = file.facts
    reader.text(facts.process, "facts", "process")
    reader.number(facts.launch_year, "launch_year", "facts", "launch_year")
    for name, model in (("dies", facts.dies), ("die_area", facts.die_area), ("transistors", facts.transistors)):
        reader.optional(model, name, "facts", name)
    order: tuple[Tier, ...] = get_args(Tier)
    try:
        return Chip(
            name=file.name,
            title=file.title,
            vendor=file.vendor,
            kind=file.kind,
            generation=file.generation,
            aliases=tuple(file.aliases),
            default_node=file.default_node,
            matrix_flops_per_s={t: reader.number(m, "rate", "matrix", t) for t, m in file.matrix.items()},
            vector_flops_per_s={t: reader.number(m, "rate", "vector", t) for t, m in file.vector.items()},
            tiers=tuple(_tier(reader, name, file.memory[name]) for name in order if name in file.memory),
            ports=tuple(_port(reader, name, model) for name, model in file.ports.items()),
            compute_units=reader.whole(facts.compute_units, "compute_units", "facts", "compute_units"),
            clock_hz=reader.number(facts.clock, "clock", "facts", "clock"),
            tdp_w=reader.number(facts.tdp, "tdp", "facts", "tdp"),
            idle_w=reader.number(facts.idle_power, "idle_power", "facts", "idle_power"),
            price_usd=reader.optional(facts.price, "price", "facts", "price"),
            rent_usd_per_s=reader.optional(facts.rental, "rental", "facts", "rental"),
            facts=reader.facts,
        )
    except RidgelineError as fault:
        raise _placed(fault, document) from None


def _tier(reader: _Reader, name: Tier, model: TierModel) -> MemoryTier:
    at = ("memory", name)
    return MemoryTier(
        name=name,
        technology=model.technology,
        capacity_bytes=reader.number(model.capacity, f"capacity.{name}", *at, "capacity"),
        bandwidth_bytes_per_s=reader.number(model.bandwidth, f"bandwidth.{name}", *at, "bandwidth"),
        latency_s=reader.optional(model.latency, "latency", *at, "latency") or 0.0,
        inline_ecc=reader.flag(model.inline_ecc, *at, "inline_ecc"),
    )


def _port(reader: _Reader, name: PortName, model: PortModel) -> Port:
    at = ("ports", name)
    return Port(
        name=name,
        technology=model.technology,
        bandwidth_bytes_per_s=reader.number(model.bandwidth, "bandwidth.link", *at, "bandwidth"),
        latency_s=reader.number(model.latency, "latency", *at, "latency"),
    )


def read_node(document: Document, chip: Chip | None = None) -> Node:
    """The node that a file describes; a template (a file without `chip`) needs the `chip` that it is for."""
    file = validate(NodeFile, document)
    reader = _Reader(document, file.sources)
    name = file.chip or (chip.name if chip else "")
    if not name:
        raise SpecError("a node names its chip", at=document.where(), fix="add `chip:`")
    facts = file.facts
    reader.optional(facts.launch_year, "launch_year", "facts", "launch_year")
    try:
        return Node(
            name=file.name,
            title=file.title,
            aliases=tuple(file.aliases),
            chip=name,
            chips=reader.whole(facts.chips, "chips", "facts", "chips"),
            levels=tuple(_level(reader, document, i, model, chip) for i, model in enumerate(file.levels)),
            host_cpu=reader.text(facts.host_cpu, "facts", "host_cpu"),
            host_memory_bytes=reader.optional(facts.host_memory, "capacity.host", "facts", "host_memory"),
            host_memory_bandwidth_bytes_per_s=reader.optional(
                facts.host_memory_bandwidth, "host_memory_bandwidth", "facts", "host_memory_bandwidth"
            ),
            nic_count=reader.whole(facts.nics, "nics", "facts", "nics") if facts.nics else 0,
            nic_bandwidth_bytes_per_s=reader.optional(facts.nic_bandwidth, "bandwidth.link", "facts", "nic_bandwidth"),
            nvme_bytes=reader.optional(facts.nvme_capacity, "capacity.nvme", "facts", "nvme_capacity"),
            nvme_bandwidth_bytes_per_s=reader.optional(
                facts.nvme_bandwidth, "bandwidth.nvme", "facts", "nvme_bandwidth"
            ),
            cxl_bytes=reader.optional(facts.cxl_capacity, "capacity.cxl", "facts", "cxl_capacity"),
            cxl_bandwidth_bytes_per_s=reader.optional(facts.cxl_bandwidth, "bandwidth.cxl", "facts", "cxl_bandwidth"),
            cxl_latency_s=reader.optional(facts.cxl_latency, "latency", "facts", "cxl_latency") or 0.0,
            max_power_w=reader.optional(facts.max_power, "max_power", "facts", "max_power"),
            price_usd=reader.optional(facts.price, "price", "facts", "price"),
            rent_usd_per_s=reader.optional(facts.rental, "rental", "facts", "rental"),
            facts=reader.facts,
        )
    except RidgelineError as fault:
        raise _placed(fault, document) from None


def _level(reader: _Reader, document: Document, index: int, model: LevelModel, chip: Chip | None) -> Level:
    at, key = ("levels", index), f"levels.{model.name}"
    port = chip.port(model.port) if chip and model.port else None
    if model.bandwidth is not None:
        bandwidth = reader.number(model.bandwidth, "bandwidth.link", *at, "bandwidth", key=f"{key}.bandwidth")
    elif port is not None:
        bandwidth = port.bandwidth_bytes_per_s
    else:
        raise SpecError(
            "a level needs a bandwidth, or a port that its chip has",
            at=document.where(*at),
            got=model.port,
            fix="add `bandwidth:`",
        )
    size = None if model.size is None else reader.whole(model.size, "size", *at, "size", key=f"{key}.size")
    return Level(
        name=model.name,
        kind=model.kind,
        size=size or UNBOUNDED,
        bandwidth_bytes_per_s=bandwidth,
        latency_s=reader.number(model.latency, "latency", *at, "latency", key=f"{key}.latency"),
        reduces_in_switch=reader.flag(model.reduces_in_switch, *at, "reduces_in_switch", key=f"{key}.reduces"),
    )


def read_site(document: Document) -> Site:
    """The site that a file describes."""
    file = validate(SiteFile, document)
    reader = _Reader(document, file.sources)
    facts = file.facts
    return Site(
        name=file.name,
        title=file.title,
        aliases=tuple(file.aliases),
        region=file.region,
        pue=reader.number(facts.pue, "pue", "facts", "pue"),
        carbon_kg_per_j=reader.number(facts.carbon_intensity, "carbon", "facts", "carbon_intensity"),
        electricity_usd_per_j=reader.number(facts.electricity_price, "electricity", "facts", "electricity_price"),
        water_l_per_j=reader.optional(facts.water_usage, "water", "facts", "water_usage"),
        facts=reader.facts,
    )


def _placed(fault: RidgelineError, document: Document) -> RidgelineError:
    """`fault` with its file named, for the invariants of values, which know no file."""
    if fault.at.startswith(f"{document.name}:"):
        return fault
    return type(fault)(fault.what, at=f"{document.where()} {fault.at}".strip(), got=fault.got, fix=fault.fix)
