"""Where machines stand: what a joule costs there in overhead, carbon, water and money."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ridgeline.core.errors import SpecError
from ridgeline.hardware.chip import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A data centre or region. Per-joule figures count electricity at the meter, so multiply IT energy by `pue` first.

    Attributes:
        pue: facility energy / IT energy, annual mean.
        carbon_kg_per_j: operational emissions of the grid, annual mean, location-based.
        electricity_usd_per_j: price an industrial customer pays.
        water_l_per_j: on-site water per IT joule (WUE); None where not published.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    region: str
    pue: float
    carbon_kg_per_j: float
    electricity_usd_per_j: float
    water_l_per_j: float | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """A site cannot use less energy than the machines in it."""
        if not (self.pue >= 1 and self.carbon_kg_per_j >= 0 and self.electricity_usd_per_j >= 0):
            raise SpecError("a site needs PUE >= 1 and carbon and price >= 0", at=self.name, got=self)
