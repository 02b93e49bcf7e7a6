"""A simulated training run as people read it."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.core import units

if TYPE_CHECKING:
    from ridgeline.api.training.simulate_training import SimulatedTraining

WORDS = {
    "compute": "new work",
    "redo": "work done again",
    "checkpoint": "checkpoint stalls",
    "detect": "failed, not noticed",
    "wait": "waiting for a node",
    "reshape": "making checkpoints over for other nodes",
    "restart": "starting",
}


def training_view(run: SimulatedTraining) -> RenderableType:
    """When it ends, what it costs, and where the time goes."""
    case, made = run.case, run.job.checkpoint
    title = f"{case['model'] or 'model'} on {run.job.chips}x {case['chip']}, {units.count(case['tokens'])} tokens"
    answers = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    half = run.wall_s.half_width
    spread = f", mean within {units.duration(half)}" if math.isfinite(half) else ""
    rows = [
        ("ends after", f"{units.duration(run.wall_s.value)} (5 % to 95 %: {_range(run)}{spread})"),
        ("without failures", units.duration(run.ideal_s)),
        ("closed form", units.duration(run.expected_s)),
        ("goodput", f"{run.goodput:.1%}"),
        ("cost", "-" if math.isnan(run.cost_usd) else f"${run.cost_usd:,.0f}"),
        ("energy", units.si(run.energy_j, "J")),
        ("loss", f"{run.loss:.3f}"),
        ("failures", ", ".join(f"{name} {count:.1f}" for name, count in run.failures.items())),
    ]
    if math.isfinite(made.interval_s):
        stall = f"stall {units.duration(made.stall_s)}, safe {units.duration(made.flush_s)} later"
        rows.append(("checkpoints", f"every {units.duration(made.interval_s)}, {stall}"))
    for name, value in rows:
        answers.add_row(name, value)
    shares = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for state, share in run.spent.items():
        shares.add_row(WORDS[state], f"{share:.2%}")
    return Group(Text(title), answers, Text("\nwhere the time goes"), shares)


def plain(run: SimulatedTraining) -> str:
    """The same without colours."""
    console = Console(file=io.StringIO(), width=120, highlight=False, color_system=None)
    console.print(training_view(run))
    file = console.file
    assert isinstance(file, io.StringIO), "as made above"
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _range(run: SimulatedTraining) -> str:
    return f"{units.duration(run.low_s)} to {units.duration(run.high_s)}"
