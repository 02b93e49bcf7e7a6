"""Operational emissions and water of electricity: grids by country, as yearly means, and what contracts make of them.

Two numbers stand side by side, as the GHG Protocol's Scope 2 Guidance (2015) has them: location-based, of the grid
where the electricity is used; and market-based, of the contracts under which it is bought, and of the residual mix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core import units
from ridgeline.core.errors import DomainError
from ridgeline.core.names import Names
from ridgeline.impact.quantity import Quantity, exact
from ridgeline.impact.sheets import fact, sheet

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Electricity of a region, per joule at the meter.

    Attributes:
        name: region code, as "FR". title: its name. year: of the mean.
        carbon_kg_per_j: life-cycle emissions of generation, location-based.
        water_l_per_j: water that generation consumes; a range where the region has no figure.
        sources: of both, in words.
    """

    name: str
    title: str
    year: int
    carbon_kg_per_j: Quantity
    water_l_per_j: Quantity
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """How electricity is bought.

    Attributes:
        contract_frac: share of it under contracts whose certificates are retired for the user.
        contract_kg_per_j: emissions that those certificates state; 0 for wind, sun, water and nuclear power.
        residual_kg_per_j: of what no certificate claims in that market; None: not known, so that the grid's mean stands
            in, as the Guidance ranks factors.
    """

    contract_frac: float
    contract_kg_per_j: float = 0.0
    residual_kg_per_j: float | None = None

    def __post_init__(self) -> None:
        """A share is a share, and no electricity takes carbon out of the air."""
        if not 0 <= self.contract_frac <= 1:
            raise DomainError(
                "a share of the electricity is 0 to 1", at="contract", got=self.contract_frac, fix="give a share"
            )
        for name in ("contract_kg_per_j", "residual_kg_per_j"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1e6:
                raise DomainError("emissions are finite and >= 0", at=name, got=value, fix="check the sign")

    def intensity(self, location: Quantity) -> Quantity:
        """Market-based emissions per joule, where the grid's own are `location`."""
        rest = location if self.residual_kg_per_j is None else exact(self.residual_kg_per_j)
        return exact(self.contract_frac * self.contract_kg_per_j) + rest * (1.0 - self.contract_frac)


@cache
def grid_names() -> Names:
    """Resolves regions by code (FR, FRA) or name."""
    rows = sheet("grids").need("rows", kind=dict)
    aliases = {code: (row["title"], *row["aliases"]) for code, row in rows.items()}
    return Names("grid region", aliases, listing="`ridgeline impact --grids` lists them")


@cache
def grid(name: str, *, at: str = "grid") -> Grid:
    """The grid of that region. Raises UnknownNameError with the nearest names."""
    document = sheet("grids")
    code = grid_names().resolve(name, at=at)
    row, columns = document.need("rows", code, kind=dict), document.need("columns", kind=dict)
    carbon = units.parse(f"{row['carbon']} {columns['carbon']['unit']}", "kg/j", at=code)
    sources = {column: str(columns[column]["how"]) for column in columns}
    for column in columns:
        source = document.need("sources", columns[column]["source"], kind=dict)
        sources[column] = f"{source['document']} ({source['date']}), {columns[column]['how']}"
    if "water" in row:
        water = exact(units.parse(f"{row['water']} {columns['water']['unit']}", "l/j", at=code))
    else:
        known = fact("grids", "default_water", "l/j")
        water, sources["water"] = known.quantity, f"{known.source}, {known.how}"
    return Grid(
        name=code,
        title=row["title"],
        year=int(row["year"]),
        carbon_kg_per_j=exact(carbon),
        water_l_per_j=water,
        sources=sources,
    )


def operational_carbon_kg(energy_j: ArrayLike, carbon_kg_per_j: ArrayLike) -> Array:
    """Emissions of energy at the meter; arrays broadcast, so that an hourly load meets an hourly grid.

    Raises: DomainError: a negative or non-finite number.
    """
    energy, intensity = np.asarray(energy_j, np.float64), np.asarray(carbon_kg_per_j, np.float64)
    for name, value in (("energy_j", energy), ("carbon_kg_per_j", intensity)):
        if not np.all(np.isfinite(value) & (value >= 0)):
            raise DomainError(
                "energy and intensity are finite and >= 0", at=name, got=value.min(initial=0.0), fix="check"
            )
    found: Array = energy * intensity
    return found
