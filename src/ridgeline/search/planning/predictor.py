"""How rows are priced here: `predict` itself, and the parts of it that many loads share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.cases import Cases, Problems
from ridgeline.core.columns import map_columns
from ridgeline.core.errors import SpecError
from ridgeline.core.tables import Table
from ridgeline.search.planning.question import Column
from ridgeline.search.planning.rows import Index, Rows
from ridgeline.serving.deployment import Deployment, Pool, lane_load, make_pool, plan_of, served
from ridgeline.serving.load import Load
from ridgeline.serving.predict import deployment_for, grouped, predict_serving, unchanged
from ridgeline.serving.steady import Times, sample_times, settle

RESULTS = ("ttft_s", "tpot_s", "e2e_s", "request_per_s", "batch", "energy_j_per_output_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """Prices rows.

    Attributes:
        intake: fills a table's defaults in and checks its ranges.
        change: what is assumed otherwise than the catalogue has it.
    """

    intake: Callable[[Table], tuple[Cases, Problems]]
    change: Callable[[Deployment], Deployment] = unchanged

    def deployments(self, rows: Rows) -> Iterator[tuple[Deployment, Index]]:
        """The deployments of the rows, those of one structure together. Raises SpecError for a row that cannot be."""
        cases, problems = self.intake(rows.table())
        found = [
            (self.change(deployment_for(group, group.rows, cases)), group.rows) for group in grouped(cases, problems)
        ]
        wrong = next((text for text in problems.column() if text), "")
        if wrong:
            raise SpecError(wrong, at="question")
        yield from found

    def evaluate(self, rows: Rows) -> dict[str, Column]:
        """`RESULTS` of each row, NaN where it has a problem (it does not fit, queues grow without end)."""
        cases, problems = self.intake(rows.table())
        with np.errstate(all="ignore"):
            results = predict_serving(cases, problems, self.change)
        return {name: np.asarray(results[name], dtype=np.float64) for name in RESULTS}

    def open_loop(self, rows: Rows) -> Callable[[Column, Index], dict[str, Column]]:
        """A function (rates, rows) -> times of one replica under random arrivals, whose steps are priced only once.

        It gives what `evaluate` gives, but for energy. A rate of infinity asks for the saturated state; queues that
        grow without end have times of NaN.
        """
        parts = [_priced(d, at) for d, at in self.deployments(rows)]
        count = rows.count

        def times_at(rates: Column, index: Index) -> dict[str, Column]:
            found = {name: np.full(index.size, np.nan) for name in RESULTS[:-1]}
            place = np.empty(count, dtype=np.intp)
            for part in parts:
                place[:] = -1
                place[part.at] = np.arange(part.at.size)
                chosen = np.flatnonzero(place[index] >= 0)
                if chosen.size:
                    for name, value in part.times(place[index[chosen]], rates[chosen]).items():
                        found[name][chosen] = value
            return found

        return times_at


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replicas:
    """Rows `at` of a table: one replica each, with its priced steps."""

    at: Index
    deployment: Deployment
    pool: Pool
    load: Load
    steps: Times

    def times(self, rows: Index, rates: Column) -> dict[str, Column]:
        """What requests meet at a rate (inf: saturated), by rows of this part."""

        def taken(column: NDArray[Any]) -> NDArray[Any]:
            return column[rows]

        d = self.deployment
        pool = replace(self.pool, limits=map_columns(self.pool.limits, taken), lanes=taken(np.asarray(self.pool.lanes)))
        full = np.isinf(rates)
        load = replace(
            map_columns(self.load, taken),
            rate_per_s=np.where(full, 0.0, rates / pool.lanes),
            concurrency=np.where(full, np.inf, 0.0),
        )
        cases = {name: d.cases[name][rows] for name in ("concurrency", "replicas")}
        with np.errstate(all="ignore"):
            state = settle(map_columns(self.steps, taken), d.runtime, load, pool.limits, d.procedure)
            per_s, extra_s = served(replace(d, cases=cases), pool, load, state)
            ttft_s, tpot_s = state.ttft_s + extra_s, state.tpot_s
            e2e_s = ttft_s + tpot_s * np.maximum(load.osl - 1.0, 0.0)
        found = {"ttft_s": ttft_s, "tpot_s": tpot_s, "e2e_s": e2e_s, "request_per_s": per_s, "batch": state.batch}
        return {name: np.where(state.overloaded, np.nan, value) for name, value in found.items()}


def _priced(d: Deployment, at: Index) -> _Replicas:
    c, plan = d.cases, plan_of(d)
    load = lane_load(d, c["replicas"] * plan.dp * plan.pp, plan.pp)
    pool = make_pool(d, plan, load, c["replicas"], batch=c["max_batch"], prompts_only=False)
    with np.errstate(all="ignore"):
        steps = sample_times(pool.stepper, load, pool.limits)
    return _Replicas(at=at, deployment=d, pool=pool, load=load, steps=steps)
