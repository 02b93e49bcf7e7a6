"""Rows of `predict serving` that name a trace: they are simulated, and fill the same result columns.

What does not depend on the load in time (memory, fit, legality) is predicted at the trace's mean lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.simulations.simulated_row import cells, predicted_columns
from ridgeline.api.tables.columns import SERVING
from ridgeline.core.cases import Problems
from ridgeline.core.errors import RidgelineError
from ridgeline.core.tables import Labels, Table

Floats = NDArray[np.float64]
Evaluate = Callable[[str, Table], tuple[dict[str, Any], Problems]]

NOT_THE_CASE = frozenset({"trace", "isl", "osl", "load", "concurrency", "site"})
"""Columns that the trace takes the place of, and the site, which counts what came of the run."""

TAKEN = tuple(column for column in SERVING if column.name not in NOT_THE_CASE)


def traced_rows(table: Table) -> NDArray[np.intp]:
    """Rows that name a trace."""
    return np.flatnonzero(table.labels("trace").codes >= 0) if table.has("trace") else np.empty(0, dtype=np.intp)


def evaluate_traced(table: Table, rows: NDArray[np.intp], evaluate: Evaluate) -> tuple[dict[str, Any], Problems]:
    """Result columns of a table some of whose rows are simulated.

    Args:
        table: cases of `predict serving`.
        rows: those that name a trace.
        evaluate: evaluates a table without traces.
    """
    traces = table.labels("trace")
    lengths = _Means()
    columns = dict(table.columns)
    isl, osl, rate = (table.number(name).copy() for name in ("isl", "osl", "request_rate_per_s"))
    asked = rate.copy()
    faults: dict[int, RidgelineError] = {}
    for row in rows.tolist():
        try:
            isl[row], osl[row] = lengths(traces.values[traces.codes[row]])
        except RidgelineError as error:
            faults[row] = error
            isl[row] = osl[row] = 1.0
    rate[rows] = 0.0  # the closed form is asked for what does not depend on the rate
    columns |= {"isl": isl, "osl": osl, "request_rate_per_s": rate}
    del columns["trace"]
    results, problems = evaluate("serving", replace(table, columns=columns))
    columns |= {"request_rate_per_s": asked}
    for row in rows.tolist():
        one = np.array([row], dtype=np.intp)
        if row in faults:
            problems.flag(one, faults[row])
        elif problems.ok[row]:
            try:
                answers = _simulated(cells(columns, row, TAKEN), traces.values[traces.codes[row]])
            except RidgelineError as error:
                problems.flag(one, error)
            else:
                for name, value in answers.items():
                    _put(results, name, row, value)
        if not problems.ok[row]:
            for name in results:
                _put(results, name, row, "" if isinstance(results[name], list) else np.nan)
    return results, problems


class _Means:
    """Mean lengths of a trace, each read once."""

    def __init__(self) -> None:
        self._of = cache(self._read)

    def __call__(self, trace: str) -> tuple[float, float]:
        return self._of(trace)

    @staticmethod
    def _read(trace: str) -> tuple[float, float]:
        from ridgeline.workloads.traffic import load_traffic

        traffic = load_traffic(trace)
        means = (
            float(column.mean()) if len(traffic) else 1.0 for column in (traffic.prompt_tokens, traffic.output_tokens)
        )
        isl, osl = (float(max(round(mean), 1)) for mean in means)
        return isl, osl


def _simulated(asked: Mapping[str, Any], trace: str) -> dict[str, float | str]:
    from ridgeline.api.simulations.simulate import simulate

    return predicted_columns(simulate(trace=trace, **asked))


def _put(results: dict[str, Any], name: str, row: int, value: float | str) -> None:
    column = results.get(name)
    if column is not None and name != "error" and not isinstance(column, Labels):
        column[row] = value
