"""Searches: every agent on equal terms, exact where the budget covers the space, the same bytes for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.search.spaces import bowl, everything, front_values, problems

from ridgeline.core.errors import RidgelineError
from ridgeline.search.optimise import AGENTS, search
from ridgeline.search.problem import Limit, Objective, Problem
from ridgeline.search.space import Ordered, Space

QUICK = sorted(set(AGENTS) - {"exhaustive", "tpe", "ppo"})
CLEVER = ["annealing", "ants", "ga", "nsga2"]


@pytest.mark.parametrize("agent", [*QUICK, "exhaustive"])
@settings(max_examples=-(-200 // (len(QUICK) + 1)), deadline=None)
@given(problem=problems(), seed=st.integers(0, 1000))
def test_with_the_whole_space_as_budget_a_search_equals_brute_force(agent: str, problem: Problem, seed: int) -> None:
    points, values = everything(problem)
    found = search(problem, agent=agent, budget=int(problem.space.size), seed=seed)
    assert found.evaluations == len(points)
    assert np.array_equal(front_values(found.values), front_values(values))
    assert np.array_equal(np.sort(problem.space.keys(found.points)), np.sort(problem.space.keys(points)))
    if found.values.shape[1] == 1 and np.isfinite(values).any():
        assert found.values[found.best, 0] == values.min()


@pytest.mark.parametrize("agent", QUICK)
def test_equal_seeds_give_equal_bytes_and_others_differ(agent: str) -> None:
    one, again, other = (search(bowl(), agent=agent, budget=300, seed=seed, baseline=False) for seed in (5, 5, 6))
    assert one.points.tobytes() == again.points.tobytes()
    assert one.values.tobytes() == again.values.tobytes()
    assert one.points.tobytes() != other.points.tobytes()


@pytest.mark.parametrize("agent", QUICK)
def test_every_point_is_legal_new_and_within_the_budget(agent: str) -> None:
    asked = []
    problem = bowl()

    def counted(columns):
        asked.append(len(columns["kind"]))
        return problem.evaluate(columns)

    watched = Problem(name="watched", space=problem.space, objectives=problem.objectives, evaluate=counted)
    found = search(watched, agent=agent, budget=300, baseline=False)
    assert sum(asked) == found.evaluations == 300
    assert problem.space.is_legal(found.points).all()
    assert len(np.unique(problem.space.keys(found.points))) == 300
    rows = found.values[found.front]
    assert np.isfinite(rows).all()
    assert not any((np.all(b <= a) and np.any(b < a)) for a in rows for b in found.values)


@pytest.mark.parametrize("agent", CLEVER)
def test_clever_agents_beat_points_at_random_of_the_same_budget(agent: str) -> None:
    found = [search(bowl(), agent=agent, budget=600, seed=seed) for seed in range(3)]
    for one in found:
        assert one.baseline is not None
        assert (one.baseline.agent, one.baseline.evaluations) == ("random", one.evaluations)
    worst = [200.0, 200.0]
    assert np.mean([one.hypervolume(worst) - one.baseline.hypervolume(worst) for one in found]) > 0


@pytest.mark.parametrize("agent", QUICK)
def test_what_is_good_never_gets_worse_with_more_evaluations(agent: str) -> None:
    steps, volume = search(bowl(), agent=agent, budget=200).curve()
    assert steps[-1] == 200
    assert np.all(np.diff(volume) >= 0)
    _, best = search(bowl(1), agent=agent, budget=200).curve()
    assert np.all(np.diff(best[np.isfinite(best)]) <= 0)


def test_tpe_finds_the_bowl_and_repeats_itself() -> None:
    one, again = (search(bowl(1), agent="tpe", budget=60, seed=3) for _ in range(2))
    assert one.points.tobytes() == again.points.tobytes()
    assert one.values[one.best, 0] < one.baseline.values.min()


def test_limits_make_points_infeasible_and_maximised_columns_are_shown_as_they_are() -> None:
    problem = Problem(
        name="line",
        space=Space(axes=(Ordered(name="x", values=tuple(map(float, range(10)))),)),
        objectives=(Objective(name="rate", maximise=True),),
        evaluate=lambda c: {"rate": c["x"] * 2.0, "wait": c["x"]},
        limits=(Limit(name="wait", most=6.0),),
    )
    found = search(problem, agent="exhaustive", budget=10)
    assert found.designs(found.best) == {"x": [6.0], "rate": [12.0]}
    assert found.baseline is None
    nothing = search(Problem(**{**vars(problem), "limits": (Limit(name="wait", most=-1.0),)}), agent="nsga2", budget=10)
    assert nothing.best is None
    assert nothing.to_dict()["best"] is None
    assert nothing.hypervolume() == 0.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"agent": "nsga"}, "did you mean 'nsga2'"),
        ({"budget": 0}, "whole number of evaluations"),
        ({"budget": 1.5}, "whole number of evaluations"),
        ({"options": {"poplation": 3}}, "did you mean 'population'"),
        ({"agent": "exhaustive"}, "a range has no grid"),
        ({"agent": "exhaustive", "options": {"levels": 3}}, "legal points"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_searched_is_said(arguments, words: str) -> None:
    with pytest.raises(RidgelineError, match=words):
        search(bowl(), **{"budget": 10, **arguments})


def test_columns_of_another_length_are_refused_and_one_number_stands_for_all() -> None:
    problem = Problem(**{**vars(bowl()), "evaluate": lambda columns: {"f": [1.0, 2.0], "g": 1.0}})
    with pytest.raises(RidgelineError, match="'f' another shape"):
        search(problem, agent="random", budget=7)
    flat = Problem(**{**vars(bowl()), "evaluate": lambda columns: {"f": 1.0, "g": 2.0}})
    assert search(flat, agent="nsga2", budget=30).values.tolist() == [[1.0, 2.0]] * 30


def test_a_problem_that_forgets_an_objective_is_named() -> None:
    problem = Problem(**{**vars(bowl()), "objectives": (Objective(name="h"),)})
    with pytest.raises(RidgelineError, match="does not evaluate 'h'"):
        search(problem, agent="random", budget=3)
