"""Evolution: NSGA-II, and a genetic algorithm with random weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgeline.search.agents.moves import crossed, moved
from ridgeline.search.ledger import Ledger, scores
from ridgeline.search.pareto import ranks
from ridgeline.search.problem import Values
from ridgeline.search.space import Points

CROSSOVER = 0.9
"""Chance that a child has two parents (Deb et al., 2002, section IV)."""

GENERATIONS, SMALLEST, LARGEST = 20, 8, 128
"""A population is the budget over GENERATIONS, within these sizes."""

ELITES = 0.1
"""Share of a generation that the genetic algorithm keeps."""


def population_of(budget: int, asked: int = 0) -> int:
    """Points of a generation."""
    return max(asked, 2) if asked else int(np.clip(budget // GENERATIONS, SMALLEST, LARGEST))


def nsga2(ledger: Ledger, rng: np.random.Generator, *, population: int = 0) -> None:
    """NSGA-II: tournaments by rank and crowding, uniform crossover, one mutation on average, elitist survival.

    Source: Deb, Pratap, Agarwal and Meyarivan, IEEE Trans. Evolutionary Computation 6(2), 2002.
    """
    size = population_of(ledger.budget, population)
    points = ledger.unseen(rng, size)
    values = ledger.evaluate(points)
    rank, lonely = fitness(values)
    while True:
        mothers, fathers = (_tournament(rng, rank, lonely, size) for _ in range(2))
        children = moved(ledger.problem.space, rng, crossed(rng, points[mothers], points[fathers], CROSSOVER))
        points = np.concatenate([points, children])
        values = np.concatenate([values, ledger.evaluate(children)])
        _, first = np.unique(ledger.problem.space.keys(points), return_index=True)
        first = np.sort(first)
        points, values = points[first], values[first]
        rank, lonely = fitness(values)
        kept = np.lexsort((-lonely, rank))[:size]
        points, values, rank, lonely = points[kept], values[kept], rank[kept], lonely[kept]


def fitness(values: Values) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rank (0 is best; what is infeasible comes last) and crowding distance in that rank (more is lonelier)."""
    rank = ranks(values)
    rank = np.where(rank < 0, len(values), rank)
    lonely = np.zeros(len(values))
    for level in np.unique(rank[rank < len(values)]):
        members = np.flatnonzero(rank == level)
        lonely[members] = _crowding(values[members])
    return rank, lonely


def _crowding(values: Values) -> NDArray[np.float64]:
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        span = ordered[-1] - ordered[0]
        distance[order[[0, -1]]] = np.inf
        if span > 0 and len(values) > 2:
            distance[order[1:-1]] += (ordered[2:] - ordered[:-2]) / span
    return distance


def _tournament(
    rng: np.random.Generator, rank: NDArray[np.int64], lonely: NDArray[np.float64], count: int
) -> NDArray[np.intp]:
    one, other = rng.integers(0, len(rank), (2, count))
    better = (rank[one] < rank[other]) | ((rank[one] == rank[other]) & (lonely[one] >= lonely[other]))
    return np.asarray(np.where(better, one, other))


def genetic(ledger: Ledger, rng: np.random.Generator, *, population: int = 0) -> None:
    """A genetic algorithm: each generation weighs the objectives anew, selects by tournament and keeps its best.

    Source: random weights after Murata and Ishibuchi, MOGA, IEEE Int. Conf. on Evolutionary Computation 1995.
    """
    size = population_of(ledger.budget, population)
    elites = max(round(ELITES * size), 1)
    points = ledger.unseen(rng, size)
    values = ledger.evaluate(points)
    while True:
        score = scores(values, ledger, rng.dirichlet(np.ones(values.shape[1])))
        mothers, fathers = (_best_of_two(rng, score, size) for _ in range(2))
        children = moved(ledger.problem.space, rng, crossed(rng, points[mothers], points[fathers], CROSSOVER))
        points, values = _next(points, values, score, children, ledger.evaluate(children), elites)


def _best_of_two(rng: np.random.Generator, score: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    one, other = rng.integers(0, len(score), (2, count))
    return np.asarray(np.where(score[one] <= score[other], one, other))


def _next(
    points: Points, values: Values, score: NDArray[np.float64], children: Points, born: Values, elites: int
) -> tuple[Points, Values]:
    kept = np.argsort(score, kind="stable")[:elites]
    return np.concatenate([points[kept], children]), np.concatenate([values[kept], born])
