"""`ridgeline search`: fronts and comparisons from files, faults told with their place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ridgeline.apps.cli import main
from ridgeline.core.tables import read_table

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SERVING = """
case: {model: Qwen/Qwen3-32B, chip: h100-sxm, isl: 1000, osl: 300, concurrency: 32}
axes: {tp: [1, 2, 4, 8], max_batch: [16, 64]}
objectives: [cost_usd_per_1m_output_tokens, tpot_s]
"""


def _run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    try:
        main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    else:
        code = 0
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_front_as_json_holds_its_baseline_and_repeats_itself(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["search", str(EXAMPLES / "search_chips.yaml"), "--budget", "60", "--json"]
    code, out, _ = _run(arguments, capsys)
    assert code == 0
    told = json.loads(out)
    assert told["evaluations"] == told["baseline"]["evaluations"] == 60
    assert told["baseline"]["agent"] == "random"
    assert all(row["slowdown"] > 0 for row in told["front"])
    assert _run(arguments, capsys)[1] == out


def test_a_screen_says_how_points_at_random_fared(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("search_chips", "search_serving"):
        code, out, _ = _run(["search", str(EXAMPLES / f"{name}.yaml"), "--budget", "40"], capsys)
        assert code == 0
        assert "40 designs evaluated by nsga2" in " ".join(out.split())
        assert "points at random" in out


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_design_is_written_in_its_order(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"designs.{suffix}"
    arguments = ["search", str(EXAMPLES / "search_serving.yaml"), "--budget", "30", "--json", "--out", str(out)]
    code, told, _ = _run(arguments, capsys)
    assert code == 0
    columns = {"evaluation": "number", "front": "number", "tpot_s": "number", "chip": "text"}
    table = read_table(out, columns=columns)
    assert table.number("evaluation").tolist() == [float(i) for i in range(1, 31)]
    assert table.number("front").sum() == len(json.loads(told)["front"])
    assert set(table.labels("chip").texts()) <= {"h100-sxm", "h200-sxm"}
    code, _, err = _run([*arguments[:-1], str(tmp_path / "no" / "designs.csv")], capsys)
    assert code == 2
    assert "folder" in err


def test_agents_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "q.yaml").write_text(SERVING)
    arguments = ["search", str(tmp_path / "q.yaml"), "--compare", "ga, walk", "--budget", "8", "--seeds", "2"]
    code, out, _ = _run([*arguments, "--json"], capsys)
    assert code == 0
    standings = json.loads(out)["standings"]
    assert {one["agent"] for one in standings} == {"ga", "walk", "random"}
    # Eight evaluations are the whole space: everybody finds the same front.
    assert len({round(one["mean"], 9) for one in standings}) == 1
    assert "beats random" in _run(arguments, capsys)[1]


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        (("objectives", "objectivs"), [], "did you mean 'objectives'"),
        (("tp: [1, 2, 4, 8]", "tp: 4"), [], "q.yaml:3"),
        (("tp:", "tpp:"), [], "unknown column 'tpp'"),
        (("[cost_usd_per_1m_output_tokens, tpot_s]", "[]"), [], "a search has objectives"),
        (("case:", "workloads: {}\ncase:"), [], "'workloads' has no place here"),
        (("case:", "chips: h100-sxm\ncase:"), [], "'case' has no place here"),
        (("", ""), ["--agent", "nsga3"], "did you mean 'nsga2'"),
        (("", ""), ["--agent", "exhaustive", "--budget", "3"], "8 legal points"),
        (("", ""), ["--compare", "ga", "--out", "x.csv"], "writes no designs"),
        (("", ""), ["--option", "population"], "population=32"),
        (("", ""), ["--option", "poulation=3"], "did you mean 'population'"),
    ],
)
def test_faults_are_told_with_their_place(
    change: tuple[str, str], more: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "q.yaml").write_text(SERVING.replace(*change) if change[0] else SERVING)
    code, _, err = _run(["search", str(tmp_path / "q.yaml"), "--budget", "4", *more], capsys)
    assert code == 2
    assert words in err


def test_a_problem_in_which_nothing_is_feasible_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "q.yaml").write_text(SERVING + "at_most: {tpot_s: 1us}\n")
    code, out, _ = _run(["search", str(tmp_path / "q.yaml"), "--budget", "8"], capsys)
    assert code == 0
    assert "none of them is feasible" in out
