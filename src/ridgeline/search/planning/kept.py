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
"""What identifies a deployment: table of engines, (prefill) engine, decode engine, and the workers of both."""

PLAN = ("group", "plan", "workers", "decode_workers")
"""What identifies a plan: its table of engines, the number of its degrees and formats, and the workers."""

TIMES = ("ttft_s", "tpot_s", "e2e_s", "request_per_s", "chips", "usd_per_s", "energy_j_per_output_token")
SAME = 9
"""Decimals of the logarithm of an objective to which candidates count as equal."""

SLACK = 1e-9
"""Relative: a limit that is missed by less is kept."""

VARIANTS = 64
"""Candidates of one plan, about: they share a place among the best."""

PIVOTS, SAMPLE = 24, 2000
"""Rows that others are first compared with, to thin them out; rows among which these are sought."""

Picked = Mapping[str, NDArray[np.float64]]


@dataclass(slots=True)
class Kept:
    """What has been offered so far, thinned out.

    Attributes:
        question: what is asked. top: how many of the best plans stay.
        seen, feasible: candidates that were evaluated, and those that keep all limits.
        front: feasible candidates that none beats. best: the best by the objectives in their order.
        families: name -> its best candidate. nearest: of those that keep not all limits, the nearest.
        notes: what was left out, in words.
    """

    question: Question
    top: int
    seen: int = 0
    feasible: int = 0
    front: Picked = field(default_factory=dict)
    best: Picked = field(default_factory=dict)
    families: dict[str, Picked] = field(default_factory=dict)
    nearest: Picked = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)

    def offer(self, columns: Columns, locate: Callable[[Index], Picked], *, family: str) -> None:
        """Take note of a table of candidates.

        Args:
            columns: `TIMES` (energy may be absent) and `changed`, settings that are not the default; of one length.
            locate: what identifies rows: `PLACES` (what is absent is 0), `plan` and `load`.
            family: name of what they have in common.
        """
        q = self.question
        excess = q.slo.excess(columns)
        served = np.isfinite(excess) if not q.rate_per_s else columns["request_per_s"] >= q.rate_per_s * (1 - SLACK)
        good = np.flatnonzero(served & (excess <= 1.0 + SLACK))
        self.seen += int(np.count_nonzero(np.isfinite(excess)))
        self.feasible += good.size
        if not self.feasible:
            self._note_nearest(np.where(served, excess, np.nan), columns, locate)
        if not good.size:
            return
        mine = {name: column if good.size == excess.size else column[good] for name, column in columns.items()}
        values = objectives(q, mine)
        self.front = self._front(_merged(self.front, _picked(mine, _promising(values), good, locate)))
        picked = _picked(mine, self._first(values, mine), good, locate)
        self.best = self._ranked(_merged(self.best, picked), self.top)
        self.families[family] = self._ranked(_merged(self.families.get(family, {}), picked), 1)

    def _note_nearest(self, excess: Column, columns: Columns, locate: Callable[[Index], Picked]) -> None:
        if not np.isfinite(excess).any():
            return
        least = np.array([np.nanargmin(excess)])
        if not self.nearest or excess[least[0]] < self.nearest["excess"][0]:
            self.nearest = {**_picked(columns, least, np.arange(excess.size), locate), "excess": excess[least]}

    def _first(self, values: Column, columns: Columns) -> Index:
        """Rows that may be among the best: those whose first objective is small; ties are broken later."""
        wanted = VARIANTS * self.top
        first = values[:, 0]
        if first.size <= wanted:
            return np.arange(first.size)
        near = np.flatnonzero(first <= np.partition(first, wanted)[wanted] * (1.0 + 1e-8))
        return near[_order(values[near], columns["chips"][near], columns["changed"][near])[:wanted]]

    def _ranked(self, picked: Picked, most: int) -> Picked:
        """The best plans in order, each with its best settings and at its best load."""
        values = objectives(self.question, picked)
        order = _order(values, picked["chips"], picked["changed"])
        places = np.column_stack([picked[name][order] for name in PLAN])
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
    """Rows that none of a few good rows beats: a superset of the front.

    The good rows are the front of a sample, in an order that thins out most rows first.
    """
    rows = np.flatnonzero(np.isfinite(values).all(axis=1))
    sample = values[rows[:: max(rows.size // SAMPLE, 1)]]
    best = sample[front(sample)] if sample.size else sample
    best = best[np.argsort(best[:, 0])]
    spread = np.unique(np.linspace(0, max(len(best) - 1, 0), min(PIVOTS, len(best))).astype(np.intp))
    columns = [np.ascontiguousarray(column) for column in values[rows].T]
    for at in sorted(spread.tolist(), key=lambda place: abs(2 * place - len(best))):
        pivot = best[at]
        kept = np.zeros(rows.size, dtype=np.bool_)
        same = np.ones(rows.size, dtype=np.bool_)
        for column, limit in zip(columns, pivot, strict=True):
            kept |= column < limit
            same &= column == limit
        kept |= same
        rows, columns = rows[kept], [column[kept] for column in columns]
    return rows


def _picked(columns: Columns, rows: Index, of: Index, locate: Callable[[Index], Picked]) -> dict[str, Column]:
    """Some rows of a table, `of[row]` of the one that was offered, with what identifies them."""
    absent = np.full(rows.size, np.nan)
    values = {name: columns[name][rows] if name in columns else absent for name in (*TIMES, "changed")}
    zeros = dict.fromkeys(PLACES, np.zeros(rows.size))
    return {**values, **zeros, **locate(of[rows])}


def _merged(old: Picked, new: Picked) -> Picked:
    if not old:
        return new
    return {name: np.concatenate([old[name], new[name]]) for name in old}
