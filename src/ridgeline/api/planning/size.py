"""`rl.size`: the least chips, money or watts that serve a load within its limits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ridgeline.api.planning.plan import Candidate, Planned, Unsatisfiable, plan, serving_intake
from ridgeline.api.planning.plan_question import Asked, asked_of, finite, items
from ridgeline.core.errors import PlanError, SpecError, UnknownNameError, did_you_mean
from ridgeline.hardware.machine import machine_of
from ridgeline.search.planning import Allowed, Found, Predictor, find

LEAST: Mapping[str, tuple[str, str]] = {
    "chips": ("chips", "latency"),
    "money": ("cost", "latency"),
    "watts": ("energy", "latency"),
}
"""What is to be least -> objectives of the search: at a given rate, money and watts go as cost and energy per token."""

FIRST, MOST, GROWTH = 16, 16_384, 4
"""Chips with which a need is estimated first, with which that ends, and the factor between tries."""

MARGIN, ROOM = 1.5, 8
"""Chips allowed in the search, over the estimate: a factor, and so many more."""


@dataclass(frozen=True, eq=False)
class Sized:
    """What a load needs: `least` of what, and the search, whose winner needs least of it."""

    least: str
    planned: Planned

    @property
    def winner(self) -> Candidate:
        """The smallest deployment."""
        return self.planned.winner

    @property
    def needs(self) -> Mapping[str, float]:
        """Chips, price and power of boards of the winner."""
        v = self.winner.values
        chips = float(v["chips"])
        return {
            "chips": chips,
            "usd_per_h": float(v["usd_per_h"]),
            "power_w": float(v["power_w_per_chip"]) * chips,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        needs = {name: finite(value) for name, value in self.needs.items()}
        return {**self.planned.to_dict(), "verb": "size", "least": self.least, "needs": needs}

    def __rich__(self) -> Any:
        """The table that a terminal shows."""
        from ridgeline.api.planning.plan_view import sized_view

        return sized_view(self)

    def __str__(self) -> str:
        """The same as plain text."""
        from ridgeline.api.planning.plan_view import plain

        return plain(self)


def size(*, least: str = "chips", **asked: Any) -> Sized:
    """Find the smallest deployment for a load.

    Args:
        least: chips, money or watts.
        asked: as of `plan`; a rate (or requests in flight, a trace, arrivals), and machines, whose counts may be left
            out: as many as it takes.
    Raises: as `plan`; SpecError where no load is given; Unsatisfiable where no number of chips keeps the limits.

    Example: `rl.size(model="Qwen/Qwen3-32B-FP8", on="h200-sxm", rate="40/s", isl=4000, osl=1000, ttft="1s")`
    """
    if least not in LEAST:
        fix = did_you_mean(least, LEAST, listing=f"one of {', '.join(LEAST)}")
        raise UnknownNameError(f"unknown measure of size {least!r}", at="least", fix=fix)
    if "objective" in asked:
        raise SpecError("the objective of a size is what is to be least", at="objective", fix="say it by `least`")
    written = {**asked, "objective": list(LEAST[least])}
    understood = asked_of(written)
    if understood.question.free:
        raise SpecError("nothing says how much is to be served", at="rate", fix="give --rate 40/s")
    kinds = [
        text if re.match(r"\s*[+-]?[0-9]", text) else f"{_enough(understood, allowed)}x {text}"
        for text, allowed in zip(items(asked, "on"), understood.question.machines, strict=True)
    ]
    return Sized(least, plan(**{**written, "on": kinds}))


def _enough(asked: Asked, allowed: Allowed) -> int:
    """Chips of a kind that are enough for the load, from what each carries where the load is free."""
    q, chips = asked.question, FIRST
    while chips <= MOST:
        kind = replace(allowed, machine=machine_of(allowed.machine.chip, chips, node=allowed.machine.node))
        free = replace(q, machines=(kind,), rate_per_s=0.0, concurrency=0.0, objectives=("per-chip",))
        try:
            with np.errstate(all="ignore"):
                found = find(free, Predictor(intake=serving_intake), top=1)
        except PlanError:
            chips *= GROWTH  # the model needs more than these to fit
            continue
        return max(math.ceil(MARGIN * _needed(found, asked)) + ROOM, chips)
    name = allowed.machine.chip.name
    raise Unsatisfiable(f"{q.model} does not fit on {MOST:,} {name}", at="on", got=name, fix="take larger chips")


def _needed(found: Found, asked: Asked) -> float:
    """Chips that carry the load at the best of what each carries; 0 where no candidate keeps the limits."""
    best, q = found.best.screened, asked.question
    if not found.best.count:
        return 0.0
    rate = float(best["request_per_s"][0])
    carried = rate if q.rate_per_s else rate * float(best["e2e_s"][0])
    return (q.rate_per_s or q.concurrency) / carried * float(best["chips"][0])
