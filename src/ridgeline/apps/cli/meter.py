"""`ridgeline meter -- COMMAND`: what a command draws on this machine, beside what a case predicts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ridgeline.bench.sensors import Reading

EXAMPLES = """Examples:

  ridgeline meter -- python serve_benchmark.py

  ridgeline meter --case case.yaml --wall plug.csv --json -- vllm bench serve --model Qwen/Qwen3-8B
"""

CommandArgument = Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="what to run")]
CaseOption = Annotated[Path | None, typer.Option("--case", metavar="FILE", help="a serving case to predict beside it")]
WallOption = Annotated[Path | None, typer.Option("--wall", metavar="FILE", help="a wall meter's CSV: time_s, power_w")]
EveryOption = Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.001, help="between readings")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]


def meter(
    command: CommandArgument,
    case: CaseOption = None,
    wall: WallOption = None,
    every: EveryOption = 0.05,
    json: JsonOption = False,
) -> None:
    """Run a command; record boards (NVML, extra `meter`), processors (RAPL), a wall meter. Exits as it does."""
    import json as encoder

    from ridgeline.api.impacts.power_trace import read_power
    from ridgeline.bench.sensors import Reading, Sampler, nvml_sensors, rapl_sensors

    boards, no_boards = nvml_sensors()
    processors, no_processors = rapl_sensors()
    predicted = _predicted(case) if case is not None else {}
    with Sampler([*boards, *processors], every) as sampler:
        done = _run(command)
    readings = sampler.readings()
    if wall is not None:
        trace = read_power(wall)
        readings.append(
            Reading(
                name="wall",
                energy_j=trace.energy_j,
                mean_w=trace.energy_j / trace.duration_s,
                peak_w=float(trace.power_w.max()),
                samples=trace.time_s.size,
            )
        )
    notes = [note for note in (no_boards, no_processors) if note]
    if json:
        rows = [{name: getattr(one, name) for name in Reading.__dataclass_fields__} for one in readings]
        told = {"duration_s": sampler.duration_s, "exit_code": done, "readings": rows, "predicted": predicted}
        typer.echo(encoder.dumps({**told, "notes": notes}, indent=2))
    else:
        _show(readings, predicted, sampler.duration_s, notes)
    if done:
        raise typer.Exit(done)


def _run(command: list[str]) -> int:
    from ridgeline.core.errors import DomainError

    try:
        # The command is what the user typed after `--`; no shell reads it.
        return subprocess.run(command, check=False).returncode  # noqa: S603
    except OSError as error:
        raise DomainError(
            f"cannot run the command: {error.strerror}", at="COMMAND", got=command[0], fix="check its name"
        ) from error


def _predicted(path: Path) -> dict[str, float]:
    """Power of all boards and energy per token that a case predicts."""
    from ridgeline.api.predictions.predict import predict
    from ridgeline.core.files import load_yaml

    given: dict[str, Any] = dict(load_yaml(path).need(kind=dict))
    on, plan = str(given.pop("on", "")), str(given.pop("plan", ""))
    found = predict("serving", on=on, plan=plan, **given)
    watts, chips = float(found.values["power_w_per_chip"]), float(found.values["chips"])
    return {
        "power_w_per_chip": watts,
        "power_w": watts * chips,
        "energy_j_per_output_token": float(found.values["energy_j_per_output_token"]),
    }


def _show(readings: list[Reading], predicted: dict[str, float], duration_s: float, notes: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ridgeline.core import units

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("measured", "energy", "mean", "peak", "readings", "predicted mean"):
        table.add_column(name, justify="left" if name == "measured" else "right")
    boards = [one for one in readings if one.name.startswith("gpu")]
    for one in readings:
        beside = units.si(predicted["power_w_per_chip"], "W") if predicted and one in boards else ""
        cells = (units.si(one.energy_j, "J"), units.si(one.mean_w, "W"), units.si(one.peak_w, "W"), f"{one.samples:,}")
        table.add_row(one.name, *cells, beside)
    console = Console(highlight=False)
    console.print(f"{units.duration(duration_s)} of the command")
    if readings:
        console.print(table)
    elif predicted:
        console.print(f"predicted: {units.si(predicted['power_w'], 'W')} of all boards")
    for note in notes:
        console.print(note, style="dim", markup=False)
