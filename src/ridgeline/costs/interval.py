"""How far a price may be off: 10th and 90th percentiles of measured over priced time on shapes that no fit saw.

The numbers stand in the `intervals` section of `coefficients/<kind>.yaml`, by kernel family (`any` for the others) and
regime: `calibrated` (the chip was measured) or `datasheet` (left out of the fit). Prices of one kind err together,
since they share coefficients: their half-widths add in a sum. Kinds err apart: theirs add in squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.coefficients import coefficient_file
from ridgeline.hardware.chip import Value

UNVALIDATED = (0.6, 2.0)
"""p10 and p90 where nothing was checked: wide, above all upwards, since what is not modelled costs time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One addend of a predicted time: its kind of op, and its price with the interval around it, in seconds."""

    kind: str
    time_s: Value
    low_s: Value
    high_s: Value


def interval(kind: str, kernel: str, calibrated: bool | NDArray[np.bool_]) -> tuple[Value, Value]:
    """(p10, p90) of true over priced time, as multipliers; one value per row where `calibrated` has rows."""
    known, guessed = (_quantiles(kind, kernel, regime) for regime in ("calibrated", "datasheet"))
    if np.ndim(calibrated) == 0:
        return known if calibrated else guessed
    low, high = (np.where(calibrated, a, b) for a, b in zip(known, guessed, strict=True))
    return low, high


def _quantiles(kind: str, kernel: str, regime: str) -> tuple[float, float]:
    section = coefficient_file(kind).get("intervals") or {}
    for family in (kernel, "any"):
        found = (section.get(family) or {}).get(regime)
        if found:
            return float(found[0]), float(found[1])
    return UNVALIDATED


def total(parts: Sequence[Part]) -> tuple[Value, Value]:
    """(p10, p90) of a sum of parts, in seconds: half-widths add within a kind, and in squares between kinds."""
    time_s: Value = np.float64(0.0)
    below: dict[str, Value] = {}
    above: dict[str, Value] = {}
    for part in parts:
        time_s = time_s + part.time_s
        below[part.kind] = below.get(part.kind, 0.0) + (part.time_s - part.low_s)
        above[part.kind] = above.get(part.kind, 0.0) + (part.high_s - part.time_s)
    low = time_s - np.sqrt(sum((np.square(width) for width in below.values()), start=np.float64(0.0)))
    high = time_s + np.sqrt(sum((np.square(width) for width in above.values()), start=np.float64(0.0)))
    return np.maximum(low, 0.0), high
