"""Comparisons: the same budget and seeds for all, points at random always among them."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from tests.search.spaces import bowl

from ridgeline.core.errors import MissingExtraError, RidgelineError
from ridgeline.search import compare_agents, search
from ridgeline.search.problem import Objective, Problem

PPO = importlib.util.find_spec("stable_baselines3") is not None


@pytest.mark.parametrize("objectives", [1, 2])
def test_agents_stand_in_the_order_of_what_they_found_at_equal_budgets(objectives: int) -> None:
    made = compare_agents(bowl(objectives), ["nsga2", "walk"], budget=120, seeds=(0, 1, 2))
    assert {one.agent for one in made.standings} == {"nsga2", "walk", "random"}
    assert {run.evaluations for runs in made.found.values() for run in runs} == {120}
    means = [one.mean for one in made.standings]
    assert means == sorted(means, reverse=objectives > 1)
    random = next(one for one in made.standings if one.agent == "random")
    assert random.beats_random == 0.5
    again = compare_agents(bowl(objectives), ["nsga2", "walk"], budget=120, seeds=(0, 1, 2))
    assert json.dumps(made.to_dict()) == json.dumps(again.to_dict())
    for one in made.standings:
        assert one.agent in str(made)


def test_a_maximised_objective_ranks_the_largest_first() -> None:
    problem = bowl(1)
    turned = Problem(
        name="hill",
        space=problem.space,
        objectives=(Objective(name="height", maximise=True),),
        evaluate=lambda columns: {"height": -problem.evaluate(columns)["f"]},
    )
    made = compare_agents(turned, ["nsga2"], budget=100, seeds=(0, 1))
    assert made.standings[0].mean == max(one.mean for one in made.standings)
    assert made.standings[0].best >= made.standings[0].worst


def test_nothing_feasible_is_no_number_and_no_seeds_no_comparison() -> None:
    problem = bowl(1)
    empty = Problem(
        name="empty",
        space=problem.space,
        objectives=problem.objectives,
        evaluate=lambda columns: {"f": np.full(len(columns["kind"]), np.nan)},
    )
    made = compare_agents(empty, ["ga", "annealing", "ants"], budget=40, seeds=(0,))
    assert all(np.isnan(one.mean) for one in made.standings)
    assert made.to_dict()["standings"][0]["mean"] is None
    with pytest.raises(RidgelineError, match="needs seeds"):
        compare_agents(problem, ["ga"], budget=10, seeds=())


@pytest.mark.skipif(PPO, reason="stable-baselines3 (extra ppo) is installed")
def test_without_its_extra_ppo_names_it() -> None:
    with pytest.raises(MissingExtraError, match=r"ridgeline\[search,ppo\]"):
        search(bowl(), agent="ppo", budget=10)


@pytest.mark.skipif(not PPO, reason="stable-baselines3 (extra ppo, which needs torch) is not installed")
def test_ppo_spends_its_budget_and_repeats_itself() -> None:
    one, again = (search(bowl(1), agent="ppo", budget=200, seed=4) for _ in range(2))
    assert one.evaluations == 200
    assert one.points.tobytes() == again.points.tobytes()
    assert one.problem.space.is_legal(one.points).all()
