"""Audits: a claim that a run of ours makes is possible, one beyond a bound is not, and each says which."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ridgeline as rl
from ridgeline.apps.cli import main
from ridgeline.core.errors import DomainError, SpecError, UnknownNameError

STEPS, BATCH, SEQUENCE = 143_000, 1024, 2049
"""Pythia's training run (arXiv 2304.01373)."""


def _bound(found: rl.Audit, name: str):  # type: ignore[no-untyped-def]
    return next(bound for bound in found.bounds if bound.name == name)


def test_a_billion_parameters_on_four_a100_in_18_days_is_beyond_what_kernels_reach() -> None:
    """`$100K or 100 Days` (arXiv 2410.23261): 17.57 days on four A100; 77 to 96 % of peak, by what counts as N."""
    run = {"on": "4x a100-sxm", "tokens": STEPS * BATCH * SEQUENCE, "time_s": 17.57 * 86400}
    whole, inner = (rl.audit(parameters=n, **run) for n in (1.01e9, 0.81e9))
    assert _bound(whole, "arithmetic").share == pytest.approx(0.96, abs=0.01)
    assert _bound(inner, "arithmetic").share == pytest.approx(0.77, abs=0.01)
    assert whole.verdict == "implausible"
    assert _bound(rl.audit(parameters=1.01e9, **{**run, "time_s": 16e5 / 2}), "arithmetic").verdict == "impossible"


@pytest.mark.parametrize("sequences", [1, 16, 128])
def test_what_is_predicted_is_possible_and_faster_than_the_memory_is_not(sequences: int) -> None:
    case = {"model": "meta-llama/Llama-3.1-8B", "on": "h100-sxm"}
    step = rl.predict("step", phase="decode", batch=sequences, context=1000, **case)
    claim = {"what": "inference", "sequences": sequences, "context": 1000.0, **case}
    possible = rl.audit(tokens_per_s=sequences / float(step.time_s), **claim)
    assert possible.verdict == "plausible"
    assert 0.3 < _bound(possible, "memory bandwidth").share < _bound(possible, "memory bandwidth").reach
    beyond = rl.audit(tokens_per_s=1.05 * sequences / float(step.floor_s), **claim)
    assert beyond.verdict in ("implausible", "impossible")


def test_weights_that_do_not_fit_and_boards_that_idle_are_impossible() -> None:
    run = {"tokens": 1e9, "time_s": 1e6}
    assert _bound(rl.audit(on="h100-sxm", parameters=70e9, **run), "memory capacity").verdict == "impossible"
    cold = rl.audit(on="8x h100-sxm", parameters=1e9, energy_j=8 * 10.0 * 1e6, **run)
    assert _bound(cold, "power").verdict == "impossible"
    warm = rl.audit(on="8x h100-sxm", parameters=1e9, energy_j=8 * 500.0 * 1e6, **run)
    assert _bound(warm, "power").share == pytest.approx(500 / 700)
    assert warm.verdict == "plausible"


@given(st.floats(1e6, 1e12), st.floats(1.0, 1e4))
def test_a_bound_needs_as_much_more_as_the_claim_claims(tokens_per_s: float, times: float) -> None:
    one, more = (rl.audit(on="a100-sxm", parameters=1e9, tokens_per_s=r) for r in (tokens_per_s, tokens_per_s * times))
    assert _bound(more, "arithmetic").share == pytest.approx(times * _bound(one, "arithmetic").share)
    order = ("plausible", "implausible", "impossible")
    assert order.index(more.verdict) >= order.index(one.verdict)


def test_claims_that_say_nothing_are_refused() -> None:
    with pytest.raises(SpecError, match="how large"):
        rl.audit(on="a100-sxm", tokens_per_s=1.0)
    with pytest.raises(SpecError, match="nothing that has a bound"):
        rl.audit(on="a100-sxm", parameters=1e9)
    with pytest.raises(SpecError, match="kind of run"):
        rl.audit(on="a100-sxm", parameters=1e9, what="train")
    with pytest.raises(DomainError, match="not negative"):
        rl.audit(on="a100-sxm", parameters=1e9, tokens_per_s=math.nan)
    with pytest.raises(UnknownNameError, match="a100"):
        rl.audit(on="4x a1000-sxm", parameters=1e9, tokens_per_s=1.0)


def test_the_command_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    claim = ["audit", "--on", "4x a100-sxm", "--parameters", "1.01e9", "--tokens", "3e11", "--time", "17.57d"]
    with pytest.raises(SystemExit) as ended:
        main([*claim, "--json"])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "implausible"
    assert told["bounds"][0]["share"] == pytest.approx(0.96, abs=0.01)
