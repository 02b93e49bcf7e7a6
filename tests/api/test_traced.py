"""A row that names a trace is simulated; its neighbours are predicted, and a bad trace spoils its own row only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ridgeline as rl
from ridgeline.core.seeding import stream

MODEL = "meta-llama/Llama-3.1-8B"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    draw, count = stream(0, "trace"), 150
    rows = zip(
        np.cumsum(draw.exponential(0.2, count)), draw.integers(50, 900, count), draw.integers(5, 60, count), strict=True
    )
    file = tmp_path / "trace.csv"
    file.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{a},{p},{o}\n" for a, p, o in rows))
    return file


def test_a_traced_row_holds_what_a_simulation_answers(trace: Path) -> None:
    table = {
        "model": [MODEL] * 4,
        "chip": ["h100-sxm"] * 4,
        "trace": [str(trace), "", "no/such/trace.csv", str(trace)],
        "isl": [np.nan, 500.0, np.nan, np.nan],
        "osl": [np.nan, 50.0, np.nan, np.nan],
        "concurrency": [np.nan, 8.0, np.nan, np.nan],
        "rate": [np.nan, np.nan, np.nan, 2.0],
        "tp": [1.0, 1.0, 1.0, 1.0],
    }
    out = rl.predict_table("serving", table)
    run = rl.simulate(model=MODEL, chip="h100-sxm", trace=trace)
    steady = run.answers.steady
    assert out["ttft_s"][0] == pytest.approx(steady.overall.ttft_s.mean.value)
    assert out["output_tokens_per_s"][0] == pytest.approx(steady.overall.output_tokens_per_s)
    assert out["energy_j_per_output_token"][0] == pytest.approx(steady.energy_j_per_output_token)
    assert out["fits"][0] == 1.0
    plain = rl.predict(model=MODEL, chip="h100-sxm", isl=500, osl=50, concurrency=8)
    assert out["ttft_s"][1] == plain.ttft_s
    assert "no/such/trace.csv" in out["error"][2]
    assert np.isnan(out["ttft_s"][2])
    assert out["request_per_s"][3] == pytest.approx(2.0, rel=0.2)
    assert [bool(error) for error in out["error"]] == [False, False, True, False]


def test_a_traced_row_that_does_not_fit_says_so(trace: Path) -> None:
    table = {"model": ["meta-llama/Llama-3.1-70B"], "chip": ["h100-sxm"], "trace": [str(trace)]}
    assert "does not fit" in rl.predict_table("serving", table)["error"][0]
