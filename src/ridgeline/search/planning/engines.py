"""Which engines fit into memory: before anything is priced, as columns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.plans import Plan
from ridgeline.plans.plan import DEGREES
from ridgeline.search.planning.predictor import Predictor
from ridgeline.search.planning.question import Question
from ridgeline.search.planning.rows import Index, Rows
from ridgeline.serving.deployment import lane_load, make_pool, plan_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Engines:
    """Engines that fit.

    Attributes:
        rows: cases of one replica (or of one worker of a pool), without a load.
        chips: of each row.
        slots: sequences that a lane of each row holds at most.
        plan: number of each row's degrees and formats: engines of one plan differ in settings only.
        changed: settings of each row that are not the default.
    """

    rows: Rows
    chips: NDArray[np.float64]
    slots: NDArray[np.float64]
    plan: Index
    changed: NDArray[np.float64]

    def take(self, index: Index) -> Engines:
        """Some of them."""
        return Engines(
            rows=self.rows.take(index),
            chips=self.chips[index],
            slots=self.slots[index],
            plan=self.plan[index],
            changed=self.changed[index],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """The engine that comes nearest to fitting: bytes that a chip needs and may give."""

    needs_bytes: float
    has_bytes: float
    plan: str
    chip: str


def usable(question: Question, machine: int) -> int:
    """Chips of one kind that the limits on power and price leave."""
    allowed = question.machines[machine]
    most = [float(allowed.chips), question.power_w / allowed.machine.chip.tdp_w]
    if math.isfinite(question.usd_per_s):
        most.append(question.usd_per_s / allowed.usd_per_s)
    return int(min(most) + 1e-9)


def fitting(rows: Rows, predictor: Predictor, *, pool: str = "") -> tuple[Engines, Shortage | None]:
    """The engines of a table that fit, without those whose batch limit memory makes meaningless.

    Args:
        rows: engines.
        predictor: how they are priced.
        pool: "" (a replica that does all), "prefill" or "decode": whose degrees are meant.
    Returns: the engines, and the one that is nearest to fitting if none does.
    """
    prefix = f"{pool}_" if pool else ""
    limit = f"{pool}_batch" if pool else "max_batch"
    fits = np.zeros(rows.count, dtype=np.bool_)
    most, slots, needs, has = (np.zeros(rows.count) for _ in range(4))
    for d, at in predictor.deployments(rows):
        c = d.cases
        made = make_pool(
            d, plan_of(d, prefix), lane_load(d, 1.0), np.ones(at.size), batch=c[limit], prompts_only=pool == "prefill"
        )
        m = made.memory
        fits[at] = m.fits
        slots[at] = made.limits.slots
        most[at] = m.max_sequences / made.stepper.plan.pp
        needs[at] = m.weights_bytes + m.reserve_bytes + m.sequence_bytes
        has[at] = needs[at] + m.free_bytes - m.sequence_bytes
    asked = rows.number(limit, 0.0)
    kept = np.flatnonzero(fits & ((asked == 0) | (asked < most) | (pool == "prefill")))
    chips = np.prod([rows.numbers[f"{prefix}{name}"] for name in ("tp", "pp", "dp")], axis=0) * rows.number("cp", 1.0)
    changed = sum(((rows.number(name, 0.0) > 0).astype(float) for name in (limit, "max_batched_tokens")), np.zeros(1))
    of_plan = [rows.number(f"{prefix}{name}", 0.0) for name in DEGREES]
    of_plan += [rows.texts[name].codes.astype(np.float64) for name in ("weights", "kv")]
    _, plan = np.unique(np.column_stack(of_plan), axis=0, return_inverse=True)
    engines = Engines(
        rows=rows, chips=chips, slots=slots, plan=plan.reshape(-1), changed=np.broadcast_to(changed, chips.shape)
    )
    if kept.size:
        return engines.take(kept), None
    nearest = int(np.argmin(needs - has)) if rows.count else 0
    short = _shortage(rows, nearest, needs, has, prefix) if rows.count else None
    return engines.take(kept), short


def _shortage(rows: Rows, at: int, needs: NDArray[np.float64], has: NDArray[np.float64], prefix: str) -> Shortage:
    named = {name: float(rows.number(f"{prefix}{name}", 1.0)[at]) for name in DEGREES}
    plan = Plan(**{name: degree for name, degree in named.items() if degree > 1})  # type: ignore[arg-type]
    chip = rows.texts["chip"]
    return Shortage(
        needs_bytes=float(needs[at]),
        has_bytes=float(has[at]),
        plan=str(plan),
        chip=chip.values[chip.codes[at]],
    )
