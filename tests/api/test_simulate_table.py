"""A table that is simulated: what each row holds, bad rows in their places, files, and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ridgeline as rl
from ridgeline.api.simulations.simulate_table import simulate_file
from ridgeline.apps.cli import app
from ridgeline.core.errors import RidgelineError

MODEL = "meta-llama/Llama-3.1-8B"
NAN = np.nan
TABLE = {
    "model": [MODEL, MODEL, "no such model", MODEL, MODEL, MODEL],
    "on": ["h100-sxm", "2x l40s", "h100-sxm", "h100-sxm", "h100-sxm", "h100-sxm"],
    "isl": [300.0, 300.0, 300.0, 300.0, 300.0, 300.0],
    "osl": [30.0, 30.0, 30.0, 30.0, 30.0, -1.0],
    "rate": [4.0, NAN, 4.0, 4.0, NAN, 4.0],
    "concurrency": [NAN, 6.0, NAN, NAN, NAN, NAN],
    "requests": [80.0, 60.0, 80.0, 80.0, 80.0, 80.0],
    "ttft_slo_s": [1.0, NAN, NAN, 0.001, NAN, NAN],
    "scheduler": ["", "shortest", "", "shortst", "", ""],
    "note": ["a", "b", "c", "d", "e", "f"],
}


def test_each_row_holds_what_its_simulation_answers() -> None:
    out = rl.simulate_table(TABLE)
    assert list(out["note"]) == TABLE["note"]
    for row, more in (
        (0, {"on": "h100-sxm", "request_rate_per_s": 4.0, "requests": 80, "ttft_slo_s": 1.0}),
        (1, {"on": "2x l40s", "concurrency": 6, "requests": 60, "scheduler": "shortest"}),
    ):
        run = rl.simulate(model=MODEL, isl=300, osl=30, **more)
        steady = run.answers.steady
        everyone = steady.overall
        assert not out["error"][row]
        assert out["ttft_s"][row] == everyone.ttft_s.mean.value
        for level in (0.5, 0.9, 0.95, 0.99):
            assert out[f"tpot_p{100 * level:g}_s"][row] == everyone.tpot_s.at(level).value
            assert out[f"itl_p{100 * level:g}_s"][row] == everyone.itl_s.at(level).value
        assert out["goodput_request_per_s"][row] == everyone.goodput_request_per_s
        assert out["slo_met_frac"][row] == everyone.slo_met_frac
        assert out["energy_j_per_output_token"][row] == steady.energy_j_per_output_token
        assert out["done"][row] == len(run.traffic)
        assert out["chips"][row] == run.answers.whole.chips
        assert out["fits"][row] == 1.0
        assert out["weights_bytes_per_chip"][row] > 1e9
        assert out["regime"][row] in ("calibrated", "datasheet")


def test_bad_rows_keep_their_places_and_say_why() -> None:
    out = rl.simulate_table(TABLE)
    words = ["", "", "unknown model", "did you mean", "nothing says which requests", "osl must lie in"]
    for said, expected in zip(out["error"], words, strict=True):
        assert bool(said) == bool(expected)
        assert expected in (said or "")
    for name in ("ttft_s", "ttft_p99_s", "goodput_request_per_s", "fits"):
        assert np.isfinite(out[name][:2]).all()
        assert np.isnan(out[name][2:]).all()
    assert not any(out["bound"][2:])


def test_rows_may_name_traces_plans_and_fleets(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    lines = "".join(f"{0.2 * i},{100 + i},{10 + i % 7}\n" for i in range(60))
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + lines)
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(f"model: {MODEL}\npools:\n  new: {{on: h100-sxm}}\n  old: {{on: 2x l40s}}\n")
    table = {
        "model": [MODEL, MODEL, ""],
        "chip": ["h100-sxm", "", ""],
        "on": ["", "2x h100-sxm", ""],
        "plan": ["", "tp2", ""],
        "fleet": ["", "", str(fleet)],
        "trace": [str(trace)] * 3,
    }
    out = rl.simulate_table(table)
    assert [bool(error) for error in out["error"]] == [False] * 3
    assert out["chips"].tolist() == pytest.approx([1.0, 2.0, 3.0])
    assert out["done"].tolist() == [60.0] * 3
    predicted = rl.predict_table("serving", {name: table[name][:1] for name in ("model", "chip", "trace")})
    assert out["kv_bytes_per_chip"][0] < 1e9  # a few short requests
    for name in ("ttft_s", "tpot_s", "output_tokens_per_s", "max_batch_that_fits", "weights_bytes_per_chip"):
        assert out[name][0] == predicted[name][0]
    assert np.isnan(out["weights_bytes_per_chip"][2])


def test_files_go_in_and_out_and_progress_is_told(tmp_path: Path) -> None:
    cases, out = tmp_path / "c.csv", tmp_path / "r.csv"
    cases.write_text(f"model,gpu,isl,osl,rate,requests,note\n{MODEL},h100,200,20,5,40,x\n{MODEL},h100,200,abc,5,40,y\n")
    told: list[tuple[int, int]] = []
    good, bad = simulate_file(cases, out, progress=lambda done, rows, words: told.append((done, rows)))
    assert (good, bad) == (1, 1)
    assert told[0] == (0, 2)
    assert told[-1] == (2, 2)
    header, first, second = out.read_text().splitlines()
    assert header.startswith("model,gpu,isl,osl,rate,requests,note,")
    assert first.startswith(f"{MODEL},h100,200,20,5,40,x,")
    assert "osl is not a number" in second
    with pytest.raises(RidgelineError):
        simulate_file(cases, tmp_path / "r.doc")


def test_the_command_writes_a_table_and_ends_with_3_where_nothing_could_be(tmp_path: Path) -> None:
    cases, out = tmp_path / "c.csv", tmp_path / "r.parquet"
    cases.write_text(f"model,chip,isl,osl,concurrency,requests\n{MODEL},h100-sxm,100,10,4,20\n")
    result = CliRunner().invoke(app, ["simulate", "serving", "--cases", str(cases), "--out", str(out)])
    assert result.exit_code == 0
    assert out.exists()
    assert "1 rows simulated, 0 with an error" in result.output
    cases.write_text("model,chip,isl,osl\nnothing,h100-sxm,100,10\n")
    assert CliRunner().invoke(app, ["simulate", "serving", "--cases", str(cases)]).exit_code == 3


def test_an_empty_table_comes_back_empty() -> None:
    out = rl.simulate_table({"model": [], "on": []})
    assert len(out["error"]) == 0
