"""Named schedulers: each equal to an eager twin inside the engine, indifferent to cuts, and true to its law."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.serving.test_engine import EXACT, SCHEDULERS, Scenario, scenario

from ridgeline.serving.engine import Engine

SCENARIOS = 80
MOVING = [name for name in SCHEDULERS if name != "priority"]


def case_of(name: str, seed: int) -> Scenario:
    case = scenario(seed)
    return replace(case, policy=name)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("seed", range(SCENARIOS))
def test_engine_equals_the_eager_reference(name: str, seed: int) -> None:
    case = case_of(name, seed)
    expected, engine = case.reference(), case.engine()
    for column in ("sent", "admitted", "first", "last"):
        times = [getattr(s, column) for s in expected.all]
        np.testing.assert_allclose(getattr(engine.log, column), times, rtol=EXACT, atol=EXACT, err_msg=column)
    assert engine.log.preempted == {s.id: s.preempted for s in expected.all if s.preempted}
    assert engine.iteration == expected.iteration


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("seed", range(0, SCENARIOS, 2))
@pytest.mark.parametrize("longest", [1, 3])
def test_cuts_of_runs_change_nothing(name: str, seed: int, longest: int) -> None:
    case = case_of(name, seed)
    whole, cut = case.engine(), case.engine(longest_run=longest)
    assert cut.iteration == whole.iteration
    assert cut.log.preempted == whole.log.preempted
    np.testing.assert_allclose(cut.log.last, whole.log.last, rtol=EXACT)


def test_scenarios_reach_preemption_by_policy() -> None:
    def preemptions(name: str) -> int:
        engines: list[Engine] = [case_of(name, seed).engine() for seed in range(SCENARIOS)]
        return sum(engine.preempted for engine in engines)

    plain = preemptions("priority")
    assert preemptions("priority-preemptive") > plain + 50
    assert preemptions("rotation") > plain + 50
    assert math.isfinite(plain)
