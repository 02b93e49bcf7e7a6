"""One account: a job's energy from the chips to the meter, and its carbon, water, money and materials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ridgeline.core.errors import DomainError, SpecError
from ridgeline.hardware.chip import Chip
from ridgeline.hardware.topology import Node
from ridgeline.impact.carbon import Grid, Purchase
from ridgeline.impact.embodied import fabrication_water_l, server_embodied_carbon
from ridgeline.impact.materials import elements_kg
from ridgeline.impact.money import owning_usd_per_s
from ridgeline.impact.quantity import NOTHING, Quantity, exact, total
from ridgeline.impact.scopes import server_power
from ridgeline.impact.sheets import fact


def check_pue(pue: float) -> float:
    """The PUE. Raises DomainError: none that can be."""
    if not 1 <= pue < 10:
        raise DomainError(
            "a PUE is 1 or more: the facility's energy over that of its machines",
            at="pue",
            got=pue,
            fix="1.1 to 1.6 is usual",
        )
    return pue


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a job runs: its grid, the facility's overhead, and prices there.

    Attributes:
        name: of the site. pue: energy at the meter over IT energy, >= 1.
        water_l_per_j: consumed on site per IT joule; None: not published.
        carbon_kg_per_j: of electricity at the meter; the grid's yearly mean by default.
        usd_per_j: price of electricity; None: not known.
        purchase: contracts under which it is bought; None: not told, and there is no market-based number.
    """

    name: str
    grid: Grid
    pue: float
    water_l_per_j: float | None = None
    carbon_kg_per_j: float | None = None
    usd_per_j: float | None = None
    purchase: Purchase | None = None

    def __post_init__(self) -> None:
        """A site cannot use less energy than the machines in it."""
        check_pue(self.pue)
        for name in ("water_l_per_j", "carbon_kg_per_j", "usd_per_j"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1e6:
                raise DomainError("rates of a site are finite and >= 0", at=name, got=value, fix="check the sign")

    @property
    def intensity(self) -> Quantity:
        """Carbon per joule at the meter, location-based."""
        return self.grid.carbon_kg_per_j if self.carbon_kg_per_j is None else exact(self.carbon_kg_per_j)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a job costs. Absent parts are None, with the reason in `notes`.

    Attributes:
        energy_j: at each scope, each including the ones before: chips, server, rack, site.
        parts_j: where the energy at the meter goes; they add up to `energy_j["site"]`.
        operational_kg, embodied_kg: carbon of the energy, location-based, and the job's share of making its servers.
        water_l: by part: site, electricity, fabrication.
        money_usd: by part: energy, and owning (server, network, facility, staff) or rent.
        materials_kg: by element, the job's share of accelerator modules.
        phases: share of the chips' energy by phase, adding up to 1; empty if not known.
        notes: what is assumed or missing, in words.
    """

    place: Place
    chip: str
    chip_s: float
    energy_j: Mapping[str, float]
    parts_j: Mapping[str, float]
    operational_kg: Quantity
    embodied_kg: Mapping[str, Quantity] | None
    water_l: Mapping[str, Quantity]
    money_usd: Mapping[str, Quantity]
    materials_kg: Mapping[str, Quantity] | None
    phases: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def market_kg(self) -> Quantity | None:
        """Carbon of the energy, market-based; beside `operational_kg`, not part of it. None: no purchase is told."""
        purchase = self.place.purchase
        return None if purchase is None else purchase.intensity(self.place.intensity) * self.energy_j["site"]

    @property
    def embodied_total_kg(self) -> Quantity:
        """The job's share of making hardware; nothing where it is not known."""
        return total((self.embodied_kg or {}).values())

    @property
    def carbon_kg(self) -> Quantity:
        """Operational and embodied."""
        return self.operational_kg + self.embodied_total_kg

    @property
    def water_total_l(self) -> Quantity:
        """All water that is known."""
        return total(self.water_l.values())

    @property
    def cost_usd(self) -> Quantity:
        """All money that is known."""
        return total(self.money_usd.values())


def account(
    *,
    chip_j: float,
    chip_s: float,
    chip: Chip,
    node: Node,
    place: Place,
    lifetime_s: float | None = None,
    utilisation: float | None = None,
    rent_usd_per_chip_s: float | None = None,
    server_usd: float | None = None,
    usd_per_kg: float = 0.0,
    usd_per_l: float = 0.0,
    phases: Mapping[str, float] | None = None,
) -> Account:
    """The account of a job.

    Args:
        chip_j: energy of all accelerators, J.
        chip_s: their time, chips x seconds.
        chip: what they are.
        node: the server that they stand in.
        place: where.
        lifetime_s: over which hardware is written off; the facts' by default.
        utilisation: share of the lifetime in use; the facts' by default.
        rent_usd_per_chip_s: if the machine is rented; owning is counted otherwise, where a price is known.
        server_usd: price of a server; the catalogue's by default.
        usd_per_kg: price of emitted carbon, of the electricity.
        usd_per_l: price of the site's water.
        phases: share of the energy by phase.
    Raises: DomainError: energy, time, lifetime or utilisation that cannot be.
    """
    if not (chip_j >= 0 and 0 < chip_s < float("inf")):
        raise DomainError("energy is >= 0 and chip time above 0", at="chip_j", got=(chip_j, chip_s), fix="check both")
    share = _share_of_life(chip_s, lifetime_s, utilisation)
    server_s = chip_s / node.chips
    power = server_power(chip_j / chip_s, chip, node)
    parts = {name: float(value) * server_s for name, value in power.parts().items()}
    rack_j = sum(parts.values())
    parts["facility"] = rack_j * (place.pue - 1.0)
    site_j = rack_j + parts["facility"]
    energy = {"chips": parts["chips"], "server": float(power.wall_w) * server_s, "rack": rack_j, "site": site_j}
    notes: list[str] = []
    embodied, water = _making(chip, node, share * (1.0 / node.chips), notes)
    if place.water_l_per_j is None:
        notes.append(f"on-site water of {place.name} is not published and left out")
    else:
        water["site"] = exact(place.water_l_per_j * rack_j)
    water["electricity"] = place.grid.water_l_per_j * site_j
    price = node.price_usd if server_usd is None else server_usd
    money = _money(place, site_j, server_s, node, price, rent_usd_per_chip_s, (lifetime_s, utilisation), notes)
    operational = place.intensity * site_j
    for name, rate, amount in (("carbon", usd_per_kg, operational), ("water", usd_per_l, water.get("site", NOTHING))):
        if rate > 0:
            money[name] = amount * rate
    bought = place.purchase
    if bought is not None and bought.residual_kg_per_j is None and bought.contract_frac < 1:
        notes.append("no residual mix is given: the grid's mean stands in for what no contract covers")
    if not node.host_memory_bytes:
        notes.append(f"the host of {node.name} is not described: the server is its chips")
    return Account(
        place=place,
        chip=chip.name,
        chip_s=chip_s,
        energy_j=energy,
        parts_j=parts,
        operational_kg=operational,
        embodied_kg=embodied,
        water_l=water,
        money_usd=money,
        materials_kg=_materials(chip, share),
        phases=dict(phases or {}),
        notes=tuple(notes),
    )


def _share_of_life(chip_s: float, lifetime_s: float | None, utilisation: float | None) -> Quantity:
    """Lives of chips that the job takes."""
    life = fact("money", "chip_lifetime", "s").quantity if lifetime_s is None else _exact_life(lifetime_s)
    used = fact("money", "utilisation").quantity if utilisation is None else exact(utilisation)
    if not 0 < used.low <= used.high <= 1:
        raise DomainError("utilisation is above 0 and at most 1", at="utilisation", got=utilisation, fix="give a share")
    return exact(chip_s).over(life * used)


def _exact_life(lifetime_s: float) -> Quantity:
    if not lifetime_s > 0:
        raise DomainError("a lifetime is above 0", at="lifetime", got=lifetime_s, fix='give it like "5 years"')
    return exact(lifetime_s)


def _making(
    chip: Chip, node: Node, servers: Quantity, notes: list[str]
) -> tuple[dict[str, Quantity] | None, dict[str, Quantity]]:
    """Carbon and water of making the servers whose lives the job takes."""
    try:
        parts = server_embodied_carbon(chip, node)
        water = fabrication_water_l(chip) * float(node.chips)
    except SpecError as absent:
        notes.append(f"making the hardware is left out: {absent.what}")
        return None, {}
    return {name: part * servers for name, part in parts.items()}, {"fabrication": water * servers}


def _materials(chip: Chip, modules: Quantity) -> dict[str, Quantity] | None:
    """The element table is that of a board with a large accelerator."""
    if chip.kind != "gpu" or not chip.dram.technology.startswith("HBM"):
        return None
    return {name: mass * modules for name, mass in elements_kg(1.0).items()}


def _money(
    place: Place,
    site_j: float,
    server_s: float,
    node: Node,
    server_usd: float | None,
    rent: float | None,
    use: tuple[float | None, float | None],
    notes: list[str],
) -> dict[str, Quantity]:
    if rent is not None:
        if not rent >= 0:
            raise DomainError("a rent is >= 0", at="rent", got=rent, fix="give USD per chip and second")
        notes.append("rented: the rent includes energy, facility and hardware")
        return {"rent": exact(rent * server_s * node.chips)}
    parts: dict[str, Quantity] = {}
    if place.usd_per_j is not None:
        parts["energy"] = exact(place.usd_per_j * site_j)
    if server_usd is None:
        notes.append(f"no price of {node.name} is known: owning it is left out")
        return parts
    used = fact("money", "utilisation").quantity if use[1] is None else exact(use[1])
    reserved = node.max_power_w or 0.0
    for name, per_s in owning_usd_per_s(server_usd, reserved, lifetime_s=use[0]).items():
        parts[name] = (per_s * server_s).over(used) if per_s.high > 0 else NOTHING
    return parts
