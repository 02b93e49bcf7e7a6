"""Sweeps and runs of studies: single values stand for every row, and no row or run is lost in silence."""

from __future__ import annotations

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.core.errors import SpecError
from ridgeline.studies.frame import play, sweep, sweep_some, tail

STEP = {"phase": "prefill", "model": "llama-3-8b", "chip": "h100-sxm"}


def test_a_sweep_gives_what_single_cases_give() -> None:
    found = sweep("step", tokens=[512, 2048], **STEP)
    for i, tokens in enumerate((512, 2048)):
        assert found["time_s"][i] == rl.predict("step", tokens=tokens, **STEP).time_s
    assert "model" not in found
    assert "bound" not in found


def test_a_row_that_cannot_be_evaluated_stops_a_study_unless_it_may() -> None:
    case = {"model": "llama-3-8b", "chip": "h100-sxm", "isl": 500, "osl": 100, "request_rate_per_s": [1.0, 1e4]}
    with pytest.raises(SpecError, match="overloaded"):
        sweep("serving", **case)
    rates = sweep_some("serving", **case)["request_per_s"]
    assert rates[0] > 0
    assert np.isnan(rates[1])


def test_a_run_without_complete_requests_has_no_tail() -> None:
    met = play(model="llama-3-8b", on="h100-sxm", isl=100, osl=20, arrivals="poisson(5/s)", requests=20)
    assert 0 < tail(met.ttft_s, 0.5) <= tail(met.ttft_s)
    with pytest.raises(SpecError, match="no request"):
        tail(None)
