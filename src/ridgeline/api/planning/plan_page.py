"""A plan as one HTML page: the front, the winner's steps, its times against the rate. Nothing fetched, no script."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ridgeline.api.charts import Axis, Line, Mark, line_chart
from ridgeline.api.planning.plan_names import LIMITS, Cells
from ridgeline.api.planning.plan_words import moved_words, objective_words, question_words, why_words
from ridgeline.api.predictions.breakdown import breakdown_of
from ridgeline.api.predictions.show import human
from ridgeline.api.simulations.simulation_page import POLICY, STYLE, html_table
from ridgeline.api.tables.tasks import predict_table
from ridgeline.core import units

if TYPE_CHECKING:
    from ridgeline.api.planning.plan import Candidate, Planned

RATES = np.linspace(0.05, 1.1, 43)
"""Loads of the curves, of the winner's own."""

SHOWN = ("chips", "request_per_s", "output_tokens_per_s", "output_tokens_per_s_per_chip", "ttft_s", "tpot_s")
MONEY = ("cost_usd_per_1m_output_tokens", "energy_j_per_output_token", "bound")


def plan_page(planned: Planned) -> str:
    """The page."""
    title = html.escape(question_words(planned.asked))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>{title}</title><style>{STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f"<p>Ranked by {html.escape(objective_words(planned.question))}; {planned.seen:,} candidates of "
        f"{planned.engines:,} engines, of which {planned.feasible:,} keep all limits.</p>",
        f'<p class="bound">{"<br>".join(html.escape(line) for line in why_words(planned))}</p>',
        f'<h2>Pareto front</h2><div class="charts">{"".join(_fronts(planned))}</div>',
        "<h2>Best plans</h2>",
        _candidates(planned.best, [str(i + 1) for i in range(len(planned.best))]),
        "<h2>Best of each kind</h2>",
        _candidates(list(planned.families.values()), list(planned.families)),
        "<h2>The winner under other rates</h2>",
        f'<div class="charts">{"".join(_curves(planned))}</div>',
        *_steps(planned),
        *_moved(planned),
        *_notes(planned),
        "<h2>What was asked</h2>",
        html_table(["name", "value"], [[_cell(name), _cell(value)] for name, value in planned.asked.values.items()]),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _cell(value: object) -> str:
    return html.escape(str(value))


def _candidates(candidates: Sequence[Candidate], names: Sequence[str]) -> str:
    head = ["", "deployment", *SHOWN, *MONEY]
    rows = [
        [_cell(name), _cell(one.name), *(_cell(human(column, one.values[column])) for column in (*SHOWN, *MONEY))]
        for name, one in zip(names, candidates, strict=True)
    ]
    return html_table([_cell(name.removesuffix("_s").replace("_", " ")) for name in head], rows)


def _fronts(planned: Planned) -> list[str]:
    """Output tokens per second and chip, and in all, against the time between tokens; a line per kind."""
    kinds: dict[str, list[Candidate]] = {}
    for one in planned.front:
        kinds.setdefault(f"{one.case.get('mode', 'agg')}, {one.case.get('runtime', 'vllm')}", []).append(one)
    charts = []
    for column, title in (
        ("output_tokens_per_s_per_chip", "output tokens/s per chip"),
        ("output_tokens_per_s", "output tokens/s"),
    ):
        lines = [_line(kind, members, "tpot_s", column) for kind, members in kinds.items()]
        x, y = Axis(label="time between tokens", text=units.duration, log=True), Axis(label=title, text=units.count)
        marks = [Mark(name="winner", x=float(planned.winner.values["tpot_s"]))]
        charts.append(line_chart(f"{title} against TPOT (dashed: winner)", lines, x=x, y=y, marks=marks))
    return charts


def _line(name: str, members: Sequence[Candidate], x: str, y: str) -> Line:
    ordered = sorted(members, key=lambda one: float(one.values[x]))
    return Line(name=name, x=[float(one.values[x]) for one in ordered], y=[float(one.values[y]) for one in ordered])


def _curves(planned: Planned) -> list[str]:
    """TTFT, TPOT and E2E of the winner against the load, with its limits."""
    case, slo = planned.winner.case, planned.question.slo
    column = "concurrency" if planned.question.concurrency else "request_rate_per_s"
    loads = RATES * float(case[column])
    result = predict_table("serving", _table_of(case, column, loads))
    label = "requests in flight" if column == "concurrency" else "requests per second"
    charts = []
    for name in LIMITS:
        limit = getattr(slo, f"{name}_s")
        lines = [Line(name=name.upper(), x=loads, y=np.asarray(result[f"{name}_s"], float))]
        if math.isfinite(limit):
            lines.append(Line(name="limit", x=loads[[0, -1]], y=[limit, limit]))
        marks = [Mark(name="planned load", x=float(case[column]))]
        x, y = Axis(label=label, text=units.count), Axis(label=name.upper(), text=units.duration)
        charts.append(line_chart(f"{name.upper()} against the load (dashed: planned)", lines, x=x, y=y, marks=marks))
    return charts


def _table_of(case: Cells, column: str, loads: np.ndarray) -> dict[str, list[float | str]]:
    return {name: [value] * loads.size for name, value in case.items() if name != column} | {column: loads.tolist()}


def _steps(planned: Planned) -> list[str]:
    """The winner's decode and prefill steps, op by op."""
    parts = []
    for phase in planned.prediction.phases:
        rows = breakdown_of(phase.step)
        whole = sum(float(row["time_s"]) for row in rows) + phase.host_s
        shown = [
            [_cell(row["op"]), _cell(f"{row['times']:.0f}"), *_time(float(row["time_s"]), whole), _cell(row["bound"])]
            for row in rows
        ]
        shown.append(["host", "1", *_time(phase.host_s, whole), "host"])
        parts.append(f"<h2>{_cell(phase.name)} step of the winner: {_cell(phase.describes)}</h2>")
        parts.append(html_table(["op", "runs", "time", "share", "bound by"], shown))
    return parts


def _time(time_s: float, whole_s: float) -> tuple[str, str]:
    return units.duration(time_s), f"{time_s / whole_s:.1%}"


def _moved(planned: Planned) -> list[str]:
    if not planned.moved:
        return []
    rows = [[_cell(cell) for cell in row] for row in moved_words(planned)]
    head = ["assumption", "moved", "objective", "winner"]
    return ["<h2>What would change the winner</h2>", html_table(head, rows)]


def _notes(planned: Planned) -> list[str]:
    told: list[str] = [f"<li>{_cell(note)}</li>" for note in planned.notes]
    for one, found in planned.checks:
        both = [(name, found.mean_s[name], found.tail_s[name]) for name in LIMITS]
        words = ", ".join(f"{name} {units.duration(mean)}, p99 {units.duration(tail)}" for name, mean, tail in both)
        told.append(f"<li>{_cell(one.name)} simulated: {_cell(words)}</li>")
    return ["<h2>Notes</h2><ul>", *told, "</ul>"] if told else []
