"""Hourly series of a grid, from a table of one's own: checked for zone, order, doubles and gaps.

A gap is an error that says where it is; it is filled between its neighbours only when that is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from ridgeline.core import units
from ridgeline.core.errors import FileFormatError, SpecError, UnknownNameError, did_you_mean
from ridgeline.impact.csv_rows import read_rows

Array = NDArray[np.float64]

HOUR_S = 3600.0
TIMES = ("timestamp", "datetime", "time", "datetime (utc)", "hour")
ZONES = ("zone id", "zone", "zone_id", "region", "country")
VALUES = ("carbon", "gco2", "intensity", "price", "usd")
"""Parts of the name by which the column of values is found, unless it is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hourly:
    """Values that hold for an hour each.

    Attributes:
        start: of the first hour, UTC.
        values: SI units, as kg/J or USD/J; shape (hours,).
        zone: that the table names, or "".
        filled: how many hours were interpolated.
    """

    start: datetime
    values: Array
    zone: str = ""
    filled: int = 0

    def at(self, seconds: Array) -> Array:
        """Values at seconds since the start; the series repeats after its end."""
        place = np.floor(np.asarray(seconds) / HOUR_S).astype(np.intp) % self.values.size
        found: Array = self.values[place]
        return found


def read_hourly(
    path: str | os.PathLike[str],
    *,
    dimension: str = "kg/j",
    unit: str = "gCO2/kWh",
    zone: str = "",
    clock: str = "",
    column: str = "",
    interpolate: bool = False,
) -> Hourly:
    """Read a table of hours.

    Args:
        path: a CSV with a head, one column of ISO 8601 times and one of values.
        dimension: of the values.
        unit: in which they are written.
        zone: that the table must name, if it names one.
        clock: time zone of times without an offset, as "Europe/Berlin"; they are refused without.
        column: of the values; found by its name if empty.
        interpolate: fill gaps between their neighbours.
    Raises:
        FileFormatError, SpecError: no such table, another zone, doubles, gaps, times without a zone, odd values.
        UnknownNameError: an unknown time zone, or a column that is not there.
    """
    name = Path(path).name
    rows = read_rows(path, least=2)
    head = rows[0]
    time_at, value_at = _place(head, TIMES, "times", name), _value_place(head, column, name)
    _check_zone(head, rows[1:], zone, name)
    times = [_time(row[time_at], clock, f"{name}:{line}") for line, row in enumerate(rows[1:], start=2)]
    values = np.array(
        [
            units.parse(f"{row[value_at].strip()} {unit}", dimension, at=f"{name}:{line}")
            for line, row in enumerate(rows[1:], start=2)
        ]
    )
    hours = _hours(times, name)
    missing = int(hours[-1]) + 1 - hours.size
    if missing and not interpolate:
        place = int(np.flatnonzero(np.diff(hours) > 1)[0])
        raise SpecError(
            f"{missing} hours are missing, the first after {times[place].isoformat()}",
            at=f"{name}:{place + 2}",
            fix="complete the table, or ask for interpolation",
        )
    every = np.arange(int(hours[-1]) + 1, dtype=np.float64)
    found = [row[_zone_place(head)] for row in rows[1:2]] if _zone_place(head) >= 0 else [""]
    return Hourly(start=times[0], values=np.interp(every, hours, values), zone=found[0], filled=missing)


def _place(head: Sequence[str], names: Sequence[str], what: str, name: str) -> int:
    for place, cell in enumerate(head):
        if cell.strip().lower() in names:
            return place
    raise FileFormatError(f"no column of {what}", at=name, got=", ".join(head), fix=f"name one {names[0]!r}")


def _value_place(head: Sequence[str], column: str, name: str) -> int:
    if column:
        if column not in head:
            raise UnknownNameError(f"no column {column!r}", at=name, fix=did_you_mean(column, head))
        return list(head).index(column)
    for place, cell in enumerate(head):
        if any(part in cell.lower() for part in VALUES):
            return place
    raise FileFormatError("no column of values", at=name, got=", ".join(head), fix="name it, as `--hourly-column`")


def _zone_place(head: Sequence[str]) -> int:
    return next((place for place, cell in enumerate(head) if cell.strip().lower() in ZONES), -1)


def _check_zone(head: Sequence[str], rows: Sequence[Sequence[str]], zone: str, name: str) -> None:
    place = _zone_place(head)
    named = sorted({row[place].strip() for row in rows}) if place >= 0 else []
    if len(named) > 1:
        raise SpecError("the table holds several zones", at=name, got=", ".join(named[:4]), fix="keep the rows of one")
    if zone and named and named[0].partition("-")[0].upper() != zone.partition("-")[0].upper():
        raise SpecError(f"the table is of zone {named[0]}, not {zone}", at=name, fix="give the table of that zone")


def _time(text: str, clock: str, at: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise FileFormatError("not a time of ISO 8601", at=at, got=text, fix="write 2026-03-01T13:00+00:00") from error
    if found.tzinfo is None:
        if not clock:
            raise SpecError("a time without a zone", at=at, got=text, fix="add an offset, or say the clock (UTC)")
        try:
            found = found.replace(tzinfo=ZoneInfo(clock))
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise UnknownNameError("unknown time zone", at="clock", got=clock, fix="as UTC or Europe/Paris") from error
    return found.astimezone(UTC)


def _hours(times: Sequence[datetime], name: str) -> Array:
    """Whole hours since the first; each later than the one before."""
    since = np.array([(each - times[0]) / timedelta(hours=1) for each in times])
    steps = np.diff(since)
    if np.any(steps <= 0):
        place = int(np.flatnonzero(steps <= 0)[0])
        raise SpecError(
            "hours repeat or go back", at=f"{name}:{place + 3}", got=times[place + 1].isoformat(), fix="sort"
        )
    if np.any(np.abs(since - np.round(since)) > 1e-9):
        raise SpecError("times are not whole hours apart", at=name, fix="give one row per hour")
    found: Array = np.round(since)
    return found
