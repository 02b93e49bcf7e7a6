"""`rl.sweep` and `ridgeline sweep`: points are what the verbs say of them, whoever evaluates them, and once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.house.test_docs import blocks_of, commands_of, same_text
from typer.testing import CliRunner, Result

import ridgeline as rl
from ridgeline.api.sweeps.sweep import fingerprint, sweep
from ridgeline.api.sweeps.sweep_cases import VERBS, checked, usual_chunk
from ridgeline.apps import cli
from ridgeline.core.errors import FileFormatError, RidgelineError
from ridgeline.search.sweeps.points import points_of
from ridgeline.search.sweeps.spec import load_sweep

SERVING = """task: predict serving
fixed: {model: meta-llama/Llama-3.1-8B, isl: 512, osl: 64}
axes:
  chip: [h100-sxm, l40s]
  concurrency: logspace(1, 64, 7)
chunk: 4
"""
ON = """task: predict serving
fixed: {model: meta-llama/Llama-3.1-8B, isl: 1k, osl: 64, rate: 2/s}
axes:
  on: ["2x h100-sxm", "1x dgx-h200", "h100-sxn", "l40s"]
  plan: ["tp1", "tp2 kv=fp8", ""]
"""
TRAINING = """task: predict training
fixed: {model: meta-llama/Llama-3.1-8B, seq: 4096, global_batch: 64}
axes:
  on: ["8x h100-sxm", "16x h100-sxm"]
  tp: [1, 2]
"""
SIMULATE = """task: simulate serving
fixed: {model: meta-llama/Llama-3.1-8B, on: h100-sxm, isl: 200, output: "uniform(10, 30)", requests: 40, seed: 3}
axes:
  arrivals: ["poisson(5/s)", "poisson(50/s)", "nonsense(1)"]
  router: [least-loaded]
"""


def spec(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def table(path: Path) -> list[dict[str, Any]]:
    found = duckdb.sql(f"FROM '{path}'")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def command(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words))


def test_points_are_what_predict_says_and_workers_change_no_byte(tmp_path: Path) -> None:
    path = spec(tmp_path, SERVING)
    outs = [tmp_path / f"{workers}.parquet" for workers in (0, 2)]
    swept = [sweep(path, out=out, workers=int(out.stem)) for out in outs]
    assert [(one.workers, one.summary.points, one.summary.failed) for one in swept] == [(0, 14, 0), (2, 14, 0)]
    assert digest(outs[0]) == digest(outs[1])
    rows = table(outs[0])
    assert [row["point"] for row in rows] == list(range(14))
    assert [row["chip"] for row in rows] == ["h100-sxm"] * 7 + ["l40s"] * 7
    assert [row["concurrency"] for row in rows[:7]] == pytest.approx([1, 2, 4, 8, 16, 32, 64])
    names = ("model", "chip", "isl", "osl", "concurrency")
    for row in (rows[0], rows[9]):
        alone = rl.predict(**{name: row[name] for name in names})
        for name in ("ttft_s", "tpot_s", "output_tokens_per_s", "power_w_per_chip"):
            assert row[name] == pytest.approx(alone.values[name], rel=1e-9)


def test_machines_and_plans_in_words_mean_what_they_mean_to_predict(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    swept = sweep(spec(tmp_path, ON), out=out)
    rows = table(out)
    assert len(rows) == 12
    wrong = [row for row in rows if row["error"]]
    assert swept.summary.failed == len(wrong) == 4
    assert all(row["tpot_s"] is None for row in wrong)
    for row in rows:
        case = {"model": row["model"], "isl": 1000, "osl": 64, "request_rate_per_s": 2.0}
        if row["error"]:
            with pytest.raises(RidgelineError):
                rl.predict(on=row["on"], plan=row["plan"] or "", **case)
            continue
        alone = rl.predict(on=row["on"], plan=row["plan"] or "", **case)
        assert row["chips"] == alone.chips
        assert row["tpot_s"] == pytest.approx(alone.tpot_s, rel=1e-9)
    (few,) = [row["error"] for row in rows if row["on"] == "l40s" and row["error"]]
    assert "needs 2 chips and the machine has 1" in few


def test_training_points_take_their_chips_from_the_machine(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    sweep(spec(tmp_path, TRAINING), out=out)
    rows = table(out)
    alone = rl.predict("training", model="meta-llama/Llama-3.1-8B", on="16x h100-sxm", seq=4096, global_batch=64, tp=2)
    assert rows[3]["step_s"] == pytest.approx(alone.step_s, rel=1e-9)


def test_a_simulation_per_point_and_an_error_in_one_is_its_own(tmp_path: Path) -> None:
    path = spec(tmp_path, SIMULATE)
    outs = [tmp_path / f"{workers}.parquet" for workers in (0, 1)]
    for out in outs:
        assert sweep(path, out=out, workers=int(out.stem)).summary.failed == 1
    assert digest(outs[0]) == digest(outs[1])
    rows = table(outs[0])
    alone = rl.simulate(
        model="meta-llama/Llama-3.1-8B",
        on="h100-sxm",
        isl=200,
        output="uniform(10, 30)",
        requests=40,
        seed=3,
        arrivals="poisson(50/s)",
    ).answers.steady
    assert alone.overall.ttft_s is not None
    assert rows[1]["ttft_p99_s"] == alone.overall.ttft_s.at(0.99).value
    assert rows[1]["ttft_low_s"] == alone.overall.ttft_s.mean.low
    assert rows[1]["kv_use_peak_frac"] == alone.kv_use_peak_frac
    assert rows[1]["indicative"] == 1.0
    assert "nonsense" in rows[2]["error"]
    assert rows[2]["ttft_s"] is None


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        ("task: predict servin\naxes: {tp: [1]}", "did you mean 'predict serving'", 1),
        ("task: plan serving\naxes: {tp: [1]}", "unknown task", 1),
        ("task: predict serving\naxes:\n  concurency: [1]", "did you mean 'concurrency'", 3),
        ("task: predict serving\naxes:\n  tp: [1, two]", "tp", 3),
        ("task: predict serving\naxes:\n  tp: [0]", "must lie in", 3),
        ("task: predict serving\naxes:\n  isl: [10 GB]", "isl", 3),
        ("task: predict serving\nfixed:\n  gpu: l40s\naxes:\n  chip: [l40s]", "chip is given twice", 5),
        ("task: predict serving\nfixed:\n  on: l40s\naxes:\n  chip: [l40s]", "on: names the machines", 5),
        ("task: predict ops\naxes:\n  on: [l40s]", "unknown column 'on'", 3),
        ("task: predict serving\naxes:\n  runtime_version: [0.10]", "put it in quotes", 3),
        ("task: predict vision\naxes:\n  router: [fcfs]", "unknown column", 3),
        ("task: predict serving\naxes:\n  chip: linspace(1, 2, 3)", "no law gives", 3),
    ],
)
def test_what_is_wrong_with_a_file_is_told_where_it_stands(tmp_path: Path, text: str, says: str, line: int) -> None:
    with pytest.raises(RidgelineError) as caught:
        sweep(spec(tmp_path, text), out=tmp_path / "out.csv")
    assert says in caught.value.line()
    assert f"sweep.yaml:{line}:" in caught.value.at
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


@pytest.mark.parametrize("out", ["out.xlsx", "no/folder/out.csv", "-", "."])
def test_an_output_that_cannot_be_written_is_refused_first(tmp_path: Path, out: str) -> None:
    with pytest.raises(FileFormatError):
        sweep(spec(tmp_path, SERVING), out=out if out == "-" else tmp_path / out)


def test_a_read_only_folder_is_named_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = spec(tmp_path, SERVING)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for those who are not root
    with pytest.raises(FileFormatError, match="not writable"):
        sweep(path, out=tmp_path / "out.csv")
    assert [one.name for one in tmp_path.iterdir()] == ["sweep.yaml"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("isl: 512", "isl: 513"), "fixed.isl"),
        (("l40s", "h200-sxm"), "axes.chip"),
        (("logspace(1, 64, 7)", "logspace(1, 64, 8)"), "axes.concurrency"),
        (("chunk: 4", "chunk: 5"), "chunk"),
        (("chunk: 4", "chunk: 4\nwhere: concurrency > 1"), "where"),
    ],
)
def test_another_question_does_not_go_on_from_the_journal(tmp_path: Path, change: tuple[str, str], field: str) -> None:
    out = tmp_path / "out.csv"
    sweep(spec(tmp_path, SERVING), out=out)
    before = digest(out)
    changed = spec(tmp_path, SERVING.replace(*change))
    with pytest.raises(RidgelineError, match="another question") as caught:
        sweep(changed, out=out)
    assert field in caught.value.line()
    assert digest(out) == before
    assert sweep(changed, out=out, fresh=True).summary.resumed == 0


def test_other_facts_of_the_same_version_are_another_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.csv"
    sweep(spec(tmp_path, SERVING), out=out)
    monkeypatch.setattr("ridgeline.api.sweeps.sweep.fingerprint", lambda: "other")
    with pytest.raises(RidgelineError, match="installed files"):
        sweep(tmp_path / "sweep.yaml", out=out)
    assert len(fingerprint()) == 64


def test_a_file_that_points_name_is_part_of_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trace = tmp_path / "trace.csv"
    trace.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,10\n1,200,20\n2,100,5\n")
    text = "task: simulate serving\nfixed: {model: meta-llama/Llama-3.1-8B, trace: trace.csv}\naxes: {on: [h100-sxm]}\n"
    assert sweep(spec(tmp_path, text)).summary.failed == 0
    assert (tmp_path / "sweep.parquet").exists()
    trace.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,10\n1,200,20\n2,100,6\n")
    with pytest.raises(RidgelineError, match=r"file trace\.csv differs"):
        sweep(tmp_path / "sweep.yaml")


def test_a_second_run_evaluates_nothing_and_retry_evaluates_what_failed(tmp_path: Path) -> None:
    path, out = spec(tmp_path, SERVING.replace("l40s", "l40s, no-such-chip")), tmp_path / "out.csv"
    first = sweep(path, out=out)
    assert (first.summary.resumed, first.summary.failed) == (0, 7)
    before = digest(out)
    out.unlink()
    again = sweep(path, out=out)
    assert (again.summary.resumed, again.summary.failed) == (21, 7)
    assert digest(out) == before
    retried = sweep(path, out=out, retry=True)
    assert retried.summary.resumed == 12  # the parts without an error
    assert digest(out) == before
    ((error, count),) = retried.errors
    assert count == 7
    assert "unknown chip 'no-such-chip'" in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"engine": "dask"}, "unknown engine"),
        ({"workers": -1}, "workers"),
        ({"address": "auto"}, "only ray"),
        ({"engine": "ray", "address": "auto", "fallback": "cloud"}, "unknown fallback"),
        ({"engine": "ray", "address": "no address"}, "not the address"),
    ],
)
def test_impossible_arguments_are_named_errors(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    if arguments.get("engine") == "ray" and "fallback" not in arguments:
        pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with pytest.raises(RidgelineError, match=says):
        sweep(spec(tmp_path, SERVING), out=tmp_path / "out.csv", **arguments)


def test_without_ray_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RidgelineError, match=r"ridgeline\[ray\]"):
        sweep(spec(tmp_path, SERVING), out=tmp_path / "out.csv", engine="ray")


@pytest.mark.parametrize(("chips", "code"), [("h100-sxm, l40s", 0), ("h100-sxm, nowhere", 4), ("nowhere", 3)])
def test_the_exit_code_tells_whether_points_failed(tmp_path: Path, chips: str, code: int) -> None:
    path = spec(tmp_path, SERVING.replace("h100-sxm, l40s", chips))
    words = ["sweep", str(path), "--out", str(tmp_path / "out.duckdb")]
    shown = command(*words)
    assert shown.exit_code == code, shown.output
    assert f"{tmp_path / 'out.duckdb'}" in shown.output.replace("\n", "")
    told = command(*words, "--json")
    assert told.exit_code == code
    summary = json.loads(told.stdout)
    assert summary["points"] == summary["resumed"] == 7 * len(chips.split(","))
    assert summary["failed"] == 7 * chips.count("nowhere")


def test_ctrl_c_at_the_command_line_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ridgeline.api.sweeps.sweep.run", interrupted)
    shown = command("sweep", str(spec(tmp_path, SERVING)), "--out", str(tmp_path / "out.csv"))
    assert shown.exit_code == 130
    assert "the same command goes on" in shown.output


def test_progress_counts_points_up_to_all_of_them(tmp_path: Path) -> None:
    told: list[tuple[int, int, int]] = []
    sweep(spec(tmp_path, SERVING), out=tmp_path / "out.csv", progress=lambda *counts: told.append(counts))
    assert told[0] == (0, 14, 0)
    assert told[-1] == (14, 14, 0)
    assert np.all(np.diff([done for done, _, _ in told]) > 0)


def test_the_page_on_sweeps_shows_what_the_query_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's own test compares blocks of one command; here the query follows its sweep."""
    root = Path(__file__).resolve().parents[2]
    page = root / "docs" / "howto" / "sweeps.md"
    (block,) = (
        block for block in blocks_of("sweeps.md", page.read_text(encoding="utf-8")) if "GROUP BY ALL" in block.body
    )
    sweeping, asking = commands_of(block)
    shown = block.body.partition('usd"\n')[2]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    assert command("sweep", str(root / sweeping[2])).exit_code == 0
    printed = command(*asking[1:])
    assert printed.exit_code == 0, printed.output
    assert same_text(shown, printed.stdout), printed.stdout


def test_a_limit_ends_a_point_also_where_no_workers_are_asked_for(tmp_path: Path) -> None:
    text = SERVING.replace("chunk: 4", "chunk: 14\nlimit: 1h")
    assert sweep(spec(tmp_path, text), out=tmp_path / "out.csv").workers == 1


def test_what_a_killed_run_left_half_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left, other, mine = (tmp_path / name for name in (".out.0123456789ab.tmp.csv", ".out.tmp.csv", "out.csv.old"))
    for path in (left, other, mine):
        path.write_text("half")
    sweep(spec(tmp_path, SERVING), out=tmp_path / "out.csv")
    assert (left.exists(), other.exists(), mine.exists()) == (False, True, True)


def test_help_shows_examples() -> None:
    for name in ("sweep", "query"):
        shown = command(name, "--help")
        assert shown.exit_code == 0
        assert f"ridgeline {name}" in shown.stdout


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_is_a_sweep_or_one_named_error(tmp_path: Path, data: Any) -> None:
    text = data.draw(st.sampled_from([ON, TRAINING, SIMULATE, SERVING + "sample: {points: 3, axes: {osl: [1, 2]}}\n"]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 6))
        text = text[:at] + data.draw(st.text("{}[]:,\"'\n #-_.()abx019é\0", max_size=4)) + text[at + cut :]
    path = spec(tmp_path, text)
    try:
        found = load_sweep(path)
        read, whole = checked(found, VERBS)
        assert points_of(found, read=read, whole=whole).count > 0
    except RidgelineError as error:
        assert error.what
        assert error.fix


@pytest.mark.slow
def test_the_command_killed_at_random_moments_writes_what_an_unbroken_one_does(tmp_path: Path) -> None:
    text = SERVING.replace("logspace(1, 64, 7)", "range(1, 5001)").replace("chunk: 4", "chunk: 50")
    path, draw = spec(tmp_path, text), np.random.default_rng(4)
    sweep(path, out=tmp_path / "unbroken.parquet")
    out = tmp_path / "out.parquet"
    code = "import sys; from ridgeline.apps.cli import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", code, "sweep", str(path), "--out", str(out), "--workers", "1"]
    for _ in range(20):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(float(draw.uniform(0.5, 3.0)))
        process.kill()
        process.communicate()
        assert not out.exists() or digest(out) == digest(tmp_path / "unbroken.parquet")
    subprocess.run(words, check=True, capture_output=True)
    assert digest(out) == digest(tmp_path / "unbroken.parquet")


def test_a_plan_with_words_that_the_task_lacks_is_an_error_of_its_points(tmp_path: Path) -> None:
    text = TRAINING.replace("tp: [1, 2]", 'plan: ["tp2", "tp2 kv=fp8"]')
    swept = sweep(spec(tmp_path, text), out=tmp_path / "out.csv")
    assert swept.summary.failed == 2
    assert "predict training has no kv" in swept.errors[0][0]


def test_points_that_name_traces_are_played_one_by_one(tmp_path: Path) -> None:
    text = "task: predict serving\nfixed: {chip: l40s}\naxes: {trace: [a.csv, b.csv], tp: [1, 2]}\n"
    assert usual_chunk(load_sweep(spec(tmp_path, text)), VERBS) == 1
    assert usual_chunk(load_sweep(spec(tmp_path, SERVING)), VERBS) == 2048


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are of Unix")
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_disk_that_fills_up_is_named_and_the_same_command_goes_on_with_room(tmp_path: Path, workers: int) -> None:
    """A limit on the size of files stands for the disk: first the journal meets it, then the results."""
    text = SERVING.replace("logspace(1, 64, 7)", "range(1, 501)").replace("chunk: 4", "chunk: 200")
    path = spec(tmp_path, text)
    sweep(path, out=tmp_path / "unbroken.csv")
    whole = (tmp_path / "unbroken.csv").stat().st_size
    code = (
        "import resource, signal, sys; from ridgeline.apps.cli import main; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); size = int(sys.argv.pop(1)); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); main(sys.argv[1:])"
    )
    out = tmp_path / "out.csv"
    words = ["sweep", str(path), "--out", str(out), "--workers", str(workers)]
    for size, expected in ((60_000, 2), (whole - 1, 2), (10 * whole, 0)):
        done = subprocess.run(
            [sys.executable, "-c", code, str(size), *words], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == expected, done.stderr
        assert "Traceback" not in done.stderr
        if expected:
            assert "error RL0104" in done.stderr
            assert "fix" in done.stderr
        assert out.exists() == (expected == 0)
    assert digest(out) == digest(tmp_path / "unbroken.csv")
    assert not [one for one in tmp_path.iterdir() if ".tmp" in one.name]
