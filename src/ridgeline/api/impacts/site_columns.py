"""What a table of deployments costs at the sites that its rows name: result columns beside those of the prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases, Problems
from ridgeline.core.errors import RidgelineError, SpecError
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import Chip
from ridgeline.hardware.machine import machine_in
from ridgeline.hardware.topology import Node
from ridgeline.impact.carbon import grid
from ridgeline.impact.embodied import server_embodied_carbon
from ridgeline.impact.quantity import total
from ridgeline.impact.scopes import server_power
from ridgeline.impact.sheets import fact

Column = NDArray[np.float64]

SITE_RESULTS = (
    "site_energy_j_per_output_token",
    "operational_carbon_kg_per_1m_output_tokens",
    "embodied_carbon_kg_per_1m_output_tokens",
    "water_l_per_1m_output_tokens",
)
"""Energy at the meter; carbon of the grid; the share of making the servers (NaN: die not published); water on site,
where the site publishes it, and of generation."""

MILLION = 1e6


def site_columns(cases: Cases, results: Mapping[str, Any], problems: Problems) -> dict[str, Column]:
    """The columns of SITE_RESULTS, NaN for rows without a site; unknown sites become problems of their rows."""
    columns = {name: np.full(cases.rows, np.nan) for name in SITE_RESULTS}
    names = ("site", "chip", "node")
    keys = np.stack([cases.labels(name).codes for name in names])
    for key in np.unique(keys[:, problems.ok], axis=1).T:
        rows = np.flatnonzero((keys == key[:, None]).all(axis=0) & problems.ok)
        site, chip, node = (str(cases.labels(name).values[code]) for name, code in zip(names, key, strict=True))
        if not site:
            continue
        try:
            found = _at(site, chip, node, {name: np.asarray(results[name], np.float64)[rows] for name in NEEDED})
        except RidgelineError as error:
            problems.flag(rows, error)
            continue
        for name, values in found.items():
            columns[name][rows] = values
    return columns


NEEDED = ("power_w_per_chip", "energy_j_per_output_token")


def _at(site: str, chip: str, node: str, of: Mapping[str, Column]) -> dict[str, Column]:
    """Columns of rows on one kind of machine at one site."""
    place, machine = catalogue.site(site), machine_in(chip, node, 1)
    home = machine.node if machine.node is not None else catalogue.default_node(machine.chip)
    power_w, token_j = of["power_w_per_chip"], of["energy_j_per_output_token"]
    chip_s = token_j / power_w
    rack_j = server_power(power_w, machine.chip, home).rack_total_w / home.chips * chip_s
    site_j = rack_j * place.pue
    water = grid(place.region.partition("-")[0]).water_l_per_j.value * site_j + (place.water_l_per_j or 0.0) * rack_j
    values = (site_j, site_j * place.carbon_kg_per_j * MILLION, chip_s * _made_kg(machine.chip, home) * MILLION)
    return dict(zip(SITE_RESULTS, (*values, water * MILLION), strict=True))


def _made_kg(chip: Chip, node: Node) -> float:
    """Carbon of making a server over its life in use, per chip and second; NaN where it is not known."""
    try:
        made = total(server_embodied_carbon(chip, node).values()).value
    except SpecError:
        return float("nan")
    return made / (node.chips * fact("money", "chip_lifetime", "s").value * fact("money", "utilisation").value)
