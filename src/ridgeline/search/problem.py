"""Problems: a space, a function of whole columns, and what is to be made small or large."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import SpecError
from ridgeline.search.space import Columns, Points, Space

Values = NDArray[np.float64]
Evaluate = Callable[[Columns], Mapping[str, ArrayLike]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A column of results that should be small, or large if `maximise`. `unit` and `doc` are for people."""

    name: str
    unit: str = ""
    maximise: bool = False
    doc: str = ""

    def least(self, natural: ArrayLike) -> Values:
        """The column to be minimised; infinity where there is no number."""
        values = np.asarray(natural, dtype=np.float64)
        signed = -values if self.maximise else values
        return np.where(np.isfinite(values), signed, np.inf)

    def natural(self, least: ArrayLike) -> Values:
        """The column as people read it; NaN where there is none."""
        values = np.asarray(least, dtype=np.float64)
        return np.where(np.isfinite(values), -values if self.maximise else values, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a result column must not exceed (`most`) or fall below (`least`); a point beyond it is infeasible."""

    name: str
    most: float = np.inf
    least: float = -np.inf

    def keeps(self, column: ArrayLike) -> NDArray[np.bool_]:
        """Which points keep it."""
        values = np.asarray(column, dtype=np.float64)
        return np.asarray((values <= self.most) & (values >= self.least))


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A space and its objectives.

    Attributes:
        evaluate: columns of the space -> result columns, among them every objective and limit, each [points]. It is
            called with many points at once and never with an illegal one; NaN says that a point is infeasible.
    """

    name: str
    space: Space
    objectives: tuple[Objective, ...]
    evaluate: Evaluate
    limits: tuple[Limit, ...] = ()

    def __post_init__(self) -> None:
        """Refuse problems without objectives, or with two of one name."""
        names = [one.name for one in self.objectives]
        if not names or len(set(names)) < len(names):
            fix = "name each objective once"
            raise SpecError("a problem has objectives with different names", at=self.name, got=names, fix=fix)

    def results(self, points: Points) -> dict[str, NDArray[np.generic]]:
        """Result columns of legal points, as `evaluate` gives them. Raises SpecError: an objective is missing."""
        found = self.evaluate(self.space.columns(points))
        for name in (*(one.name for one in self.objectives), *(one.name for one in self.limits)):
            if name not in found:
                fix = f"it gave {', '.join(found) or 'nothing'}"
                raise SpecError(f"the problem does not evaluate {name!r}", at=self.name, fix=fix)
            if np.shape(found[name]) not in ((), (1,), (len(points),)):
                got, fix = np.shape(found[name]), f"give {len(points)} values, or one for all"
                raise SpecError(
                    f"the problem gives {name!r} another shape than its points", at=self.name, got=got, fix=fix
                )
        return {
            name: np.broadcast_to(column, (len(points),))
            for name, column in ((name, np.asarray(column)) for name, column in found.items())
            if column.shape in ((), (1,), (len(points),))
        }

    def values(self, points: Points) -> Values:
        """What is to be minimised, [points, objectives]: infinity in every objective where illegal or infeasible."""
        values = np.full((len(points), len(self.objectives)), np.inf)
        legal = np.flatnonzero(self.space.is_legal(points))
        if legal.size:
            results = self.results(points[legal])
            table = np.stack([one.least(results[one.name]) for one in self.objectives], axis=1)
            keeps: NDArray[np.bool_] = np.asarray(np.isfinite(table).all(axis=1))
            for limit in self.limits:
                keeps = keeps & limit.keeps(results[limit.name])
            values[legal] = np.where(keeps[:, None], table, np.inf)
        return values

    def natural(self, values: Values) -> dict[str, Values]:
        """Columns of objectives as people read them."""
        return {one.name: one.natural(values[:, place]) for place, one in enumerate(self.objectives)}
