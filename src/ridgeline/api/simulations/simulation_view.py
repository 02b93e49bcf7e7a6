"""Answers of a simulated run as people read them: latencies by class with intervals, the fleet, and what limits it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.predictions.show import human
from ridgeline.core import units
from ridgeline.serving.record.answer_values import Answers, ClassAnswer, Stretch
from ridgeline.serving.record.latency import LEVELS, Latency, Objectives

MARK = "~"
"""Before a percentile whose sample is smaller than MLPerf asks for."""

LATENCIES = (
    ("ttft_s", "TTFT", "arrival to first token"),
    ("tpot_s", "TPOT", "mean gap of a request"),
    ("itl_s", "ITL", "gap between tokens"),
    ("e2e_s", "E2E", "arrival to last token"),
    ("queue_s", "queueing", "to first admission"),
)

ABREAST = 3
"""Classes beside each other."""

SELDOM = ("rejected", "unfinished", "failed", "preemptions")
"""Counts that are left out where they are 0."""

RATES: tuple[tuple[str, str], ...] = (
    ("requests", "arrived"),
    ("done", "completed"),
    ("rejected", "rejected: never fit"),
    ("unfinished", "unfinished"),
    ("failed", "failed"),
    ("request_per_s", "completions"),
    ("goodput_request_per_s", "goodput, all objectives kept"),
    ("slo_met_frac", "kept all objectives"),
    ("output_tokens_per_s", "output"),
    ("total_tokens_per_s", "prompt and output"),
    ("preemptions", "preemptions"),
    ("prefix_hit_frac", "prompt found in cache"),
    ("energy_j_per_request", "energy per request, no idle"),
)

FLEET: tuple[tuple[str, str], ...] = (
    ("chips", "chips up, mean"),
    ("output_tokens_per_s_per_chip", "output per chip"),
    ("queue", "requests waiting, mean"),
    ("queue_peak", "requests waiting, most"),
    ("in_flight", "requests in flight, mean"),
    ("batch", "sequences that decode on a lane"),
    ("kv_use_frac", "KV cache in use, mean"),
    ("kv_use_peak_frac", "KV cache in use, most"),
    ("power_w", "power of all boards, mean"),
    ("power_w_per_chip", "power per chip, mean"),
    ("power_peak_w_per_chip", "power per chip, most"),
    ("energy_j", "energy of all boards"),
    ("energy_j_per_request", "energy per request, idle included"),
    ("energy_j_per_output_token", "energy per output token"),
    ("cost_usd_per_1m_output_tokens", "rent per 1M output tokens"),
)


def told(name: str, value: float | int) -> str:
    """A number of an answer with its unit."""
    if isinstance(value, int):
        return f"{value:,}"
    if name in ("energy_j", "energy_j_per_request") and math.isfinite(value):
        return units.si(value, "J")
    if name.startswith("power_") and math.isfinite(value):
        return units.si(value, "W")
    if name in ("chips", "queue", "queue_peak", "in_flight", "batch") and math.isfinite(value):
        return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
    return human(name, value)


def answers_view(answers: Answers, *, title: str = "simulation") -> RenderableType:
    """The whole screen: steady state by class, the fleet in the steady state and over the whole run, why, notes."""
    steady = answers.steady
    span = f"{units.duration(steady.start_s)} to {units.duration(steady.end_s)}"
    removed = answers.warm_up
    head = f"steady state, {span}; {removed.requests:,} requests left out as warm-up ({removed.how})"
    parts: list[RenderableType] = [Text(title, style="bold"), Text(head, style="dim"), Text("")]
    for table in latency_tables(answers):
        parts += [table, Text("")]
    parts += [fleet_table(answers), Text("")]
    parts.append(Text(f"bound by {answers.bound.words}"))
    if any_indicative(steady):
        parts.append(Text(f"{MARK} indicative: fewer requests than MLPerf asks for at this percentile", style="dim"))
    parts += [Text(note, style="dim") for note in answers.notes]
    return Group(*parts)


def plain(answers: Answers, *, title: str = "simulation", width: int = 110) -> str:
    """The same screen as plain text."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(answers_view(answers, title=title))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def any_indicative(stretch: Stretch) -> bool:
    """Whether a percentile rests on a small sample."""
    values = [getattr(each, name) for each in groups(stretch) for name, _, _ in LATENCIES]
    return any(one.indicative for value in values if value is not None for one in value.percentiles)


def groups(stretch: Stretch) -> tuple[ClassAnswer, ...]:
    """All requests, then each class."""
    return (stretch.overall, *stretch.classes)


def latency_tables(answers: Answers) -> list[Table]:
    """Tables of a few classes each: mean and percentiles with their intervals, then rates."""
    every = groups(answers.steady)
    return [_latencies(answers, every[i : i + ABREAST]) for i in range(0, len(every), ABREAST)]


def _latencies(answers: Answers, columns: tuple[ClassAnswer, ...]) -> Table:
    table = _table("", *(name for each in columns for name in (each.name, "")))
    objectives = {each.name: each for each in answers.objectives}
    for name, short, meaning in LATENCIES:
        values = [getattr(each, name) for each in columns]
        table.add_row(Text(f"{short}: {meaning}", style="bold"))
        for label, read in _readings():
            cells = [text for value in values for text in cell(value, read)]
            table.add_row(f"  {label}", *_styled(cells))
        promised = [_promise(objectives, each.name, name) for each in columns]
        if any(promised):
            table.add_row("  objective", *_styled([text for each in promised for text in (each, "")]))
    for name, label in RATES:
        numbers = [getattr(each, name) for each in columns]
        if name in SELDOM and not any(numbers):
            continue
        figures = [told(name, number).partition(" ") for number in numbers]
        table.add_row(label, *_styled([text for figure in figures for text in (figure[0], figure[2])]))
    return table


def _styled(cells: list[str]) -> list[Text]:
    """Values, and beside each its interval or unit, dimmed."""
    return [Text(text, style="dim" if i % 2 else "") for i, text in enumerate(cells)]


def fleet_table(answers: Answers) -> Table:
    """The fleet in the steady state and over the whole run."""
    both = (answers.steady, answers.whole)
    table = _table("fleet", "steady state", "whole run")
    for name, label in FLEET:
        table.add_row(label, *(Text(told(name, getattr(each, name))) for each in both))
    for pool in answers.whole.busy_frac:
        shares = (human("busy_frac", each.busy_frac[pool]) for each in both)
        table.add_row(Text(f"lanes of {pool} iterate"), *(Text(share) for share in shares))
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text(names[0]), no_wrap=True)
    for i, name in enumerate(names[1:]):
        beside = not name and i % 2
        table.add_column(Text(name, overflow="ellipsis"), justify="left" if beside else "right", no_wrap=True)
    return table


def _readings() -> list[tuple[str, Callable[[Latency], tuple[float, float, float, bool]]]]:
    def mean(of: Latency) -> tuple[float, float, float, bool]:
        return of.mean.value, of.mean.low, of.mean.high, False

    def at(level: float) -> Callable[[Latency], tuple[float, float, float, bool]]:
        def read(of: Latency) -> tuple[float, float, float, bool]:
            found = of.at(level)
            return found.value, found.low, found.high, found.indicative

        return read

    return [("mean", mean), *((f"p{100 * level:g}", at(level)) for level in LEVELS)]


def cell(value: Latency | None, read: Callable[[Latency], tuple[float, float, float, bool]]) -> tuple[str, str]:
    """A figure, with the mark of a small sample, and its interval: `412 ms`, `398..431`; `?` where it has no bound."""
    if value is None:
        return "-", ""
    middle, low, high, indicative = read(value)
    shown, unit = units.duration(middle), units.duration(middle).partition(" ")[2]
    ends = [units.duration(end) if math.isfinite(end) else "?" for end in (low, high)]
    span = "..".join(end.removesuffix(f" {unit}") for end in ends)
    return f"{MARK if indicative else ''}{shown}", span


def _promise(objectives: dict[str, Objectives], of: str, name: str) -> str:
    chosen = objectives.get(of)
    limit = getattr(chosen, name, math.inf) if chosen is not None else math.inf
    return f"<= {units.duration(limit)}" if math.isfinite(limit) else ""
