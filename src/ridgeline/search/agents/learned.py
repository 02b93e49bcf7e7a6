"""Reinforcement learning as an agent: proximal policy optimisation (stable-baselines3, an extra of its own)."""

from __future__ import annotations

import numpy as np

from ridgeline.core.errors import MissingExtraError
from ridgeline.search.ledger import Ledger


def ppo(ledger: Ledger, rng: np.random.Generator, *, envs: int = 0) -> None:
    """PPO whose actions are whole designs, `envs` of them at a time (by default by the budget, at most 32).

    Source: Schulman et al., arXiv 1707.06347; designs as actions as in ArchGym, Krishnan et al., ISCA 2023.
    Raises: MissingExtraError: stable-baselines3 is not installed.
    """
    try:
        from ridgeline.search.gym.ppo import learn
    except ImportError as error:
        fix = "pip install ridgeline[search,ppo]"
        raise MissingExtraError("PPO needs stable-baselines3", at="agent", got="ppo", fix=fix) from error
    learn(ledger, rng, envs=envs)
