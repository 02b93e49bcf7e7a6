"""`ridgeline simulate`: what happens under load, over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ridgeline.api.tables.columns import FLEETS, LOADS, TRAINING_RUNS
from ridgeline.apps.cli.flags import Request, show, task_command
from ridgeline.apps.cli.predict import PlanOption
from ridgeline.apps.cli.progress import progress, rows_progress

app = typer.Typer(
    help="What happens under load, over time, with queues, failures and policies?",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EXAMPLES = """Examples:

  ridgeline simulate serving --model meta-llama/Llama-3.1-70B --on "8x h100-sxm" --tp 8 --trace conv.parquet --rate 8/s

  ridgeline simulate serving --model Qwen/Qwen3-32B --on "4x h200-sxm" --arrivals "poisson(4/s)" --prompt 2000 \\
    --output "lognormal(mean=300, sigma=0.6)" --ttft 1s --tpot 40ms --router least-loaded --report run.html

  ridgeline simulate serving --model meta-llama/Llama-3.1-8B --on h100-sxm --isl 1024 --osl 256 --concurrency 64 --json

  ridgeline simulate serving --cases loads.csv --out results.parquet
"""

ReportOption = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="write a page with plots: .html")]
TimelineOption = Annotated[
    Path | None,
    typer.Option("--timeline", metavar="FILE", help="write requests, runs and windows: .parquet, .csv or .duckdb"),
]
PerfettoOption = Annotated[
    Path | None, typer.Option("--perfetto", metavar="FILE", help="write a trace for ui.perfetto.dev: .json")
]
UntilOption = Annotated[str, typer.Option("--until", metavar="TIME", help="end after so much simulated time")]
SiteOption = Annotated[
    str, typer.Option("--site", metavar="NAME", help="account the run there too: energy, carbon, water, money")
]
EngineOption = Annotated[
    str, typer.Option("--engine", metavar="auto|python|compiled", help="how it is played; the results are the same")
]
PluginsOption = Annotated[bool, typer.Option("--plugins/--no-plugins", help="policies of installed distributions")]


@app.callback()
def simulate() -> None:
    """Play a system over time."""


def _table(cases: str, out: str, own: Mapping[str, Any]) -> None:
    """Simulate a table, with a bar of its rows. Exit code 3 if no row could be simulated."""
    from ridgeline.api.simulations.simulate_table import simulate_file

    with rows_progress(f"simulate serving: {cases}") as told:
        how = {name: own[name] for name in ("engine", "plugins")}
        good, bad = simulate_file(cases, out or "-", progress=told, **how)
    typer.echo(f"{good:,} rows simulated, {bad:,} with an error", err=True)
    if good == 0:
        raise typer.Exit(3)


@app.command("serving", epilog=EXAMPLES)
@task_command("serving", more=(*LOADS, *FLEETS), table=_table)
def serving(
    request: Request,
    *,
    plan: PlanOption = "",
    until: UntilOption = "",
    report: ReportOption = None,
    timeline: TimelineOption = None,
    perfetto: PerfettoOption = None,
    engine: EngineOption = "auto",
    plugins: PluginsOption = True,
) -> None:
    """A fleet of engines serves requests one by one: latencies, goodput, queues, memory, power, cost, and why."""
    from ridgeline.api.simulations.simulate import simulate as play

    with progress("simulate serving", request.json) as told:
        how: dict[str, Any] = {"until": until, "engine": engine, "plugins": plugins, "progress": told}
        simulated = play("serving", **how, **request.arguments(plan))
    request.tell(simulated)
    for path, write in (
        (report, simulated.write_page),
        (timeline, simulated.write_timeline),
        (perfetto, simulated.write_perfetto),
    ):
        if path is not None:
            typer.echo(f"wrote {write(path)}", err=True)


TRAINING_EXAMPLES = """Examples:

  ridgeline simulate training --model meta-llama/Llama-3.1-405B --on "16384x h100-sxm" --tp 8 --pp 16 --seq 8192 \\
    --global-batch 2048 --tokens 15T --spares 16

  ridgeline simulate training --model meta-llama/Llama-3.1-8B --on "512x h100-sxm" --seq 8192 --global-batch 512 \\
    --duration "30 d" --checkpoint sync --storage "100 GB/s" --json

  ridgeline simulate training --model meta-llama/Llama-3.1-8B --on "512x h100-sxm" --seq 8192 --global-batch 512 \\
    --tokens 1T --short shrink --site sweden
"""


@app.command("training", epilog=TRAINING_EXAMPLES)
@task_command("training", tables=False, more=TRAINING_RUNS)
def training(request: Request, *, site: SiteOption = "", perfetto: PerfettoOption = None) -> None:
    """A training run over weeks fails, checkpoints and goes on: when it ends, at what cost, and with what loss."""
    from ridgeline.api.impacts.impact import impact
    from ridgeline.api.training.simulate_training import simulate_training

    arguments = request.arguments()
    arguments.pop("plan")
    simulated = simulate_training(**arguments)
    accounted = impact(simulated, site=site) if site else None
    request.tell(simulated, **({"impact": accounted.to_dict()} if accounted else {}))
    if accounted is not None and not request.json:
        show(accounted)
    if perfetto is not None:
        typer.echo(f"wrote {simulated.write_perfetto(perfetto)}", err=True)
