"""Deployments and missed limits in a few words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ridgeline.core import units
from ridgeline.search.planning import Question

LIMITS = ("ttft", "tpot", "e2e")

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
    alone = 1.0 if prefix == "prefill_" else 0.0
    if _number(case, batch, 0.0) > alone:
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
