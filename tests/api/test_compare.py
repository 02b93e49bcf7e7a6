"""Deployments side by side."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import ridgeline as rl
from ridgeline.apps.cli import main
from ridgeline.core.errors import RidgelineError

LOAD = {"isl": 2000, "osl": 300, "concurrency": 16}
A = {"model": "Qwen/Qwen3-32B", "on": "8x h200-sxm", "tp": 4, **LOAD}
LINE = "vllm serve Qwen/Qwen3-32B -tp 8 --max-num-seqs 64 --enforce-eager"


def test_each_column_is_the_prediction_of_its_deployment() -> None:
    compared = rl.compare(A, {**A, "tp": 8}, LINE, on="8x h200-sxm", **LOAD)
    alone = [rl.predict(**A), rl.predict(**{**A, "tp": 8}), rl.predict(**{**A, "tp": 8, "max_batch": 64})]
    assert [one.values for one in compared.predictions] == [one.values for one in alone]
    assert compared.names == ("A", "B", "C")
    assert set(compared.differences) == {"tp", "replicas", "max_batch"}
    assert compared.differences["tp"] == (4.0, 8.0, 8.0)
    assert any("--enforce-eager" in note.text for note in compared.notes[2])


def test_ratios_are_to_the_first_and_nothing_differs_from_itself() -> None:
    compared = rl.compare(A, A)
    assert compared.differences == {}
    assert all(math.isnan(ratio) or ratio == 1.0 for row in compared.ratios.values() for ratio in row)
    other = rl.compare(A, {**A, "tp": 8})
    for name, (first, second) in other.results.items():
        if name in other.ratios and first:
            assert other.ratios[name][1] == pytest.approx(float(second) / float(first))


def test_columns_of_the_other_mode_do_not_count() -> None:
    pools = {"model": "Qwen/Qwen3-32B", "chip": "h200-sxm", "mode": "disagg", "prefill_tp": 4, "decode_tp": 4, **LOAD}
    differences = rl.compare(A, pools).differences
    assert differences["decode_tp"] == ("", 4.0)
    assert differences["tp"] == (4.0, "")
    assert "node" not in differences


def test_files_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case, script, manifest = (tmp_path / name for name in ("a.yaml", "b.sh", "c.yaml"))
    case.write_text(json.dumps(A))
    script.write_text(LINE)
    manifest.write_text(rl.launch_files(A, "kubernetes")["manifest.yaml"])
    load = ["--on", "8x h200-sxm", "--isl", "2000", "--osl", "300", "--concurrency", "16"]
    main_done(["compare", str(case), str(script), str(manifest), *load, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["deployments"] == ["a.yaml", "b.sh", "c.yaml"]
    first, _, third = told["results"]["output_tokens_per_s"]
    assert third == pytest.approx(first)
    main_done(["compare", str(case), str(script), *load])
    shown = capsys.readouterr().out
    assert "inputs that differ" in shown
    assert "bound by" in shown


def test_a_deployment_that_cannot_be_predicted_is_told() -> None:
    with pytest.raises(RidgelineError, match="2 to 16"):
        rl.compare(A)
    with pytest.raises(RidgelineError, match="does not divide"):
        rl.compare(A, {**A, "on": "9x h200-sxm", "tp": 9})
    with pytest.raises(RidgelineError, match="unknown column"):
        rl.compare(A, {**A, "tpp": 8})


def test_deploy_writes_a_folder_and_says_what_it_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", "Qwen/Qwen3-32B", "--on", "8x h200-sxm", "--tp", "4", "--weights", "int4_wo"]
    out = tmp_path / "out"
    main_done(["deploy", *flags, "--target", "kubernetes", "--out", str(out)])
    told = capsys.readouterr()
    assert [path.name for path in out.iterdir()] == ["manifest.yaml"]
    assert "manifest.yaml" in told.out
    assert "note: weights" in told.err
    main_done(["deploy", *flags, "--json"])
    told_json = json.loads(capsys.readouterr().out)
    assert told_json["target"] == "vllm"
    assert "weights" in {note["column"] for note in told_json["notes"]}
    assert code_of(["deploy", *flags, "--out", str(out)]) == 2
    assert "holds something" in capsys.readouterr().err


def test_a_launch_is_predicted_with_its_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--on", "8x h200-sxm", "--isl", "2000", "--osl", "300", "--concurrency", "16"]
    main_done(["predict", "serving", "--from-launch", f"{LINE} --api-key k", *flags, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["case"]["max_batch"] == 64.0
    assert told["launch"]["ignored"] == ["--api-key"]
    assert "--enforce-eager" in told["launch"]["notes"][0]["text"]
    assert code_of(["predict", "serving", "--from-launch", str(tmp_path / "none.sh"), *flags]) == 2
    assert "no such file" in capsys.readouterr().err


def code_of(words: list[str]) -> int:
    try:
        main(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    return 0


def main_done(words: list[str]) -> None:
    assert code_of(words) == 0
