"""A table of power over time: read, checked, integrated."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.core import units
from ridgeline.core.errors import FileFormatError, SpecError
from ridgeline.impact.csv_rows import read_rows
from ridgeline.impact.hourly import Hourly

Array = NDArray[np.float64]

TIME, POWER = "time_s", "power_w"


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerTrace:
    """Power of all chips, W, at times, s; straight between them."""

    name: str
    time_s: Array
    power_w: Array

    @property
    def duration_s(self) -> float:
        """From the first row to the last."""
        return float(self.time_s[-1] - self.time_s[0])

    @property
    def energy_j(self) -> float:
        """The integral of power."""
        return float(np.trapezoid(self.power_w, self.time_s))

    def mean_of(self, series: Hourly) -> float:
        """Mean of an hourly series weighed by energy, the trace starting with the series."""
        middle = (self.time_s[1:] + self.time_s[:-1]) / 2.0 - self.time_s[0]
        energy = np.diff(self.time_s) * (self.power_w[1:] + self.power_w[:-1]) / 2.0
        weight = energy if energy.sum() > 0 else np.diff(self.time_s)
        return float((series.at(middle) * weight).sum() / weight.sum())


def read_power(path: str | os.PathLike[str]) -> PowerTrace:
    """Read a CSV with the columns `time_s` and `power_w`, times rising.

    Raises: FileFormatError: no such table. SpecError: times that do not rise, or negative power.
    """
    name = Path(path).name
    rows = read_rows(path, least=2)
    head = [cell.strip() for cell in rows[0]]
    for column in (TIME, POWER):
        if column not in head:
            raise FileFormatError(f"no column {column!r}", at=name, got=", ".join(head), fix=f"name it {column!r}")
    places = [head.index(column) for column in (TIME, POWER)]
    values = [
        [units.parse(row[place], "1", at=f"{name}:{line}", bare_ok=True) for place in places]
        for line, row in enumerate(rows[1:], start=2)
    ]
    time_s, power_w = np.array(values).T
    if np.any(np.diff(time_s) <= 0) or np.any(power_w < 0):
        raise SpecError("times rise and power is >= 0", at=name, fix="sort the rows by time_s")
    return PowerTrace(name=name, time_s=time_s, power_w=power_w)
