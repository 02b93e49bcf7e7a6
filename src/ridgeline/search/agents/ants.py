"""An ant colony: pheromone on every value of every axis, laid by the best ants, fading for all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgeline.search.agents.evolution import fitness, population_of
from ridgeline.search.ledger import Ledger
from ridgeline.search.space import Points, Space

FADE = 0.1
"""Share of the pheromone that a round replaces."""

FLOOR = 0.1
"""Chance, spread over the values of an axis, that pheromone does not decide (the lower bound of MAX-MIN ants)."""

BINS = 16
"""Cells of a range, each with its own pheromone; ants stand anywhere in a cell."""

ELITES = 0.2
"""Share of the ants, and of the best ever, that lay pheromone."""


def ants(ledger: Ledger, rng: np.random.Generator, *, population: int = 0) -> None:
    """Ants choose a value per axis by its pheromone; the best of the round and of all rounds lay new.

    Source: the hyper-cube framework, Blum and Dorigo, IEEE Trans. Systems, Man and Cybernetics B 34(2), 2004, with
        bounds after Stützle and Hoos, MAX-MIN Ant System, 2000.
    """
    space, size = ledger.problem.space, population_of(ledger.budget, population)
    cells = np.where(space.discrete, space.sizes, BINS).astype(np.intp)
    trails = [np.full(count, 1.0 / count) for count in cells]
    best, worth = np.empty((0, len(cells))), np.empty((0, len(ledger.problem.objectives)))
    while True:
        points = _walked(space, rng, trails, size)
        best, worth = np.concatenate([best, points]), np.concatenate([worth, ledger.evaluate(points)])
        _, first = np.unique(space.keys(best), return_index=True)
        best, worth = best[np.sort(first)], worth[np.sort(first)]
        rank, lonely = fitness(worth)
        kept = np.lexsort((-lonely, rank))[: max(round(ELITES * size), 2)]
        best, worth = best[kept], worth[kept]
        places = _cells(space, best[np.isfinite(worth).all(axis=1)], cells)
        if len(places):
            trails = [
                (1.0 - FADE) * trail + FADE * np.bincount(places[:, axis], minlength=len(trail)) / len(places)
                for axis, trail in enumerate(trails)
            ]


def _walked(space: Space, rng: np.random.Generator, trails: list[NDArray[np.float64]], count: int) -> Points:
    """Points of ants, [ants, axes]."""
    points = np.empty((count, len(trails)))
    for axis, trail in enumerate(trails):
        chances = np.cumsum((1.0 - FLOOR) * trail + FLOOR / len(trail))
        place = np.minimum(np.searchsorted(chances / chances[-1], rng.random(count), side="right"), len(trail) - 1)
        inside = rng.random(count)
        points[:, axis] = place if space.discrete[axis] else (place + inside) / len(trail)
    return points


def _cells(space: Space, points: Points, cells: NDArray[np.intp]) -> NDArray[np.intp]:
    placed = np.where(space.discrete, points, np.floor(points * cells))
    return np.minimum(placed, cells - 1).astype(np.intp)
