"""`rl.impact` and `ridgeline impact`: predictions, runs, energies and tables of power; and what they refuse."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import ridgeline as rl
from ridgeline.api.impacts.power_trace import read_power
from ridgeline.api.impacts.row_demand import row_demand
from ridgeline.apps.cli import app
from ridgeline.core.errors import DomainError, FileFormatError, SpecError, UnknownNameError
from ridgeline.hardware import catalogue
from ridgeline.impact.scopes import server_power
from ridgeline.serving.record.series import windows_of

RUNNER = CliRunner()
CASE: dict[str, Any] = {"model": "meta-llama/Llama-3.1-8B", "on": "h100-sxm", "isl": 200, "osl": 100, "concurrency": 8}
EXACT = 1e-9
KWH = 3.6e6


@pytest.fixture(scope="module")
def prediction() -> rl.Prediction:
    return rl.predict(**CASE)


def test_a_request_pays_for_its_share_of_the_machine(prediction: rl.Prediction) -> None:
    found = rl.impact(prediction, site="us-east")
    energy = prediction.power_w_per_chip / prediction.request_per_s
    assert found.account.energy_j["chips"] == pytest.approx(energy, rel=EXACT)
    assert found.metrics["chip_j_per_token"].value == pytest.approx(prediction.energy_j_per_output_token, rel=EXACT)
    site = found.account.energy_j["site"]
    assert found.account.operational_kg.value == pytest.approx(site * 0.330 / KWH, rel=EXACT)
    assert found.account.money_usd["energy"].value == pytest.approx(site * 0.085 / KWH, rel=EXACT)
    assert sum(found.account.phases.values()) == pytest.approx(1.0)
    assert found.metrics["usd_per_1m_tokens"].value == pytest.approx(found.account.cost_usd.value * 1e6 / 100)


def test_the_same_request_costs_carbon_as_its_grid_does(prediction: rl.Prediction) -> None:
    french, polish = (rl.impact(prediction, grid=grid, pue=1.2) for grid in ("FR", "PL"))
    ratio = polish.account.operational_kg.value / french.account.operational_kg.value
    assert ratio == pytest.approx(661.93 / 56.04, rel=EXACT)
    assert polish.account.embodied_kg == french.account.embodied_kg


def test_a_simulated_run_is_accounted_as_its_own_energy_says() -> None:
    run = rl.simulate(**{k: v for k, v in CASE.items() if k != "concurrency"}, arrivals="poisson(4/s)", duration_s=20)
    found = rl.impact(run, site="sweden")
    assert found.account.energy_j["chips"] == pytest.approx(run.answers.whole.energy_j, rel=EXACT)
    assert found.job.count == len(run.traffic)
    assert found.metrics["chip_j_per_token"].value == pytest.approx(run.answers.whole.energy_j_per_output_token)


@pytest.mark.parametrize("seed", range(3))
def test_costs_of_a_run_follow_the_energy_of_its_windows(seed: int) -> None:
    """Law L3: two ways to the same kilograms, litres and dollars, the second from the run's windows."""
    case = {k: v for k, v in CASE.items() if k != "concurrency"}
    run = rl.simulate(**case, arrivals="gamma(6/s, cv=2)", duration_s=30, seed=seed)
    found = rl.impact(run, site="us-east").account
    windows = windows_of(run.played, width_s=0.7, powers=run.powers)
    chips_j, lasting = windows["energy_j"].sum(), windows["width_s"].sum()
    chip, node, site = rl.chip("h100-sxm"), rl.node("dgx-h100"), catalogue.site("us-east")
    server = server_power(chips_j / (lasting * found.chip_s / run.played.end_s), chip, node)
    rack_j = chips_j * float(server.rack_total_w / server.chips_w)
    assert found.energy_j["rack"] == pytest.approx(rack_j, rel=EXACT)
    meter_j = rack_j * site.pue
    assert found.operational_kg.value == pytest.approx(meter_j * site.carbon_kg_per_j, rel=EXACT)
    assert found.water_l["site"].value == pytest.approx(rack_j * site.water_l_per_j, rel=EXACT)
    assert found.water_l["electricity"].value == pytest.approx(meter_j * 3.142 / KWH, rel=EXACT)
    assert found.money_usd["energy"].value == pytest.approx(meter_j * site.electricity_usd_per_j, rel=EXACT)


def test_a_row_draws_what_its_servers_do() -> None:
    """Servers of one run each, shifted in time: the row's mean is the sum of their means."""
    case = {k: v for k, v in CASE.items() if k != "concurrency"}
    runs = [rl.simulate(**case, arrivals=f"poisson({rate}/s)", duration_s=30) for rate in (1, 8)]
    demand, idle_w, most_w = row_demand(runs, step_s=1.0)
    assert demand.shape[0] == 2
    assert demand[0].mean() < demand[1].mean()
    assert (demand >= idle_w - 1e-9).all()
    assert (demand <= most_w + 1e-9).all()
    node = rl.node("dgx-h100")
    energy = runs[1].answers.whole.energy_j / runs[1].played.end_s
    mean = float(server_power(energy, rl.chip("h100-sxm"), node).wall_w)
    assert demand[1].mean() == pytest.approx(mean, rel=0.05)
    with pytest.raises(DomainError):
        row_demand([], step_s=1.0)


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_meets_the_hours_that_it_ran_in(tmp_path: Path, kept: bool) -> None:
    case = {k: v for k, v in CASE.items() if k != "concurrency"}
    run = rl.simulate(**case, arrivals="poisson(0.05/s)", duration_s=7200, keep_runs=kept)
    hours = tmp_path / "hours.csv"
    rows = [f"2025-01-01T0{hour}:00Z,{value}" for hour, value in enumerate((100, 300, 900))]
    hours.write_text("timestamp,carbon\n" + "\n".join(rows) + "\n")
    found = rl.impact(run, grid="FR", pue=1.2, hourly=hours)
    per_kwh = found.account.operational_kg.value / found.account.energy_j["site"] * KWH * 1e3
    assert per_kwh == pytest.approx(200, rel=0.05)  # an even load sees both of its hours, and not the third


def test_training_is_accounted_by_the_million_tokens() -> None:
    step = rl.predict("training", model="meta-llama/Llama-3.1-8B", on="64x h100-sxm", seq=8192, global_batch=128, tp=2)
    found = rl.impact(step, grid="SE", pue=1.1)
    assert found.metrics["chip_j_per_token"].value == pytest.approx(step.energy_j_per_token, rel=1e-6)


def test_a_table_of_power_is_integrated_and_meets_the_hours(tmp_path: Path) -> None:
    path = tmp_path / "watts.csv"
    path.write_text("time_s,power_w\n0,1000\n3600,1000\n3601,3000\n7200,3000\n")
    trace = read_power(path)
    assert trace.energy_j == pytest.approx(1000 * 3600 + 2000 + 3000 * 3599)
    hours = tmp_path / "hours.csv"
    hours.write_text("timestamp,carbon\n2025-01-01T00:00Z,100\n2025-01-01T01:00Z,500\n")
    flat = rl.impact(path, on="8x h100-sxm", grid="FR", pue=1.2)
    hourly = rl.impact(path, on="8x h100-sxm", grid="FR", pue=1.2, hourly=hours)
    late = (100 * 1000 + 500 * 3000) / 4000
    per_kwh = hourly.account.operational_kg.value / hourly.account.energy_j["site"] * KWH * 1e3
    assert per_kwh == pytest.approx(late, rel=1e-3)
    assert flat.account.energy_j == hourly.account.energy_j


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time_s,watts\n0,1\n1,1\n", "no column 'power_w'"),
        ('time_s,power_w\n0,"1\n1,1\n', "cannot be read|as many cells|a head"),
        ("time_s,power_w\n0,1\n1,many\n", "many"),
        ("time_s,power_w\n0,1\n", "2 rows"),
        ("time_s,power_w\n1,1\n0,1\n", "times rise"),
        ("time_s,power_w\n0,1\n1,-1\n", "power is >= 0"),
        ("time_s,power_w\n0\n1\n", "as many cells"),
        ("", "a head"),
    ],
)
def test_odd_tables_of_power_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "watts.csv"
    path.write_text(text)
    with pytest.raises(rl.RidgelineError, match=words):
        read_power(path)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "watts.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (binary, tmp_path / "none.csv", tmp_path):
        with pytest.raises(FileFormatError):
            read_power(path)


@pytest.mark.parametrize(
    ("where", "kind", "words"),
    [
        ({"site": "swedne"}, UnknownNameError, "sweden"),
        ({"grid": "Frnace", "pue": 1.2}, UnknownNameError, "FR"),
        ({"grid": "FR"}, SpecError, "needs its overhead"),
        ({"pue": 1.2}, SpecError, "needs its electricity"),
        ({"grid": "FR", "pue": 0.9}, DomainError, "PUE is 1 or more"),
        ({"grid": "FR", "cooling": "liquid"}, SpecError, "needs the weather"),
        ({"grid": "FR", "cooling": "fans", "temperature_c": 20}, UnknownNameError, "kinds"),
        ({"site": "us", "lifetime": "-5 years"}, DomainError, "lifetime"),
        ({"site": "us", "utilisation": 1.5}, DomainError, "utilisation"),
        ({"site": "us", "accuracy_frac": 80}, DomainError, "accuracy"),
    ],
)
def test_places_and_lives_that_cannot_be_are_named(
    prediction: rl.Prediction, where: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        rl.impact(prediction, **where)


def test_one_thing_is_accounted_at_a_time(prediction: rl.Prediction) -> None:
    with pytest.raises(SpecError, match="one of them"):
        rl.impact(site="us")
    with pytest.raises(SpecError, match="one of them"):
        rl.impact(prediction, energy="1 kWh", site="us")
    with pytest.raises(SpecError, match="needs the machines"):
        rl.impact(energy="1 kWh", site="us")
    with pytest.raises(DomainError, match="needs its duration"):
        rl.impact(energy="1 kWh", on="h100-sxm", site="us")


def test_rent_replaces_owning_and_needs_a_price(prediction: rl.Prediction) -> None:
    rented = rl.impact(prediction, site="us-east", rented=True)
    assert set(rented.account.money_usd) == {"rent"}
    per_token = rented.metrics["usd_per_1m_tokens"].value
    assert per_token == pytest.approx(prediction.cost_usd_per_1m_output_tokens, rel=1e-6)


def test_a_card_prices_spot_carbon_and_water(prediction: rl.Prediction, tmp_path: Path) -> None:
    card = tmp_path / "prices.yaml"
    prices = {"spot": "1.2 USD/h", "carbon": "100 USD/t", "water": "0.002 USD/L"}
    rows = [f"  {name}: {{value: {value}, date: '2026-01', source: quoted}}\n" for name, value in prices.items()]
    card.write_text("prices:\n" + "".join(rows))
    spot = rl.impact(prediction, site="us-east", spot=True, prices=card)
    assert spot.account.money_usd["rent"].value == pytest.approx(spot.account.chip_s * 1.2 / 3600)
    usual = rl.impact(prediction, site="us-east", spot=True)
    assert (
        usual.account.money_usd["rent"].value
        < rl.impact(prediction, site="us-east", rented=True).account.cost_usd.value
    )
    owned = rl.impact(prediction, site="us-east", prices=card).account
    assert owned.money_usd["carbon"].value == pytest.approx(owned.operational_kg.value * 0.1)
    assert owned.money_usd["water"].value == pytest.approx(owned.water_l["site"].value * 0.002)


def test_the_command_prints_and_exports(tmp_path: Path) -> None:
    out = tmp_path / "emissions.csv"
    words = ["impact", "--energy", "2kWh", "--during", "1h", "--on", "8x h100-sxm", "--grid", "France", "--pue", "1.2"]
    shown = RUNNER.invoke(app, [*words, "--codecarbon", str(out)])
    assert shown.exit_code == 0
    assert "at the meter" in shown.stdout
    told = json.loads(RUNNER.invoke(app, [*words, "--json"]).stdout)
    assert sum(told["parts_j"].values()) == pytest.approx(told["energy_j"]["site"], rel=EXACT)
    assert told["place"]["grid"] == "FR"
    assert "Ember" in told["sources"]["carbon"]
    (row,) = csv.DictReader(io.StringIO(out.read_text()))
    assert float(row["gpu_energy"]) == pytest.approx(2.0)
    assert float(row["emissions"]) == pytest.approx(told["operational_kg"]["value"])
    assert float(row["emissions_rate"]) == pytest.approx(float(row["emissions"]) / 3600)
    listed = RUNNER.invoke(app, ["impact", "--grids"]).stdout
    assert "France" in listed


def test_json_holds_numbers_only(prediction: rl.Prediction) -> None:
    text = json.dumps(rl.impact(prediction, site="us").to_dict())
    assert "NaN" not in text
    assert np.isfinite(json.loads(text)["metrics"]["gco2e_per_request"]["value"])


def test_rows_of_a_table_cost_what_their_accounts_say() -> None:
    base = {k: v for k, v in CASE.items() if k != "on"} | {"chip": "h100-sxm"}
    table = {name: np.array([value] * 4) for name, value in base.items()}
    table["site"] = np.array(["sweden", "", "us-east", "atlantis"])
    found = rl.predict_table("serving", table)
    carbon = found["operational_carbon_kg_per_1m_output_tokens"]
    assert np.isnan(carbon[[1, 3]]).all()
    assert "atlantis" in found["error"][3]
    for row, site in ((0, "sweden"), (2, "us-east")):
        account = rl.impact(rl.predict(**CASE), site=site)
        tokens = account.job.tokens
        per_million = 1e6 / tokens
        assert carbon[row] == pytest.approx(account.account.operational_kg.value * per_million, rel=EXACT)
        made = found["embodied_carbon_kg_per_1m_output_tokens"][row]
        assert made == pytest.approx(account.account.embodied_total_kg.value * per_million, rel=EXACT)
        site_j = found["site_energy_j_per_output_token"][row]
        assert site_j == pytest.approx(account.account.energy_j["site"] / tokens, rel=EXACT)
        parts = [part.value for name, part in account.account.water_l.items() if name != "fabrication"]
        assert found["water_l_per_1m_output_tokens"][row] == pytest.approx(sum(parts) * per_million, rel=EXACT)
    assert "site_energy_j_per_output_token" not in rl.predict(**CASE).values


def test_a_prediction_at_a_site_is_accounted_there() -> None:
    there = rl.predict(**CASE, site="sweden")
    assert rl.impact(there).account.place.name == "sweden"
    with pytest.raises(rl.RidgelineError, match="accounted after it"):
        rl.simulate(**{k: v for k, v in CASE.items() if k != "concurrency"}, arrivals="poisson(1/s)", site="sweden")


def test_contracts_give_a_market_based_number_beside_the_location_based_one() -> None:
    arguments = ["impact", "--energy", "12kWh", "--during", "3h", "--on", "8x h100-sxm", "--grid", "DE", "--pue", "1.2"]
    bought = [*arguments, "--contract", "0.6", "--residual", "700 gCO2/kWh"]
    plain, told = (json.loads(RUNNER.invoke(app, [*words, "--json"]).stdout) for words in (arguments, bought))
    assert plain["market_kg"] is None
    assert told["operational_kg"] == plain["operational_kg"]
    assert told["market_kg"]["value"] == pytest.approx(told["energy_j"]["site"] / KWH * 0.4 * 0.7)
    assert "market-based, 60% under contract" in RUNNER.invoke(app, bought).stdout
    with pytest.raises(SpecError, match="cover a share"):
        rl.impact(energy="12 kWh", duration="3h", on="h100-sxm", grid="DE", pue=1.2, residual="700 gCO2/kWh")
