"""Residual tables from scattered rows: medians of near rows first, so that knots between measured shapes are filled
too.

Some rows of the measured tables are isolated spikes (a bad tactic of the library, found again on a sibling chip but not
at neighbouring shapes): a median of neighbours ignores them, and what a second pass may add per row is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.residual import Grid, Table, interpolate, smooth

Array = NDArray[np.float64]
NEAREST = 0.35
"""Doublings within which rows count as equally near."""
REACH = 1.7
"""Doublings from the nearest row at which a filled knot has faded to a third."""
BOUND = 0.15
"""Largest log error that a row adds in the second pass."""
PULL = 0.4
"""Rows' worth of weight by which knots are pulled back to the first pass."""
GRAIN = 0.01
"""Log factors are multiples of this: finer steps than the noise of repeats would only make the file larger."""


def table_of(grid: Grid, dims: Sequence[Array], log_ratio: Array, neighbours: int) -> Table:
    """A table that explains `log_ratio` (log of measured over priced time) at sizes `dims`.

    `neighbours` rows make a knot of the first pass: more where isolated spikes are frequent.
    """
    first = Table(grid=grid, log_factor=_nearest(grid, dims, log_ratio, neighbours))
    left = log_ratio - interpolate(first, [np.asarray(dim) for dim in dims])
    whole = first.log_factor + smooth(grid, dims, np.clip(left, -BOUND, BOUND), pull=PULL)
    return Table(grid=grid, log_factor=(np.round(whole / GRAIN) * GRAIN).astype(np.float16).astype(np.float32))


def _nearest(grid: Grid, dims: Sequence[Array], log_ratio: Array, neighbours: int) -> NDArray[np.float32]:
    """Median of the nearest rows at every knot, nearer ones weighing more, faded with distance."""
    from scipy.spatial import cKDTree

    points = np.stack([np.log2(np.maximum(dim, 1e-9)) for dim in dims], axis=1)
    axes = [s + d * np.arange(n) for s, d, n in zip(grid.start, grid.step, grid.count, strict=True)]
    knots = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    count = min(neighbours, len(points))
    distance, which = cKDTree(points).query(knots, k=count)
    distance, which = distance.reshape(len(knots), count), which.reshape(len(knots), count)
    median = _weighted_median(log_ratio[which], 1.0 / (distance**2 + NEAREST**2))
    faded = median * np.exp(-((distance[:, 0] / REACH) ** 2))
    knots_log: NDArray[np.float32] = faded.reshape(grid.count).astype(np.float32)
    return knots_log


def _weighted_median(values: Array, weights: Array) -> Array:
    """Per row the value at which half of the weight is reached, interpolated between the middles of the weights."""
    order = np.argsort(values, axis=1)
    values, weights = np.take_along_axis(values, order, 1), np.take_along_axis(weights, order, 1)
    middle = np.cumsum(weights, axis=1) - weights / 2.0
    half = weights.sum(axis=1, keepdims=True) / 2.0
    above = np.clip((middle < half).sum(axis=1), 1, values.shape[1] - 1) if values.shape[1] > 1 else None
    if above is None:
        return values[:, 0]
    row = np.arange(len(values))
    low, high = middle[row, above - 1], middle[row, above]
    share = np.clip((half[:, 0] - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)
    median: Array = values[row, above - 1] + share * (values[row, above] - values[row, above - 1])
    return median
