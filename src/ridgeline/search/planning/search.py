"""The whole search: engines, products, what stays, and the exact prediction of what stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ridgeline.core import units
from ridgeline.core.errors import PlanError, SpecError
from ridgeline.search.planning import aggregated as one_pool
from ridgeline.search.planning import pools as two_pools
from ridgeline.search.planning.engines import Engines, Shortage, fitting, usable
from ridgeline.search.planning.kept import PLACES, TIMES, Kept, Picked
from ridgeline.search.planning.predictor import Predictor
from ridgeline.search.planning.question import Column, Question
from ridgeline.search.planning.rows import Rows, joined
from ridgeline.search.planning.spaces import Space, spaces

TOP = 20
"""Best deployments that stay."""

Progress = Callable[[int, int, str], None]
"""`progress(kinds of deployment that were searched, of how many, the next and what was seen so far)`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What a search found. Rows are cases of `predict serving`, a candidate each, with `screened` times beside them.

    Attributes:
        question: what was asked.
        seen, feasible, engines: candidates evaluated; those that keep all limits; distinct engines priced.
        front, best: the Pareto front, and the best deployments in their order.
        families: name -> its best candidate (one row each, in the order of `family_names`).
        nearest: where no candidate keeps all limits, the nearest.
        contenders: the engines of the best, for another search among them.
        interrupted: whether it was stopped before it had seen all.
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
    contenders: tuple[Space, ...] = ()
    notes: tuple[str, ...] = ()
    interrupted: bool = False


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
    spaces: list[Space] = field(default_factory=list)

    def add(self, space: Space, group: Engines | two_pools.Pools) -> int:
        self.made.append(group)
        self.spaces.append(space)
        return len(self.made) - 1

    def narrowed(self, picked: Picked) -> Iterator[Space]:
        """The spaces with only those engines that were picked."""
        for number in np.unique(picked["group"]).astype(int).tolist():
            at = picked["group"] == number
            group, space = self.made[number], self.spaces[number]
            first = np.unique(picked["engine"][at]).astype(np.intp)
            if isinstance(group, Engines):
                yield replace(space, rows=group.rows.take(first))
            else:
                second = np.unique(picked["decode"][at]).astype(np.intp)
                yield replace(space, rows=group.prefill.rows.take(first), decode=group.decode.rows.take(second))

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
        return Chosen(rows=joined(parts).take(places_of), screened=screened)


def find(
    question: Question,
    predictor: Predictor,
    *,
    top: int = TOP,
    among: Sequence[Space] = (),
    progress: Progress | None = None,
) -> Found:
    """Search every candidate. Ctrl-C ends with what is known so far, if that is a deployment that keeps the limits.

    Args:
        question: what is asked.
        predictor: how rows are priced.
        top: best deployments to keep.
        among: search these engines alone, not all that are legal.
        progress: told which kind of deployment comes next.
    Raises:
        PlanError: no machine holds the model, with the memory that is lacking.
        SpecError: the limits on power or price leave no chip; the space is too large.
    """
    _check_limits(question)
    kept, groups = Kept(question=question, top=top), _Groups(question)
    engines, short, interrupted = 0, [], False
    every = list(among or spaces(question))
    try:
        for done, space in enumerate(every):
            if progress is not None:
                progress(done, len(every), f"{space.family}; {kept.seen:,} candidates so far")
            count, lacks = _offer(space, question, predictor, kept, groups)
            engines += count
            short += lacks
    except KeyboardInterrupt:
        if not kept.best:
            raise
        interrupted = True
    if not (engines or interrupted):
        raise _nothing_fits(question, short)
    names = tuple(kept.families)
    picked = _together([kept.best, *kept.families.values()] if names else [])
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
        contenders=tuple(groups.narrowed(picked)) if names else (),
        notes=tuple(sorted(kept.notes)),
        interrupted=interrupted,
    )


def _offer(
    space: Space, question: Question, predictor: Predictor, kept: Kept, groups: _Groups
) -> tuple[int, list[Shortage]]:
    """Evaluate a space. Returns how many engines were priced, and what they lack if none fits."""
    if space.decode is not None:
        pools = two_pools.priced(question, space, predictor)
        if isinstance(pools, Shortage):
            return 0, [pools]
        two_pools.offer_pools(pools, question, kept, groups.add(space, pools), space.family)
        return pools.prefill.rows.count + pools.decode.rows.count, []
    engines, lacks = fitting(space.rows, predictor)
    if lacks is not None:
        return 0, [lacks]
    place = one_pool.Place(group=groups.add(space, engines), machine=space.machine, family=space.family)
    offer = one_pool.offer_free if question.free else one_pool.offer_fixed
    offer(engines, question, predictor, kept, place)
    return engines.rows.count, []


def _together(parts: list[Picked]) -> Picked:
    names = set.intersection(*(set(part) for part in parts)) if parts else set()
    return {name: np.concatenate([part[name] for part in parts]) for name in sorted(names)}


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
