"""Bayesian search: a tree-structured Parzen estimator (optuna), asked and told in batches."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ridgeline.core.errors import MissingExtraError
from ridgeline.search.ledger import Ledger
from ridgeline.search.problem import Values
from ridgeline.search.space import Axis, Choice, Points, Range

BATCH = 16
"""Points asked at once, at most: each is chosen as if those before it had turned out badly."""

FAILED = 1e30
"""What an infeasible point is said to give."""


def tpe(ledger: Ledger, rng: np.random.Generator, *, batch: int = 0) -> None:
    """TPE with several objectives: densities of good and of other points, next the best ratio of the two.

    Source: Bergstra et al., NeurIPS 2011; Ozaki et al., J. Artificial Intelligence Research 73, 2022.
    Raises: MissingExtraError: optuna is not installed.
    """
    study, trial_of = _study(ledger, rng)
    size = max(batch, 1) if batch else int(np.clip(ledger.budget // 16, 1, BATCH))
    while True:
        trials, points = zip(*(trial_of() for _ in range(size)), strict=True)
        values = ledger.evaluate(np.array(points))
        for trial, told in zip(trials, _told(values), strict=True):
            study.tell(trial, told)


def _told(values: Values) -> list[list[float]]:
    told: list[list[float]] = np.where(np.isfinite(values), values, FAILED).tolist()
    return told


def _study(ledger: Ledger, rng: np.random.Generator) -> tuple[Any, Any]:
    """A study of the problem, and a function that gives (trial, point)."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError(
            "Bayesian search needs optuna", at="agent", fix="pip install ridgeline[search]"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=int(rng.integers(2**31)), multivariate=True, constant_liar=True, n_startup_trials=10
        )
    study = optuna.create_study(directions=["minimize"] * len(ledger.problem.objectives), sampler=sampler)
    space = ledger.problem.space
    given = {axis.name: _distribution(optuna.distributions, axis) for axis in space.axes}

    def trial_of() -> tuple[Any, Points]:
        trial = study.ask(given)
        return trial, np.array([float(trial.params[name]) for name in space.names])

    return study, trial_of


def _distribution(kinds: Any, axis: Axis) -> Any:
    if isinstance(axis, Range):
        return kinds.FloatDistribution(0.0, 1.0)
    if isinstance(axis, Choice):
        return kinds.CategoricalDistribution(tuple(range(axis.size)))
    return kinds.IntDistribution(0, axis.size - 1)
