"""Pareto fronts of columns of objectives."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import RidgelineError

_BLOCK = 2048
"""Candidates compared at once: bounds the memory of a front that is as large as its table."""


def front(objectives: ArrayLike) -> NDArray[np.bool_]:
    """Which rows no other row beats.

    A row beats another if it is no worse in every objective and better in one. Equal rows do not beat each other: all
    of them stay. Rows with NaN or infinity are no candidates.

    Args:
        objectives: shape (rows, objectives), each to be minimised.
    Returns: shape (rows,), true on the front.
    Raises:
        RidgelineError: the table has not two dimensions.
    Source: sort and sweep after Kung, Luccio and Preparata, On finding the maxima of a set of vectors, JACM 1975.
    """
    values = np.asarray(objectives, dtype=np.float64)
    if values.ndim != 2:
        raise RidgelineError(
            "objectives are a table of rows and columns",
            at="objectives",
            got=values.shape,
            fix="give (rows, objectives)",
        )
    kept = np.zeros(len(values), dtype=np.bool_)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    if finite.size == 0 or values.shape[1] == 0:
        return kept
    unique, back = np.unique(values[finite], axis=0, return_inverse=True)
    kept[finite] = _front_of_unique(unique)[back.reshape(-1)]
    return kept


def _front_of_unique(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The same for rows in lexicographic order without repeats: only earlier rows can beat later ones."""
    if values.shape[1] == 1:
        return np.asarray(np.arange(len(values)) == 0)
    if values.shape[1] == 2:
        least = np.minimum.accumulate(values[:, 1])
        return np.concatenate(([True], values[1:, 1] < least[:-1]))
    kept = np.zeros(len(values), dtype=np.bool_)
    best = np.empty((0, values.shape[1]))
    for start in range(0, len(values), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(values)))
        for known in (best[at : at + _BLOCK] for at in range(0, len(best), _BLOCK)):
            block = block[~_beaten(values[block], known)]
        block = block[~_beaten(values[block], values[block])]
        kept[block] = True
        best = np.concatenate([best, values[block]])
    return kept


def _beaten(values: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the rows some row of `by` beats."""
    no_worse = np.ones((len(values), len(by)), dtype=np.bool_)
    better = np.zeros_like(no_worse)
    for mine, theirs in zip(values.T, by.T, strict=True):
        no_worse &= theirs[None, :] <= mine[:, None]
        better |= theirs[None, :] < mine[:, None]
    return np.asarray((no_worse & better).any(axis=1))


def ranks(objectives: ArrayLike) -> NDArray[np.int64]:
    """The front that each row is on when fronts are peeled off one after the other: 0 is the best; -1 is no candidate.

    Args:
        objectives: shape (rows, objectives), each to be minimised.
    Returns: shape (rows,).
    Raises:
        RidgelineError: as `front`.
    Source: non-dominated sorting, Deb et al., IEEE Trans. Evolutionary Computation 6(2), 2002.
    """
    values = np.array(objectives, dtype=np.float64, copy=True)
    result = np.full(len(values), -1, dtype=np.int64)
    rank = 0
    while (best := front(values)).any():
        result[best] = rank
        values[best] = np.nan
        rank += 1
    return result
