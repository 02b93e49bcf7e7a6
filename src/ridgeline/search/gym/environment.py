"""A design problem as a Gymnasium environment: an action is a design, or a step to a neighbour of the present one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ridgeline.core.errors import SpecError
from ridgeline.core.seeding import stream
from ridgeline.search.gym.reward import BEST, Reward
from ridgeline.search.ledger import Ledger
from ridgeline.search.problem import Problem
from ridgeline.search.space import Axis, Choice, Points, Range, Space

FORMS = ("discrete", "continuous", "moves")

BINS = 16
"""Values that a range has for agents with discrete actions."""


class SearchEnv(gymnasium.Env[NDArray[np.float32], Any]):
    """One agent designs, and is told how good each design is.

    Observation: the present design in the unit cube, its distance from good designs per objective, and whether it is
    feasible. Reward: `Reward` of the design. An episode starts at a legal design at random and ends after `horizon`
    steps.

    Args:
        problem: what is designed.
        form: discrete (an action is a design, MultiDiscrete, ranges in BINS cells), continuous (the same in [-1, 1] per
            axis) or moves (one step up or down one axis; what is illegal leaves the design as it is).
        horizon: steps of an episode.
        weights: of the objectives in the reward.
        ledger: account that is charged, for comparisons on a budget; by default evaluations are free and remembered.
        render_mode: ansi, or None.
    Raises: SpecError: an unknown form. DomainError: weights that cannot be, a space in which nothing is legal.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 - as the base declares it

    def __init__(
        self,
        problem: Problem,
        *,
        form: str = "discrete",
        horizon: int = 32,
        weights: Sequence[float] | None = None,
        ledger: Ledger | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Set the scales of the reward; nothing is drawn yet."""
        if form not in FORMS or horizon < 1:
            fix = f"forms: {', '.join(FORMS)}"
            raise SpecError("an environment has a form and a horizon >= 1", at="form", got=(form, horizon), fix=fix)
        self.problem, self.form, self.horizon, self.render_mode = problem, form, horizon, render_mode
        self.reward = Reward(problem, weights, ledger)
        self.ledger = ledger or unlimited(problem)
        self.action_space = action_space(problem.space, form)
        self.observation_space = observation_space(problem)
        self._point = np.zeros((1, len(problem.space.axes)))
        self._values = np.full((1, len(problem.objectives)), np.inf)
        self._taken = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start at a legal design at random."""
        super().reset(seed=seed)
        self._taken = 0
        self._point = self.problem.space.sample(self.np_random, 1)
        self._values = self.ledger.evaluate(self._point)
        return observed(self.problem, self.reward, self._point, self._values)[0], self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Evaluate the design that the action names."""
        tried = designs_of(self.problem.space, self.form, np.asarray(action)[None], self._point)
        values = self.ledger.evaluate(tried)
        reward = float(self.reward(values)[0])
        if self.form != "moves" or np.isfinite(values).all():
            self._point, self._values = tried, values
        self._taken += 1
        seen = observed(self.problem, self.reward, self._point, self._values)[0]
        return seen, reward, False, self._taken >= self.horizon, self._info()

    def render(self) -> str | None:
        """The present design and its objectives as text."""
        if self.render_mode != "ansi":
            return None
        columns = {**self.problem.space.columns(self._point), **self.problem.natural(self._values)}
        return ", ".join(f"{name}={column[0]}" for name, column in columns.items())

    def _info(self) -> dict[str, Any]:
        return {"objectives": told(self.problem, self._values), "evaluations": self.ledger.spent}


def unlimited(problem: Problem) -> Ledger:
    """A ledger that never ends and never looks at points of its own accord."""
    return Ledger(problem, sys.maxsize, stream(0, "search/unseen"), patience=0)


def observation_space(problem: Problem) -> spaces.Space[Any]:
    """What agents see."""
    width, count = len(problem.space.axes), len(problem.objectives)
    low = np.concatenate([np.zeros(width), np.full(count, -BEST), np.zeros(1)]).astype(np.float32)
    high = np.concatenate([np.ones(width), np.full(count, BEST), np.ones(1)]).astype(np.float32)
    return spaces.Box(low=low, high=high, dtype=np.float32)


def observed(problem: Problem, reward: Reward, points: Points, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Observations of designs, [designs, axes + objectives + 1]."""
    good = np.isfinite(values).all(axis=1, keepdims=True)
    away = np.clip(np.where(good, reward.distances(np.where(good, values, 0.0)), BEST), -BEST, BEST)
    return np.concatenate([problem.space.unit(points), away, good], axis=1).astype(np.float32)


def cells_of(space: Space) -> NDArray[np.int64]:
    """Values per axis that discrete actions tell apart."""
    return np.where(space.discrete, space.sizes, BINS).astype(np.int64)


def action_space(space: Space, form: str) -> spaces.Space[Any]:
    """Actions of one agent that owns all axes."""
    if form == "moves":
        return spaces.Discrete(2 * len(space.axes))
    if form == "continuous":
        return spaces.Box(-1.0, 1.0, (len(space.axes),), dtype=np.float32)
    return spaces.MultiDiscrete(cells_of(space))


def designs_of(space: Space, form: str, actions: NDArray[Any], points: Points) -> Points:
    """Designs that actions name, [designs, axes]; `points` are the present ones."""
    if form == "continuous":
        return space.from_unit((np.asarray(actions, dtype=np.float64) + 1.0) / 2.0)
    if form == "discrete":
        return space.from_unit((np.asarray(actions, dtype=np.float64) + 0.5) / cells_of(space))
    chosen = np.asarray(actions, dtype=np.intp)
    moved = np.array(points, dtype=np.float64, copy=True)
    for place, axis in enumerate(space.axes):
        mine = chosen // 2 == place
        moved[mine, place] = _stepped(axis, moved[mine, place], np.where(chosen[mine] % 2, 1.0, -1.0))
    return moved


def _stepped(axis: Axis, at: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(axis, Range):
        return np.clip(at + direction / BINS, 0.0, 1.0)
    if isinstance(axis, Choice):
        return np.asarray((at + direction) % axis.size)
    return np.clip(at + direction, 0.0, axis.size - 1.0)


def told(problem: Problem, values: NDArray[np.float64]) -> dict[str, float | None]:
    """Objectives of one design as people read them; None where it is infeasible."""
    natural = {name: float(column[0]) for name, column in problem.natural(values).items()}
    return {name: None if np.isnan(value) else value for name, value in natural.items()}
