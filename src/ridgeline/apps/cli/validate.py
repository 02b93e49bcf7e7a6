"""`ridgeline validate`: predictions beside measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ridgeline.api.accuracy.validate import Points

EXAMPLES = """Examples:

  ridgeline validate --data measurements/ --kinds gemm,moe

  ridgeline validate --data my_chip.parquet --report errors.html

  ridgeline validate --data measurements/ --sample 2000 --baseline accuracy.json
"""


def validate(
    data: Annotated[
        str, typer.Option("--data", metavar="DIR|FILE", help="measured tables [default: $RIDGELINE_SHARED/data]")
    ] = "",
    kinds: Annotated[
        str, typer.Option("--kinds", metavar="KIND,...", help="gemm, attention_prefill, ..., power, systems, energy")
    ] = "",
    sample: Annotated[int, typer.Option("--sample", metavar="N", min=0, help="rows per kind; 0 is all")] = 0,
    shape_families: Annotated[
        bool | None,
        typer.Option(
            "--shape-families/--no-shape-families",
            help="refit without whole families of shapes too [default: when all rows are scored]",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="write a page with plots")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="write docs/accuracy.md")] = None,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="FILE", help="exit 3 when a median is worse than there")
    ] = None,
    write_baseline: Annotated[
        Path | None, typer.Option("--write-baseline", metavar="FILE", help="write the medians as a new baseline")
    ] = None,
) -> None:
    """Count, median, p90 and bias of the errors by kind, chip, format and size, in regimes that are never mixed."""
    import json as encoder

    from rich.console import Console

    from ridgeline.api.accuracy.accuracy import Accuracy, html_page
    from ridgeline.api.accuracy.accuracy_page import markdown_page
    from ridgeline.api.accuracy.shape_families import can_refit, validate_shape_families
    from ridgeline.api.accuracy.validate import baseline_of, data_folder, read_baseline, regressed, validate_kernels
    from ridgeline.core.files import writable_target, write_atomic

    folder = data_folder(data)
    for path in (report, markdown, write_baseline):
        if path is not None:
            writable_target(path)
    asked = tuple(kind.strip() for kind in kinds.split(",") if kind.strip())
    systems, energy = (not asked or name in asked for name in ("systems", "energy"))
    asked = tuple(kind for kind in asked if kind not in ("systems", "energy"))
    kernels = validate_kernels(folder, asked, sample) if asked or not kinds else []
    if shape_families if shape_families is not None else not sample and can_refit():
        kernels += validate_shape_families(folder, asked) if asked or not kinds else []
    found = Accuracy(kernels, _systems(folder) if systems else [], _energy(folder) if energy else [])
    if json:
        typer.echo(encoder.dumps(found.to_dict(), indent=2))
    elif markdown is None or report is None:
        Console(highlight=False).print(found)
    if report is not None:
        write_atomic(report, html_page(found))
    if markdown is not None:
        write_atomic(markdown, markdown_page(found))
    if write_baseline is not None:
        medians = baseline_of(found.points)
        write_atomic(write_baseline, encoder.dumps({"sample": sample, "medians": medians}, indent=1) + "\n")
    if baseline is not None and (worse := regressed(found.points, read_baseline(baseline))):
        for line in worse:
            typer.echo(line, err=True)
        raise typer.Exit(3)


def _systems(folder: Path) -> list[Points]:
    from ridgeline.api.accuracy.endtoend import validate_systems, validate_vision

    return [*validate_systems(folder), *validate_vision(folder)] if folder.is_dir() else []


def _energy(folder: Path) -> list[Points]:
    from ridgeline.api.accuracy.energy_accuracy import validate_energy
    from ridgeline.api.accuracy.shape_families import can_refit

    return validate_energy(folder) if folder.is_dir() and can_refit() else []
