"""`search`: spend a budget of evaluations on a problem with an agent, and on points at random beside it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.core.errors import DomainError, UnknownNameError, did_you_mean
from ridgeline.core.seeding import stream
from ridgeline.search.agents.ants import ants
from ridgeline.search.agents.evolution import genetic, nsga2
from ridgeline.search.agents.learned import ppo
from ridgeline.search.agents.local import annealing, at_random, exhaustive, walk
from ridgeline.search.agents.model import tpe
from ridgeline.search.hypervolume import hypervolume
from ridgeline.search.ledger import Ledger, Progress, Spent
from ridgeline.search.pareto import front
from ridgeline.search.problem import Problem, Values
from ridgeline.search.space import Points

Agent = Callable[..., None]
"""`agent(ledger, rng, **options)`: evaluates through the ledger until it raises Spent."""

AGENTS: dict[str, Agent] = {
    "annealing": annealing,
    "ants": ants,
    "exhaustive": exhaustive,
    "ga": genetic,
    "nsga2": nsga2,
    "ppo": ppo,
    "random": at_random,
    "tpe": tpe,
    "walk": walk,
}
"""Agents by name. `tpe` needs the extra `search`, `ppo` the extra `ppo`; the others need nothing."""

BASELINE = "random"
STEPS = 32
"""Points of a curve."""

MARGIN = 0.1
"""The reference of a hypervolume lies this share of the spread beyond the worst value of a front."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search evaluated and what is best of it.

    Attributes:
        points, values: every evaluation in order, [evaluations, axes] and [evaluations, objectives] (to be minimised;
            infinity where infeasible).
        baseline: the same budget at random; None beside the baseline itself and beside an exhaustive search.
    """

    problem: Problem
    agent: str
    budget: int
    seed: int
    points: Points = field(repr=False)
    values: Values = field(repr=False)
    baseline: Found | None = field(default=None, repr=False)

    @property
    def evaluations(self) -> int:
        """Points evaluated: the budget, or all that are legal."""
        return len(self.points)

    @cached_property
    def front(self) -> NDArray[np.intp]:
        """Rows of `points` that nothing beats, sorted by the objectives, the first first."""
        rows = np.flatnonzero(front(self.values))
        return rows[np.lexsort(self.values[rows].T[::-1])]

    @property
    def best(self) -> int | None:
        """The row with the best objective; of several, the nearest to the best of each. None: nothing is feasible."""
        if not self.front.size:
            return None
        values = self.values[self.front]
        low = values.min(axis=0)
        span = np.ptp(values, axis=0)
        return int(self.front[np.argmin(((values - low) / np.where(span > 0, span, 1.0)).max(axis=1))])

    @cached_property
    def reference(self) -> NDArray[np.float64] | None:
        """Where hypervolumes are measured from: just beyond the fronts of this search and its baseline."""
        return reference_of([self, *([self.baseline] if self.baseline else [])])

    def designs(self, rows: ArrayLike | None = None) -> dict[str, NDArray[np.generic]]:
        """Columns of the space and objectives as people read them, of some rows (by default the front)."""
        chosen = self.front if rows is None else np.atleast_1d(np.asarray(rows, dtype=np.intp))
        columns: dict[str, NDArray[np.generic]] = dict(self.problem.space.columns(self.points[chosen]))
        return {**columns, **self.problem.natural(self.values[chosen])}

    def hypervolume(self, reference: ArrayLike | None = None, evaluations: int | None = None) -> float:
        """Hypervolume after so many evaluations (by default all); 0 if nothing is feasible."""
        worst = self.reference if reference is None else np.asarray(reference, dtype=np.float64)
        return 0.0 if worst is None else hypervolume(self.values[:evaluations], worst)

    def curve(self, reference: ArrayLike | None = None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Evaluations, and how good the search was by then: its best objective, or its hypervolume of several."""
        steps = np.unique(np.linspace(1, max(self.evaluations, 1), STEPS).astype(np.int64))
        if self.values.shape[1] == 1:
            so_far = np.minimum.accumulate(self.values[:, 0])
            return steps, self.problem.objectives[0].natural(so_far[steps - 1])
        return steps, np.array([self.hypervolume(reference, int(step)) for step in steps])

    def to_dict(self) -> dict[str, Any]:
        """Front, best and curve as plain values for JSON, with the baseline beside them."""
        steps, good = self.curve(self.reference)
        columns = {name: column.tolist() for name, column in self.designs().items()}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return {
            "problem": self.problem.name,
            "agent": self.agent,
            "budget": self.budget,
            "seed": self.seed,
            "evaluations": self.evaluations,
            "front": rows,
            "best": None if self.best is None else rows[int(np.flatnonzero(self.front == self.best)[0])],
            "curve": {"evaluations": steps.tolist(), "good": [None if np.isnan(x) else x for x in good.tolist()]},
            "hypervolume": self.hypervolume(),
            "baseline": None if self.baseline is None else _beside(self.baseline, self.reference),
        }


def _beside(baseline: Found, reference: NDArray[np.float64] | None) -> dict[str, Any]:
    said = baseline.to_dict()
    return {**said, "hypervolume": 0.0 if reference is None else baseline.hypervolume(reference)}


def reference_of(found: list[Found]) -> NDArray[np.float64] | None:
    """A reference for hypervolumes of several searches: beyond the worst value on any front; None without any."""
    fronts = [one.values[one.front] for one in found if one.front.size]
    if not fronts:
        return None
    values = np.concatenate(fronts)
    span = np.ptp(values, axis=0)
    return np.asarray(values.max(axis=0) + np.where(span > 0, MARGIN * span, np.maximum(np.abs(values[0]), 1.0)))


def search(
    problem: Problem,
    *,
    agent: str | Agent = "nsga2",
    budget: int = 1000,
    seed: int = 0,
    baseline: bool = True,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Found:
    """Evaluate at most `budget` distinct legal points, chosen by an agent; equal seeds give equal bytes.

    Args:
        problem: what is searched.
        agent: a name of AGENTS, or a function with the same arguments.
        budget: evaluations; repeated and illegal points are free.
        seed: of every random draw.
        baseline: whether the same budget is spent at random beside it.
        options: arguments of the agent, such as population, chains, batch or levels.
        progress: told how much of the budget is spent, as `progress(spent, budget)`, and again for the baseline.
    Raises:
        UnknownNameError: no such agent or option. DomainError: a budget below 1, an exhaustive search beyond its
            budget, a space in which nothing is legal. MissingExtraError: the agent's library is not installed.
    """
    run = agent_of(agent) if isinstance(agent, str) else agent
    name = agent if isinstance(agent, str) else getattr(agent, "__name__", "agent")
    given = _options(name, run, options or {})
    if name == "exhaustive":
        _check_covers(problem, budget, given)
    ledger = Ledger(problem, budget, stream(seed, "search/unseen"), progress=progress)
    with contextlib.suppress(Spent):
        run(ledger, stream(seed, f"search/{name}"), **given)
    beside = baseline and name not in (BASELINE, "exhaustive")
    other = search(problem, agent=BASELINE, budget=budget, seed=seed, progress=progress) if beside else None
    return Found(
        problem=problem,
        agent=name,
        budget=budget,
        seed=seed,
        points=ledger.points,
        values=ledger.values,
        baseline=other,
    )


def agent_of(name: str) -> Agent:
    """The agent of that name. Raises UnknownNameError with the nearest ones."""
    if name not in AGENTS:
        fix = did_you_mean(name, AGENTS, listing=f"agents: {', '.join(AGENTS)}")
        raise UnknownNameError(f"unknown agent {name!r}", at="agent", got=name, fix=fix)
    return AGENTS[name]


def _options(name: str, run: Agent, given: Mapping[str, Any]) -> dict[str, Any]:
    known = [p.name for p in inspect.signature(run).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in given:
        if option not in known:
            fix = did_you_mean(option, known, listing=f"options of {name}: {', '.join(known) or 'none'}")
            raise UnknownNameError(f"{name} has no option {option!r}", at="options", got=option, fix=fix)
    return dict(given)


def _check_covers(problem: Problem, budget: int, options: Mapping[str, Any]) -> None:
    legal = sum(len(points) for points in problem.space.grid(levels=int(options.get("levels", 0))))
    if legal > budget:
        raise DomainError(
            f"the space has {legal:,} legal points", at="budget", got=budget,
            fix=f"give a budget of {legal:,}, or an agent that samples: nsga2, tpe, random",
        )  # fmt: skip
    if legal == 0:
        raise DomainError("no point of the space is legal", at="space", fix="loosen what is legal")
