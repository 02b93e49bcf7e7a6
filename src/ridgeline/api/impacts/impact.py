"""`rl.impact`: what a prediction, a simulation, or plain energy costs the world and its owner at a site."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.api.impacts.power_trace import PowerTrace, read_power
from ridgeline.api.predictions.predict import Prediction
from ridgeline.api.simulations.simulate import Simulated
from ridgeline.api.training.simulate_training import SimulatedTraining
from ridgeline.core import units
from ridgeline.core.errors import DomainError, SpecError
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import Chip
from ridgeline.hardware.machine import machine
from ridgeline.hardware.topology import Machine, Node
from ridgeline.impact.account import Account, Place, account
from ridgeline.impact.carbon import Purchase
from ridgeline.impact.carbon import grid as grid_of
from ridgeline.impact.facility import overhead
from ridgeline.impact.hourly import Hourly, read_hourly
from ridgeline.impact.metrics import J_PER_KWH, codecarbon_csv, intelligence_per_watt, software_carbon_intensity_kg
from ridgeline.impact.money import read_prices
from ridgeline.impact.quantity import Quantity
from ridgeline.impact.sheets import fact
from ridgeline.serving.record.played import runs_kept
from ridgeline.serving.record.series import edges_of, windows_of

Source = Prediction | Simulated | SimulatedTraining | PowerTrace

WINDOWS, SHORT_WINDOW_S = 10_000, 300.0
"""Most windows of a run that meet the hours of a grid, and their width in shorter runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is accounted: energy and time of chips, and how much work they did.

    Attributes:
        what: in words.
        unit: of the work, as "request"; "" if there is none.
        count: of that work.
        tokens: generated or trained; 0 if unknown.
        duration_s: of the job.
        phases: share of the energy by phase.
    """

    what: str
    machine: Machine
    chip_j: float
    chip_s: float
    duration_s: float
    unit: str = ""
    count: float = 1.0
    tokens: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """The account of a job, and figures that people compare.

    `metrics` are in the units of their names, each with its range.
    """

    job: Job
    account: Account
    metrics: Mapping[str, Quantity]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        a, place = self.account, self.account.place
        plain = {
            "operational_kg": a.operational_kg.to_dict(),
            "market_kg": None if a.market_kg is None else a.market_kg.to_dict(),
            "embodied_kg": _dicts(a.embodied_kg),
            "water_l": _dicts(a.water_l),
            "money_usd": _dicts(a.money_usd),
            "materials_kg": _dicts(a.materials_kg),
        }
        where = {"site": place.name, "grid": place.grid.name, "pue": place.pue, **place.intensity.to_dict()}
        return {
            "verb": "impact",
            "job": {"what": self.job.what, "unit": self.job.unit, "count": self.job.count, "tokens": self.job.tokens},
            "place": where,
            "energy_j": dict(a.energy_j),
            "parts_j": dict(a.parts_j),
            "phases": dict(a.phases),
            **plain,
            "metrics": _dicts(self.metrics),
            "sources": dict(place.grid.sources),
            "notes": list(a.notes),
        }

    def codecarbon(self) -> str:
        """The row of CodeCarbon's emissions.csv; it has no time stamp, since nothing was measured."""
        a, hours = self.account, self.job.duration_s / 3600.0
        kwh = {name: joules / J_PER_KWH for name, joules in a.parts_j.items()}
        return codecarbon_csv(
            {
                "project_name": "ridgeline",
                "duration": self.job.duration_s,
                "emissions": a.operational_kg.value,
                "emissions_rate": a.operational_kg.value / self.job.duration_s,
                "cpu_power": 1e3 * kwh["processors"] / hours,
                "gpu_power": 1e3 * kwh["chips"] / hours,
                "ram_power": 1e3 * kwh["memory"] / hours,
                "cpu_energy": kwh["processors"],
                "gpu_energy": kwh["chips"],
                "ram_energy": kwh["memory"],
                "energy_consumed": a.energy_j["site"] / J_PER_KWH,
                "country_name": a.place.grid.title,
                "country_iso_code": a.place.grid.name,
                "gpu_count": self.job.machine.count,
                "gpu_model": self.job.machine.chip.title,
                "tracking_mode": "machine",
                "on_cloud": "N",
                "pue": a.place.pue,
            }
        )

    def __rich__(self) -> Any:
        """The tables that a terminal shows."""
        from ridgeline.api.impacts.impact_view import impact_view

        return impact_view(self)

    def __str__(self) -> str:
        """The same as plain text."""
        from ridgeline.api.impacts.impact_view import plain

        return plain(self)


def impact(
    source: Source | str | os.PathLike[str] | None = None,
    *,
    on: str = "",
    energy: str | float = "",
    duration: str | float = "",
    site: str = "",
    grid: str = "",
    pue: float | None = None,
    cooling: str = "",
    temperature_c: float | None = None,
    humidity_frac: float = 0.5,
    hourly: str | os.PathLike[str] = "",
    clock: str = "",
    interpolate: bool = False,
    contract: float | None = None,
    contract_carbon: str | float = 0.0,
    residual: str | float = "",
    prices: str | os.PathLike[str] = "",
    rented: bool = False,
    spot: bool = False,
    lifetime: str | float = "",
    utilisation: float | None = None,
    accuracy_frac: float | None = None,
) -> Impact:
    """The account of a job at a site.

    Args:
        source: a prediction (accounted per request, or per million tokens of training), a simulation of serving or of
            training (the whole run), or a table of power over time; none if `energy` is given.
        on: machines, as "8x h100-sxm"; needed with `energy` and tables of power.
        energy: of all chips, as "12 kWh".
        duration: that the energy took.
        site: of the catalogue.
        grid: a region, instead of the site's.
        pue: instead of the site's.
        cooling: a kind of cooling, which gives PUE and on-site water in outdoor air.
        temperature_c: of that air, degrees Celsius.
        humidity_frac: of that air, relative.
        hourly: a table of the grid's hours instead of its yearly mean.
        clock: time zone of its hours, where they have no offset.
        interpolate: fill gaps in it.
        contract: share of the electricity under contracts, for a market-based number beside the location-based one.
        contract_carbon: emissions that their certificates state, as "0 gCO2/kWh".
        residual: emissions of the market's residual mix, for the rest; the grid's by default.
        prices: a price card, with dates and sources.
        rented: the machine is rented, not owned.
        spot: it is rented at the spot price: the card's, or the rent with the usual discount.
        lifetime: over which hardware is written off.
        utilisation: share of the lifetime in use.
        accuracy_frac: of the model at its task, for intelligence per watt.
    Raises:
        UnknownNameError: an unknown site, region or kind of cooling, with the nearest names.
        DomainError, SpecError, FileFormatError: input that cannot be.
    """
    job = job_of(source, on=on, energy=energy, duration=duration)
    if isinstance(source, Prediction) and not site:
        site = str(source.case.get("site", ""))
    card = dict(read_prices(prices).values) if prices else {}
    series = read_hourly(hourly, zone=grid or _region(site), clock=clock, interpolate=interpolate) if hourly else None
    facility_pue, water = _facility(site, pue, cooling, temperature_c, humidity_frac)
    place = _place(site, grid, facility_pue, water, _intensity(series, source), card)
    place = replace(place, purchase=_purchase(contract, contract_carbon, residual))
    node, chip = _home(job.machine), job.machine.chip
    rent = _rent(chip, card, spot=spot) if rented or spot else None
    found = account(
        chip_j=job.chip_j,
        chip_s=job.chip_s,
        chip=chip,
        node=node,
        place=place,
        lifetime_s=units.parse(lifetime, "s", at="lifetime", bare_ok=True) if lifetime != "" else None,
        utilisation=utilisation,
        rent_usd_per_chip_s=rent,
        server_usd=card.get("server"),
        usd_per_kg=card.get("carbon", 0.0),
        usd_per_l=card.get("water", 0.0),
        phases=job.phases,
    )
    return Impact(job=job, account=found, metrics=_metrics(job, found, accuracy_frac))


def _purchase(contract: float | None, contract_carbon: str | float, residual: str | float) -> Purchase | None:
    """How electricity is bought, if that is told."""
    if contract is None:
        if residual != "" or contract_carbon not in ("", 0.0):
            raise SpecError("contracts cover a share", at="contract", fix="give it, 0 if there are none")
        return None
    stated, rest = (
        None if text == "" else units.parse(text, "kg/j", at=name, bare_ok=True)
        for name, text in (("contract_carbon", contract_carbon), ("residual", residual))
    )
    return Purchase(contract_frac=contract, contract_kg_per_j=stated or 0.0, residual_kg_per_j=rest)


def _rent(chip: Chip, card: Mapping[str, float], *, spot: bool) -> float:
    """USD per chip and second."""
    if spot and "spot" in card:
        return card["spot"]
    rent = card.get("rent", chip.rent_usd_per_s)
    if rent is None:
        raise SpecError(f"no rent of {chip.name} is known", at="rented", fix="give a price card with `rent`")
    return rent * fact("money", "spot_share").value if spot else rent


def job_of(
    source: Source | str | os.PathLike[str] | None, *, on: str, energy: str | float, duration: str | float
) -> Job:
    """What is to be accounted. Raises DomainError, SpecError: nothing, or two things at once."""
    if (source is None) == (energy == ""):
        raise SpecError("give a prediction, a simulation, a table of power, or an energy: one of them", at="source")
    if isinstance(source, Prediction):
        return _of_prediction(source)
    if isinstance(source, Simulated):
        return _of_simulation(source)
    if isinstance(source, SimulatedTraining):
        return _of_training(source)
    if not on:
        raise SpecError("energy needs the machines that it went into", at="on", fix='as on="8x h100-sxm"')
    machines = machine(on, at="on")
    if source is None:
        joules = units.parse(energy, "j", at="energy", bare_ok=True)
        lasting = units.parse(duration, "s", at="duration", bare_ok=True) if duration != "" else math.nan
        if not (joules >= 0 and lasting > 0):
            raise DomainError("energy is >= 0 and needs its duration", at="duration", got=duration, fix='as "2h"')
        return Job(
            what=f"{units.si(joules, 'J')} on {machines.name}",
            machine=machines,
            chip_j=joules,
            chip_s=machines.count * lasting,
            duration_s=lasting,
        )
    trace = source if isinstance(source, PowerTrace) else read_power(source)
    return Job(
        what=f"power of {trace.name} on {machines.name}",
        machine=machines,
        chip_j=trace.energy_j,
        chip_s=machines.count * trace.duration_s,
        duration_s=trace.duration_s,
    )


def _of_prediction(prediction: Prediction) -> Job:
    values, case = prediction.values, prediction.case
    if prediction.task == "serving":
        chips, rate = float(values["chips"]), float(values["request_per_s"])
        watts = float(values["power_w_per_chip"])
        return Job(
            what=f"{case['isl']:g} + {case['osl']:g} tokens of {case['model']} on {chips:g}x {case['chip']}",
            machine=machine(f"{max(round(chips), 1)}x {case['chip']}"),
            chip_j=watts * chips / rate,
            chip_s=chips / rate,
            duration_s=1.0 / rate,
            unit="request",
            tokens=float(values["output_tokens_per_s"]) / rate,
            phases=_phases(prediction, chips),
        )
    if prediction.task == "training":
        rate, watts = float(values["tokens_per_s_per_chip"]), float(values["power_w_per_chip"])
        return Job(
            what=f"a million tokens of training {case.get('model')} on {case['chip']}",
            machine=machine(str(case["chip"])),
            chip_j=1e6 * watts / rate,
            chip_s=1e6 / rate,
            duration_s=1e6 / rate,
            unit="1M tokens",
            tokens=1e6,
        )
    raise SpecError(f"predictions of {prediction.task} have no account", at="source", fix="serving or training")


def _phases(prediction: Prediction, chips: float) -> dict[str, float]:
    """Energy of prompts and of decoding by the time that each takes of the chips."""
    steps = {phase.name: float(np.asarray(phase.step.time_s).flat[0]) + phase.host_s for phase in prediction.phases}
    if not {"prefill", "decode"} <= steps.keys():
        return {}
    batch = max(float(prediction.values["batch"]), 1.0)
    decode = max(float(prediction.case["osl"]) - 1.0, 0.0) * steps["decode"] / batch
    both = steps["prefill"] + decode
    return {"prefill": steps["prefill"] / both, "decode": decode / both}


def _of_simulation(run: Simulated) -> Job:
    whole, lasting = run.answers.whole, run.played.end_s
    kinds = {str(pool["chip"]) for pool in run.pools.values()} or {str(run.case["chip"])}
    if len(kinds) > 1:
        raise SpecError(
            "pools of different chips have no common account", at="source", got=", ".join(sorted(kinds)), fix="split it"
        )
    (chip,) = kinds
    return Job(
        what=run.title,
        machine=machine(f"{max(round(whole.chips), 1)}x {chip}"),
        chip_j=float(whole.energy_j),
        chip_s=float(whole.chips) * lasting,
        duration_s=lasting,
        unit="request",
        count=max(float(len(run.traffic)), 1.0),
        tokens=float(whole.energy_j / whole.energy_j_per_output_token) if whole.energy_j_per_output_token > 0 else 0.0,
    )


def _of_training(run: SimulatedTraining) -> Job:
    """The whole run, spare nodes included, by the mean of the times that it was played."""
    paid, lasting = run.job.chips + run.job.spares * run.job.node_chips, run.wall_s.value
    told = f"{units.count(float(run.case['tokens']))} tokens of training {run.case['model']}"
    return Job(
        what=f"{told} on {run.job.chips:,}x {run.case['chip']}",
        machine=machine(f"{paid}x {run.case['chip']}"),
        chip_j=run.energy_j,
        chip_s=paid * lasting,
        duration_s=lasting,
        unit="run",
        tokens=float(run.case["tokens"]),
        phases=dict(run.spent_j),
    )


def _home(found: Machine) -> Node:
    return found.node if found.node is not None else catalogue.default_node(found.chip)


def _region(site: str) -> str:
    return catalogue.site(site).region.partition("-")[0] if site else ""


def _facility(
    site: str, pue: float | None, cooling: str, temperature_c: float | None, humidity_frac: float
) -> tuple[float, float | None]:
    """PUE and on-site water: as given, from the weather, or the site's."""
    if cooling:
        if temperature_c is None:
            raise SpecError("a kind of cooling needs the weather", at="temperature", fix="give degrees Celsius")
        air = overhead(cooling, temperature_c, humidity_frac)
        return (float(air.pue) if pue is None else pue), float(air.water_l_per_j)
    water = catalogue.site(site).water_l_per_j if site else None
    if pue is not None:
        return pue, water
    if not site:
        raise SpecError("a place needs its overhead", at="pue", fix="give a site, a PUE, or a kind of cooling")
    return catalogue.site(site).pue, water


def _place(
    site: str, grid: str, pue: float, water: float | None, intensity: float | None, card: Mapping[str, float]
) -> Place:
    if not site and not grid:
        raise SpecError("a place needs its electricity", at="site", fix="give a site or a grid region")
    known = catalogue.site(site) if site else None
    carbon = known.carbon_kg_per_j if known and not grid else None
    price = known.electricity_usd_per_j if known else None
    return Place(
        name=known.name if known else grid_of(grid).title,
        grid=grid_of(grid or _region(site)),
        pue=pue,
        water_l_per_j=water,
        carbon_kg_per_j=carbon if intensity is None else intensity,
        usd_per_j=card.get("electricity", price),
    )


def _intensity(series: Hourly | None, source: object) -> float | None:
    """Mean of the hours, weighed by the energy of a run or a trace, which start with the series."""
    if series is None:
        return None
    if isinstance(source, Simulated):
        return _weighed(source, series)
    if isinstance(source, str | os.PathLike):
        source = read_power(Path(source))
    if isinstance(source, PowerTrace):
        return source.mean_of(series)
    return float(series.values.mean())


def _weighed(run: Simulated, series: Hourly) -> float:
    """Mean of the hours over a run, by the energy of its windows; by time where its runs were not kept."""
    end_s = run.played.end_s
    width_s = max(end_s / WINDOWS, min(SHORT_WINDOW_S, end_s))
    if runs_kept(run.played):
        found = windows_of(run.played, width_s=width_s, powers=run.powers)
        start, width, energy = (found[name] for name in ("start_s", "width_s", "energy_j"))
    else:
        edges = edges_of(end_s, width_s)
        start, width, energy = edges[:-1], np.diff(edges), np.diff(edges)
    values = series.at(start + width / 2.0)
    return float((values * energy).sum() / energy.sum())


def _metrics(job: Job, a: Account, accuracy_frac: float | None) -> dict[str, Quantity]:
    chips, site = a.energy_j["chips"], a.energy_j["site"]
    mean_w = site / job.duration_s
    found: dict[str, Quantity] = {}

    def add(name: str, value: float) -> None:
        found[name] = Quantity(value, value, value)

    if job.unit == "request":
        per = 1.0 / job.count
        add("chip_j_per_request", chips * per)
        add("site_j_per_request", site * per)
        found["gco2e_per_request"] = (
            software_carbon_intensity_kg(a.operational_kg, a.embodied_total_kg, job.count) * 1e3
        )
        found["water_ml_per_request"] = a.water_total_l * (1e3 * per)
        found["usd_per_request"] = a.cost_usd * per
    if job.tokens > 0:
        add("chip_j_per_token", chips / job.tokens)
        add("site_j_per_token", site / job.tokens)
        add("tokens_per_s_per_w", job.tokens / site)
        found["gco2e_per_1m_tokens"] = a.carbon_kg * (1e9 / job.tokens)
        found["usd_per_1m_tokens"] = a.cost_usd * (1e6 / job.tokens)
        found["water_l_per_page"] = a.water_total_l * (1.0 / job.tokens) * fact("metrics", "page_tokens").quantity
    if accuracy_frac is not None:
        add("intelligence_per_w", intelligence_per_watt(accuracy_frac, mean_w))
    return found


def _dicts(parts: Mapping[str, Quantity] | None) -> dict[str, dict[str, float]] | None:
    return None if parts is None else {name: part.to_dict() for name, part in parts.items()}
