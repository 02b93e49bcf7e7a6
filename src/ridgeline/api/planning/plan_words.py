"""A plan in sentences: what was asked, why the winner wins, what would change it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline.api.planning.plan_names import deployment_words
from ridgeline.api.planning.plan_question import Asked
from ridgeline.core import units
from ridgeline.search.planning import OBJECTIVES, Question

if TYPE_CHECKING:
    from ridgeline.api.planning.plan import Candidate, Planned


def short_name(planned: Planned, one: Candidate) -> str:
    """The deployment, without the chip where only one kind may be used."""
    return one.name if len(planned.question.machines) > 1 else one.name.rpartition(" on ")[0]


def question_words(asked: Asked) -> str:
    """The question in one line."""
    q = asked.question
    machines = ", ".join(allowed.machine.name for allowed in q.machines)
    load = (
        f"{q.rate_per_s:g} requests/s"
        if q.rate_per_s
        else f"{q.concurrency:g} requests in flight"
        if q.concurrency
        else "as many requests as the limits allow"
    )
    limits = [
        f"{_level(asked, name)}{name.upper()} <= {units.duration(getattr(q.slo, f'{name}_s'))}"
        for name in ("ttft", "tpot", "e2e")
        if math.isfinite(getattr(q.slo, f"{name}_s"))
    ]
    within = f", {', '.join(limits)}" if limits else ""
    return f"{q.model} on up to {machines}: {q.isl:g} in / {q.osl:g} out, {load}{within}"


def _level(asked: Asked, name: str) -> str:
    return f"p{100 * asked.percentiles[name]:g} of " if name in asked.percentiles else ""


def objective_words(question: Question) -> str:
    """What is best, the most important first."""
    return ", then ".join(OBJECTIVES[name].words for name in question.objectives)


def why_words(planned: Planned) -> list[str]:
    """Why the winner wins: what bounds it, which limit holds it back, what the others lose by."""
    winner, q = planned.winner, planned.question
    lines = [f"winner: {short_name(planned, winner)}"]
    phases = {phase.name: phase for phase in planned.prediction.phases}
    bounds = [
        f"{name} is bound by {_bound(phase)} ({units.duration(_time_s(phase))} a step)"
        for name, phase in sorted(phases.items(), reverse=True)
    ]
    if bounds:
        lines.append(f"  its {'; its '.join(bounds)}")
    v = planned.prediction.values
    memory = ", ".join(f"{name} {units.size(float(v[f'{name}_bytes_per_chip']))}" for name in ("weights", "kv"))
    lines.append(f"  memory of a chip: {memory}; board power {units.si(float(v['power_w_per_chip']), 'W')}")
    held = [
        f"{name.upper()} {units.duration(float(winner.values[f'{name}_s']))} "
        f"({float(winner.values[f'{name}_s']) / getattr(q.slo, f'{name}_s'):.0%} of its limit{_on(planned, name)})"
        for name in ("ttft", "tpot", "e2e")
        if math.isfinite(getattr(q.slo, f"{name}_s"))
    ]
    if held:
        lines.append(f"  limits: {', '.join(held)}")
    if len(planned.best) > 1:
        lines.append(f"  the runner-up, {short_name(planned, planned.best[1])}, {_behind(planned, planned.best[1])}")
    own = winner.case.get("mode", "agg")
    others = [one for one in planned.families.values() if one.case.get("mode", "agg") != own]
    if others:
        best = min(others, key=lambda one: _value(planned, one, q.objectives[0]))
        kind = "one pool" if own == "disagg" else "separate pools"
        lines.append(f"  the best with {kind}, {short_name(planned, best)}, {_behind(planned, best)}")
    return lines


def _on(planned: Planned, name: str) -> str:
    level = planned.asked.percentiles.get(name)
    return "" if level is None else f" on p{100 * level:g}"


def _behind(planned: Planned, other: Candidate) -> str:
    """How another candidate compares with the winner, objective by objective."""
    parts = []
    for name in planned.question.objectives:
        ours, theirs = _value(planned, planned.winner, name), _value(planned, other, name)
        if name in ("throughput", "per-chip"):
            change, word = ours / theirs - 1.0, NOUNS[name]
        else:
            change, word = theirs / ours - 1.0, NOUNS[name]
        parts.append(f"has {change:+.1%} {word}" if abs(change) >= 5e-4 else f"has the same {word}")
    return ", ".join(parts)


NOUNS: Mapping[str, str] = {
    "throughput": "output tokens/s",
    "per-chip": "output tokens/s per chip",
    "cost": "cost",
    "chips": "chips",
    "ttft": "TTFT",
    "tpot": "TPOT",
    "latency": "latency",
    "energy": "energy per token",
    "carbon": "carbon per token",
}


def _value(planned: Planned, one: Candidate, objective: str) -> float:
    """An objective of a candidate, to be minimised."""
    columns = {name: np.array([float(value)]) for name, value in one.values.items() if not isinstance(value, str)}
    columns["usd_per_s"] = columns["usd_per_h"] / 3600.0
    return float(OBJECTIVES[objective].value(columns, planned.question)[0])


def _bound(phase: Any) -> str:
    shares = {name: float(np.max(np.asarray(value))) for name, value in phase.step.time_by_bound().items()}
    return str(max({**shares, "host": phase.host_s}.items(), key=lambda one: one[1])[0])


def _time_s(phase: Any) -> float:
    return float(np.max(np.asarray(phase.step.time_s))) + float(phase.host_s)


def moved_words(planned: Planned) -> list[tuple[str, str, str, str]]:
    """(assumption, its change, what the first objective does, what becomes of the winner), row by row."""
    first = planned.question.objectives[0]
    rows = []
    for one in planned.moved:
        change = f"{one.factor - 1.0:+.0%}"
        if not one.case:
            rows.append((one.name, change, "-", "no candidate keeps the limits"))
            continue
        ratio = 1.0 / one.objective if first in ("throughput", "per-chip") else one.objective
        name = deployment_words(one.case)
        name = name if len(planned.question.machines) > 1 else name.rpartition(" on ")[0]
        what = "same plan" if not one.plan_changes else name
        if one.sizes_change and not one.plan_changes:
            what = f"same plan, other sizes: {name}"
        rows.append((one.name, change, f"{ratio - 1.0:+.1%}", what))
    return rows
