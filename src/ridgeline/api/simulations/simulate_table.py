"""`rl.simulate_table`: every row is a deployment under a load, and is simulated; rows come back in their order.

What does not depend on time (memory, fit, most sequences) is predicted at the mean lengths of each load and its mean
number of requests in flight, all rows at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ridgeline.api.simulations.simulate import Simulated, simulate
from ridgeline.api.simulations.simulated_row import cells, played_columns, predicted_columns
from ridgeline.api.tables.columns import FLEETS, LOADS, SERVING, TEXT, Column
from ridgeline.api.tables.intake import flag_cells, kinds_of
from ridgeline.api.tables.tasks import evaluate_table
from ridgeline.core.cases import Problems
from ridgeline.core.errors import RidgelineError
from ridgeline.core.tables import (
    Labels,
    Table,
    check_out,
    from_any,
    from_mapping,
    read_table,
    to_like,
    write_table,
)

MACHINES = (
    Column(name="on", kind=TEXT, doc="machines, as 8x h100-sxm", default=""),
    Column(name="plan", kind=TEXT, doc="the plan in words", default=""),
)
_BESIDE = (*MACHINES, *LOADS, *FLEETS)
COLUMNS = (*_BESIDE, *(column for column in SERVING if column.name not in {one.name for one in _BESIDE}))
"""Every column that a row may have."""

Told = Callable[[int, int, str], None]
"""Told now and then: rows that are done, rows in all, and how far the row under way is, in words."""


def simulate_table(table: Any, *, plugins: bool = True, engine: str = "auto", progress: Told | None = None) -> Any:
    """Simulate a table of cases in memory.

    Args:
        table: a dict of arrays, a DuckDB relation, or anything with `__arrow_c_stream__` or `__dataframe__`; its
            columns are the arguments of `simulate`, numbers in SI units.
        plugins: whether policies of installed distributions count.
        engine: as of `simulate`, for all rows.
        progress: told how far it is.
    Returns: the same kind, the same rows in the same order, with the result columns of `predict serving`, percentiles,
        goodput and counts appended. A row that cannot be keeps its place: its results are empty, `error` says why.
    """
    read = from_any(table, columns=kinds_of(COLUMNS))
    results, _ = _evaluate(read, plugins, engine, progress)
    return to_like(table, read, results)


def simulate_file(
    cases: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    plugins: bool = True,
    engine: str = "auto",
    progress: Told | None = None,
) -> tuple[int, int]:
    """Simulate a file of cases into another. Returns (rows simulated, rows with an error)."""
    read = read_table(cases, columns=kinds_of(COLUMNS))
    check_out(out)
    results, problems = _evaluate(read, plugins, engine, progress)
    write_table(read, results, out)
    good = int(problems.ok.sum())
    return good, problems.rows - good


def _evaluate(table: Table, plugins: bool, engine: str, progress: Told | None) -> tuple[dict[str, Any], Problems]:
    problems = Problems(table.rows)
    flag_cells(COLUMNS, table, problems)
    rows: list[dict[str, float | str]] = [{} for _ in range(table.rows)]
    plain: list[Mapping[str, float | str] | None] = [None] * table.rows
    stopped = False
    for row in range(table.rows):
        one = np.array([row], dtype=np.intp)
        if stopped:
            problems.flag(one, "not simulated: the table was interrupted")
        if not problems.ok[row]:
            continue
        try:
            asked: dict[str, Any] = cells(table.columns, row, COLUMNS)
            run = simulate(plugins=plugins, engine=engine, progress=_telling(progress, row, table.rows), **asked)
        except RidgelineError as error:
            problems.flag(one, error)
            continue
        rows[row] = {**predicted_columns(run), **played_columns(run)}
        plain[row] = _of_one_pool(run)
        if run.interrupted:
            problems.flag(one, "interrupted before its end")
            stopped = True
    if progress is not None:
        progress(table.rows, table.rows, "")
    known = _at_means(plain)
    together = [{**one, **run} for one, run in zip(known, rows, strict=True)]
    names = dict.fromkeys(name for part in (*known, *rows) for name in part)
    results = {name: _blanked(_column(name, together), ~problems.ok) for name in names}
    codes, messages = problems.coded()
    results["error"] = Labels(codes, messages)
    return results, problems


def _telling(progress: Told | None, row: int, rows: int) -> Callable[[float, int, int, str], None] | None:
    if progress is None:
        return None
    progress(row, rows, "")

    def tell(time_s: float, ended: int, total: int, so_far: str) -> None:
        del so_far
        progress(row, rows, f"row {row + 1}: {ended:,} of {total:,} requests, {time_s:,.0f} s simulated")

    return tell


def _of_one_pool(run: Simulated) -> Mapping[str, float | str] | None:
    """The case of a run with as many requests in flight as it had, for what is predicted; None for a fleet of pools."""
    if run.pools:
        return None
    left_out = ("request_rate_per_s", "load", "procedure", "trace")
    flight = run.answers.steady.in_flight
    plain = {name: value for name, value in run.case.items() if name not in left_out}
    return plain | {"concurrency": max(flight, 1.0) if np.isfinite(flight) else 1.0}


def _at_means(plain: Sequence[Mapping[str, float | str] | None]) -> list[dict[str, float | str]]:
    """The columns of `predict serving` that do not depend on time, row by row."""
    known: list[dict[str, float | str]] = [{} for _ in plain]
    chosen = [row for row, case in enumerate(plain) if case is not None]
    cases = [case for case in plain if case is not None]
    if not cases:
        return known
    columns = {name: [case[name] for case in cases] for name in cases[0]}
    kinds: Mapping[str, Literal["number", "text"]] = kinds_of(SERVING)
    results, _ = evaluate_table("serving", from_mapping(columns, columns=kinds))
    for name, values in results.items():
        if name != "error":
            for row, value in zip(chosen, values, strict=True):
                known[row][name] = value
    return known


def _column(name: str, rows: Sequence[Mapping[str, float | str]]) -> Any:
    if name in ("bound", "regime"):
        return [str(row.get(name, "")) for row in rows]
    return np.array([row.get(name, np.nan) for row in rows], dtype=np.float64)


def _blanked(column: Any, bad: Any) -> Any:
    if isinstance(column, list):
        return ["" if wrong else text for text, wrong in zip(column, bad.tolist(), strict=True)]
    return np.where(bad, np.nan, column)
