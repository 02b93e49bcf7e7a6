"""Sensors on a machine of paper: energy is the integral of power, counters wrap, what is missing is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ridgeline.apps.cli import app
from ridgeline.bench import sensors
from ridgeline.bench.sensors import Sampler, Sensor, rapl_sensors

RUNNER = CliRunner()


def package(root: Path, energy_uj: int, name: str = "package-0", place: str = "intel-rapl:0") -> Path:
    zone = root / place
    zone.mkdir(parents=True)
    (zone / "name").write_text(name)
    (zone / "energy_uj").write_text(str(energy_uj))
    (zone / "max_energy_range_uj").write_text("1000000000")
    return zone


def test_energy_is_the_integral_of_power_and_counters_wrap() -> None:
    counter = iter([900.0, 950.0, 20.0, 70.0])
    watts = iter([100.0, 200.0, 200.0, 100.0])
    fake = [
        Sensor(name="watts", read=lambda: next(watts)),
        Sensor(name="joules", read=lambda: next(counter), counts=True, wraps_j=1000.0),
        Sensor(name="deaf", read=lambda: float("nan")),
    ]
    sampler = Sampler(fake)
    for _ in range(4):
        sampler._sample()
    found = {one.name: one for one in sampler.readings()}
    assert "deaf" not in found
    assert found["joules"].energy_j == pytest.approx(50 + 70 + 50)
    assert found["watts"].energy_j == pytest.approx(found["watts"].mean_w * sampler.duration_s)
    assert 100 < found["watts"].mean_w < 200
    assert found["watts"].samples == 4


def test_packages_are_read_and_their_parts_left_to_them(tmp_path: Path) -> None:
    package(tmp_path, 5_000_000)
    package(tmp_path, 1, "core", "intel-rapl:0:0")
    found, why = rapl_sensors(tmp_path)
    assert [one.name for one in found] == ["package-0"]
    assert found[0].read() == pytest.approx(5.0)
    assert found[0].wraps_j == pytest.approx(1000.0)
    assert not why
    assert "no RAPL here" in rapl_sensors(tmp_path / "none")[1]


def test_a_command_is_metered_and_its_exit_code_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package(tmp_path, 5_000_000)
    monkeypatch.setattr(sensors, "RAPL_ROOT", tmp_path)
    wall = tmp_path / "wall.csv"
    wall.write_text("time_s,power_w\n0,100\n10,200\n")
    done = RUNNER.invoke(
        app, ["meter", "--json", "--wall", str(wall), "--", sys.executable, "-c", "raise SystemExit(5)"]
    )
    assert done.exit_code == 5
    told = json.loads(done.stdout)
    (by_wall,) = [one for one in told["readings"] if one["name"] == "wall"]
    assert by_wall["energy_j"] == pytest.approx(1500.0)
    assert by_wall["mean_w"] == pytest.approx(150.0)
    assert "package-0" in [one["name"] for one in told["readings"]]
    assert told["exit_code"] == 5
    assert told["duration_s"] > 0


def test_without_sensors_the_command_still_runs_and_it_says_why(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    write = f"open({str(mark)!r}, 'w').close()"
    done = RUNNER.invoke(app, ["meter", "--", sys.executable, "-c", write])
    assert done.exit_code == 0
    assert mark.exists()
    assert "NVML" in done.stdout or "NVIDIA" in done.stdout or "gpu" in done.stdout


def test_predicted_stands_beside_measured(tmp_path: Path) -> None:
    case = tmp_path / "case.yaml"
    case.write_text("model: meta-llama/Llama-3.1-8B\non: h100-sxm\nisl: 200\nosl: 100\nconcurrency: 8\n")
    done = RUNNER.invoke(app, ["meter", "--json", "--case", str(case), "--", sys.executable, "-c", "pass"])
    predicted = json.loads(done.stdout)["predicted"]
    assert 100 < predicted["power_w_per_chip"] < 700
    assert predicted["energy_j_per_output_token"] > 0


def test_a_command_that_is_not_there_is_named() -> None:
    done = RUNNER.invoke(app, ["meter", "--", "no-such-command-of-ours"])
    assert "cannot run the command" in str(done.exception)
