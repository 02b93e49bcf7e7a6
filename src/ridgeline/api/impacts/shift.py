"""`rl.shift`: a load that may wait or move, over the hours of grids: when and where it emits or costs least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core import units
from ridgeline.core.errors import DomainError, SpecError, UnknownNameError, did_you_mean
from ridgeline.hardware import catalogue
from ridgeline.impact.account import check_pue
from ridgeline.impact.carbon import grid, grid_names
from ridgeline.impact.hourly import HOUR_S, Hourly, read_hourly
from ridgeline.impact.shifting import Shift, shift_load
from ridgeline.impact.transport import transport_j

Array = NDArray[np.float64]

LEAST: Mapping[str, tuple[str, str, str]] = {
    "carbon": ("kg/j", "gCO2/kWh", "kg"),
    "money": ("usd/j", "USD/kWh", "usd"),
}
"""What may be least: the dimension of its series, the unit in which tables are written, and that of the answer."""

MOST_HOURS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Somewhere:
    """A place that the load may use.

    Attributes:
        name: of the site or region. pue: energy at the meter over that of machines.
        values: per joule at the meter, one per hour. filled: how many of them were interpolated.
    """

    name: str
    pue: float
    values: Array
    filled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifted:
    """A schedule of a load over places and hours.

    Attributes:
        least: carbon or money. start: of the first hour, UTC; None: no table says which hours they are.
        places: where it may run; the first is where it would run at once.
        found: energy of machines by place and hour, and what it costs, kg or USD.
    """

    least: str
    start: datetime | None
    places: tuple[Somewhere, ...]
    found: Shift

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        unit, placed = LEAST[self.least][2], self.found.energy_j
        hours = [
            {"start": self.hour(int(hour)), "place": self.places[place].name, "energy_j": float(joules)}
            for hour, place in zip(*np.nonzero(placed.T), strict=True)
            if (joules := placed[place, hour]) > 0
        ]
        base, saved = self.found.base, self.found.saved_frac
        known = bool(np.isfinite(base))
        return {
            "verb": "shift",
            "least": self.least,
            f"{self.least}_{unit}": self.found.cost,
            f"at_once_{self.least}_{unit}": base if known else None,
            "saved_frac": saved if known else None,
            "places": {
                place.name: {"pue": place.pue, "energy_j": float(row.sum()), "interpolated_hours": place.filled}
                for place, row in zip(self.places, placed, strict=True)
            },
            "hours": hours,
        }

    def hour(self, number: int) -> str:
        """When an hour of the schedule starts: a time of ISO 8601, or so many hours from now."""
        if self.start is None:
            return f"+{number}h"
        return (self.start + timedelta(hours=number)).isoformat(timespec="minutes")

    def to_csv(self) -> str:
        """A table of hours: start, place, power of the machines."""
        rows = [f"{one['start']},{one['place']},{one['energy_j'] / HOUR_S:.6g}" for one in self.to_dict()["hours"]]
        return "\n".join(["start,place,power_w", *rows, ""])

    def __rich__(self) -> Any:
        """The table that a terminal shows."""
        from ridgeline.api.impacts.shift_view import shift_view

        return shift_view(self)


def shift(
    energy: str | float,
    *,
    at: Sequence[str],
    most: str | float,
    least: str = "carbon",
    within: str | float = "",
    whole: bool = False,
    pue: float | None = None,
    data: str | float = "",
    path: str = "fixed",
    clock: str = "",
    column: str = "",
    unit: str = "",
    interpolate: bool = False,
) -> Shifted:
    """The cheapest schedule of a load that may wait, move, or both.

    Args:
        energy: of its machines, as "40 kWh".
        at: places as NAME, whose yearly mean then holds, or NAME=FILE with a table of its hours. A name is a site of
            the catalogue or a grid region. The first is where the load would run at once.
        most: power of its machines at any place, as "10 kW".
        least: carbon or money.
        within: time in which it must have ended; the hours that all tables have in common by default.
        whole: it runs in one piece, at one place.
        pue: of all places; that of each site by default.
        data: bytes that move with the whole of it to any place but the first.
        path: over which they move, as of `impact.transport`.
        clock: time zone of tables whose times have no offset.
        column: of their values.
        unit: in which these are written; gCO2/kWh or USD/kWh by default.
        interpolate: fill gaps between their neighbours.
    Raises:
        UnknownNameError: an unknown place or path, with the nearest names.
        DomainError, SpecError, FileFormatError: tables with gaps or of another zone, energy that does not fit.
    """
    if least not in LEAST:
        fix = did_you_mean(least, LEAST, listing="carbon or money")
        raise UnknownNameError(f"unknown aim {least!r}", at="least", fix=fix)
    joules = units.parse(energy, "j", at="energy", bare_ok=True)
    most_w = units.parse(most, "w", at="most", bare_ok=True)
    lasting = units.parse(within, "s", at="within", bare_ok=True) if within != "" else None
    if not at:
        raise SpecError("a load needs a place", at="at", fix="give regions or sites, as FR or FR=hours.csv")
    how: dict[str, Any] = {"clock": clock, "column": column, "interpolate": interpolate}
    written = [_place(words, least, unit, pue, how) for words in at]
    names = [name for name, _, _ in written]
    if len(set(names)) < len(names):
        raise SpecError("a place is named twice", at="at", got=", ".join(names), fix="name each once")
    start, hours = _common([series for _, _, series in written if isinstance(series, Hourly)], lasting)
    places = tuple(_hours_of(name, ratio, series, start, hours) for name, ratio, series in written)
    costs = np.stack([place.values * place.pue for place in places])
    moving = np.zeros(len(places))
    if data != "" and joules > 0:
        # Networks use electricity wherever they are; that of the place which the data goes to stands for it.
        moved = transport_j(units.parse(data, "byte", at="data"), path).value
        moving[1:] = [place.values.mean() * moved / joules for place in places[1:]]
    found = shift_load(joules, costs, most_w=most_w, moving=moving, whole=whole)
    return Shifted(least=least, start=start, places=places, found=found)


def _place(
    words: str, least: str, unit: str, pue: float | None, how: Mapping[str, Any]
) -> tuple[str, float, Hourly | float]:
    """Name, PUE, and hours or the yearly mean."""
    name, _, file = words.partition("=")
    name = name.strip()
    sites, regions = catalogue.site_names(), grid_names()
    if name not in sites and name not in regions:
        fix = did_you_mean(
            name, (*sites.canonical, *regions.canonical, *_titles()), listing="`ridgeline impact --grids`"
        )
        raise UnknownNameError(f"no site or grid region {name!r}", at="at", fix=fix)
    site = catalogue.site(name) if name in sites else None
    region = grid(name) if site is None else None
    if pue is None and site is None:
        raise SpecError(f"{name} needs its overhead", at="pue", fix="give a PUE, or sites of the catalogue")
    ratio = check_pue(site.pue if pue is None and site is not None else float(pue or 0.0))
    title = site.name if site is not None else region.name if region is not None else name
    if file:
        dimension, usual, _ = LEAST[least]
        zone = region.name if region is not None else _country(site.region if site is not None else "")
        return title, ratio, read_hourly(file, dimension=dimension, unit=unit or usual, zone=zone, **how)
    if least == "carbon":
        return title, ratio, site.carbon_kg_per_j if site is not None else grid(name).carbon_kg_per_j.value
    if site is None:
        raise SpecError(f"no price of electricity in {name}", at="at", fix=f"give {name}=FILE, or a site")
    return title, ratio, site.electricity_usd_per_j


def _titles() -> list[str]:
    return [grid(code).title for code in grid_names().canonical]


def _country(region: str) -> str:
    return region.partition("-")[0]


def _common(series: Sequence[Hourly], within_s: float | None) -> tuple[datetime | None, int]:
    """Start and number of the hours that all tables hold, cut to the time that is given."""
    if within_s is not None and not HOUR_S <= within_s <= MOST_HOURS * HOUR_S:
        raise DomainError("a load has an hour or more", at="within", got=within_s, fix='as "24h"')
    asked = None if within_s is None else int(within_s // HOUR_S)
    if not series:
        if asked is None:
            raise SpecError(
                "nothing says how long the load may wait", at="within", fix="give a time, or tables of hours"
            )
        return None, asked
    start = max(one.start for one in series)
    ends = [one.start + timedelta(hours=one.values.size) for one in series]
    hours = int((min(ends) - start) / timedelta(hours=1))
    if hours < 1:
        raise SpecError("the tables have no hour in common", at="at", fix="give tables of the same days")
    if asked is not None and asked > hours:
        fix = "give longer tables, or less time"
        raise SpecError(f"the tables have {hours} hours in common", at="within", got=f"{asked} hours", fix=fix)
    return start, hours if asked is None else asked


def _hours_of(name: str, pue: float, series: Hourly | float, start: datetime | None, hours: int) -> Somewhere:
    if start is None or not isinstance(series, Hourly):
        return Somewhere(name=name, pue=pue, values=np.full(hours, series))
    late = (start - series.start) / timedelta(hours=1)
    if abs(late - round(late)) > 1e-9:
        raise SpecError(f"hours of {name} start within those of another place", at="at", fix="give whole hours of UTC")
    first = round(late)
    return Somewhere(name=name, pue=pue, values=series.values[first : first + hours], filled=series.filled)
