"""`ridgeline impact`: energy from the chip to the meter, carbon, water, money and materials of a request or a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ridgeline.apps.cli.flags import Request, task_command
from ridgeline.apps.cli.predict import PlanOption

EXAMPLES = """Examples:

  ridgeline impact --model meta-llama/Llama-3.1-70B --on "4x h100-sxm" --tp 4 --isl 100 --osl 500 --concurrency 64 \\
    --site sweden

  ridgeline impact --energy 12kWh --during 3h --on "8x h100-sxm" --grid FR --pue 1.2 --json

  ridgeline impact --power watts.csv --on dgx-h100 --site us-east --hourly pjm_2025.csv
"""

GridOption = Annotated[str, typer.Option("--grid", metavar="REGION", help="a country's electricity, as FR or France")]
PueOption = Annotated[float | None, typer.Option("--pue", metavar="N", help="energy at the meter over IT energy")]
CoolingOption = Annotated[str, typer.Option("--cooling", metavar="KIND", help="PUE and water from the weather")]
TemperatureOption = Annotated[float | None, typer.Option("--temperature", metavar="C", help="outdoor air, Celsius")]
HumidityOption = Annotated[float, typer.Option("--humidity", metavar="SHARE", help="relative, of outdoor air")]
EnergyOption = Annotated[str, typer.Option("--energy", metavar="ENERGY", help="of all chips, instead of a case")]
DuringOption = Annotated[str, typer.Option("--during", metavar="TIME", help="how long the energy took")]
PowerOption = Annotated[
    Path | None, typer.Option("--power", metavar="FILE", help="CSV of time_s and power_w of all chips")
]
HourlyOption = Annotated[Path | None, typer.Option("--hourly", metavar="FILE", help="CSV of the grid's hours")]
ClockOption = Annotated[str, typer.Option("--clock", metavar="ZONE", help="time zone of hours without an offset")]
FillOption = Annotated[bool, typer.Option("--interpolate", help="fill gaps of the hours between their neighbours")]
ContractOption = Annotated[
    float | None, typer.Option("--contract", metavar="SHARE", help="of the electricity under contracts (market-based)")
]
ContractCarbonOption = Annotated[str, typer.Option("--contract-carbon", metavar="RATE", help="of those [0 gCO2/kWh]")]
ResidualOption = Annotated[str, typer.Option("--residual", metavar="RATE", help="of the residual mix [the grid's]")]
PricesOption = Annotated[Path | None, typer.Option("--prices", metavar="FILE", help="a price card: YAML")]
RentedOption = Annotated[bool, typer.Option("--rented", help="count rent instead of owning")]
SpotOption = Annotated[bool, typer.Option("--spot", help="count rent at the spot price")]
LifetimeOption = Annotated[str, typer.Option("--lifetime", metavar="TIME", help="over which hardware is written off")]
UseOption = Annotated[float | None, typer.Option("--utilisation", metavar="SHARE", help="of the lifetime in use")]
AccuracyOption = Annotated[float | None, typer.Option("--accuracy", metavar="SHARE", help="for intelligence per watt")]
CodecarbonOption = Annotated[Path | None, typer.Option("--codecarbon", metavar="FILE", help="write CodeCarbon's CSV")]
GridsOption = Annotated[bool, typer.Option("--grids", help="list the regions and end")]


@task_command("serving", tables=False)
def impact(
    request: Request,
    *,
    plan: PlanOption = "",
    energy: EnergyOption = "",
    during: DuringOption = "",
    power: PowerOption = None,
    grid: GridOption = "",
    pue: PueOption = None,
    cooling: CoolingOption = "",
    temperature: TemperatureOption = None,
    humidity: HumidityOption = 0.5,
    hourly: HourlyOption = None,
    clock: ClockOption = "",
    interpolate: FillOption = False,
    contract: ContractOption = None,
    contract_carbon: ContractCarbonOption = "",
    residual: ResidualOption = "",
    prices: PricesOption = None,
    rented: RentedOption = False,
    spot: SpotOption = False,
    lifetime: LifetimeOption = "",
    utilisation: UseOption = None,
    accuracy: AccuracyOption = None,
    codecarbon: CodecarbonOption = None,
    grids: GridsOption = False,
) -> None:
    """Account a served request, an energy, or a table of power, by scope and phase; ranges where sources have them."""
    from ridgeline.api.impacts.impact import impact as account
    from ridgeline.core.files import writable_target, write_atomic

    if grids:
        _list_grids()
        return
    if codecarbon is not None:
        writable_target(codecarbon)
    given = bool(energy) or power is not None
    found = account(
        power if power is not None else None if energy else request.predict(plan),
        on=request.on if given else "",
        energy=energy,
        duration=during,
        site=str(request.case.get("site", "")),
        grid=grid,
        pue=pue,
        cooling=cooling,
        temperature_c=temperature,
        humidity_frac=humidity,
        hourly=hourly or "",
        clock=clock,
        interpolate=interpolate,
        contract=contract,
        contract_carbon=contract_carbon,
        residual=residual,
        prices=prices or "",
        rented=rented,
        spot=spot,
        lifetime=lifetime,
        utilisation=utilisation,
        accuracy_frac=accuracy,
    )
    if codecarbon is not None:
        write_atomic(codecarbon, found.codecarbon())
    request.tell(found)


def _list_grids() -> None:
    from ridgeline.impact.carbon import grid as grid_of
    from ridgeline.impact.carbon import grid_names

    for name in grid_names().canonical:
        found = grid_of(name)
        typer.echo(f"{name:<6} {found.carbon_kg_per_j.value * 3.6e9:6.1f} gCO2e/kWh  {found.year}  {found.title}")
