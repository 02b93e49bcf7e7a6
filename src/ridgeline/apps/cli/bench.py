"""`ridgeline bench`: measure this machine, for `ridgeline calibrate` to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ridgeline.bench import Backend, Case, Line, Outcome, Plan
    from ridgeline.hardware import Chip

EXAMPLES = """Examples:

  ridgeline bench --quick

  ridgeline bench --kinds gemm,copy --chip h200-sxm --out h200.parquet

  ridgeline bench --backend numpy --chip epyc-9654 --budget 30s
"""
QUICK_S, FULL_S = 60.0, 300.0


def bench(
    chip: Annotated[
        str, typer.Option(help="chip of the catalogue, or a chip file; left out, the device's own name", metavar="NAME")
    ] = "",
    kinds: Annotated[
        str, typer.Option(help="of gemm, attention, elementwise, copy, collectives; left out, all", metavar="LIST")
    ] = "",
    out: Annotated[
        str, typer.Option(help=".parquet or .csv; of several tables, each adds its name", metavar="FILE")
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="about a minute, coarse grid")] = False,
    budget: Annotated[
        str, typer.Option(help="time for the whole run, such as 90s [default: 5min; 60s if quick]", metavar="TIME")
    ] = "",
    weights: Annotated[
        str, typer.Option(help="hot: few buffers in turn, as calibration expects; cold: more than caches hold")
    ] = "hot",
    backend: Annotated[str, typer.Option(help="auto, torch or numpy")] = "auto",
) -> None:
    """Measure kernels on this machine and write tables that `ridgeline calibrate` reads."""
    from rich.console import Console

    from ridgeline.bench import (
        FULL,
        QUICK,
        Plan,
        cases,
        chip_of,
        kinds_of,
        offered,
        open_backend,
        paths_for,
        run,
        write,
    )
    from ridgeline.core.units import parse

    budget_s = parse(budget, "s", at="--budget") if budget else QUICK_S if quick else FULL_S
    plan = Plan(budget_s=budget_s, effort=QUICK if quick else FULL, weights=weights)
    wanted = kinds_of(kinds)
    named = chip_of(chip) if chip else None
    library = open_backend(backend, named.kind if named else "")
    part = named or chip_of("", library.device.name)
    groups = offered(library, part, wanted, all_needed=bool(kinds.strip()))
    paths = paths_for(out or f"bench-{part.name}.parquet", dict.fromkeys(table for table, _, _ in groups))
    todo = cases(groups, quick=quick, device_count=library.device.count)
    screen, notes = Console(highlight=False), Console(stderr=True, highlight=False)
    _introduce(notes, library, part, plan, len(todo))
    with _bar(notes) as show:
        outcome = run(library, part, todo, plan, progress=show)
    written = write(outcome.rows, library, part, paths)
    _report(screen, outcome, part)
    for path in written:
        screen.print(f"wrote {path}", soft_wrap=True)
    if outcome.interrupted:
        notes.print("interrupted: " + ("the rows above were written" if written else "nothing was measured or written"))
        raise typer.Exit(130)


def _introduce(notes: Console, library: Backend, chip: Chip, plan: Plan, count: int) -> None:
    """What is about to be measured, and whether the device goes by another name in the catalogue."""
    from ridgeline.bench.chips import plain_name
    from ridgeline.hardware import chip_names

    device, names = plain_name(library.device.name), chip_names()
    with_what = f"{library.name} {library.version}"
    notes.print(f"{library.device.name} as {chip.name}, {with_what}: up to {count} kernels in {plan.budget_s:g} s")
    if device in names and names.resolve(device) != chip.name:
        notes.print(f"note: the catalogue calls this device {names.resolve(device)}; rows will say {chip.name}")


@contextmanager
def _bar(notes: Console) -> Iterator[Callable[[float, Case], None]]:
    """A bar that shows the share of the time that has passed, and the kernel that is being measured."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"), console=notes, transient=True
    ) as bar:
        task = bar.add_task("", total=1.0)

        def show(share: float, case: Case) -> None:
            sizes = " x ".join(str(value) for value in case.sizes.values())
            bar.update(task, completed=share, description=f"{case.table} {case.op} {case.dtype} {sizes}")

        yield show


def _report(screen: Console, outcome: Outcome, chip: Chip) -> None:
    """The best of each group next to the datasheet, then what was left out and why."""
    from rich.box import SIMPLE
    from rich.table import Table

    from ridgeline.bench import summary
    from ridgeline.core.units import si

    title = f"{chip.name}: best reached, and its share of the datasheet's peak"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("kernel", no_wrap=True)
    for name in ("rows", "rate", "share", "memory", "share", "spread"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in summary(outcome.rows, chip):
        table.add_row(
            _label(line),
            str(line.rows),
            *_of_peak(line.rate_flops_per_s, line.peak_flops_per_s, lambda value: si(value, "FLOP/s")),
            *_of_peak(line.bandwidth_bytes_per_s, line.peak_bytes_per_s, lambda value: si(value, "B/s")),
            f"{line.spread_frac:.1%}",
        )
    if table.row_count:
        screen.print(table)
    waiting = sum(row.timing.host_bound for row in outcome.rows)
    screen.print(f"{len(outcome.rows)} kernels measured in {outcome.elapsed_s:.0f} s, {waiting} of them host-bound")
    for reason, count in outcome.left_out.items():
        screen.print(f"left out {count}: {reason}")


def _label(line: Line) -> str:
    op = "" if line.op in line.table else line.op
    return " ".join(part for part in (line.table.replace("_", " "), op, line.dtype) if part)


def _of_peak(value: float | None, peak: float | None, written: Callable[[float], str]) -> tuple[str, str]:
    if value is None:
        return "-", "-"
    return written(value), f"{value / peak:.0%}" if peak else "-"
