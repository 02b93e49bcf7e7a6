"""Deployments and limits in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline.api.plan_question import Asked
from ridgeline.core import units
from ridgeline.search.planning import OBJECTIVES, Question

if TYPE_CHECKING:
    from ridgeline.api.plan import Candidate, Planned

Cells = Mapping[str, float | str]
_DEGREES = (("tp", 1.0), ("pp", 1.0), ("dp", 1.0), ("ep", 0.0), ("moe_tp", 0.0), ("cp", 1.0))


def deployment_words(case: Cells) -> str:
    """One line: `vllm 8x (tp4) on h200-sxm`, or `vllm 12x prefill (tp1) + 10x decode (pp2) on h200-sxm`."""
    runtime, chip = case.get("runtime", "vllm"), case["chip"]
    if case.get("mode") == "disagg":
        pools = " + ".join(
            f"{_number(case, f'{pool}_workers', 1.0):g}x {pool} ({_cut(case, f'{pool}_', f'{pool}_batch')})"
            for pool in ("prefill", "decode")
        )
        return f"{runtime} {pools}{_formats(case)} on {chip}"
    return f"{runtime} {_number(case, 'replicas', 1.0):g}x ({_cut(case, '', 'max_batch')}){_formats(case)} on {chip}"


def _cut(case: Cells, prefix: str, batch: str) -> str:
    experts = _number(case, f"{prefix}ep", 0.0) > 1 or _number(case, f"{prefix}moe_tp", 0.0) > 1
    words = []
    for name, default in _DEGREES:
        value = _number(case, f"{prefix}{name}", default)
        shown = value > 1 if name in ("ep", "moe_tp") else value != default
        if shown and (experts or name not in ("ep", "moe_tp")):
            words.append(f"{name}{value:g}")
    if _number(case, batch, 0.0) > 0:
        words.append(f"batch {_number(case, batch, 0.0):g}")
    if not prefix and _number(case, "max_batched_tokens", 0.0) > 0:
        words.append(f"budget {_number(case, 'max_batched_tokens', 0.0):g}")
    if _number(case, "draft_tokens", 0.0) > 0 and prefix != "prefill_":
        words.append(f"drafts {_number(case, 'draft_tokens', 0.0):g}")
    return " ".join(words if words and words[0].startswith(("tp", "pp", "dp")) else ["tp1", *words])


def _formats(case: Cells) -> str:
    named = [f"{short}={case[name]}" for short, name in (("w", "weights"), ("kv", "kv")) if case.get(name)]
    return f" {' '.join(named)}" if named else ""


def _number(case: Cells, name: str, default: float) -> float:
    value = float(case.get(name, default))
    return default if math.isnan(value) else value


def miss_words(values: Cells, question: Question) -> tuple[str, str]:
    """(by how much the limits are missed, which limits would do), for the candidate that comes nearest."""
    missed, enough = [], []
    for name in ("ttft", "tpot", "e2e"):
        limit, value = getattr(question.slo, f"{name}_s"), float(values[f"{name}_s"])
        if value > limit:
            missed.append(f"{name} {units.duration(value)} is {value / limit - 1.0:.0%} above {units.duration(limit)}")
            enough.append(f"{name} {units.duration(value)}")
    return "; ".join(missed), ", ".join(enough)


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
    lines = [f"winner: {winner.name}"]
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
        f"({float(winner.values[f'{name}_s']) / getattr(q.slo, f'{name}_s'):.0%} of its limit)"
        for name in ("ttft", "tpot", "e2e")
        if math.isfinite(getattr(q.slo, f"{name}_s"))
    ]
    if held:
        lines.append(f"  limits: {', '.join(held)}")
    if len(planned.best) > 1:
        lines.append(f"  the runner-up, {planned.best[1].name}, {_behind(planned, planned.best[1])}")
    own = winner.case.get("mode", "agg")
    others = [one for one in planned.families.values() if one.case.get("mode", "agg") != own]
    if others:
        best = min(others, key=lambda one: _value(planned, one, q.objectives[0]))
        kind = "one pool" if own == "disagg" else "separate pools"
        lines.append(f"  the best with {kind}, {best.name}, {_behind(planned, best)}")
    return lines


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
