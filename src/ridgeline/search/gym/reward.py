"""One number for a design: how far it lies from the best towards which objectives, on scales of the problem itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.search.ledger import Ledger
from ridgeline.search.problem import Problem, Values

SAMPLE = 64
"""Designs at random that set the scales."""

PAID = 8
"""The sample takes at most this part of a budget."""

WORST, BEST = -1.0, 10.0
"""Rewards are cut at these; an illegal or infeasible design gets the worst."""


class Reward:
    """1 for a design as good as the best of a fixed random sample in every objective, 0 for a typical one.

    Args:
        problem: whose designs are judged.
        weights: of the objectives; equal by default.
        ledger: account that pays for the sample, if any.
    Raises: DomainError: weights that cannot be; a space in which nothing is legal.
    """

    def __init__(self, problem: Problem, weights: Sequence[float] | None = None, ledger: Ledger | None = None) -> None:
        """Evaluate the sample. The same problem gives the same scales, whatever the seed of an episode."""
        width = len(problem.objectives)
        given = np.full(width, 1.0) if weights is None else np.asarray(weights, dtype=np.float64)
        if given.shape != (width,) or not np.all((given >= 0) & np.isfinite(given)) or given.sum() <= 0:
            raise DomainError("weights are one number >= 0 per objective", at="weights", got=weights)
        self.weights = given / given.sum()
        count = SAMPLE if ledger is None else min(SAMPLE, max(ledger.remaining // PAID, 1))
        points = problem.space.sample(stream(0, "search/reward"), count)
        values = problem.values(points) if ledger is None else ledger.evaluate(points)
        good = values[np.isfinite(values).all(axis=1)]
        self.best = good.min(axis=0) if len(good) else np.zeros(width)
        span = np.median(good, axis=0) - self.best if len(good) else np.ones(width)
        self.span = np.where(span > 0, span, np.maximum(np.abs(self.best), 1.0))

    def distances(self, values: Values) -> NDArray[np.float64]:
        """Distance from the best of the sample per objective, in typical distances, [designs, objectives]."""
        return np.asarray((values - self.best) / self.span)

    def __call__(self, values: Values) -> NDArray[np.float64]:
        """Rewards of designs, [designs]."""
        away = np.where(np.isfinite(values), self.distances(values), np.inf)
        with np.errstate(invalid="ignore"):
            reward = 1.0 - np.nan_to_num(away, posinf=1e300) @ self.weights
        return np.asarray(np.clip(reward, WORST, BEST))
