"""`ridgeline sweep`: every point of a file of axes, with a journal that survives any death."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ridgeline.apps.cli.progress import counting

EXAMPLES = """Examples:

  ridgeline sweep examples/sweep.yaml

  ridgeline sweep sweep.yaml --workers 8 --out results.parquet

  ridgeline sweep sweep.yaml --engine ray --address 10.0.0.1:6379 --fallback local --json

Stopped or killed, the same command goes on where it was. Exit code 4: finished, but some points have an error (column
`error`); 3: all have one.
"""
FINISHED_WITH_FAILURES, ALL_FAILED, INTERRUPTED = 4, 3, 130


def sweep(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="task, axes and output")],
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help=".parquet, .csv or .duckdb, instead of the file's own")
    ] = "",
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="processes; 0: this one, or all of the cluster's processors")
    ] = 0,
    engine: Annotated[str, typer.Option("--engine", metavar="local|ray", help="who does it; same results")] = "local",
    address: Annotated[str, typer.Option("--address", metavar="HOST:PORT", help="of a Ray cluster, or auto")] = "",
    fallback: Annotated[
        str, typer.Option("--fallback", metavar="local", help="go on here if the cluster does not answer")
    ] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="forget what earlier runs have done")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="evaluate points with an error again")] = False,
    json: Annotated[bool, typer.Option("--json", help="print a summary as JSON")] = False,
) -> None:
    """Evaluate every point of a sweep file once, here or on a cluster, into one table."""
    from ridgeline.api.sweeps.sweep import sweep as start
    from ridgeline.apps.cli.flags import tell
    from ridgeline.studies.frame.swept import VERBS

    try:
        with counting(f"sweep {spec.name}", quiet=json) as told:
            swept = start(
                spec,
                out=out,
                workers=workers,
                engine=engine,
                address=address,
                fallback=fallback,
                fresh=fresh,
                retry=retry,
                progress=told,
                verbs=VERBS,
            )
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on where it was", err=True)
        if engine == "ray":
            sys.stderr.flush()
            os._exit(INTERRUPTED)  # the exit handlers of Ray wait for its servers, which end by themselves
        raise typer.Exit(INTERRUPTED) from None
    tell(swept, json=json)
    if swept.summary.failed:
        raise typer.Exit(ALL_FAILED if swept.summary.failed == swept.summary.points else FINISHED_WITH_FAILURES)
