"""A plan of training as people read it: the fastest layouts, and what more chips buy."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.core import units

if TYPE_CHECKING:
    from ridgeline.api.training.plan_training import Choice, TrainingPlan

HEADS = ("chips", "layout", "step", "token/s", "MFU", "memory", "bubble", "comm.", "run", "cost", "bound by")


def plan_view(plan: TrainingPlan) -> RenderableType:
    """How many layouts there were, the best, and the front over numbers of chips."""
    case = plan.case
    title = f"{case['model']} on {case['on']} with {case['framework']} in {case['precision']}"
    counts = f"{plan.legal:,} layouts, {plan.fitting:,} fit"
    parts: list[RenderableType] = [Text(title), Text(counts), Text("\nfastest"), _table(plan.best)]
    if len({choice.chips for choice in plan.pareto}) > 1:
        parts += [Text("\ntime against money"), _table(plan.pareto)]
    return Group(*parts)


def plain(plan: TrainingPlan) -> str:
    """The same without colours."""
    console = Console(file=io.StringIO(), width=160, highlight=False, color_system=None)
    console.print(plan_view(plan))
    file = console.file
    assert isinstance(file, io.StringIO), "as made above"
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _table(choices: Sequence[Choice]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in HEADS:
        table.add_column(name, justify="left" if name in ("layout", "bound by") else "right")
    for choice in choices:
        table.add_row(*layout_cells(choice))
    return table


def layout_cells(choice: Choice) -> tuple[str, ...]:
    """A layout under HEADS."""
    return (
        str(choice.chips),
        layout_words(choice),
        units.duration(choice.step_s),
        units.count(choice.tokens_per_s),
        f"{choice.mfu:.1%}",
        units.size(choice.memory_bytes_per_chip),
        f"{choice.bubble_frac:.1%}",
        f"{choice.exposed_comm_frac:.1%}",
        "-" if math.isnan(choice.run_s) else units.duration(choice.run_s),
        "-" if math.isnan(choice.cost_usd) else f"${choice.cost_usd:,.0f}",
        choice.bound,
    )


def layout_words(choice: Choice) -> str:
    """Degrees above one and choices that are not the usual, as in "tp8 pp4 dp2 mb1 zero1 full"."""
    columns = choice.columns
    degrees = [f"{name}{columns[name]:g}" for name in ("tp", "pp", "vp", "dp", "cp", "ep") if columns[name] != 1]
    words = [f"mb{columns['micro_batch']:g}", f"zero{columns['zero']}"]
    usual = {"recompute": "none", "schedule": "1f1b", "context": "ring", "offload": "none"}
    more = [str(columns[name]) for name, value in usual.items() if columns[name] != value]
    return " ".join([*degrees, *words, *more])
