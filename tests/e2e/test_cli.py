"""The command line as people and programs use it: every form of the contract, exit codes, nothing half-written."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner, Result

from ridgeline.apps import cli

MAIN = ["predict", "serving", "--model", "meta-llama/Llama-3.1-70B", "--on", "8x h100-sxm", "--tp", "8"]
LOAD = ["--isl", "1024", "--osl", "1024", "--concurrency", "64"]
EIGHT = ["--model", "meta-llama/Llama-3.1-8B", "--on", "h100-sxm"]
FORMS: tuple[list[str], ...] = (
    ["predict", "ops", "--kind", "gemm", "--chip", "h100-sxm", "--m", "4096", "--n", "8192", "--k", "8192"],
    [*MAIN, *LOAD],
    ["predict", "step", "--model", "Qwen/Qwen3-32B", "--on", "4x h200-sxm", "--tp", "4", "--batch", "8"],
    ["predict", "training", "--model", "meta-llama/Llama-3.1-8B", "--on", "64x h100-sxm", "--seq", "8192", "--tp", "2"],
    ["predict", "vision", "--model", "resnet50", "--chip", "a100-80gb-sxm", "--batch", "64", "--precision", "fp16"],
    ["simulate", "serving", *EIGHT, "--arrivals", "poisson(5/s)", "--isl", "500", "--osl", "50", "--requests", "100"],
    ["simulate", "training", *EIGHT, "--seq", "4096", "--global-batch", "8", "--duration", "1 d", "--runs", "3"],
    ["capacity", *EIGHT, "--rate", "1/s", "--isl", "500", "--osl", "50", "--requests", "100", "--ttft", "200ms"],
    ["plan", *EIGHT, "--isl", "500", "--osl", "50", "--rate", "5/s", "--ttft", "500ms", "--runtime", "vllm"],
    ["size", *EIGHT, "--isl", "500", "--osl", "50", "--rate", "5/s", "--ttft", "500ms", "--mode", "agg"],
    ["catalogue", "chips"],
    ["catalogue", "chips", "h100_sxm"],
    ["catalogue", "nodes"],
    ["catalogue", "models", "meta-llama/Llama-3.1-70B-Instruct"],
    ["catalogue", "runtimes"],
    ["catalogue", "sites"],
)
CASES = """id,model,gpu,tp_size,isl,osl,concurrency,note
a,meta-llama/Llama-3.1-8B,h100_sxm,1,512,128,8,"first, with a comma"
b,meta-llama/Llama-3.1-70B,h100_sxm,1,512,128,8,does not fit
c,no/such-model,h100_sxm,1,512,128,8,
d,Qwen/Qwen3-32B,H200-SXM,2,512,128,abc,
e,Qwen/Qwen3-32B,H200-SXM,2,512,128,,defaults
"""


def run(*words: str, stdin: str | None = None) -> Result:
    """One command in this process; a ridgeline error becomes what `main` makes of it."""
    return CliRunner().invoke(cli.app, list(words), input=stdin)


def exit_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of `main`."""
    monkeypatch.setattr(sys, "argv", ["ridgeline", *words])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def start(*words: str, flags: tuple[str, ...] = (), stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a shell would start it."""
    command = [sys.executable, *flags, "-c", "from ridgeline.apps.cli import main; main()", *words]
    return subprocess.run(
        command, capture_output=True, text=True, input=stdin, env={**os.environ, **env}, timeout=120, check=False
    )


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("words", FORMS, ids=" ".join)
def test_every_form_prints_a_table_for_people(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) > 3


@pytest.mark.parametrize("words", FORMS, ids=" ".join)
def test_every_form_prints_json_for_programs(words: list[str]) -> None:
    result = run(*words, "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told
    if words[0] == "catalogue":
        assert isinstance(told, list)
        assert all(entry["name"] for entry in told)
    else:
        assert told["results"]
        assert told["task"] == ("serving" if words[0] in ("capacity", "plan", "size") else words[1])


@pytest.mark.parametrize(
    "group",
    [
        [],
        ["predict"],
        ["predict", "serving"],
        ["validate"],
        ["calibrate"],
        ["bench"],
        ["simulate", "serving"],
        ["simulate", "training"],
    ],
)
def test_help_says_how_with_examples(group: list[str]) -> None:
    result = run(*group, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    if len(group) > 1 or group in (["validate"], ["calibrate"]):
        assert "ridgeline" in result.stdout


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("out_suffix", ["csv", "parquet"])
def test_a_table_keeps_rows_order_and_unknown_columns(tmp_path: Path, suffix: str, out_suffix: str) -> None:
    (tmp_path / "cases.csv").write_text(CASES)
    source = tmp_path / f"cases.{suffix}"
    if suffix == "parquet":
        duckdb.execute(f"copy (from read_csv('{tmp_path / 'cases.csv'}', all_varchar=true)) to '{source}'")
    out = tmp_path / f"results.{out_suffix}"
    result = run("predict", "serving", "--cases", str(source), "--out", str(out))
    assert result.exit_code == 0, result.output
    rows = duckdb.sql(f"select * from '{out}'").fetchall()
    names = duckdb.sql(f"select * from '{out}'").columns
    table = [dict(zip(names, row, strict=True)) for row in rows]
    assert names[:8] == ["id", "model", "gpu", "tp_size", "isl", "osl", "concurrency", "note"]
    assert [row["id"] for row in table] == list("abcde")
    assert table[0]["note"] == "first, with a comma"
    assert float(table[0]["tpot_s"]) > 0
    assert not table[0]["error"]
    assert not table[4]["error"]
    for place, words in ((1, "does not fit"), (2, "unknown model"), (3, "concurrency is not a number")):
        assert words in table[place]["error"]
        assert table[place]["tpot_s"] in (None, "")


def test_a_table_through_standard_input_and_output() -> None:
    done = start("predict", "serving", "--cases", "-", "--out", "-", stdin=CASES)
    assert done.returncode == 0, done.stderr
    assert [row["id"] for row in rows_of(done.stdout)] == list("abcde")
    assert "2 rows evaluated, 3 with an error" in done.stderr


def test_the_columns_say_which_task_a_table_is_for(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("kind,chip,m,n,k\ngemm,l40s,1,2,3\n")
    result = run("predict", "--cases", str(tmp_path / "cases.csv"), "--out", str(tmp_path / "out.csv"))
    assert result.exit_code == 0, result.output
    assert float(rows_of((tmp_path / "out.csv").read_text())[0]["time_s"]) > 0


def test_exit_code_3_when_no_row_could_be_evaluated(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("kind,chip,m,n,k\ngemm,nowhere,1,2,3\n")
    result = run("predict", "ops", "--cases", str(tmp_path / "cases.csv"), "--out", str(tmp_path / "out.csv"))
    assert result.exit_code == 3
    assert rows_of((tmp_path / "out.csv").read_text())[0]["error"]


@pytest.mark.parametrize(
    "text", ["", "a,a\n1,2\n", "kind,chip\ngemm\n", "\x00\x01\x02", "kind,chip\n\xff\xfe"], ids=repr
)
def test_a_table_that_cannot_be_read_is_one_error_and_nothing_is_written(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cases.csv").write_bytes(text.encode("latin-1"))
    out = tmp_path / "out.csv"
    words = ["predict", "ops", "--cases", str(tmp_path / "cases.csv"), "--out", str(out)]
    assert exit_of(words, monkeypatch) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error RL") or "\nerror RL" in shown
    assert "Traceback" not in shown
    assert not out.exists()


def test_a_case_file_and_flags_that_win(tmp_path: Path) -> None:
    case = "model: meta-llama/Llama-3.1-8B\non: 2x h100-sxm\ntp: 2\nisl: 512\nosl: 128\nconcurrency: 8\n"
    (tmp_path / "case.yaml").write_text(case)
    (tmp_path / "case.json").write_text(json.dumps({"model": "meta-llama/Llama-3.1-8B", "chip": "l40s", "isl": 512}))
    told = json.loads(run("predict", "serving", "--case", str(tmp_path / "case.yaml"), "--isl", "1k", "--json").stdout)
    assert told["case"]["isl"] == 1000
    assert told["case"]["osl"] == 128
    assert told["case"]["tp"] == 2
    rest = ["--osl", "64", "--concurrency", "2", "--json"]
    told = json.loads(run("predict", "serving", "--case", str(tmp_path / "case.json"), *rest).stdout)
    assert told["case"]["chip"] == "l40s"


@pytest.mark.parametrize("suffix", ["html", "svg", "png"])
def test_a_roofline_is_written(tmp_path: Path, suffix: str) -> None:
    if suffix == "png":
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    path = tmp_path / f"roofline.{suffix}"
    result = run(*MAIN, *LOAD, "--roofline", str(path))
    assert result.exit_code == 0, result.output
    assert path.stat().st_size > 1000


def test_explain_shows_the_candidate_bounds_and_the_choices() -> None:
    shown = run(*FORMS[0], "--explain").stdout
    for words in ("compute", "memory", "hardware", "tile_m", "waves"):
        assert words in shown
    told = json.loads(run(*FORMS[0], "--explain", "--json").stdout)
    assert next(iter(told["explain"]["bounds_s"])) == told["results"]["bound"]


def test_units_and_plans_are_read_from_flags() -> None:
    words = ["predict", "serving", "--model", "Qwen/Qwen3-32B", "--on", "h200-sxm", "--isl", "4k", "--osl", "1000"]
    told = json.loads(run(*words, "--plan", "kv=fp8 w=fp8", "--rate", "30/min", "--json").stdout)
    assert told["case"]["isl"] == 4000
    assert told["case"]["request_rate_per_s"] == 0.5
    assert told["case"]["kv"] == "fp8"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*MAIN[:-1], "3", *LOAD], "does not divide"),
        ([*MAIN, "--plan", "tp4", *LOAD], "tp"),
        ([*MAIN, "--plan", "tp4x", *LOAD], "plan"),
        ([*MAIN, "--isl", "-5", "--osl", "10", "--concurrency", "1"], "isl"),
        ([*MAIN, "--isl", "nan", "--osl", "10", "--concurrency", "1"], "isl"),
        ([*MAIN, "--isl", "9" * 400, "--osl", "10", "--concurrency", "1"], "isl"),
        ([*MAIN, "--isl", "10 GB", "--osl", "10", "--concurrency", "1"], "isl"),
        (["predict", "serving", "--model", "m", "--on", "h100-sxm", *LOAD], "unknown model"),
        (["predict", "ops", "--kind", "gemm", "--chip", "h100", "--m", "1"], ""),
        (["predict", "serving", "--case", "no-such-file.yaml"], "no-such-file.yaml"),
        (["predict", "serving", "--cases", "no-such-file.csv"], "no-such-file.csv"),
        (["catalogue", "chip"], "chips"),
        (["catalogue", "chips", "h100-sxn"], "h100-sxm"),
        (["validate", "--data", "no-such-folder"], "no measurements"),
        (["calibrate", "no-such-file.parquet", "--chip", "h100-sxm"], "no such table"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_bad_input_is_one_screen_and_exit_code_2(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of(words, monkeypatch) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert len(shown.err.splitlines()) <= 10
    assert len(shown.err) < 2500
    assert "Traceback" not in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("flag", "nearest"), [("--modle", "--model"), ("--concurency", "--concurrency"), ("--isll", "--isl")]
)
def test_an_unknown_flag_names_the_nearest(flag: str, nearest: str) -> None:
    result = run("predict", "serving", flag, "x")
    assert result.exit_code == 2
    assert nearest in result.output


def test_a_mistake_of_ours_is_one_short_message_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("inner\nstate")

    monkeypatch.delenv("RIDGELINE_DEBUG", raising=False)
    monkeypatch.setattr("ridgeline.api.catalogue.view", broken)
    assert exit_of(["catalogue", "chips"], monkeypatch) == 1
    shown = capsys.readouterr().err
    assert "report it" in shown
    assert "KeyError" in shown
    assert len(shown.splitlines()) <= 4
    monkeypatch.setenv("RIDGELINE_DEBUG", "1")
    with pytest.raises(KeyError):
        exit_of(["catalogue", "chips"], monkeypatch)


def test_an_error_of_ours_has_its_four_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of(["catalogue", "chips", "h100-sxn"], monkeypatch) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith("error RL0103: ")
    assert any(line.startswith("  fix  ") for line in rest)


def test_a_reader_that_stops_early_is_no_error() -> None:
    command = [sys.executable, "-c", "from ridgeline.apps.cli import main; main()", "catalogue", "models", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("words", [FORMS[0], [*MAIN, *LOAD], ["catalogue", "chips", "l40s"]], ids=" ".join)
def test_without_assertions_the_answer_is_the_same(words: list[str]) -> None:
    plain, optimised = (start(*words, "--json", flags=flags) for flags in ((), ("-O",)))
    assert optimised.returncode == 0, optimised.stderr
    assert optimised.stdout == plain.stdout


def test_without_assertions_bad_input_is_refused_all_the_same() -> None:
    done = start(*MAIN[:-1], "3", *LOAD, flags=("-O",))
    assert done.returncode == 2
    assert "does not divide" in done.stderr


def test_validate_scores_a_table_and_writes_a_page(tmp_path: Path) -> None:
    rows = "".join(f"l40s,vllm,bfloat16,{m},4096,4096,{0.1 + m * 2e-4}\n" for m in range(1, 400, 9))
    (tmp_path / "own.csv").write_text(f"gpu,backend,dtype,m,n,k,latency_ms\n{rows}")
    page, base = tmp_path / "errors.html", tmp_path / "baseline.json"
    words = ["validate", "--data", str(tmp_path / "own.csv"), "--report", str(page), "--write-baseline", str(base)]
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    lines = json.loads(result.stdout)["lines"]
    assert {line["regime"] for line in lines} == {"calibrated", "physics", "datasheet"}
    assert "<svg" in page.read_text()
    assert run(*words, "--baseline", str(base)).exit_code == 0
    lower = {"medians": {key: value - 0.05 for key, value in json.loads(base.read_text())["medians"].items()}}
    base.write_text(json.dumps(lower))
    worse = run("validate", "--data", str(tmp_path / "own.csv"), "--baseline", str(base))
    assert worse.exit_code == 3


def test_calibrate_writes_numbers_with_their_provenance(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="the extra `fit` is not installed")
    rows = "".join(
        f"l40s,vllm,bfloat16,{m},{n},4096,{0.012 + m * n * 4096 * 2 / 250e12 * 1e3 + n * 4096 * 2 / 700e9 * 1e3}\n"
        for m in (1, 8, 64, 256, 1024, 4096)
        for n in (1024, 2048, 4096, 6144, 8192, 12288, 16384, 28672)
    )
    (tmp_path / "own.csv").write_text(f"gpu,backend,dtype,m,n,k,latency_ms\n{rows}")
    out = tmp_path / "l40s.yaml"
    result = run("calibrate", str(tmp_path / "own.csv"), "--chip", "l40s", "--out", str(out), "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    (scores,) = told["errors"].values()
    assert scores["physics"]["median_pct"] <= scores["datasheet"]["median_pct"]
    assert "sha256" in out.read_text()
