"""How much of the space of objectives a set of points dominates: the one number that compares fronts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError
from ridgeline.search.pareto import front


def hypervolume(objectives: ArrayLike, reference: ArrayLike) -> float:
    """Volume between the points and the reference that some point dominates; 0 if none is better than the reference.

    Args:
        objectives: shape (points, objectives), to be minimised; rows with NaN or infinity count for nothing.
        reference: shape (objectives,), the worst that still counts.
    Raises: DomainError: a reference of another width, or that is not finite.
    Source: the S-metric of Zitzler and Thiele, PPSN 1998, by slices
        (While et al., IEEE Trans. Evol. Comp. 10(1), 2006).
    """
    values, worst = np.asarray(objectives, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if values.ndim != 2 or worst.shape != (values.shape[1],) or not np.isfinite(worst).all():
        raise DomainError("a reference has a finite number per objective", at="reference", got=worst.tolist())
    inside = values[np.isfinite(values).all(axis=1) & (values < worst).all(axis=1)]
    return _volume(inside, worst) if len(inside) else 0.0


def _volume(values: NDArray[np.float64], worst: NDArray[np.float64]) -> float:
    if values.shape[1] == 1:
        return float(worst[0] - values.min())
    best = values[front(values)]
    best = best[np.argsort(best[:, 0], kind="stable")]
    if values.shape[1] == 2:
        below = np.minimum.accumulate(np.concatenate(([worst[1]], best[:, 1])))
        return float(np.sum((worst[0] - best[:, 0]) * (below[:-1] - below[1:])))
    edges = np.append(best[:, 0], worst[0])
    widths = np.diff(edges)
    return float(
        sum(width * _volume(best[: place + 1, 1:], worst[1:]) for place, width in enumerate(widths) if width > 0)
    )
