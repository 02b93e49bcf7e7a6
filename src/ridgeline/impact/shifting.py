"""Loads that may wait or move: when and where they run so that their energy costs least, in carbon or in money.

A load that may be cut into pieces takes the cheapest hours that its power allows: the greedy choice is the optimum of
the linear program. One that must run in one piece takes the cheapest window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError

Array = NDArray[np.float64]

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A schedule.

    Attributes:
        energy_j: shape (sites, hours).
        cost: of it, in the unit of the costs. base: of starting at once at the first site.
    """

    energy_j: Array
    cost: float
    base: float

    @property
    def saved_frac(self) -> float:
        """Share of the base that is saved."""
        return 1.0 - self.cost / self.base if self.base > 0 else 0.0


def shift_load(
    energy_j: float, costs_per_j: ArrayLike, *, most_w: ArrayLike, moving: ArrayLike = 0.0, whole: bool = False
) -> Shift:
    """The cheapest schedule of a load over the hours and sites that it may use.

    Args:
        energy_j: at the meter, to be used by the end of the series.
        costs_per_j: shape (hours,) or (sites, hours): carbon or money of a joule.
        most_w: power that a site, or each of its hours, gives the load.
        moving: cost of moving the load to each site, per joule of it (data over a network).
        whole: run in one piece, at full power, at one site.
    Raises: DomainError: energy that does not fit, or values that cannot be.
    """
    costs = np.atleast_2d(np.asarray(costs_per_j, np.float64))
    costs = costs + np.broadcast_to(np.asarray(moving, np.float64).reshape(-1, 1), (costs.shape[0], 1))
    room = np.broadcast_to(_column(most_w, costs.shape), costs.shape) * HOUR_S
    if not (np.all(np.isfinite(costs)) and np.all(costs >= 0) and np.all(room >= 0) and 0 <= energy_j < np.inf):
        raise DomainError("energy, costs and power are finite and >= 0", at="costs_per_j", fix="check the series")
    reach = room.sum(axis=1).max() if whole else room.sum()
    if energy_j > reach * (1 + 1e-12):
        raise DomainError(
            f"{energy_j / 3.6e6:.4g} kWh do not fit into {reach / 3.6e6:.4g} kWh of these hours",
            at="energy_j",
            fix="allow more hours, sites or power",
        )
    placed = _window(energy_j, costs, room) if whole else _cheapest(energy_j, costs, room)
    base = float((_from(energy_j, room[0], 0) * costs[0]).sum()) if energy_j <= room[0].sum() else float("nan")
    return Shift(energy_j=placed, cost=float((placed * costs).sum()), base=base)


def _column(most_w: ArrayLike, shape: tuple[int, ...]) -> Array:
    most = np.asarray(most_w, np.float64)
    return most.reshape(-1, 1) if most.ndim == 1 and most.size == shape[0] != shape[1] else most


def _cheapest(energy_j: float, costs: Array, room: Array) -> Array:
    """Fill the cheapest hours first; ties go to the earliest."""
    order = np.argsort(costs, axis=None, kind="stable")
    sizes = room.ravel()[order]
    before = np.concatenate([[0.0], np.cumsum(sizes)[:-1]])
    placed = np.zeros(costs.size)
    placed[order] = np.clip(energy_j - before, 0.0, sizes)
    return placed.reshape(costs.shape)


def _window(energy_j: float, costs: Array, room: Array) -> Array:
    """The start and site at which running on without a break costs least."""
    best, least = np.zeros(costs.shape), np.inf
    for site in range(costs.shape[0]):
        for start in range(costs.shape[1]):
            taken = _from(energy_j, room[site], start)
            cost = float((taken * costs[site]).sum())
            if taken.sum() >= energy_j * (1 - 1e-12) and cost < least:
                least, best = cost, np.zeros(costs.shape)
                best[site] = taken
    return best


def _from(energy_j: float, room: Array, start: int) -> Array:
    later = np.where(np.arange(room.size) >= start, room, 0.0)
    before = np.concatenate([[0.0], np.cumsum(later)[:-1]])
    found: Array = np.clip(energy_j - before, 0.0, later)
    return found
