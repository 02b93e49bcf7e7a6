"""Loads that shift: never worse than at once, conserved, and everything odd about places, hours and sums is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ridgeline as rl
from ridgeline.apps.cli import app
from ridgeline.core.errors import RidgelineError
from ridgeline.impact.transport import transport_j

DAY = 24


def table(path: Path, zone: str, values: list[float], start: str = "2025-06-0{}T{:02d}:00+00:00") -> Path:
    rows = [f"{start.format(1 + hour // DAY, hour % DAY)},{zone},{value}" for hour, value in enumerate(values)]
    path.write_text("\n".join(["timestamp,zone,carbon_gco2_per_kwh", *rows, ""]), encoding="utf-8")
    return path


@pytest.fixture
def hours(tmp_path: Path) -> dict[str, Path]:
    wave = [60.0 + 40.0 * np.sin(hour / 24.0 * 2.0 * np.pi) for hour in range(2 * DAY)]
    steady = table(tmp_path / "de.csv", "DE", [55.0] * (2 * DAY))
    return {"FR": table(tmp_path / "fr.csv", "FR", wave), "DE": steady}


def at(hours: dict[str, Path], *names: str) -> list[str]:
    return [f"{name}={hours[name]}" for name in names]


def test_more_freedom_never_costs_more_and_all_of_the_energy_runs(hours: dict[str, Path]) -> None:
    common = {"most": "10 kW", "pue": 1.2}
    whole = rl.shift("45 kWh", at=at(hours, "FR"), whole=True, **common)
    pieces = rl.shift("45 kWh", at=at(hours, "FR"), **common)
    day = rl.shift("45 kWh", at=at(hours, "FR"), within="1 d", **common)
    both = rl.shift("45 kWh", at=at(hours, "FR", "DE"), **common)
    assert both.found.cost <= pieces.found.cost <= whole.found.cost <= whole.found.base
    assert pieces.found.cost <= day.found.cost
    for one in (whole, pieces, day, both):
        assert one.found.energy_j.sum() == pytest.approx(45 * 3.6e6)
        assert one.found.energy_j.max() <= 10e3 * 3600 * (1 + 1e-12)
    by_hand = np.sort(np.concatenate([one.values for one in both.places]))[:5] * [1, 1, 1, 1, 0.5]
    assert both.found.cost == pytest.approx(by_hand.sum() * 1.2 * 10e3 * 3600)


def test_data_that_moves_is_counted_once_for_the_whole_load(hours: dict[str, Path]) -> None:
    case = {"at": at(hours, "FR", "DE"), "most": "100 kW", "pue": 1.2, "within": "3h"}
    free, moved = (rl.shift("45 kWh", data=data, **case) for data in ("", "1 GB"))
    away = free.found.energy_j[1].sum() / (45 * 3.6e6)
    assert away > 0.5
    assert moved.found.cost - free.found.cost == pytest.approx(
        away * transport_j(1e9, "fixed").value * free.places[1].values.mean()
    )
    stays = rl.shift("45 kWh", data="1 PB", **case)
    assert stays.found.energy_j[1].sum() == 0


def test_yearly_means_stand_in_where_no_table_is_given() -> None:
    found = rl.shift("45 kWh", at=["PL", "FR"], most="10 kW", pue=1.2, within="24h")
    assert found.found.energy_j[0].sum() == 0
    assert found.to_dict()["hours"][0]["start"] == "+0h"
    dear = rl.shift("45 kWh", at=["us-east"], most="10 kW", least="money", within="24h")
    assert dear.found.cost == pytest.approx(45 * 3.6e6 * dear.places[0].pue * float(dear.places[0].values[0]))


def test_tables_meet_in_the_hours_that_they_have_in_common(tmp_path: Path, hours: dict[str, Path]) -> None:
    late = table(tmp_path / "late.csv", "DE", [10.0] * DAY, start="2025-06-0{}T{:02d}:00-12:00")
    found = rl.shift("45 kWh", at=[*at(hours, "FR"), f"DE={late}"], most="10 kW", pue=1.2)
    assert found.to_dict()["hours"][0]["start"].startswith("2025-06-01T12:00")
    assert found.found.energy_j.shape == (2, DAY)
    longer = rl.shift("45 kWh", at=at(hours, "FR"), most="10 kW", pue=1.2)
    assert longer.found.energy_j.shape == (1, 2 * DAY)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"at": ["Fance"]}, "'France'"),
        ({"at": ["PL", "PL"]}, "named twice"),
        ({"at": ["PL"], "pue": None}, "needs its overhead"),
        ({"at": ["PL"], "pue": 0.8}, "PUE is 1 or more"),
        ({"at": ["PL"], "within": ""}, "how long the load may wait"),
        ({"at": ["PL"], "within": "2h"}, "do not fit"),
        ({"at": ["PL"], "least": "money"}, "no price of electricity"),
        ({"least": "carbn"}, "carbon"),
        ({"energy": "-3 kWh"}, "finite and >= 0"),
        ({"at": ["PL"], "data": "1 TB", "path": "pigeon"}, "pigeon"),
        ({"within": "90 d"}, "hours in common"),
        ({"zone": "DE"}, "of zone FR, not DE"),
        ({"gap": True}, "1 hours are missing"),
    ],
)
def test_odd_loads_are_told(hours: dict[str, Path], changes: dict[str, object], words: str) -> None:
    case: dict[str, object] = {"energy": "45 kWh", "at": at(hours, "FR"), "most": "10 kW", "pue": 1.2}
    if changes.pop("gap", False):
        lines = hours["FR"].read_text().splitlines(keepends=True)
        hours["FR"].write_text("".join(lines[:5] + lines[6:]))
    elif "zone" in changes:
        case["at"] = [f"{changes.pop('zone')}={hours['FR']}"]
    elif changes.get("at") and "within" not in changes:
        changes["within"] = "24h"
    with pytest.raises(RidgelineError) as told:
        rl.shift(**{**case, **changes})
    assert words in told.value.screen()


def test_the_command_tells_the_same_and_writes_the_schedule(tmp_path: Path, hours: dict[str, Path]) -> None:
    arguments = ["shift", "--energy", "45kWh", "--most", "10kW", "--pue", "1.2"]
    arguments += [word for place in at(hours, "FR", "DE") for word in ("--at", place)]
    out = tmp_path / "schedule.csv"
    told = CliRunner().invoke(app, [*arguments, "--json", "--out", str(out)])
    found = rl.shift("45 kWh", at=at(hours, "FR", "DE"), most="10 kW", pue=1.2)
    assert json.loads(told.stdout) == found.to_dict()
    watts = [float(line.split(",")[2]) for line in out.read_text().splitlines()[1:]]
    assert sum(watts) * 3600 == pytest.approx(45 * 3.6e6)
    shown = CliRunner().invoke(app, arguments)
    assert "at once at FR" in shown.stdout
