"""A schedule as people read it: how much runs where, in which hours, and what that saves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.core import units
from ridgeline.impact.hourly import HOUR_S

if TYPE_CHECKING:
    from ridgeline.api.impacts.shift import Shifted

MOST_STRETCHES = 12
"""Stretches of hours that the screen lists."""


def shift_view(found: Shifted) -> RenderableType:
    """The whole screen."""
    carbon = found.least == "carbon"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("place")
    for head in (
        "energy",
        "hours",
        "gCO2e/kWh when it runs" if carbon else "USD/kWh when it runs",
        "mean of all hours",
    ):
        table.add_column(head, justify="right")
    scale = 3.6e9 if carbon else 3.6e6
    for place, row in zip(found.places, found.found.energy_j, strict=True):
        used = row.sum()
        running = f"{(row * place.values).sum() / used * scale:.4g}" if used > 0 else "-"
        hours = f"{np.count_nonzero(row)}"
        table.add_row(place.name, units.si(used / 3600.0, "Wh"), hours, running, f"{place.values.mean() * scale:.4g}")
    parts: list[RenderableType] = [Text(_answer(found), style="bold"), table, _stretches(found)]
    filled = [f"{place.filled} hours of {place.name} are interpolated" for place in found.places if place.filled]
    return Group(*parts, *(Text(words, style="dim") for words in filled))


def _answer(found: Shifted) -> str:
    cost, base = found.found.cost, found.found.base
    write = _kg if found.least == "carbon" else _usd
    if math.isnan(base):
        return f"{write(cost)}; {found.places[0].name} alone could not run it in time"
    home = found.places[0].name
    return f"{write(cost)} instead of {write(base)} at once at {home}: {found.found.saved_frac:.1%} less"


def _stretches(found: Shifted) -> RenderableType:
    """Hours that touch, at one place, as one row."""
    rows: list[tuple[int, int, str, float]] = []
    for place, row in zip(found.places, found.found.energy_j, strict=True):
        used = np.flatnonzero(row > 0)
        parts = [part for part in np.split(used, np.flatnonzero(np.diff(used) > 1) + 1) if part.size]
        rows += [(int(p[0]), int(p[-1]) + 1, place.name, float(row[p].sum()) / (p.size * HOUR_S)) for p in parts]
    rows.sort()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("from", "until", "place", "mean power"):
        table.add_column(head, justify="right" if head == "mean power" else "left")
    for first, last, name, watts in rows[:MOST_STRETCHES]:
        table.add_row(found.hour(first), found.hour(last), name, units.si(watts, "W"))
    if len(rows) > MOST_STRETCHES:
        table.add_row(f"and {len(rows) - MOST_STRETCHES} more", "", "", "")
    return table


def _kg(value: float) -> str:
    return f"{units.si(value * 1e3, 'g')} CO2e"


def _usd(value: float) -> str:
    return f"${value:.4g}"
