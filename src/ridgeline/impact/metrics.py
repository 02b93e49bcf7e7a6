"""Figures that people compare: SCI, intelligence per watt, tokens per second and watt; and CodeCarbon's table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from ridgeline.core.errors import DomainError
from ridgeline.impact.quantity import Quantity

CODECARBON = (
    "timestamp", "project_name", "run_id", "experiment_id", "duration", "emissions", "emissions_rate", "cpu_power",
    "gpu_power", "ram_power", "cpu_energy", "gpu_energy", "ram_energy", "energy_consumed", "country_name",
    "country_iso_code", "region", "cloud_provider", "cloud_region", "os", "python_version", "codecarbon_version",
    "cpu_count", "cpu_model", "gpu_count", "gpu_model", "longitude", "latitude", "ram_total_size", "tracking_mode",
    "on_cloud", "pue",
)  # fmt: skip
"""Columns of CodeCarbon's emissions.csv: s, kg, kg/s, W and kWh."""

J_PER_KWH = 3.6e6


def software_carbon_intensity_kg(operational: Quantity, embodied: Quantity, units_of_work: float) -> Quantity:
    """SCI = (O + M) per R, kg per functional unit (Green Software Foundation, SCI 1.0, ISO/IEC 21031:2024).

    Raises: DomainError: no unit of work.
    """
    if not units_of_work > 0:
        raise DomainError(
            "SCI needs units of work", at="units_of_work", got=units_of_work, fix="give requests or tokens"
        )
    return (operational + embodied) * (1.0 / units_of_work)


def intelligence_per_watt(accuracy_frac: float, power_w: float) -> float:
    """Task accuracy over mean power, 1/W (Saad-Falcon et al., Intelligence per Watt, arXiv 2511.07885).

    Raises: DomainError: an accuracy outside 0 to 1, or no power.
    """
    if not (0 <= accuracy_frac <= 1 and power_w > 0):
        raise DomainError(
            "accuracy is 0 to 1 and power above 0", at="accuracy", got=(accuracy_frac, power_w), fix="give a share"
        )
    return accuracy_frac / power_w


def codecarbon_csv(row: Mapping[str, object]) -> str:
    """One row of CodeCarbon's table with its head; columns that are not given are empty.

    Raises: DomainError: a column that the table does not have.
    """
    odd = sorted(set(row) - set(CODECARBON))
    if odd:
        raise DomainError("CodeCarbon has no such column", at=odd[0], fix=f"columns: {', '.join(CODECARBON)}")
    text = io.StringIO()
    writer = csv.DictWriter(text, CODECARBON, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerow(row)
    return text.getvalue()
