"""From a table as people bring it to complete cases: aliases, defaults and ranges, each fault in its own row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.tables.columns import NUMBER, TASKS, Column
from ridgeline.core.cases import Cases, Problems
from ridgeline.core.errors import UnknownNameError, did_you_mean
from ridgeline.core.tables import Labels, Table


def task_columns(task: str) -> tuple[Column, ...]:
    """The columns of a task. Raises UnknownNameError with the nearest tasks."""
    if task not in TASKS:
        fix = did_you_mean(task, TASKS, listing=f"tasks: {', '.join(TASKS)}")
        raise UnknownNameError(f"unknown task {task!r}", at="task", fix=fix)
    return TASKS[task]


def kinds_of(columns: Sequence[Column]) -> Mapping[str, Literal["number", "text"]]:
    """Every name under which the columns may come, and what they hold."""
    kinds: dict[str, Literal["number", "text"]] = {}
    for column in columns:
        for name in (column.name, *column.aliases):
            kinds[name] = "number" if column.kind == NUMBER else "text"
    return kinds


def wanted(task: str) -> Mapping[str, Literal["number", "text"]]:
    """Every name under which the task's columns may come, and what they hold."""
    return kinds_of(task_columns(task))


def intake(task: str, table: Table) -> tuple[Cases, Problems]:
    """The cases of a table, complete, and what is wrong with each row so far."""
    problems = Problems(table.rows)
    numbers: dict[str, NDArray[np.float64] | float] = {}
    texts: dict[str, Labels] = {}
    for column in task_columns(task):
        if column.kind == NUMBER:
            numbers[column.name] = _number(column, _source(column, table), table, problems)
        else:
            texts[column.name] = _labels(column, _source(column, table), table, problems)
    return Cases(table.rows, numbers, texts), problems


def flag_cells(columns: Sequence[Column], table: Table, problems: Problems) -> None:
    """Flag cells that are no value of their columns; a column that must be given may still be missing."""
    for column in columns:
        source = _source(column, table)
        if source is not None:
            if column.default is None:
                column = replace(column, default=math.nan if column.kind == NUMBER else "")
            (_number if column.kind == NUMBER else _labels)(column, source, table, problems)


def _source(column: Column, table: Table) -> str | None:
    """Under which of its names the column is there."""
    return next((name for name in (column.name, *column.aliases) if table.has(name)), None)


def _number(column: Column, source: str | None, table: Table, problems: Problems) -> NDArray[np.float64] | float:
    if source is None:
        if column.default is None:
            problems.flag(slice(None), f"{column.name} must be given: {column.doc}")
            return float("nan")
        return float(column.default)
    if source in table.bad:
        offending = table.bad[source]
        for code, text in enumerate(offending.values):
            problems.flag(offending.codes == code, f"{source} is not a number (got {text[:60]!r})")
    values = table.number(source)
    absent = np.isnan(values)
    if column.default is None:
        problems.flag(absent, f"{column.name} must be given: {column.doc}")
    else:
        values = np.where(absent, float(column.default), values)
    outside = ~absent & ((values < column.lowest) | (values > column.highest))
    if column.whole and column.default != 0.0:
        outside |= ~absent & (values < 1)
    _flag_each(problems, outside, values, f"{column.name} must lie in {column.lowest:g} .. {column.highest:g}")
    if column.whole:
        _flag_each(problems, ~absent & (values != np.floor(values)), values, f"{column.name} must be a whole number")
    return values


def _flag_each(problems: Problems, where: NDArray[np.bool_], values: NDArray[np.float64], what: str) -> None:
    for value in np.unique(values[where]):
        problems.flag(where & (values == value), f"{what} (got {value:g})")


def _labels(column: Column, source: str | None, table: Table, problems: Problems) -> Labels:
    labels = table.labels(source) if source else Labels(np.full(table.rows, -1, dtype=np.int32), ())
    default = column.default if isinstance(column.default, str) else ""
    missing = labels.codes < 0
    if column.default is None:
        problems.flag(missing, f"{column.name} must be given: {column.doc}")
    values = (*labels.values, default)
    codes = np.where(missing, np.int32(len(labels.values)), labels.codes)
    if column.choices:
        for code, value in enumerate(labels.values):
            if value.casefold() not in column.choices:
                fix = did_you_mean(value, column.choices, listing=f"known: {', '.join(filter(None, column.choices))}")
                problems.flag(
                    codes == code, UnknownNameError(f"unknown {column.name} {value!r}", at=column.name, fix=fix)
                )
        values = tuple(value.casefold() for value in values)
    return Labels(codes, values)
