"""The account of a search: every point that was evaluated, in order, and the budget that ends it.

All agents evaluate through a ledger, so that they compete on equal terms: a new legal point costs one evaluation, a
repeated one is answered from memory, an illegal one is free and infinitely bad.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.search.problem import Problem, Values
from ridgeline.search.space import LISTED, Points

PATIENCE = 20
"""Calls in a row that bring no new point, after which the ledger looks at random unseen ones itself."""

ROUNDS = 10
"""Draws, each twice as many, of which none was new before a large space counts as seen."""

RECENT = 4096
"""Evaluations from which the scales of objectives are taken."""


Progress = Callable[[int, int], None]
"""`progress(spent, budget)`."""


class Spent(Exception):
    """The budget is used up, or nothing is left to evaluate."""


class Ledger:
    """Evaluations of one problem within a budget.

    Args:
        problem: what is evaluated.
        budget: distinct legal points at most.
        rng: for unseen points at random.
        patience: calls without a new point before the ledger takes unseen ones at random; 0: it never does.
        progress: told after each call how many evaluations are spent, of how many.
    """

    def __init__(
        self,
        problem: Problem,
        budget: int,
        rng: np.random.Generator,
        *,
        patience: int = PATIENCE,
        progress: Progress | None = None,
    ) -> None:
        """Start with nothing evaluated."""
        if isinstance(budget, bool) or int(budget) != budget or budget < 1:
            raise DomainError("a budget is a whole number of evaluations >= 1", at="budget", got=budget)
        self.problem, self.budget, self._rng, self._patience = problem, int(budget), rng, patience
        self._progress = progress
        self._points: list[Points] = []
        self._values: list[Values] = []
        self._keys = np.empty(0, dtype=np.uint64)
        self._order = np.empty(0, dtype=np.intp)
        self._idle = 0
        self.spent = 0

    @property
    def remaining(self) -> int:
        """Evaluations left."""
        return self.budget - self.spent

    @property
    def points(self) -> Points:
        """Points in the order in which they were evaluated, [evaluations, axes]."""
        if len(self._points) > 1:
            self._points = [np.concatenate(self._points)]
        return self._points[0] if self._points else np.empty((0, len(self.problem.space.axes)))

    @property
    def values(self) -> Values:
        """What they gave, to be minimised, [evaluations, objectives]."""
        if len(self._values) > 1:
            self._values = [np.concatenate(self._values)]
        return self._values[0] if self._values else np.empty((0, len(self.problem.objectives)))

    def evaluate(self, points: Points) -> Values:
        """Values of points, [points, objectives]. Raises Spent: this was the last evaluation, or is beyond it."""
        space = self.problem.space
        legal = space.is_legal(points)
        keys = space.keys(points)
        new = np.flatnonzero(legal & ~self._known(keys))
        _, first = np.unique(keys[new], return_index=True)
        new = new[np.sort(first)][: self.remaining]
        if new.size:
            self._take(points[new], keys[new])
        self._idle = 0 if new.size else self._idle + 1
        if self._patience and self._idle >= self._patience:
            self._idle = 0
            unseen = self.unseen(self._rng, min(max(len(points), 1), self.remaining))
            self._take(unseen, space.keys(unseen))
        if self.remaining <= 0:
            raise Spent
        values = np.full((len(points), len(self.problem.objectives)), np.inf)
        values[legal] = self.values[self._order[np.searchsorted(self._keys, keys[legal])]]
        return values

    def unseen(self, rng: np.random.Generator, count: int) -> Points:
        """Legal points at random that were not evaluated, each once; fewer where fewer are left.

        Raises: Spent: none is left.
        """
        space = self.problem.space
        for round_ in range(ROUNDS):
            found = self._fresh(space.sample(rng, count << (round_ + 1)))[:count]
            if len(found) == count:
                return found
            if space.size <= LISTED:
                rest = self._fresh(space.listed)
                found = rest[rng.permutation(len(rest))[:count]]
            if len(found):
                return found
        raise Spent

    def scales(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Best value and typical distance from it per objective, of what was evaluated lately."""
        lately = self.values[-RECENT:]
        good = lately[np.isfinite(lately).all(axis=1)]
        if not len(good):
            return np.zeros(lately.shape[1]), np.ones(lately.shape[1])
        best = good.min(axis=0)
        span = np.median(good, axis=0) - best
        return best, np.where(span > 0, span, np.maximum(np.ptp(good, axis=0), 1e-300))

    def _fresh(self, points: Points) -> Points:
        """Those of the points that were not evaluated, each once, in their order."""
        keys = self.problem.space.keys(points)
        new = np.flatnonzero(~self._known(keys))
        _, first = np.unique(keys[new], return_index=True)
        return points[new[np.sort(first)]]

    def _known(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        if not self._keys.size:
            return np.zeros(keys.shape, dtype=np.bool_)
        return np.asarray(self._keys[np.minimum(np.searchsorted(self._keys, keys), self._keys.size - 1)] == keys)

    def _take(self, points: Points, keys: NDArray[np.uint64]) -> None:
        self._points.append(points)
        self._values.append(self.problem.values(points))
        order = np.concatenate([self._order, np.arange(self.spent, self.spent + len(points), dtype=np.intp)])
        joined = np.concatenate([self._keys, keys])
        by_key = np.argsort(joined, kind="stable")
        self._keys, self._order = joined[by_key], order[by_key]
        self.spent += len(points)
        if self._progress is not None:
            self._progress(self.spent, self.budget)


def scores(values: Values, ledger: Ledger, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """One number per point, to be minimised: the augmented Chebyshev distance from the best values seen.

    Args:
        values: [points, objectives].
        ledger: whose evaluations set the scales.
        weights: [objectives] or [points, objectives], each >= 0.
    Source: Steuer and Choo, Mathematical Programming 26, 1983.
    """
    best, span = ledger.scales()
    with np.errstate(invalid="ignore"):
        away = weights * (values - best) / span
    away = np.where(np.isfinite(values), away, np.inf)
    return np.asarray(away.max(axis=1) + AUGMENTED * away.sum(axis=1))


AUGMENTED = 0.05
"""Share of the sum in the Chebyshev distance, which keeps weakly dominated points from winning."""
