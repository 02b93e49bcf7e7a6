"""Operational emissions and water of electricity: grids by country, as yearly means."""

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
