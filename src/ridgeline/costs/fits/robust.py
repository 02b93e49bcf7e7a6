"""Robust, bounded, deterministic fits of positive coefficients: soft-L1 loss on the log of predicted over measured
time.

A knob is fitted as its logarithm between bounds, pulled to a centre (its start, or the pooled value of other chips)
with a spread: what the data do not identify stays at the centre.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import MissingExtraError, SpecError
from ridgeline.costs.room import Place

Array = NDArray[np.float64]
NOISE = 0.1
"""Log error up to which the loss is quadratic; larger errors count linearly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A coefficient to fit: where it starts, its bounds, and the standard deviation of its logarithm."""

    start: float
    low: float
    high: float
    spread: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Rows and what a prediction of them needs: `predict(coefficients)` gives seconds per row; `weight` is per row.

    `floor_s` bounds every price from below; `places` say where rows lie in residual tables.
    """

    measured_s: Array
    predict: Callable[[Mapping[str, float]], Array]
    weight: float = 1.0
    floor_s: Array | float = 0.0
    places: tuple[Place, ...] = ()


def fit(
    knobs: Mapping[str, Knob], samples: Sequence[Sample], fixed: Mapping[str, float], centre: Mapping[str, float]
) -> dict[str, float]:
    """Fitted values of the knobs.

    Raises:
        MissingExtraError: scipy is not installed.
        SpecError: fewer rows than knobs.
    """
    try:
        from scipy.optimize import least_squares
    except ImportError as error:
        raise MissingExtraError("fitting needs scipy", at="calibrate", fix="pip install ridgeline[fit]") from error
    rows = sum(sample.measured_s.size for sample in samples)
    if rows < len(knobs):
        raise SpecError("too few measurements to fit", at="rows", got=rows, fix=f"give at least {len(knobs)}")
    names = list(knobs)
    low, high = (np.log([getattr(knobs[name], end) for name in names]) for end in ("low", "high"))
    start = np.clip(np.log([centre.get(name, knobs[name].start) for name in names]), low + 1e-6, high - 1e-6)
    spread = np.array([knobs[name].spread for name in names])
    logs = [np.log(sample.measured_s) for sample in samples]
    weights = [np.sqrt(sample.weight) for sample in samples]

    def residuals(point: Array) -> Array:
        values = {**fixed, **dict(zip(names, np.exp(point), strict=True))}
        parts = [
            weight * _soft((np.log(sample.predict(values)) - log) / NOISE)
            for sample, log, weight in zip(samples, logs, weights, strict=True)
        ]
        return np.concatenate([*parts, (point - start) / spread])

    found = least_squares(residuals, start, bounds=(low, high), max_nfev=60)
    return {name: float(np.exp(value)) for name, value in zip(names, found.x, strict=True)}


def _soft(error: Array) -> Array:
    """Residuals whose square is the soft-L1 loss."""
    soft: Array = np.sign(error) * np.sqrt(2.0 * (np.sqrt(1.0 + error * error) - 1.0))
    return soft


def errors(predicted_s: Array, measured_s: Array) -> dict[str, float]:
    """Median and 90th percentile of the absolute error, and the median bias, in percent."""
    ratio = predicted_s / measured_s - 1.0
    off = np.abs(ratio)
    return {
        "rows": int(off.size),
        "median_pct": round(float(np.median(off)) * 100.0, 1),
        "p90_pct": round(float(np.quantile(off, 0.9)) * 100.0, 1),
        "bias_pct": round(float(np.median(ratio)) * 100.0, 1),
    }


def rounded(value: float) -> float:
    """Four significant digits: more would only record noise."""
    return float(f"{value:.4g}")
