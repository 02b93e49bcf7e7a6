"""Steps from points to points: neighbours, mutation and crossover over whole populations at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgeline.search.space import Axis, Choice, Points, Range, Space

NEAR = 0.1
"""Standard deviation of a step on a range, as a share of the range."""

STAY_SMALL = 0.5
"""Chance that a step on an ordered axis goes no further: steps are geometric, mostly one."""

ROUNDS = 8
"""Redraws of illegal neighbours before a point stays where it is."""


def moved(space: Space, rng: np.random.Generator, points: Points, rate: float = 0.0) -> Points:
    """Points with some coordinates changed, legal or not.

    Args:
        space: whose axes they move on.
        rng: of the draws.
        points: [points, axes].
        rate: chance per axis that it changes; 0: one axis on average. At least one axis changes in each point.
    """
    count, width = points.shape
    movable = np.array([isinstance(axis, Range) or axis.size > 1 for axis in space.axes])
    if not movable.any() or count == 0:
        return points.copy()
    chosen = (rng.random(points.shape) < (rate or 1.0 / width)) & movable
    forced = rng.choice(np.flatnonzero(movable), size=count)
    none = ~chosen.any(axis=1)
    chosen[none, forced[none]] = True
    result = points.copy()
    for place, axis in enumerate(space.axes):
        stepped = _stepped(axis, rng, points[:, place])
        result[:, place] = np.where(chosen[:, place], stepped, points[:, place])
    return result


def _stepped(axis: Axis, rng: np.random.Generator, at: NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(axis, Range):
        return _reflected(at + NEAR * rng.standard_normal(at.shape), 1.0)
    size = axis.size
    if size == 1:
        return at
    if isinstance(axis, Choice):
        return np.asarray((at + rng.integers(1, size, at.shape)) % size)
    steps = np.minimum(rng.geometric(STAY_SMALL, at.shape), size - 1)
    signs = np.where(rng.random(at.shape) < 0.5, -1.0, 1.0)
    signs = np.where((at + signs * steps < 0) | (at + signs * steps > size - 1), -signs, signs)
    return _reflected(at + signs * steps, size - 1.0)


def _reflected(values: NDArray[np.float64], top: float) -> NDArray[np.float64]:
    """Values folded back into [0, top] at its borders."""
    folded = np.abs(values) % (2.0 * top)
    return np.asarray(np.where(folded > top, 2.0 * top - folded, folded))


def neighbours(space: Space, rng: np.random.Generator, points: Points) -> Points:
    """A legal neighbour of each legal point; the point itself where none was found."""
    result = points.copy()
    left = np.arange(len(points))
    for _ in range(ROUNDS):
        tried = moved(space, rng, points[left])
        good = space.is_legal(tried)
        result[left[good]] = tried[good]
        left = left[~good]
        if not left.size:
            break
    return result


def crossed(rng: np.random.Generator, mothers: Points, fathers: Points, chance: float) -> Points:
    """Children that take each coordinate from either parent; with `1 - chance`, all from the mother."""
    mixed = (rng.random(mothers.shape) < 0.5) & (rng.random((len(mothers), 1)) < chance)
    return np.where(mixed, fathers, mothers)


def weights_of(rng: np.random.Generator, count: int, objectives: int) -> NDArray[np.float64]:
    """Weights of objectives, [count, objectives], spread over all trade-offs; each row sums to 1."""
    if objectives == 1:
        return np.ones((count, 1))
    if objectives == 2:
        first = (np.arange(count) + 0.5) / count
        return np.stack([first, 1.0 - first], axis=1)
    return np.asarray(rng.dirichlet(np.ones(objectives), size=count))
