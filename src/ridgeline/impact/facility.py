"""Overhead and water of a facility from outdoor air and its kind of cooling.

Free cooling carries the heat while air (or, for wet towers, its wet-bulb temperature) stays below what the supply
temperature and the approach allow; beyond that a chiller takes over within a few degrees, with a compressor power that
grows with the lift. Facts and assumptions: `facts/cooling.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError, UnknownNameError, did_you_mean
from ridgeline.impact.sheets import fact, sheet

Array = NDArray[np.float64]

COOLING: tuple[str, ...] = tuple(sheet("cooling").need("kinds", kind=dict))
"""Kinds of cooling."""

COLDEST_C, HOTTEST_C = -60.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """What a facility adds to IT energy, of the shape of the temperatures.

    Attributes:
        pue: energy at the meter over IT energy, >= 1.
        water_l_per_j: consumed on site per IT joule.
    """

    pue: Array
    water_l_per_j: Array


def wet_bulb_c(temperature_c: ArrayLike, humidity_frac: ArrayLike) -> Array:
    """Wet-bulb temperature at sea level, degrees Celsius; between the dew point and the air's temperature.

    Source: Stull 2011, equation 1, good to 1 K between 5 and 99 % and -20 and 50 degrees; bounded by the temperature.
    """
    t, h = np.asarray(temperature_c, np.float64), 100.0 * np.asarray(humidity_frac, np.float64)
    wet = t * np.arctan(0.151977 * np.sqrt(h + 8.313659)) + np.arctan(t + h) - np.arctan(h - 1.676331)
    wet = wet + 0.00391838 * h**1.5 * np.arctan(0.023101 * h) - 4.686035
    found: Array = np.minimum(wet, t)
    return found


def overhead(cooling: str, temperature_c: ArrayLike, humidity_frac: ArrayLike) -> Overhead:
    """PUE and on-site water of a kind of cooling in outdoor air; arrays broadcast.

    Args:
        cooling: one of COOLING.
        temperature_c: dry-bulb, degrees Celsius, -60 to 60.
        humidity_frac: relative, 0 to 1.
    Raises: UnknownNameError: no such kind. DomainError: air that does not occur.
    """
    kinds = sheet("cooling").need("kinds", kind=dict)
    if cooling not in kinds:
        raise UnknownNameError(
            f"unknown kind of cooling {cooling!r}", at="cooling", fix=did_you_mean(cooling, COOLING, listing=_known())
        )
    t, h = np.broadcast_arrays(np.asarray(temperature_c, np.float64), np.asarray(humidity_frac, np.float64))
    if not np.all((t >= COLDEST_C) & (t <= HOTTEST_C) & (h >= 0) & (h <= 1)):
        raise DomainError("outdoor air has -60 to 60 degrees and a humidity of 0 to 1", at="weather", fix="check units")
    kind: dict[str, Any] = kinds[cooling]
    outside = wet_bulb_c(t, h) if kind["uses"] == "wet" else t
    beyond = outside + kind["approach"] - kind["supply"]
    band = fact("cooling", "band", section="lift").value
    mechanical = np.clip(beyond / band, 0.0, 1.0)
    slope = fact("cooling", "slope", section="lift").value
    compressor = mechanical * (kind["chiller"] + slope * np.maximum(beyond, 0.0))
    loss = fact("cooling", "electrical_loss").value
    pue = 1.0 + loss + kind["fans"] + compressor
    # Towers of chilled water always evaporate the heat; evaporative coolers only as dry air is too warm.
    wetted = (
        np.ones_like(t)
        if cooling == "chilled-water"
        else np.clip((t + kind["approach"] - kind["supply"]) / band + 1.0, 0.0, 1.0)
    )
    boiled = fact("cooling", "evaporation", "l/j").value * (1.0 + fact("cooling", "blowdown").value)
    return Overhead(pue=pue, water_l_per_j=kind["evaporates"] * wetted * boiled * pue)


def _known() -> str:
    return f"kinds: {', '.join(COOLING)}"
