"""Agents on equal terms: one problem, one budget of evaluations, the same seeds, points at random always among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ridgeline.core.errors import DomainError
from ridgeline.search.ledger import Progress
from ridgeline.search.optimise import BASELINE, Found, reference_of, search
from ridgeline.search.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One agent over all seeds.

    `mean`, `best`, `worst` and `spread` (standard deviation) are of its best objective, or of its hypervolume where
    there are several; NaN where a seed found nothing feasible. `beats_random` is the share of seeds in which it was
    better than points at random, ties by half.
    """

    agent: str
    mean: float
    best: float
    worst: float
    spread: float
    beats_random: float
    evaluations: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Standings, the best agent first; `measure` says of what. `found` holds every run, [agent][seed]."""

    problem: Problem
    budget: int
    seeds: tuple[int, ...]
    measure: str
    standings: tuple[Standing, ...]
    found: Mapping[str, tuple[Found, ...]] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where there is no number."""
        rows = [{name: _plain(getattr(one, name)) for name in Standing.__slots__} for one in self.standings]
        return {
            "problem": self.problem.name,
            "budget": self.budget,
            "seeds": list(self.seeds),
            "measure": self.measure,
            "standings": rows,
        }

    def __str__(self) -> str:
        """The standings as a plain table."""
        head = f"{'agent':<12}{'mean':>12}{'best':>12}{'worst':>12}{'spread':>12}{'beats random':>14}"
        rows = [
            f"{s.agent:<12}{s.mean:>12.5g}{s.best:>12.5g}{s.worst:>12.5g}{s.spread:>12.3g}{s.beats_random:>14.0%}"
            for s in self.standings
        ]
        words = f"{self.measure} after {self.budget:,} evaluations, {len(self.seeds)} seeds"
        return "\n".join([words, head, *rows])


def compare_agents(
    problem: Problem,
    agents: Sequence[str],
    *,
    budget: int,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run agents on a problem with the same budget and seeds, and rank them by what they found.

    Args:
        problem: with one objective (ranked by its best value) or several (by hypervolume from a common reference).
        agents: names of AGENTS; points at random are added.
        budget: evaluations of each run.
        seeds: of the runs.
        options: agent -> its options.
        progress: as of `search`, for each run.
    Raises: as `search`. DomainError: no seeds.
    Source: the practice of ArchGym, Krishnan et al., ISCA 2023: agents are compared at equal samples, over several
        seeds, as their rank changes with both.
    """
    if not seeds:
        raise DomainError("a comparison needs seeds", at="seeds", fix="give for example range(5)")
    found = {
        agent: tuple(
            search(
                problem, agent=agent, budget=budget, seed=seed, baseline=False,
                options=(options or {}).get(agent), progress=progress,
            )
            for seed in seeds
        )
        for agent in dict.fromkeys([*agents, BASELINE])
    }  # fmt: skip
    single = len(problem.objectives) == 1
    worst = reference_of([run for runs in found.values() for run in runs])
    good = {agent: np.array([_good(run, worst) for run in runs]) for agent, runs in found.items()}
    least = single and not problem.objectives[0].maximise
    standings = [
        _standing(agent, column, good[BASELINE], [run.evaluations for run in found[agent]], least=least)
        for agent, column in good.items()
    ]
    order = sorted(standings, key=lambda one: (np.isnan(one.mean), one.mean if least else -one.mean, one.agent))
    return Comparison(
        problem=problem,
        budget=budget,
        seeds=tuple(seeds),
        measure=problem.objectives[0].name if single else "hypervolume",
        standings=tuple(order),
        found=found,
    )


def _good(run: Found, worst: Any) -> float:
    """Best objective as people read it, or hypervolume."""
    if len(run.problem.objectives) > 1:
        return run.hypervolume(worst) if worst is not None else 0.0
    return float(run.problem.objectives[0].natural(run.values[run.best, 0])) if run.best is not None else np.nan


def _standing(
    agent: str, good: np.ndarray[Any, Any], random: np.ndarray[Any, Any], evaluations: list[int], *, least: bool
) -> Standing:
    better, worse = (np.min, np.max) if least else (np.max, np.min)
    ahead = good < random if least else good > random
    return Standing(
        agent=agent,
        mean=float(np.mean(good)),
        best=float(better(good)),
        worst=float(worse(good)),
        spread=float(np.std(good)),
        beats_random=float(np.mean(ahead + 0.5 * (good == random))),
        evaluations=float(np.mean(evaluations)),
    )


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value
