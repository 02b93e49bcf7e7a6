"""Swaps block by block: each copy's call costs host time, and bytes alone are the least."""

from __future__ import annotations

import pytest

import ridgeline as rl

CASE = {
    "model": "meta-llama/Llama-3.1-8B",
    "on": "l4",
    "memory_frac": 1.0,
    "isl": 800,
    "osl": 300,
    "arrivals": "poisson(2/s)",
    "requests": 60,
    "scheduler": "rotation(quantum=1s)",
    "preemption": "swap",
    "keep_runs": False,
}


def _mean_s(call_s: float) -> float:
    met = rl.simulate(**CASE, swap_call_s=call_s).answers.whole.overall
    assert met.preemptions > 0
    assert met.done == CASE["requests"]
    return float(met.e2e_s.mean.value)


def test_calls_make_swaps_dearer_and_none_changes_nothing() -> None:
    free = _mean_s(0.0)
    assert free == rl.simulate(**CASE).answers.whole.overall.e2e_s.mean.value
    assert _mean_s(20e-6) > free


def test_a_call_of_less_than_no_time_is_refused() -> None:
    with pytest.raises(rl.RidgelineError, match="swap_call_s"):
        rl.simulate(**CASE, swap_call_s=-1e-6)
