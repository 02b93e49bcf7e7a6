"""A report of a simulated run as one HTML page: nothing fetched, no script, every name escaped."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.charts import Axis, Line, Mark, line_chart
from ridgeline.api.simulations.simulation_view import FLEET, LATENCIES, MARK, RATES, any_indicative, groups, told
from ridgeline.core import units
from ridgeline.core.files import write_atomic
from ridgeline.serving.record.answer_values import Answers
from ridgeline.serving.record.latency import LEVELS, Latency, tpot_of
from ridgeline.serving.record.played import DONE, Column, Played, runs_kept
from ridgeline.serving.record.power_table import PowerTable
from ridgeline.serving.record.series import windows_of

WINDOWS = 300
"""Of the time series."""
CURVE = 400
"""Points of a distribution."""

STYLE = """
body { font-family: sans-serif; margin: 2em auto; max-width: 1180px; padding: 0 1em; color: #222; }
h1 { font-size: 1.4em; } h2 { font-size: 1.1em; margin-top: 1.8em; }
table { border-collapse: collapse; font-size: 0.9em; }
th, td { padding: 0.2em 0.8em; text-align: right; border-bottom: 1px solid #eee; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
.span { color: #777; font-size: 0.85em; } .bound { background: #f4f6fa; padding: 0.6em 1em; }
.charts { display: flex; flex-wrap: wrap; gap: 12px; } .charts svg { width: 560px; max-width: 100%; }
"""

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def simulation_page(
    answers: Answers,
    played: Played,
    *,
    title: str,
    case: Mapping[str, object] | None = None,
    class_code: NDArray[np.integer] | None = None,
    powers: Mapping[str, PowerTable] | None = None,
) -> str:
    """The page.

    Args:
        answers: of the run.
        played: the run.
        title: what was simulated.
        case: names and values of what was asked, shown as a list.
        class_code: class of each request, in the order of `answers.objectives`.
        powers: of each pool; without, the curve of power is left out.
    """
    code = np.zeros(played.arrival_s.size, np.intp) if class_code is None else np.asarray(class_code)
    shown = html.escape(title)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>{shown}</title><style>{STYLE}</style></head><body>",
        f"<h1>{shown}</h1>",
        f'<p class="bound">Bound by {html.escape(answers.bound.words)}.</p>',
        *_headline(answers),
        "<h2>Latencies</h2>",
        _latencies(answers),
        "<h2>Distributions of the steady state</h2>",
        f'<div class="charts">{"".join(distributions(answers, played, code))}</div>',
        "<h2>Over time</h2>",
        f'<div class="charts">{"".join(over_time(answers, played, powers))}</div>',
        "<h2>Fleet</h2>",
        _fleet(answers),
        *_notes(answers),
        *_asked(case),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def write_page(path: str | os.PathLike[str], page: str) -> None:
    """Write the page whole or not at all. Raises FileFormatError."""
    write_atomic(path, page)


def _headline(answers: Answers) -> list[str]:
    steady, removed = answers.steady, answers.warm_up
    span = f"{units.duration(steady.start_s)} to {units.duration(steady.end_s)}"
    words = f"Steady state: {span}, {steady.overall.requests:,} requests; {removed.requests:,} before it are left out"
    return [f"<p>{html.escape(f'{words} as warm-up ({removed.how}).')}</p>"]


def _latencies(answers: Answers) -> str:
    """A row per class and latency, a column per figure; then the rates of each class."""
    objectives = {each.name: each for each in answers.objectives}
    head = ["latency", "class", "mean", *(f"p{100 * level:g}" for level in LEVELS), "objective"]
    rows = []
    for name, short, meaning in LATENCIES:
        for each in groups(answers.steady):
            limit = getattr(objectives.get(each.name), name, math.inf)
            promised = f"&le; {units.duration(limit)}" if math.isfinite(limit) else ""
            first = f"{html.escape(short)} <span class='span'>{html.escape(meaning)}</span>"
            rows.append([first, html.escape(each.name), *_figures(getattr(each, name)), promised])
    columns = groups(answers.steady)
    more = [
        [html.escape(label), *(html.escape(told(name, getattr(each, name))) for each in columns)]
        for name, label in RATES
    ]
    names = ["", *(html.escape(each.name) for each in columns)]
    return html_table(head, rows) + "<p></p>" + html_table(names, more)


def _figures(value: Latency | None) -> list[str]:
    if value is None:
        return ["-"] * (1 + len(LEVELS))
    mean = _figure(value.mean.value, value.mean.low, value.mean.high, indicative=False)
    return [mean, *(_figure(each.value, each.low, each.high, indicative=each.indicative) for each in value.percentiles)]


def _figure(value: float, low: float, high: float, *, indicative: bool) -> str:
    ends = [units.duration(end) if math.isfinite(end) else "?" for end in (low, high)]
    mark = MARK if indicative else ""
    return f"{mark}{units.duration(value)}<br><span class='span'>{ends[0]} .. {ends[1]}</span>"


def _fleet(answers: Answers) -> str:
    both = (answers.steady, answers.whole)
    rows = [[html.escape(label), *(html.escape(told(n, getattr(each, n))) for each in both)] for n, label in FLEET]
    for pool in answers.whole.busy_frac:
        shares = [f"{each.busy_frac[pool]:.1%}" for each in both]
        rows.append([html.escape(f"lanes of {pool} iterate"), *shares])
    return html_table(["", "steady state", "whole run"], rows)


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are already HTML."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>\n{body}</table>"


def _notes(answers: Answers) -> list[str]:
    notes = list(answers.notes)
    if any_indicative(answers.steady):
        notes.append(f"{MARK} marks an indicative percentile: fewer requests than MLPerf asks for at that level")
    return ["<h2>Notes</h2><ul>", *(f"<li>{html.escape(note)}</li>" for note in notes), "</ul>"] if notes else []


def _asked(case: Mapping[str, object] | None) -> list[str]:
    if not case:
        return []
    rows = [[html.escape(str(name)), html.escape(str(value))] for name, value in case.items()]
    return ["<h2>What was asked</h2>", html_table(["name", "value"], rows)]


def distributions(answers: Answers, played: Played, code: NDArray[np.integer]) -> list[str]:
    """Cumulative distributions of each class, and the objectives as dashed lines."""
    start, end = answers.steady.start_s, answers.steady.end_s
    there = (played.end == DONE) & (played.arrival_s >= start) & (played.arrival_s <= end)
    values = {
        "ttft_s": ("TTFT", played.first_s - played.arrival_s),
        "tpot_s": ("TPOT", tpot_of(played)),
        "e2e_s": ("E2E", played.last_s - played.arrival_s),
    }
    charts = []
    for name, (short, column) in values.items():
        lines, marks = [], []
        for i, objective in enumerate(answers.objectives):
            lines.append(_curve(objective.name, column[there & (code == i)]))
            limit = getattr(objective, name)
            if math.isfinite(limit):
                marks.append(Mark(name=f"objective of {objective.name}", x=limit, line=i))
        label = f"{short}, share of requests at or below (dashed: objective)"
        axes = {"x": Axis(label="time", text=units.duration, log=True), "y": Axis(label="share", text="{:.0%}".format)}
        charts.append(line_chart(label, lines, marks=marks, **axes))
    return charts


def _curve(name: str, values: Column) -> Line:
    ordered = np.sort(values[np.isfinite(values) & (values > 0)])
    if not ordered.size:
        return Line(name=name, x=[], y=[])
    places = np.unique(np.linspace(0, ordered.size - 1, min(ordered.size, CURVE)).astype(int))
    return Line(name=name, x=ordered[places], y=(places + 1) / ordered.size)


def over_time(answers: Answers, played: Played, powers: Mapping[str, PowerTable] | None) -> list[str]:
    """Load, queue, batch, cache and power in windows, as charts; a paragraph that says why where there are none."""
    if not runs_kept(played):
        return ["<p>Runs of iterations were not kept, so there are no series.</p>"]
    series = windows_of(played, width_s=max(played.end_s, 1e-9) / WINDOWS, powers=powers)
    x = series["start_s"] + series["width_s"] / 2
    busy = series["busy_s"] > 0
    warm = [Mark(name="end of the warm-up", x=answers.warm_up.until_s)] if answers.warm_up.requests else []
    charts: list[tuple[str, dict[str, Column], Callable[[float], str]]] = [
        ("requests per second", {"arrive": series["arrival_per_s"], "complete": series["request_per_s"]}, units.count),
        ("tokens per second", _both(series, "output_tokens_per_s", "prompt_tokens_per_s"), units.count),
        ("requests", {"waiting": series["queue"], "in flight": series["in_flight"]}, units.count),
        ("decoding sequences of a lane", {"batch": np.where(busy, series["batch"], np.nan)}, units.count),
        (
            "KV cache in use, and lanes that iterate",
            {"KV cache": np.where(busy, series["kv_use_frac"], 0.0), "iterating": series["busy_frac"]},
            "{:.0%}".format,
        ),
    ]
    if powers:
        charts.append(("power of all boards", {"power": series["power_w"]}, _watts))
    axis = Axis(label="time since the start", text=units.duration)
    return [
        line_chart(
            title,
            [Line(name=name, x=x, y=values) for name, values in columns.items()],
            x=axis,
            y=Axis(label=title, text=text),
            marks=warm,
        )
        for title, columns, text in charts
    ]


def _both(series: Mapping[str, Column], output: str, prompt: str) -> dict[str, Column]:
    return {"output": series[output], "prompt": series[prompt]}


def _watts(value: float) -> str:
    return units.si(value, "W")
