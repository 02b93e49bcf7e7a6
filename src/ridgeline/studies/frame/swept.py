"""Studies under a sweep: the task is `study NAME`, the axes are its assumptions, the results are its claims.

task: study splitwise
axes:
some assumption: [1, 2, 4]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgeline.api.sweeps.sweep_cases import VERBS as VERBS_OF_API
from ridgeline.api.sweeps.sweep_cases import Verb, Verbs
from ridgeline.api.tables.columns import NUMBER, Column
from ridgeline.core.errors import RidgelineError
from ridgeline.search.sweeps.points import Cell
from ridgeline.studies.frame.shelf import find, names

MOST = 1e300
"""An assumption may be any number; the study itself says which make sense."""


def columns(task: str) -> tuple[Column, ...]:
    """A column per assumption, with the study's own value where a sweep leaves it out."""
    return tuple(
        Column(
            name=one.name, kind=NUMBER, doc=one.source, default=one.value, lowest=-1e300, highest=1e300, whole=one.whole
        )
        for one in find(task).assumptions
    )


def study_points(question: Mapping[str, Any], points: Mapping[str, list[Cell]]) -> dict[str, Any]:
    """Our lowest and highest number of every claim, its verdict, and what went wrong, a row per point."""
    study = find(str(question["task"]))
    rows: list[dict[str, Cell]] = []
    for i in range(len(next(iter(points.values())))):
        moved = {name: float(cells[i]) for name, cells in points.items()}
        try:
            outcome = study.run(study.assumed(**moved))
        except RidgelineError as error:
            rows.append({"error": error.line()})
            continue
        row: dict[str, Cell] = {"error": ""}
        for claim in study.claims:
            low, high = outcome.ends(claim.metric)
            row |= {claim.metric: low} if low == high else {f"{claim.metric}, low": low, f"{claim.metric}, high": high}
            row[f"{claim.metric}, verdict"] = str(claim.judge((low, high)))
        rows.append(row)
    every = dict.fromkeys(name for row in rows for name in row)
    empty = {name: "" if name == "error" or name.endswith(", verdict") else float("nan") for name in every}
    return {name: [row.get(name, empty[name]) for row in rows] for name in every}


VERBS: Verbs = {**VERBS_OF_API, "study": Verb(tasks=names, columns=columns, evaluate=study_points, alone=True)}
"""What the command line sweeps."""
