"""Chips as a design space: units, arithmetic, cache, memory and links of a base chip, judged by deployments on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Problems, Rows
from ridgeline.core.errors import SpecError, UnknownNameError, did_you_mean
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.hardware.designs import Changes, machine_with
from ridgeline.search.chip_costs import costs_of
from ridgeline.search.problem import Limit, Objective, Problem
from ridgeline.search.space import Axis, Columns, Space
from ridgeline.serving.deployment import Deployment, Outcome, evaluate
from ridgeline.serving.disaggregated import evaluate_pools

Column = NDArray[np.float64]

CHUNK = 8192
"""Designs evaluated at once."""

AXES = tuple(field.name for field in fields(Changes) if field.name not in ("clock_hz", "tdp_w", "idle_w"))
"""What an axis may change. Power follows from the rest, and clocks are the base's."""

UNITS: Mapping[str, str] = {"area_m2": "m2", "tdp_w": "W", "cost_usd": "USD", "slowdown": "x"}

SLOWDOWN = "slowdown"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A deployment of one row on the base chip, and the result column in which a design should be good.

    `split` says that prompts and tokens have pools of their own; `weight` counts in the mean over workloads.
    """

    name: str
    deployment: Deployment
    metric: str = "tpot_s"
    maximise: bool = False
    weight: float = 1.0
    split: bool = False

    def __post_init__(self) -> None:
        """Refuse metrics that deployments do not have."""
        if self.metric not in Outcome.names():
            fix = did_you_mean(self.metric, Outcome.names())
            raise UnknownNameError(f"deployments have no {self.metric!r}", at=self.name, got=self.metric, fix=fix)


def chip_problem(
    workloads: Sequence[Workload],
    axes: Sequence[Axis],
    *,
    objectives: Sequence[str] = (SLOWDOWN, "cost_usd"),
    limits: Sequence[Limit] = (),
    name: str = "chips",
) -> Problem:
    """Designs like the chip that the workloads run on, with its facts replaced along the axes.

    Args:
        workloads: each on one machine of the base chip; all of the same chip.
        axes: named as the fields of `Changes`: compute_units, flops_per_unit_frac, cache_bytes, dram_bytes,
            dram_bytes_per_s, link_bytes_per_s.
        objectives: slowdown (weighted geometric mean of the metrics, in units of the base chip's), area_m2, tdp_w,
            cost_usd, or WORKLOAD.COLUMN of any result column of a deployment; all to be minimised.
        limits: on any of these columns.
        name: of the problem.
    Returns: a problem in which designs beyond the reticle are illegal, and those whose memory does not hold a workload
        infeasible.
    Raises: SpecError: no workloads, of different chips, or a base that cannot be judged. UnknownNameError: an axis.
    """
    bases = {workload.deployment.machines.machines[0].chip.name for workload in workloads}
    if len(bases) != 1:
        raise SpecError("the workloads run on one base chip", at="workloads", got=sorted(bases), fix="give one base")
    for axis in axes:
        if axis.name not in AXES:
            fix = did_you_mean(axis.name, AXES, listing=f"axes: {', '.join(AXES)}")
            raise UnknownNameError(f"chips have no axis {axis.name!r}", at="axes", got=axis.name, fix=fix)
    base = workloads[0].deployment.machines.machines[0].chip
    costs_of(base, Changes())
    standard = {one.name: _results(one, Changes(), 1) for one in workloads}

    def legal(columns: Columns) -> NDArray[np.bool_]:
        return costs_of(base, _changes(columns)).fits

    def evaluated(columns: Columns) -> dict[str, Column]:
        count = len(next(iter(columns.values())))
        parts = [
            _judged(workloads, {n: c[start : start + CHUNK] for n, c in columns.items()}, standard)
            for start in range(0, count, CHUNK)
        ]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    return Problem(
        name=name,
        space=Space(axes=tuple(axes), legal=legal),
        objectives=tuple(Objective(name=one, unit=UNITS.get(one, "")) for one in objectives),
        limits=tuple(limits),
        evaluate=evaluated,
    )


def _changes(columns: Columns) -> Changes:
    given: dict[str, Any] = dict(columns)
    return Changes(**given)


def _judged(
    workloads: Sequence[Workload], columns: Columns, standard: Mapping[str, Mapping[str, Column]]
) -> dict[str, Column]:
    count = len(next(iter(columns.values())))
    base = workloads[0].deployment.machines.machines[0].chip
    costs = costs_of(base, _changes(columns))
    changes = replace(_changes(columns), tdp_w=costs.tdp_w, idle_w=costs.idle_w)
    results: dict[str, Column] = {}
    logs, weights = np.zeros(count), 0.0
    for one in workloads:
        found = _results(one, changes, count)
        results |= {f"{one.name}.{key}": column for key, column in found.items()}
        ratio = found[one.metric] / standard[one.name][one.metric]
        logs += one.weight * np.log(1.0 / ratio if one.maximise else ratio)
        weights += one.weight
    results[SLOWDOWN] = np.exp(logs / weights)
    for key, value in (("area_m2", costs.area_m2), ("tdp_w", costs.tdp_w), ("cost_usd", costs.cost_usd)):
        results[key] = np.broadcast_to(value, (count,))
    return results


def _results(workload: Workload, changes: Changes, count: int) -> dict[str, Column]:
    """Result columns of a workload on designs, [designs]; NaN where it does not fit."""
    one = workload.deployment
    rows: Rows = np.arange(count, dtype=np.intp)
    deployment = replace(
        one,
        machines=MachineColumns((machine_with(one.machines.machines[0], changes),), rows),
        cases={name: np.repeat(column, count) for name, column in one.cases.items()},
        saturated=np.repeat(one.saturated, count),
        bulk=True,
    )
    problems = Problems(count)
    with np.errstate(all="ignore"):
        numbers = (evaluate_pools if workload.split else evaluate)(deployment, problems, rows).numbers()
    ok = problems.ok
    return {
        name: np.where(ok, np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)), np.nan)
        for name, value in numbers.items()
    }
