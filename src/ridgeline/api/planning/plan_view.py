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

from ridgeline.api.planning.plan_words import NOUNS, moved_words, objective_words, question_words, short_name, why_words
from ridgeline.api.predictions.show import human
from ridgeline.core import units

if TYPE_CHECKING:
    from ridgeline.api.planning.plan import Candidate, Planned
    from ridgeline.api.planning.size import Sized

SHOWN_BEST = 5
SHOWN_FRONT = 8

COLUMNS = (
    ("chips", "chips"),
    ("request_per_s", "request/s"),
    ("output_tokens_per_s_per_chip", "token/s/chip"),
    ("ttft_s", "TTFT"),
    ("tpot_s", "TPOT"),
    ("cost_usd_per_1m_output_tokens", "USD/1M"),
)
ENERGY = (("energy_j_per_output_token", "J/token"),)


def planned_view(planned: Planned, *, explain: bool = False) -> RenderableType:
    """The whole screen of a plan."""
    q, shown = planned.question, planned.best[:SHOWN_BEST]
    parts: list[RenderableType] = [
        Text(question_words(planned.asked), style="bold"),
        Text(f"ranked by {objective_words(q)}"),
        _table(planned, "best plans, each with its best settings", shown),
    ]
    if len(planned.families) > 1:
        parts.append(_table(planned, "best of each kind", list(planned.families.values())))
    chosen = _spread(planned.front)
    if len(chosen) > 1:
        title = f"Pareto front, {len(chosen)} of {len(planned.front)} candidates that none beats in all objectives"
        parts.append(_table(planned, title, chosen))
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
        from ridgeline.api.predictions.show import prediction_view

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


def _table(planned: Planned, title: str, candidates: Sequence[Candidate]) -> Table:
    """Candidates by row; the chip is named where there are several kinds, energy where it is an objective."""
    columns = COLUMNS + (ENERGY if planned.question.wants_energy else ())
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("deployment")
    for _, head in columns:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("bound by")
    for place, one in enumerate(candidates):
        cells = [_cell(column, one) for column, _ in columns]
        table.add_row(str(place + 1), short_name(planned, one), *cells, str(one.values["bound"]))
    return table


def _checked(planned: Planned) -> Table:
    title = "simulated too: predicted means, then mean and p99 as played"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("deployment")
    for name in ("TTFT", "played", "p99", "TPOT", "played", "p99", "request/s", "played", "limits"):
        table.add_column(name, justify="right", no_wrap=True)
    for one, found in planned.checks:
        cells = [short_name(planned, one)]
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
