"""`ridgeline shift`: a load that may wait or move, at the hours and places where it emits or costs least."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ridgeline.apps.cli.flags import JsonOption, tell
from ridgeline.apps.cli.impact import ClockOption, FillOption, PueOption

EXAMPLES = """Examples:

  ridgeline shift --energy 40kWh --most 10kW --at FR=hours.csv --pue 1.2

  ridgeline shift --energy 2MWh --most 400kW --at DE=de.csv --at sweden --within 24h --pue 1.2 --data 5TB

  ridgeline shift --energy 2MWh --most 400kW --at us-east=pjm.csv --least money --unit USD/MWh --whole --json
"""

EnergyOption = Annotated[str, typer.Option("--energy", metavar="ENERGY", help="of the load's machines")]
MostOption = Annotated[str, typer.Option("--most", metavar="POWER", help="most power of its machines at a place")]
AtOption = Annotated[
    list[str], typer.Option("--at", metavar="PLACE[=FILE]", help="site or region, and a CSV of its hours; repeat it")
]
LeastOption = Annotated[str, typer.Option("--least", metavar="carbon|money", help="what is to be least")]
WithinOption = Annotated[str, typer.Option("--within", metavar="TIME", help="in which it must have ended")]
WholeOption = Annotated[bool, typer.Option("--whole", help="in one piece, at one place")]
DataOption = Annotated[str, typer.Option("--data", metavar="SIZE", help="that moves with it to another place")]
PathOption = Annotated[str, typer.Option("--path", metavar="KIND", help="of network: fixed, wifi, 4g, 5g, edge")]
ColumnOption = Annotated[str, typer.Option("--column", metavar="NAME", help="of values in the tables")]
UnitOption = Annotated[str, typer.Option("--unit", metavar="UNIT", help="of these values [gCO2/kWh or USD/kWh]")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="write the schedule as CSV")]


def shift(
    *,
    energy: EnergyOption,
    most: MostOption,
    at: AtOption,
    least: LeastOption = "carbon",
    within: WithinOption = "",
    whole: WholeOption = False,
    pue: PueOption = None,
    data: DataOption = "",
    path: PathOption = "fixed",
    clock: ClockOption = "",
    column: ColumnOption = "",
    unit: UnitOption = "",
    interpolate: FillOption = False,
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Schedule a load over hours and places; the first place is where it would run at once."""
    from ridgeline.api.impacts.shift import shift as schedule
    from ridgeline.core.files import writable_target, write_atomic

    if out is not None:
        writable_target(out)
    found = schedule(
        energy,
        at=at,
        most=most,
        least=least,
        within=within,
        whole=whole,
        pue=pue,
        data=data,
        path=path,
        clock=clock,
        column=column,
        unit=unit,
        interpolate=interpolate,
    )
    if out is not None:
        write_atomic(out, found.to_csv())
    tell(found, json=json)
