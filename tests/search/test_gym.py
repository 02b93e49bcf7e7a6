"""Environments: the checkers of Gymnasium and PettingZoo without a warning, rewards that say which design is better."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import parallel_api_test, parallel_seed_test
from tests.search.spaces import bowl

from ridgeline.api.sweeps.problems import chip_problem, task_problem
from ridgeline.core.errors import RidgelineError
from ridgeline.core.seeding import stream
from ridgeline.search.gym import ParallelSearchEnv, Reward, SearchEnv
from ridgeline.search.gym.environment import FORMS
from ridgeline.search.ledger import Ledger, Spent
from ridgeline.search.problem import Problem

CASE = {"model": "Qwen/Qwen3-32B", "isl": 1000, "osl": 300}


def _plans() -> Problem:
    return task_problem(
        "serving",
        axes={"tp": [1, 2, 4, 8], "max_batch": [16, 64, 256], "weights": ["", "fp8"]},
        objectives=["cost_usd_per_1m_output_tokens", "tpot_s"],
        chip="h100-sxm", concurrency=32, **CASE,
    )  # fmt: skip


def _chips() -> Problem:
    return chip_problem(
        base="h100-sxm",
        axes={"compute_units": [66, 132], "dram_bytes_per_s": {"low": "2 TB/s", "high": "6 TB/s"}},
        workloads={"chat": {**CASE, "tp": 2, "concurrency": 32}},
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("problem", [bowl, _plans, _chips], ids=["bowl", "plans", "chips"])
def test_gymnasium_finds_nothing_to_warn_of(problem, form: str) -> None:
    made = gymnasium.make(
        "ridgeline.search.gym:ridgeline/Search-v0", problem=problem(), form=form, horizon=4, render_mode="ansi"
    )
    check_env(made.unwrapped)
    made.reset(seed=3)
    assert "=" in made.render()


@pytest.mark.parametrize("form", ["discrete", "continuous"])
def test_pettingzoo_finds_nothing_to_warn_of(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    parallel_api_test(ParallelSearchEnv(bowl(), form=form, horizon=7), num_cycles=50)
    parallel_seed_test(
        lambda: ParallelSearchEnv(bowl(), form=form, owners={"one": ["kind", "n0"], "two": ["n1", "n2", "n3", "share"]})
    )
    capsys.readouterr()


def test_agents_together_name_the_design_that_one_agent_would() -> None:
    alone, together = SearchEnv(bowl(), horizon=5), ParallelSearchEnv(bowl(), horizon=5)
    first, _ = alone.reset(seed=1)
    seen, _ = together.reset(seed=1)
    assert np.array_equal(seen["kind"], first)
    action = alone.action_space.sample()
    one, reward, ended, cut, _ = alone.step(action)
    names = bowl().space.names
    many, rewards, ends, cuts, _ = together.step({name: action[i : i + 1] for i, name in enumerate(names)})
    for name in names:
        assert np.array_equal(many[name], one)
        assert (rewards[name], ends[name], cuts[name]) == (reward, ended, cut)


def test_an_episode_ends_at_its_horizon_and_moves_keep_to_legal_designs() -> None:
    env = SearchEnv(bowl(), form="moves", horizon=50)
    env.reset(seed=0)
    env.action_space.seed(0)
    for step in range(50):
        _, _, ended, cut, info = env.step(env.action_space.sample())
        assert not ended
        assert cut == (step == 49)
        assert env.problem.space.is_legal(env._point).all()
    assert info["evaluations"] == env.ledger.spent


def test_rewards_rank_designs_as_their_objective_does_and_infeasible_ones_last() -> None:
    problem = bowl(1)
    reward = Reward(problem)
    points = problem.space.sample(np.random.default_rng(0), 200)
    values = problem.values(points)
    rewards = reward(values)
    order = np.argsort(values[:, 0])
    assert np.all(np.diff(rewards[order]) <= 1e-12)
    assert reward(np.array([[np.inf]]))[0] == -1.0
    assert np.median(rewards) == pytest.approx(0.0, abs=0.5)


def test_an_environment_on_a_budget_ends_when_it_is_spent() -> None:
    ledger = Ledger(bowl(), 30, stream(0, "test"))
    env = SearchEnv(bowl(), form="continuous", ledger=ledger)
    env.reset(seed=0)
    env.action_space.seed(0)
    with pytest.raises(Spent):
        for _ in range(1000):
            env.step(env.action_space.sample())
    assert ledger.spent == 30


@pytest.mark.parametrize(
    "make",
    [
        lambda: SearchEnv(bowl(), form="analog"),
        lambda: SearchEnv(bowl(), horizon=0),
        lambda: SearchEnv(bowl(), weights=[1.0]),
        lambda: SearchEnv(bowl(), weights=[-1.0, 2.0]),
        lambda: ParallelSearchEnv(bowl(), owners={"one": ["kind"]}),
        lambda: ParallelSearchEnv(bowl(), owners={"one": bowl().space.names, "two": ["kind"]}),
        lambda: ParallelSearchEnv(bowl(), owners={"one": ["sort"]}),
        lambda: ParallelSearchEnv(bowl(), form="moves"),
    ],
)
def test_environments_that_cannot_be_are_refused(make) -> None:
    with pytest.raises(RidgelineError):
        make()
