"""Integer programs in words: blocks of variables, constraints with names, solved exactly by HiGHS (scipy).

Where nothing is feasible, the program is solved again with its limits made elastic, and the answer says which of them
must give way, and by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core import units
from ridgeline.core.errors import DomainError, MissingExtraError

Block = NDArray[np.intp]
"""Numbers of variables, of any shape."""

OPTIMAL, INFEASIBLE, UNFINISHED = "optimal", "infeasible", "unfinished"

HELD = 1e-7
"""Excess of a limit, in parts of its size, below which it counts as kept."""

TOLD = 3
"""Broken limits that a reason names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """What came of a program.

    Attributes:
        status: optimal, infeasible, or unfinished (the time was up; `x` is the best so far, if any).
        x: values of the variables; NaN where there is no solution.
        objective: of `x`.
        gap: relative distance of the objective from the best bound; 0 when optimal.
        reason: why nothing is feasible, "" otherwise.
    """

    status: str
    x: NDArray[np.float64] = field(repr=False)
    objective: float
    gap: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    columns: NDArray[np.intp]
    weights: NDArray[np.float64]
    low: float
    high: float
    name: str
    unit: str
    gives: int

    def said(self, value: float) -> str:
        """A value of its sum, for people."""
        return units.size(value) if self.unit == "bytes" else f"{value:.5g} {self.unit}".rstrip()


class Program:
    """A linear program with whole variables, to be minimised."""

    def __init__(self) -> None:
        """Start without variables."""
        self._cost: list[NDArray[np.float64]] = []
        self._low: list[NDArray[np.float64]] = []
        self._high: list[NDArray[np.float64]] = []
        self._whole: list[NDArray[np.float64]] = []
        self._rows: list[_Row] = []
        self._count = 0

    def variables(
        self,
        shape: int | tuple[int, ...],
        *,
        cost: ArrayLike = 0.0,
        low: ArrayLike = 0.0,
        high: ArrayLike = np.inf,
        whole: bool = False,
    ) -> Block:
        """New variables; cost and bounds broadcast to their shape."""
        block = np.arange(self._count, self._count + int(np.prod(shape)), dtype=np.intp).reshape(shape)
        for kept, given in ((self._cost, cost), (self._low, low), (self._high, high), (self._whole, float(whole))):
            kept.append(np.broadcast_to(np.asarray(given, dtype=np.float64), block.shape).ravel())
        self._count += block.size
        return block

    def constrain(
        self,
        *terms: tuple[Block | int, ArrayLike],
        low: float = -np.inf,
        high: float = np.inf,
        name: str = "",
        unit: str = "",
        gives: int = 0,
    ) -> None:
        """`low <= sum of weights times variables <= high`.

        Args:
            terms: (variables, weights that broadcast to them).
            low: lower bound.
            high: upper bound.
            name: what it is, for the reason.
            unit: of its sum.
            gives: when nothing is feasible, 1 gives way first, 2 next, 0 never.
        """
        columns = [np.atleast_1d(np.asarray(block, dtype=np.intp)).ravel() for block, _ in terms]
        weights = [
            np.broadcast_to(np.asarray(weight, dtype=np.float64), np.shape(np.atleast_1d(block))).ravel()
            for block, weight in terms
        ]
        self._rows.append(_Row(np.concatenate(columns), np.concatenate(weights), low, high, name, unit, gives))

    def solve(self, *, time_limit_s: float = 60.0) -> Solution:
        """The exact optimum. Raises MissingExtraError: scipy is not installed."""
        solution = self._run(np.concatenate(self._cost), (), time_limit_s)
        if solution.status != INFEASIBLE:
            return solution
        for gives in (1, 2):
            elastic = tuple(place for place, row in enumerate(self._rows) if 0 < row.gives <= gives)
            relaxed = self._run(np.zeros(self._count), elastic, time_limit_s)
            if elastic and relaxed.status == OPTIMAL:
                return Solution(
                    status=INFEASIBLE, x=solution.x, objective=np.nan, reason=self._words(relaxed.x, elastic)
                )
        return solution

    def _run(self, cost: NDArray[np.float64], elastic: tuple[int, ...], time_limit_s: float) -> Solution:
        """Solve, with a slack of unit cost (in parts of the limit) for each elastic row."""
        optimize, sparse = _scipy()
        rows = [np.full(row.columns.size, place) for place, row in enumerate(self._rows)]
        spans = np.array([_size(self._rows[place]) for place in elastic])
        signs = np.array([1.0 if np.isfinite(self._rows[place].low) else -1.0 for place in elastic])
        slack = np.arange(self._count, self._count + len(elastic))
        matrix = sparse.coo_array(
            (
                np.concatenate([*(row.weights for row in self._rows), signs * spans]),
                (
                    np.concatenate([*rows, np.array(elastic, dtype=np.intp)]),
                    np.concatenate([*(row.columns for row in self._rows), slack]),
                ),
            ),
            shape=(len(self._rows), self._count + len(elastic)),
        ).tocsr()
        zeros, more = np.zeros(len(elastic)), np.full(len(elastic), np.inf)
        found = optimize.milp(
            np.concatenate([cost, np.ones(len(elastic))]),
            constraints=optimize.LinearConstraint(
                matrix, [row.low for row in self._rows], [row.high for row in self._rows]
            ),
            bounds=optimize.Bounds(np.concatenate([*self._low, zeros]), np.concatenate([*self._high, more])),
            integrality=np.concatenate([*self._whole, zeros]),
            options={"mip_rel_gap": 0.0, "time_limit": time_limit_s, "disp": False},
        )
        return self._read(found)

    def _read(self, found: Any) -> Solution:
        whole = np.concatenate(self._whole) > 0
        if found.x is None:
            status = UNFINISHED if found.status == 1 else INFEASIBLE
            return Solution(status=status, x=np.full(self._count, np.nan), objective=np.nan, reason=found.message)
        x = np.asarray(found.x, dtype=np.float64)[: self._count]
        x[whole] = np.round(x[whole]) + 0.0  # no negative zeros
        gap = float(found.mip_gap or 0.0)
        return Solution(status=OPTIMAL if found.status == 0 else UNFINISHED, x=x, objective=float(found.fun), gap=gap)

    def _words(self, x: NDArray[np.float64], elastic: tuple[int, ...]) -> str:
        """The limits that give way, the most broken first."""
        broken: list[tuple[float, str]] = []
        for row in (self._rows[place] for place in elastic):
            total = float(row.weights @ x[row.columns])
            over, under = total - row.high, row.low - total
            if max(over, under) <= HELD * _size(row):
                continue
            total_of, over_of, under_of = row.said(total), row.said(over), row.said(under)
            if over > 0:
                words = f"{row.name}: needs {total_of}, {over_of} more than the {row.said(row.high)} there are"
            else:
                words = f"{row.name}: gets {total_of}, {under_of} less than the {row.said(row.low)} asked for"
            broken.append((-max(over, under) / _size(row), words))
        words_of = [words for _, words in sorted(broken)]
        rest = len(words_of) - TOLD
        return "; ".join(words_of[:TOLD]) + (f"; and {rest} more limits" if rest > 0 else "")


def _size(row: _Row) -> float:
    bound = row.high if np.isfinite(row.high) else row.low
    return max(abs(bound), 1e-12) if bound else max(float(np.abs(row.weights).max(initial=1.0)), 1e-12)


def _scipy() -> tuple[Any, Any]:
    try:
        from scipy import optimize, sparse
    except ImportError as error:
        fix = "pip install ridgeline[search]"
        raise MissingExtraError("exact allocation needs scipy", at="allocate", fix=fix) from error
    return optimize, sparse


def table(values: ArrayLike, name: str, shape: tuple[int | None, ...], *, lowest: float = 0.0) -> NDArray[np.float64]:
    """An input as an array of that shape (None: any length). Raises DomainError: another shape, NaN, below `lowest`."""
    found = np.asarray(values, dtype=np.float64)
    like = found.ndim == len(shape) and all(want in (None, got) for got, want in zip(found.shape, shape, strict=True))
    if not like:
        wanted = " x ".join("any" if want is None else str(want) for want in shape)
        raise DomainError(f"{name} has another shape than the rest", at=name, got=found.shape, fix=f"give {wanted}")
    if np.isnan(found).any() or (found < lowest).any():
        raise DomainError(f"{name} holds numbers >= {lowest:g}", at=name, got=found.ravel()[:5].tolist())
    return found


def named(names: Sequence[str] | None, count: int, what: str) -> tuple[str, ...]:
    """Names for reasons: those given, or `what 0`, `what 1`, ... Raises DomainError: too few or too many."""
    if names is None:
        return tuple(f"{what} {place}" for place in range(count))
    if len(names) != count:
        raise DomainError(f"there are {count} of {what}", at=f"{what}s", got=len(names), fix="name each")
    return tuple(names)


def helpless(words: str, able: ArrayLike, demand: NDArray[np.float64], names: Sequence[str]) -> str:
    """What is asked for and nothing can serve, after `words`; "" where everything can be served, [asked, servers]."""
    lost = np.flatnonzero((demand > 0) & ~np.asarray(able, dtype=np.bool_).any(axis=1)).tolist()
    return f"{words} {', '.join(names[place] for place in lost)}" if lost else ""
