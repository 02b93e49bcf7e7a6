"""`ridgeline calibrate`: the numbers of a chip from measurements of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ridgeline.costs.measurements import SetAside

SHOWN = 10
"""Rows set aside that the screen names."""

EXAMPLES = """Examples:

  ridgeline calibrate measurements.parquet --chip h100-sxm

  ridgeline calibrate measurements.csv --chip l40s --out l40s.yaml

  ridgeline calibrate mine-attention_decode.parquet --chip l40s --out l40s-decode.yaml
"""


def calibrate(
    measurements: Annotated[Path, typer.Argument(help="a table of measured kernels: Parquet or CSV")],
    chip: Annotated[str, typer.Option("--chip", metavar="NAME", help="chip of the catalogue that was measured")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="where the YAML goes [default: CHIP.yaml]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the errors before and after as JSON")] = False,
) -> None:
    """Fit a chip's coefficients on a table of its kernels; write them with their provenance."""
    from ridgeline.costs.calibrate import calibrate_chip

    fitted = calibrate_chip(measurements, chip)
    files = fitted.write(out or Path(f"{chip}.yaml"))
    errors = fitted.errors
    if json:
        import json as encoder

        aside = [row.entry() for row in fitted.set_aside]
        told = {"chip": chip, "errors": errors, "set_aside": aside, "files": [str(file) for file in files]}
        typer.echo(encoder.dumps(told, indent=2))
    else:
        _print(chip, errors)
    _tell(fitted.set_aside)
    for file in files:
        typer.echo(f"wrote {file}", err=True)


def _tell(rows: Sequence[SetAside]) -> None:
    """Which rows no fit saw."""
    if rows:
        typer.echo(f"set aside {len(rows)} rows that are faster than the hardware allows", err=True)
    for row in rows[:SHOWN]:
        typer.echo(f"  {row.said}", err=True)
    if len(rows) > SHOWN:
        typer.echo("  and more; the file lists all under provenance", err=True)


def _print(chip: str, errors: object) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{chip}: error on shapes that the fit did not see",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column("kernels")
    for name in ("rows", "before", "physics", "with residuals"):
        table.add_column(name, justify="right")
    assert isinstance(errors, dict), "a fit says its errors by kernels"
    for label, scores in errors.items():
        medians = [_median(scores.get(stage)) for stage in ("datasheet", "physics", "calibrated")]
        rows = next((str(score["rows"]) for score in scores.values() if isinstance(score, dict)), "0")
        table.add_row(str(label), rows, *medians)
    Console(highlight=False).print(table)


def _median(score: object) -> str:
    return f"{score['median_pct']:.1f} %" if isinstance(score, dict) and "median_pct" in score else "-"
