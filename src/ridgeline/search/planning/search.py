"""The whole search: engines, products, what stays, and the exact prediction of what stays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ridgeline.core import units
from ridgeline.core.errors import PlanError, SpecError
from ridgeline.search.planning import aggregated as one_pool
from ridgeline.search.planning import pools as two_pools
from ridgeline.search.planning.engines import Engines, Shortage, aggregated, fitting, usable
from ridgeline.search.planning.kept import PLACES, TIMES, Kept, Picked
from ridgeline.search.planning.predictor import Predictor
from ridgeline.search.planning.question import Column, Question
from ridgeline.search.planning.rows import Index, Rows, joined

TOP = 20
"""Best deployments that stay."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What a search found. Rows are cases of `predict serving`, a candidate each, with `screened` times beside them.

    Attributes:
        question: what was asked.
        seen, feasible, engines: candidates evaluated; those that keep all limits; distinct engines priced.
        front, best: the Pareto front, and the best deployments in their order.
        families: name -> its best candidate (one row each, in the order of `family_names`).
        nearest: where no candidate keeps all limits, the nearest.
    """

    question: Question
    seen: int
    feasible: int
    engines: int
    front: Chosen
    best: Chosen
    families: Chosen
    family_names: tuple[str, ...]
    nearest: Chosen
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """Some candidates: their cases, and their times as the search had them."""

    rows: Rows | None
    screened: Mapping[str, Column] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many."""
        return 0 if self.rows is None else self.rows.count


@dataclass(slots=True)
class _Groups:
    """Tables of engines by number, to turn places back into cases."""

    question: Question
    made: list[Engines | two_pools.Pools] = field(default_factory=list)

    def add(self, group: Engines | two_pools.Pools) -> int:
        self.made.append(group)
        return len(self.made) - 1

    def chosen(self, picked: Picked) -> Chosen:
        """The candidates of some places, in their order."""
        if not picked or not picked["group"].size:
            return Chosen(rows=None)
        parts, order = [], []
        for number in np.unique(picked["group"]).astype(int).tolist():
            at = np.flatnonzero(picked["group"] == number)
            places = {name: picked[name][at] for name in (*PLACES, "load")}
            group = self.made[number]
            parts.append(
                one_pool.rows_of(group, self.question, places)
                if isinstance(group, Engines)
                else two_pools.rows_of(group, self.question, places)
            )
            order.append(at)
        places_of = np.argsort(np.concatenate(order))
        screened = {name: picked[name] for name in TIMES}
        return Chosen(rows=joined(_aligned(parts)).take(places_of), screened=screened)


def find(question: Question, predictor: Predictor, *, top: int = TOP) -> Found:
    """Search every candidate.

    Args:
        question: what is asked.
        predictor: how rows are priced.
        top: best deployments to keep.
    Raises:
        PlanError: no machine holds the model, with the memory that is lacking.
        SpecError: the limits on power or price leave no chip; the space is too large.
    """
    _check_limits(question)
    kept, groups = Kept(question=question, top=top), _Groups(question)
    engines, short = 0, []
    if "agg" in question.choices.modes:
        rows, machine = aggregated(question)
        fit, lacks = fitting(rows, machine, predictor) if rows.count else (None, None)
        short.append(lacks)
        for family, members in _families(fit, question) if fit is not None and lacks is None else ():
            part = fit.take(members)
            engines += members.size
            offer = one_pool.offer_free if question.free else one_pool.offer_fixed
            offer(part, question, predictor, kept, groups.add(part), family)
    if "disagg" in question.choices.modes:
        for family, pools in two_pools.kinds_of_pools(question, predictor):
            if isinstance(pools, Shortage):
                short.append(pools)
                continue
            engines += pools.prefill.rows.count + pools.decode.rows.count
            two_pools.offer_pools(pools, question, kept, groups.add(pools), family)
    if not engines:
        raise _nothing_fits(question, [one for one in short if one is not None])
    names = tuple(kept.families)
    return Found(
        question=question,
        seen=kept.seen,
        feasible=kept.feasible,
        engines=engines,
        front=groups.chosen(kept.front),
        best=groups.chosen(kept.best),
        families=groups.chosen(_together([kept.families[name] for name in names])),
        family_names=names,
        nearest=groups.chosen(kept.nearest),
    )


def _families(engines: Engines, question: Question) -> list[tuple[str, Index]]:
    """Engines by machine and runtime."""
    runtimes = engines.rows.texts["runtime"]
    found = []
    for machine, allowed in enumerate(question.machines):
        for code, name in enumerate(runtimes.values):
            members = np.flatnonzero((engines.machine == machine) & (runtimes.codes == code))
            if members.size:
                found.append((f"agg, {name} on {allowed.machine.chip.name}", members))
    return found


def _together(parts: list[Picked]) -> Picked:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _aligned(parts: list[Rows]) -> list[Rows]:
    """Parts with the same columns: what one lacks is absent there (NaN, or a text that is missing)."""
    numbers = dict.fromkeys(name for part in parts for name in part.numbers)
    return [part.put(**{name: np.nan for name in numbers if name not in part.numbers}) for part in parts]


def _check_limits(question: Question) -> None:
    if all(usable(question, machine) >= 1 for machine in range(len(question.machines))):
        return
    if any(usable(question, machine) >= 1 for machine in range(len(question.machines))):
        return
    chip = min((allowed.machine.chip for allowed in question.machines), key=lambda chip: chip.tdp_w)
    if question.power_w < chip.tdp_w:
        raise SpecError(
            f"the power budget does not feed one {chip.name}",
            at="power",
            got=units.si(question.power_w, "W"),
            fix=f"one is rated at {units.si(chip.tdp_w, 'W')}",
        )
    cheapest = min(allowed.usd_per_s for allowed in question.machines) * 3600.0
    raise SpecError(
        "the budget does not pay for one chip",
        at="budget",
        got=f"{question.usd_per_s * 3600.0:.4g} USD/h",
        fix=f"the cheapest costs {cheapest:.4g} USD/h",
    )


def _nothing_fits(question: Question, short: list[Shortage]) -> PlanError:
    if not short:
        names = ", ".join(allowed.machine.name for allowed in question.machines)
        return PlanError(
            f"no legal plan of {question.model} on {names}",
            at="on",
            fix="allow more chips, other runtimes or formats",
        )
    nearest = min(short, key=lambda one: one.needs_bytes - one.has_bytes)
    lacking = nearest.needs_bytes - nearest.has_bytes
    return PlanError(
        f"{question.model} fits on none of the machines: the best cut, {nearest.plan} on {nearest.chip}, needs "
        f"{units.size(nearest.needs_bytes)} per chip and the engine may use {units.size(nearest.has_bytes)}",
        at="on",
        got=", ".join(allowed.machine.name for allowed in question.machines),
        fix=f"{units.size(lacking)} per chip are lacking: allow more or larger chips, or smaller formats",
    )


def is_open(question: Question) -> bool:
    """Whether requests arrive at random."""
    return not math.isfinite(question.concurrency) or question.concurrency == 0
