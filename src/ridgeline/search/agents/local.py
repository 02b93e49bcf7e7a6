"""Chains that go from neighbour to neighbour: simulated annealing and a random walk; points at random."""

from __future__ import annotations

import numpy as np

from ridgeline.search.agents.moves import neighbours, weights_of
from ridgeline.search.ledger import Ledger, scores

HOT, COLD = 0.1, 0.002
"""First and last temperature, in typical distances of an objective from its best."""

STEPS, CHAINS = 100, 16
"""Steps of a chain at least, and chains side by side at most; each chain has its own weights of objectives."""

BATCH = 1024
"""Points at random that are evaluated at once."""


def at_random(ledger: Ledger, rng: np.random.Generator) -> None:
    """Points at random, each once: what any cleverer search must beat."""
    while True:
        ledger.evaluate(ledger.unseen(rng, min(BATCH, ledger.remaining)))


def exhaustive(ledger: Ledger, rng: np.random.Generator, *, levels: int = 0) -> None:
    """Every legal point in the order of the grid; ranges at `levels` steps."""
    for points in ledger.problem.space.grid(levels=levels):
        ledger.evaluate(points)


def annealing(ledger: Ledger, rng: np.random.Generator, *, chains: int = 0) -> None:
    """Simulated annealing: worse neighbours are taken with a chance that falls as the budget is spent.

    Source: Kirkpatrick, Gelatt and Vecchi, Science 220, 1983; chains with weights of their own after Czyzzak and
        Jaszkiewicz, Pareto simulated annealing, J. Multi-Criteria Decision Analysis 7, 1998.
    """
    count = _chains(ledger, chains)
    weights = weights_of(rng, count, len(ledger.problem.objectives))
    points = ledger.unseen(rng, count)
    weights = weights[: len(points)]
    values = ledger.evaluate(points)
    while True:
        temperature = HOT * (COLD / HOT) ** (ledger.spent / ledger.budget)
        tried = neighbours(ledger.problem.space, rng, points)
        found = ledger.evaluate(tried)
        now, then = scores(values, ledger, weights), scores(found, ledger, weights)
        with np.errstate(invalid="ignore", over="ignore"):
            worse = np.where(np.isfinite(now), then - now, 0.0)
            taken = rng.random(len(points)) < np.exp(-np.maximum(worse, 0.0) / temperature)
        points = np.where(taken[:, None], tried, points)
        values = np.where(taken[:, None], found, values)


def walk(ledger: Ledger, rng: np.random.Generator, *, chains: int = 0) -> None:
    """A random walk: every step goes to a legal neighbour, better or worse."""
    points = ledger.unseen(rng, _chains(ledger, chains))
    while True:
        ledger.evaluate(points)
        points = neighbours(ledger.problem.space, rng, points)


def _chains(ledger: Ledger, asked: int) -> int:
    return max(asked, 1) if asked else int(np.clip(ledger.budget // STEPS, 1, CHAINS))
