"""The `ridgeline` command. Each command is a module here and imports what it needs when it runs."""

from __future__ import annotations

import os
import sys

import typer

from ridgeline.apps.cli import (
    audit,
    bench,
    calibrate,
    capacity,
    catalogue,
    compare,
    deploy,
    emulate,
    impact,
    meter,
    plan,
    predict,
    query,
    row,
    search,
    shift,
    simulate,
    size,
    study,
    sweep,
    validate,
    web,
)

app = typer.Typer(
    name="ridgeline",
    help="Predict what AI workloads cost on computing hardware: latency, throughput, memory, power, energy, money.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)
app.add_typer(predict.app, name="predict")
app.add_typer(simulate.app, name="simulate")
app.command("plan", epilog=plan.EXAMPLES)(plan.plan)
app.command("size", epilog=size.EXAMPLES)(size.size)
app.command("capacity", epilog=capacity.EXAMPLES)(capacity.capacity)
app.command("impact", epilog=impact.EXAMPLES)(impact.impact)
app.command("row", epilog=row.EXAMPLES)(row.row)
app.command("shift", epilog=shift.EXAMPLES)(shift.shift)
app.command("meter", epilog=meter.EXAMPLES)(meter.meter)
app.command("sweep", epilog=sweep.EXAMPLES)(sweep.sweep)
app.command("query", epilog=query.EXAMPLES)(query.query)
app.command("bench", epilog=bench.EXAMPLES)(bench.bench)
app.command("calibrate", epilog=calibrate.EXAMPLES)(calibrate.calibrate)
app.command("catalogue", epilog=catalogue.EXAMPLES)(catalogue.catalogue)
app.command("emulate", epilog=emulate.EXAMPLES)(emulate.emulate)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("deploy", epilog=deploy.EXAMPLES)(deploy.deploy)
app.command("search", epilog=search.EXAMPLES)(search.search)
app.command("audit", epilog=audit.EXAMPLES)(audit.audit)
app.command("study", epilog=study.EXAMPLES)(study.study)
app.command("validate", epilog=validate.EXAMPLES)(validate.validate)
app.command("web", epilog=web.EXAMPLES)(web.web)


def _version(value: bool) -> None:
    if value:
        from ridgeline import __version__

        typer.echo(f"ridgeline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="print the version"),
) -> None:
    """Keep the options that every command shares."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: exit code 0 done, 2 bad input, 3 no row of a table could be evaluated, 1 our mistake."""
    from ridgeline.core.errors import RidgelineError

    try:
        app(args=arguments)
    except RidgelineError as error:
        typer.echo(error.screen(), err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if os.environ.get("RIDGELINE_DEBUG"):
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())
        typer.echo(f"error: a mistake of ours, not of yours\n  got  {what[:300]}", err=True)
        typer.echo("  fix  please report it with the command; RIDGELINE_DEBUG=1 shows where it happened", err=True)
        sys.exit(1)
