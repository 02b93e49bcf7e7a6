"""PPO (stable-baselines3) on many designs at once: one call evaluates the actions of all environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from ridgeline.search.gym.environment import action_space, designs_of, observation_space, observed
from ridgeline.search.gym.reward import Reward
from ridgeline.search.ledger import Ledger

MOST_ENVS, ENVS_OF_BUDGET = 32, 64
"""Designs at once, and the share of a budget that one round of them takes."""

STEPS = 4
"""Rounds between two updates of the policy."""

EPOCHS, RATE = 10, 4e-3
"""Passes over the rounds of an update, and its learning rate."""


class DesignVecEnv(VecEnv):  # type: ignore[misc]
    """Environments that propose whole designs; each sees its last one. No episode ends: designs owe each other nothing.

    Args:
        ledger: pays for all designs, those that set the scale of the reward too.
        rng: of the first designs.
        envs: how many.
    """

    def __init__(self, ledger: Ledger, rng: np.random.Generator, envs: int) -> None:
        """Draw and evaluate the first designs."""
        self.ledger, self.problem = ledger, ledger.problem
        self.form = "discrete"
        self.reward = Reward(self.problem, None, ledger)
        self._points = self.problem.space.sample(rng, envs)
        self._values = ledger.evaluate(self._points)
        super().__init__(envs, observation_space(self.problem), action_space(self.problem.space, self.form))

    def reset(self) -> NDArray[np.float32]:
        """What each environment sees; nothing is drawn anew."""
        return observed(self.problem, self.reward, self._points, self._values)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions of all environments."""
        self._points = designs_of(self.problem.space, self.form, actions, self._points)

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Evaluate them in one call."""
        self._values = self.ledger.evaluate(self._points)
        rewards = self.reward(self._values).astype(np.float32)
        return self.reset(), rewards, np.zeros(self.num_envs, dtype=np.bool_), [{} for _ in range(self.num_envs)]

    def close(self) -> None:
        """Nothing is held."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same for every environment."""
        return [getattr(self, attr_name, None)] * len(self._chosen(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """The same for every environment."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Environments have no methods of their own."""
        return [None] * len(self._chosen(indices))

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """None is."""
        return [False] * len(self._chosen(indices))

    def _chosen(self, indices: Any) -> Sequence[int]:
        return range(self.num_envs) if indices is None else np.atleast_1d(indices).tolist()


def learn(ledger: Ledger, rng: np.random.Generator, *, envs: int = 0) -> None:
    """Train until the ledger is spent, which raises Spent. The future is worth nothing: every design stands alone."""
    count = max(envs, 1) if envs else int(np.clip(ledger.budget // ENVS_OF_BUDGET, 1, MOST_ENVS))
    world = DesignVecEnv(ledger, rng, count)
    batch = max(count * STEPS // 2, 2)
    policy = PPO(
        "MlpPolicy", world, n_steps=max(STEPS, -(-batch // count)), batch_size=batch, n_epochs=EPOCHS, gamma=0.0,
        learning_rate=RATE, ent_coef=0.01, seed=int(rng.integers(2**31)), device="cpu", verbose=0,
    )  # fmt: skip
    while True:
        policy.learn(total_timesteps=2**20, reset_num_timesteps=False)
