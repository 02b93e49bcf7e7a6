"""A plan as people read it: the ranking, the best of each kind, the front, and why the winner wins."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.plan_words import NOUNS, moved_words, objective_words, question_words, why_words
from ridgeline.api.show import human
from ridgeline.core import units

if TYPE_CHECKING:
    from ridgeline.api.plan import Candidate, Planned
    from ridgeline.api.size import Sized

SHOWN_BEST = 5
SHOWN_FRONT = 8

COLUMNS = (
    ("chips", "chips"),
    ("request_per_s", "request/s"),
    ("output_tokens_per_s", "token/s"),
    ("output_tokens_per_s_per_chip", "per chip"),
    ("ttft_s", "TTFT"),
    ("tpot_s", "TPOT"),
    ("cost_usd_per_1m_output_tokens", "USD/1M"),
    ("energy_j_per_output_token", "J/token"),
)


def planned_view(planned: Planned, *, explain: bool = False) -> RenderableType:
    """The whole screen of a plan."""
    q, shown = planned.question, planned.best[:SHOWN_BEST]
    parts: list[RenderableType] = [
        Text(question_words(planned.asked), style="bold"),
        Text(f"ranked by {objective_words(q)}"),
        _table("best plans, each with its best settings", shown, [str(i + 1) for i in range(len(shown))]),
    ]
    if len(planned.families) > 1:
        parts.append(_table("best of each kind", list(planned.families.values()), list(planned.families)))
    chosen = _spread(planned.front)
    if len(chosen) > 1:
        title = f"Pareto front, {len(chosen)} of {len(planned.front)} candidates that none beats in all objectives"
        parts.append(_table(title, chosen, [str(i + 1) for i in range(len(chosen))]))
    parts += [Text(line) for line in why_words(planned)]
    parts += [Text(f"note: {note}", style="dim") for note in planned.notes]
    parts.append(
        Text(
            f"searched {planned.seen:,} candidates of {planned.engines:,} engines, all of them; "
            f"{planned.feasible:,} keep all limits",
            style="dim",
        )
    )
    if planned.checks:
        parts.append(_checked(planned))
    if planned.moved:
        parts.append(_moved(planned))
    if explain:
        from ridgeline.api.show import prediction_view

        parts.append(prediction_view(planned.prediction))
    return Group(*parts)


def sized_view(sized: Sized) -> RenderableType:
    """The whole screen of a size: what it takes, then the candidates."""
    needs, planned = sized.needs, sized.planned
    parts = [f"{needs['chips']:g} chips", f"{units.si(needs['power_w'], 'W')} of boards"]
    if math.isfinite(needs["usd_per_h"]):
        parts.append(f"{needs['usd_per_h']:.4g} USD/h")
    head = f"least {sized.least}: {', '.join(parts)} for {sized.winner.name}"
    return Group(Text(head, style="bold"), planned_view(planned))


def plain(planned: Planned | Sized, *, width: int = 150) -> str:
    """The same screen as plain text."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(planned)
    return out.getvalue()


def _table(title: str, candidates: Sequence[Candidate], names: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("deployment")
    for _, head in COLUMNS:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("bound by")
    for name, one in zip(names, candidates, strict=False):
        cells = [_cell(column, one) for column, _ in COLUMNS]
        table.add_row(name, one.name, *cells, str(one.values["bound"]))
    return table


def _checked(planned: Planned) -> Table:
    title = "simulated too: predicted means, then simulated mean and p99"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("deployment")
    for name in ("TTFT", "simulated", "p99", "TPOT", "simulated", "p99", "request/s", "simulated", "limits"):
        table.add_column(name, justify="right", no_wrap=True)
    for one, found in planned.checks:
        cells = [one.name]
        for name in ("ttft", "tpot"):
            values = (float(one.values[f"{name}_s"]), found.mean_s[name], found.tail_s[name])
            cells += [units.duration(value) for value in values]
        cells += [units.count(float(one.values["request_per_s"])), units.count(found.request_per_s)]
        table.add_row(*cells, "kept" if found.keeps else "missed")
    return table


def _moved(planned: Planned) -> Table:
    title = (
        f"what would change the winner: each assumption moved by a tenth, {NOUNS[planned.question.objectives[0]]} then"
    )
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, justify in (("assumption", "left"), ("moved", "right"), ("objective", "right"), ("winner", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in moved_words(planned):
        table.add_row(*row)
    return table


def _cell(column: str, one: Candidate) -> str:
    value = float(one.values[column])
    if column == "chips":
        return f"{value:g}"
    text = human(column, value)
    return text.removesuffix(" request/s").removesuffix(" token/s").removesuffix(" J").removeprefix("$")


def _spread(front: Sequence[Candidate]) -> list[Candidate]:
    """A few of the front, evenly from end to end of its first objective."""
    if not front:
        return []
    ordered = sorted(front, key=lambda one: -float(one.values["output_tokens_per_s"]))
    at = np.unique(np.linspace(0, len(ordered) - 1, SHOWN_FRONT).round().astype(int))
    return [ordered[i] for i in at.tolist()]
