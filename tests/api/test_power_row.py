"""Rows from files: the breaker, caps and how many servers fit; and what is wrong with a file, where it stands."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ridgeline as rl
from ridgeline.apps.cli import app
from ridgeline.core.errors import RidgelineError
from ridgeline.impact.row import default_policy, play_row

ROW = """\
limit: 60 kW
servers:
  busy: {count: 10, priority: high, power: watts.csv, idle: 1 kW, most: 6 kW}
  slow: {count: 4, power: watts.csv, idle: 1 kW, most: 6 kW, together: true}
"""
WATTS = "time_s,power_w\n0,2000\n100,5500\n200,2000\n"
CASE = "{model: meta-llama/Llama-3.1-8B, on: h100-sxm, arrivals: poisson(4/s), isl: 200, osl: 50, duration_s: 10}"


def write(tmp_path: Path, text: str = ROW) -> Path:
    (tmp_path / "watts.csv").write_text(WATTS, encoding="utf-8")
    path = tmp_path / "row.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_plays_as_its_servers_do_by_hand(tmp_path: Path) -> None:
    (played,) = rl.power_row(write(tmp_path)).played
    one = np.interp(np.arange(200) + 0.5, [0, 100, 200], [2000, 5500, 2000])
    spread = np.stack([np.roll(one, -20 * server) for server in range(10)])
    demand = np.concatenate([spread, np.stack([one] * 4)])
    high = np.arange(14) < 10
    run = play_row(demand, high, limit_w=60e3, idle_w=1e3, most_w=6e3, policy=default_policy())
    np.testing.assert_allclose(played.run.power_w, run.power_w)
    np.testing.assert_allclose(played.demand_w, demand.sum(axis=0))
    assert played.largest_w == 14 * 6e3


def test_more_servers_draw_more_and_lose_more_until_the_breaker_opens(tmp_path: Path) -> None:
    path = write(tmp_path)
    capped = rl.power_row(path, times=(1.0, 1.2, 1.4)).played
    assert [one.servers for one in capped] == [14, 17, 20]
    assert np.all(np.diff([one.demand_w.max() for one in capped]) > 0)
    assert np.all(np.diff([one.run.lost_frac[0] for one in capped]) >= 0)
    free = rl.power_row(path, times=(2.0,), capped=False).played[0]
    assert not math.isnan(free.run.opened_s)
    assert free.run.lost_frac == (0.0, 0.0)
    kept = rl.power_row(path, times=(2.0,)).played[0]
    assert kept.run.peak_w < free.run.peak_w


def test_limit_policy_and_battery_of_the_file_count(tmp_path: Path) -> None:
    plain = rl.power_row(write(tmp_path)).played[0].run
    early = "policy: {first_threshold: 0.3, second_threshold: 0.89, low_cap: 0.5, actuation_delay: 1 s}\n"
    eager = rl.power_row(write(tmp_path, ROW + early)).played[0].run
    assert eager.capped_frac[0] > plain.capped_frac[0]
    shaved = rl.power_row(write(tmp_path, ROW + "battery: {capacity: 5 MJ, power: 20 kW}\n"), limit="50 kW")
    bare = rl.power_row(write(tmp_path), limit="50 kW")
    assert shaved.played[0].run.peak_w < bare.played[0].run.peak_w


def test_a_case_gives_demands_between_idle_and_the_most_of_a_server(tmp_path: Path) -> None:
    text = f"limit: 40 kW\nservers:\n  chat: {{count: 3, case: {CASE}}}\n"
    found = rl.power_row(write(tmp_path, text))
    (group,) = found.groups
    assert group.idle_w <= group.demand_w.min() < group.demand_w.max() < group.most_w
    assert found.played[0].run.peak_w <= 40e3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("limit: 60 kW", "limit: 5 kW"), "below the idle power"),
        (("limit: 60 kW", "limt: 60 kW"), "did you mean 'limit'"),
        (("priority: high", "priority: hihg"), "row.yaml:3"),
        (("count: 10", "count: 0"), "a group has servers"),
        (("idle: 1 kW, most: 6 kW}", "idle: 1 kW}"), "needs idle and most"),
        (("most: 6 kW}", "most: 5 kW}"), "exceeds the most"),
        (("power: watts.csv, ", ""), "a table of power or a case"),
        (("power: watts.csv", "power: other.csv"), "other.csv"),
        (("limit: 60 kW", "limit: 60"), "below the idle power"),
        (("limit: 60 kW", "step: 0 s\nlimit: 60 kW"), "step above 0"),
        (("limit: 60 kW", "policy: {low_cap: 2.0}\nlimit: 60 kW"), "a cap is a share"),
        (("limit: 60 kW", "battery: {capacity: 1 kWh, power: -2 kW}\nlimit: 60 kW"), "battery"),
        (
            (
                "power: watts.csv, idle: 1 kW, most: 6 kW}",
                f"case: {CASE.replace('Llama', 'Lama')}}}",
            ),
            "did you mean",
        ),
    ],
)
def test_odd_files_are_told(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    with pytest.raises(RidgelineError) as told:
        rl.power_row(write(tmp_path, ROW.replace(*change, 1)))
    assert words in told.value.screen()


def test_the_command_tells_the_same_and_writes_series(tmp_path: Path) -> None:
    path, out = write(tmp_path), tmp_path / "series.csv"
    told = CliRunner().invoke(app, ["row", str(path), "--times", "1,1.2", "--json", "--out", str(out)])
    assert json.loads(told.stdout) == rl.power_row(path, times=(1.0, 1.2)).to_dict()
    assert len(out.read_text().splitlines()) == 201
    shown = CliRunner().invoke(app, ["row", str(path)])
    assert "10 busy (high), 4 slow (low)" in shown.stdout
    assert CliRunner().invoke(app, ["row", str(path), "--times", "1e9"]).exit_code != 0
