"""Simulate: a load played request by request, as a job that tells how far it is and can be stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ridgeline.api.simulations.simulate import Simulated
from ridgeline.api.simulations.simulate import simulate as play
from ridgeline.api.simulations.simulation_page import distributions, over_time
from ridgeline.api.simulations.simulation_view import FLEET, LATENCIES, MARK, RATES, any_indicative, groups, told
from ridgeline.api.tables.columns import FLEETS, LOADS, SERVING
from ridgeline.apps.cli.flags import SHORT
from ridgeline.apps.web.blocks import Answer, Block, command_of, numbers, picture, python_of, table, text
from ridgeline.apps.web.fields import Field, fields_of, given
from ridgeline.apps.web.jobs import Told
from ridgeline.apps.web.predict_view import FORMATS, ON, SUGGEST
from ridgeline.core import units
from ridgeline.core.errors import DomainError
from ridgeline.serving.record.latency import LEVELS, Latency

MOST_REQUESTS = 200_000
USUAL = {
    "model": "meta-llama/Llama-3.1-8B",
    "runtime": "vllm",
    "tp": "1",
    "arrivals": "poisson(6/s)",
    "prompt": "lognormal(mean=1024, sigma=0.8)",
    "output": "lognormal(mean=256, sigma=0.6)",
    "requests": "2000",
    "ttft_slo_s": "1 s",
    "tpot_slo_s": "40 ms",
    "router": "least-loaded",
    "scheduler": "fcfs",
}
_FIRST = ("requests", "request_per_s", "goodput_request_per_s", "slo_met_frac", "output_tokens_per_s")
_HEAD = ["latency", "class", "mean", *(f"p{100 * level:g}" for level in LEVELS)]
_LEFT_OUT = {"trace", "fleet", "chip", "load", "procedure"}
_COLUMNS = {column.name: column for column in (*SERVING, *LOADS, *FLEETS) if column.name not in _LEFT_OUT}
_FIELDS = fields_of(
    tuple(_COLUMNS.values()), first=USUAL, sliders={"requests": (100, MOST_REQUESTS)}, suggest={**SUGGEST, **FORMATS}
)
SIMULATE: tuple[Field, ...] = (*_FIELDS[:1], ON, *_FIELDS[1:])


def simulate(values: Mapping[str, Any], tell: Told) -> Answer:
    """Play it. `tell` raises KeyboardInterrupt to stop, and what is known so far is the answer."""
    case = given(SIMULATE, values, needed=("model", "on"))
    if float(case.get("requests", 0) or 0) > MOST_REQUESTS:
        fix = f"at most {MOST_REQUESTS:,} here; the command line takes any number"
        raise DomainError("too many requests for the page", at="requests", got=case["requests"], fix=fix)
    simulated = play("serving", progress=lambda _, ended, total, words: tell(ended / max(total, 1), words), **case)
    tell.keep("Perfetto trace", "perfetto.json", simulated.write_perfetto)
    return Answer(
        title=simulated.title,
        blocks=_blocks(simulated),
        rows=_rows(simulated),
        command=command_of(("simulate", "serving"), case, SHORT),
        python=python_of('simulate("serving"', case),
    )


def _blocks(simulated: Simulated) -> list[Block]:
    answers = simulated.answers
    steady, removed = answers.steady, answers.warm_up
    notes = [*answers.notes]
    if simulated.interrupted:
        notes.insert(0, "Stopped before its end: this is what was known by then.")
    if any_indicative(steady):
        notes.append(f"{MARK} marks a percentile of fewer requests than MLPerf asks for.")
    span = f"{units.duration(steady.start_s)} to {units.duration(steady.end_s)}"
    notes.append(f"Steady state: {span}; {removed.requests:,} requests left out as warm-up ({removed.how}).")
    classes = groups(steady)
    code, played = simulated.traffic.class_code, simulated.played
    overall = [
        (label, told(name, getattr(steady.overall, name)), "steady state") for name, label in RATES[:1] + RATES[5:9]
    ]
    return [
        text(f"Bound by {answers.bound.words}.", kind="why"),
        numbers([*_headline(steady.overall), *overall]),
        table(
            "Latencies", ["latency", "class", "mean", *(f"p{100 * level:g}" for level in LEVELS)], _latencies(classes)
        ),
        *(picture("", svg) for svg in distributions(answers, played, code)),
        *(picture("", svg) for svg in over_time(answers, played, simulated.powers) if svg.startswith("<svg")),
        table("By class", ["", *(one.name for one in classes)], _by_class(classes)),
        table("Fleet", ["", "steady state", "whole run"], _fleet(answers)),
        *(text(note, kind="note") for note in notes),
    ]


def _headline(overall: Any) -> list[tuple[str, str, str]]:
    found = []
    for name, short, words in LATENCIES[:2]:
        value: Latency | None = getattr(overall, name)
        if value is not None:
            last = value.percentiles[-1]
            mark = MARK if last.indicative else ""
            found.append((f"{short} mean", units.duration(value.mean.value), words))
            found.append((f"{short} p{100 * LEVELS[-1]:g}", mark + units.duration(last.value), words))
    return found


def _latencies(classes: Sequence[Any]) -> list[list[str]]:
    rows = []
    for name, short, _ in LATENCIES:
        for each in classes:
            value: Latency | None = getattr(each, name)
            if value is not None:
                figures = [(MARK if p.indicative else "") + units.duration(p.value) for p in value.percentiles]
                rows.append([short, each.name, units.duration(value.mean.value), *figures])
    return rows


def _by_class(classes: Sequence[Any]) -> list[list[str]]:
    return [[label, *(told(name, getattr(one, name)) for one in classes)] for name, label in RATES]


def _fleet(answers: Any) -> list[list[str]]:
    return [
        [label, *(told(name, getattr(one, name)) for one in (answers.steady, answers.whole))] for name, label in FLEET
    ]


def _rows(simulated: Simulated) -> list[dict[str, Any]]:
    """A row per class and latency, in SI units."""
    found = []
    for each in groups(simulated.answers.steady):
        for name, _, _ in LATENCIES:
            value: Latency | None = getattr(each, name)
            if value is not None:
                figures = {f"p{100 * v.level:g}": v.value for v in value.percentiles}
                found.append({"class": each.name, "latency": name, "mean": value.mean.value, **figures})
    return found
