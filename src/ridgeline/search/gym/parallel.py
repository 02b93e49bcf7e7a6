"""A design problem for several agents at once (PettingZoo): each owns some axes, all are paid for the whole design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from ridgeline.core.errors import SpecError
from ridgeline.search.gym.environment import cells_of, observation_space, observed, told, unlimited
from ridgeline.search.gym.reward import Reward
from ridgeline.search.ledger import Ledger
from ridgeline.search.problem import Problem


class ParallelSearchEnv(ParallelEnv):  # type: ignore[misc]
    """Agents choose the values of their own axes at the same time; together they name a design.

    All see the same observation as `SearchEnv` gives and get the same reward: they must learn to cooperate.

    Args:
        problem: what is designed.
        owners: agent -> names of its axes; by default one agent per axis, called as the axis. Each axis has one owner.
        form: discrete or continuous, as of `SearchEnv`.
        horizon: steps of an episode.
        weights: of the objectives in the reward.
        ledger: as of `SearchEnv`.
        render_mode: ansi, or None.
    Raises: SpecError: axes without owner or with two, an unknown form. UnknownNameError: an axis that is not there.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "ridgeline_search_v0",
        "render_modes": ["ansi"],
        "is_parallelizable": True,
    }

    def __init__(
        self,
        problem: Problem,
        *,
        owners: Mapping[str, Sequence[str]] | None = None,
        form: str = "discrete",
        horizon: int = 32,
        weights: Sequence[float] | None = None,
        ledger: Ledger | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Check that every axis has one owner."""
        space = problem.space
        owned = {name: (name,) for name in space.names} if owners is None else {k: tuple(v) for k, v in owners.items()}
        for name in (name for names in owned.values() for name in names):
            space.axis(name)
        if sorted(name for names in owned.values() for name in names) != sorted(space.names) or not all(owned.values()):
            fix = "deal the axes out"
            raise SpecError("each axis has one owner, and each agent an axis", at="owners", got=owned, fix=fix)
        if form not in ("discrete", "continuous") or horizon < 1:
            raise SpecError("a form and a horizon >= 1", at="form", got=(form, horizon), fix="discrete or continuous")
        self.problem, self.form, self.horizon, self.render_mode = problem, form, horizon, render_mode
        self.possible_agents = list(owned)
        self.agents: list[str] = []
        self.places = {agent: np.array([space.names.index(n) for n in names]) for agent, names in owned.items()}
        self.reward = Reward(problem, weights, ledger)
        self.ledger = ledger or unlimited(problem)
        self._seen = {agent: observation_space(problem) for agent in owned}
        self._does = {agent: self._actions(places) for agent, places in self.places.items()}
        self._rng: np.random.Generator | None = None
        self._point, self._values, self._taken = np.zeros((1, len(space.axes))), np.empty((1, 0)), 0

    def _actions(self, places: NDArray[np.intp]) -> spaces.Space[Any]:
        if self.form == "continuous":
            return spaces.Box(-1.0, 1.0, (len(places),), dtype=np.float32)
        return spaces.MultiDiscrete(cells_of(self.problem.space)[places])

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """What an agent sees; the same object each time."""
        return self._seen[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """What an agent may choose; the same object each time."""
        return self._does[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """All agents start at one legal design at random."""
        if seed is not None or self._rng is None:
            self._rng, _ = seeding.np_random(seed)
        self.agents, self._taken = list(self.possible_agents), 0
        self._point = self.problem.space.sample(self._rng, 1)
        self._values = self.ledger.evaluate(self._point)
        return self._told()

    def step(self, actions: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Evaluate the design that the actions make together."""
        if not self.agents:
            return {}, {}, {}, {}, {}
        unit = self.problem.space.unit(self._point)
        cells = cells_of(self.problem.space)
        for agent, action in actions.items():
            places, chosen = self.places[agent], np.asarray(action, dtype=np.float64)
            unit[0, places] = (chosen + 1.0) / 2.0 if self.form == "continuous" else (chosen + 0.5) / cells[places]
        self._point = self.problem.space.from_unit(unit)
        self._values = self.ledger.evaluate(self._point)
        reward = float(self.reward(self._values)[0])
        self._taken += 1
        over = self._taken >= self.horizon
        acting = self.agents
        seen, infos = self._told()
        if over:
            self.agents = []
        return (
            seen,
            dict.fromkeys(acting, reward),
            dict.fromkeys(acting, False),
            dict.fromkeys(acting, over),
            infos,
        )

    def render(self) -> str | None:
        """The present design as text."""
        if self.render_mode != "ansi":
            return None
        columns = self.problem.space.columns(self._point)
        return ", ".join(f"{name}={column[0]}" for name, column in columns.items())

    def state(self) -> NDArray[np.float32]:
        """The whole state: what every agent sees."""
        return np.asarray(observed(self.problem, self.reward, self._point, self._values)[0])

    def _told(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        seen = observed(self.problem, self.reward, self._point, self._values)[0]
        natural = told(self.problem, self._values)
        return {agent: seen.copy() for agent in self.agents}, {agent: {"objectives": natural} for agent in self.agents}
