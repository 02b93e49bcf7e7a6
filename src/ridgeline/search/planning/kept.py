"""Which of millions of candidates stay: the front, the best, the best of each family, and those that nearly suffice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ridgeline.search.pareto import front
from ridgeline.search.planning.question import OBJECTIVES, Column, Columns, Question
from ridgeline.search.planning.rows import Index

PLACES = ("group", "engine", "decode", "workers", "decode_workers")
"""What identifies a deployment: its table of engines, the (prefill) engine and its workers, the decode engine and its."""

TIMES = ("ttft_s", "tpot_s", "e2e_s", "request_per_s", "chips", "usd_per_s", "energy_j_per_output_token")
SAME = 9
"""Decimals of the logarithm of an objective to which candidates count as equal."""

SLACK = 1e-9
"""Relative: a limit that is missed by less is kept."""

PIVOTS = 24
"""Rows that others are first compared with, to thin them out."""

Picked = Mapping[str, NDArray[np.float64]]


@dataclass(slots=True)
class Kept:
    """What has been offered so far, thinned out.

    Attributes:
        question: what is asked. top: how many of the best deployments stay.
        seen, feasible: candidates that were evaluated, and those that keep all limits.
        front: feasible candidates that none beats. best: the best by the objectives in their order.
        families: name -> its best candidate. nearest: of those that keep not all limits, the nearest.
    """

    question: Question
    top: int
    seen: int = 0
    feasible: int = 0
    front: Picked = field(default_factory=dict)
    best: Picked = field(default_factory=dict)
    families: dict[str, Picked] = field(default_factory=dict)
    nearest: Picked = field(default_factory=dict)

    def offer(self, columns: Columns, locate: Callable[[Index], Picked], *, family: str, changed: Column) -> None:
        """Take note of a table of candidates.

        Args:
            columns: `TIMES`, all of one length.
            locate: what identifies rows: `PLACES` and `load`.
            family: name of what they have in common.
            changed: settings that are not the default, per row.
        """
        q = self.question
        rows = columns["ttft_s"].size
        self.seen += rows
        excess = q.slo.excess(columns)
        served = np.isfinite(excess) if not q.rate_per_s else columns["request_per_s"] >= q.rate_per_s * (1 - SLACK)
        good = np.flatnonzero(served & (excess <= 1.0 + SLACK))
        self.feasible += good.size
        if good.size < rows:
            missed = np.where(served & (excess > 1.0 + SLACK), excess, np.inf)
            least = np.flatnonzero(np.isfinite(missed))
            if least.size:
                least = least[np.argmin(missed[least])][None]
                self._note_nearest({**_picked(columns, least), **locate(least), "excess": missed[least]})
        if not good.size:
            return
        values = objectives(q, {name: column[good] for name, column in columns.items()})
        thin = good[_promising(values)]
        best = good[self._first(values, columns["chips"][good], changed[good])]
        self.front = self._front(_merged(self.front, {**_picked(columns, thin), **locate(thin)}))
        picked = {**_picked(columns, best), **locate(best), "changed": changed[best]}
        self.best = self._ranked(_merged(self.best, picked), self.top)
        own = _merged(self.families.get(family, {}), picked)
        self.families[family] = self._ranked(own, 1)

    def _note_nearest(self, one: Picked) -> None:
        if not self.nearest or one["excess"][0] < self.nearest["excess"][0]:
            self.nearest = one

    def _first(self, values: Column, chips: Column, changed: Column) -> Index:
        """Rows that may be among the best: those whose first objective is small; ties are broken later."""
        wanted = 8 * self.top
        first = values[:, 0]
        if first.size <= wanted:
            return np.arange(first.size)
        limit = np.partition(first, wanted)[wanted] * (1.0 + 1e-8)
        near = np.flatnonzero(first <= limit)
        return near[_order(values[near], chips[near], changed[near])[:wanted]]

    def _ranked(self, picked: Picked, most: int) -> Picked:
        """The best deployments in order, each at its best load."""
        values = objectives(self.question, picked)
        order = _order(values, picked["chips"], picked["changed"])
        places = np.column_stack([picked[name][order] for name in PLACES])
        _, first = np.unique(places, axis=0, return_index=True)
        chosen = order[np.sort(first)[:most]]
        return {name: column[chosen] for name, column in picked.items()}

    def _front(self, picked: Picked) -> Picked:
        kept = front(objectives(self.question, picked))
        return {name: column[kept] for name, column in picked.items()}


def objectives(question: Question, columns: Columns) -> Column:
    """The objectives of rows, to be minimised: [rows, objectives]."""
    return np.column_stack([OBJECTIVES[name].value(columns, question) for name in question.objectives])


def _order(values: Column, chips: Column, changed: Column) -> Index:
    """Best first: by the objectives in their order, then fewer chips, then fewer settings that are not the default."""
    keys = np.round(np.log(np.maximum(values, 1e-300)), SAME)
    return np.lexsort((changed, chips, *keys.T[::-1]))


def _promising(values: Column) -> Index:
    """Rows that none of a few good rows beats: a superset of the front."""
    finite = np.isfinite(values).all(axis=1)
    rows = np.flatnonzero(finite)
    if rows.size <= PIVOTS:
        return rows
    logs = np.log(np.maximum(values[rows], 1e-300))
    shares = np.linspace(0.0, 1.0, PIVOTS)
    turns = [(1.0 - share, share) for share in shares] if values.shape[1] > 1 else [(1.0,)]
    alive = np.ones(rows.size, dtype=np.bool_)
    for place, turn in enumerate(turns):
        axes = (0, 1 + place % (values.shape[1] - 1)) if values.shape[1] > 1 else (0,)
        among = np.flatnonzero(alive)
        score = sum(weight * logs[among, axis] for weight, axis in zip(turn, axes, strict=True))
        pivot = values[rows[among[np.argmin(score)]]]
        worse = np.ones(among.size, dtype=np.bool_)
        better = np.zeros(among.size, dtype=np.bool_)
        for axis in range(values.shape[1]):
            column = values[rows[among], axis]
            worse &= column >= pivot[axis]
            better |= column > pivot[axis]
        alive[among[worse & better]] = False
    return rows[alive]


def _picked(columns: Columns, rows: Index) -> dict[str, Column]:
    return {name: columns[name][rows] for name in TIMES}


def _merged(old: Picked, new: Picked) -> Picked:
    if not old:
        return new
    return {name: np.concatenate([old[name], new[name]]) for name in old}
