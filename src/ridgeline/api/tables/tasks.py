"""Tasks: which function evaluates which table, and the way of every table: in, checked, evaluated, out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from ridgeline.api.simulations.traced import evaluate_traced, traced_rows
from ridgeline.api.tables.columns import TASKS
from ridgeline.api.tables.intake import intake, wanted
from ridgeline.api.tables.ops import predict_ops
from ridgeline.core.cases import Cases, Problems, Resolved
from ridgeline.core.errors import SpecError
from ridgeline.core.tables import Labels, Table, from_any, read_table, to_like, write_table
from ridgeline.hardware import catalogue
from ridgeline.serving.forward import predict_step
from ridgeline.serving.predict import predict_serving

Results = dict[str, Any]
Evaluate = Callable[[Cases, Problems], Mapping[str, Any]]


def _training(cases: Cases, problems: Problems) -> Mapping[str, Any]:
    from ridgeline.training.predict import predict_training

    results: Mapping[str, Any] = predict_training(cases, problems)
    return results


def _vision(cases: Cases, problems: Problems) -> Mapping[str, Any]:
    from ridgeline.training.vision import predict_vision

    return predict_vision(cases, problems)


def _serving(cases: Cases, problems: Problems) -> Mapping[str, Any]:
    """As `predict_serving`; a site that is not known is a problem before anything is evaluated."""
    if any(cases.labels("site").values):
        Resolved(problems, cases, ("site",), lambda name: catalogue.site(name).name if name else "")
    return predict_serving(cases, problems)


EVALUATE: Mapping[str, Evaluate] = {
    "ops": predict_ops,
    "step": predict_step,
    "serving": _serving,
    "training": _training,
    "vision": _vision,
}


def evaluate_table(task: str, table: Table) -> tuple[Results, Problems]:
    """Result columns of every row, `error` last, and the problems they come from.

    Raises UnknownNameError: no such task. A row that cannot be evaluated keeps its place: results empty, error told.
    """
    traced = traced_rows(table)
    if task == "serving" and traced.size:
        results, problems = evaluate_traced(table, traced, _evaluate)
    else:
        results, problems = _evaluate(task, table)
    if task == "serving" and "site" in table.columns:
        from ridgeline.api.impacts.site_columns import site_columns

        results |= site_columns(intake(task, table)[0], results, problems)
    codes, messages = problems.coded()
    results["error"] = Labels(codes, messages)
    return results, problems


def _evaluate(task: str, table: Table) -> tuple[Results, Problems]:
    cases, problems = intake(task, table)
    with np.errstate(all="ignore"):
        return dict(EVALUATE[task](cases, problems)), problems


def predict_table(task: str, table: Any) -> Any:
    """Evaluate a table of cases in memory.

    Args:
        task:  ops, serving, training or vision.
        table: a dict of arrays, a DuckDB relation, or anything with `__arrow_c_stream__` or `__dataframe__`.
    Returns: the same kind, the same rows in the same order, with the result columns appended.
    """
    read = from_any(table, columns=wanted(task))
    results, _ = evaluate_table(task, read)
    return to_like(table, read, results)


def predict_file(task: str, cases: str | os.PathLike[str], out: str | os.PathLike[str]) -> tuple[int, int]:
    """Evaluate a file of cases into another. Returns (rows evaluated, rows with an error)."""
    read = read_table(cases, columns=wanted(task))
    results, problems = evaluate_table(task, read)
    write_table(read, results, out)
    good = int(problems.ok.sum())
    return good, problems.rows - good


def task_of_file(path: str | os.PathLike[str]) -> str:
    """The task whose columns a file of cases has, by the column that only this task needs.

    Raises SpecError when none fits.
    """
    names = set(read_table(path, columns=_SIGNS).columns)
    found = [task for task, sign in _SIGN_OF.items() if sign in names][:1]
    if not found:
        raise SpecError(
            "cannot tell which task these cases are for",
            at=str(path),
            fix=f"say it: `ridgeline predict {'|'.join(TASKS)} --cases FILE`",
        )
    return found[0]


_SIGN_OF: Mapping[str, str] = {
    "ops": "kind",
    "step": "phase",
    "serving": "isl",
    "training": "seq",
    "vision": "resolution",
}
_SIGNS: Mapping[str, Literal["number", "text"]] = dict.fromkeys(_SIGN_OF.values(), "text")
