"""`ridgeline search`: a design problem from a file, its search, and both as people read them.

pydantic holds the file's form and stops here; `problems.py` gives its keys meaning.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgeline.api.predictions.show import human
from ridgeline.api.sweeps.problems import chip_problem, task_problem
from ridgeline.core import units
from ridgeline.core.errors import SpecError
from ridgeline.core.files import Document, load_yaml
from ridgeline.core.forms import Place, validated
from ridgeline.core.tables import from_mapping, write_table
from ridgeline.search import Comparison, Found, Problem, Range

Value = str | int | float
ROWS = 20
"""Designs of a front that a screen shows."""

RATIOS = frozenset({"slowdown", "flops_per_unit_frac"})
"""Numbers without a unit that `human` would take for something else."""


class RangeModel(BaseModel):
    """Any number between two."""

    model_config = ConfigDict(extra="forbid", strict=True)

    low: Value
    high: Value
    log: bool = False


class DesignFile(BaseModel):
    """The whole file: a task of `predict` over axes of its columns, or chips under workloads."""

    model_config = ConfigDict(extra="forbid", strict=True)

    task: str = "serving"
    on: str = ""
    case: dict[str, Value | bool] | None = None
    most_chips: int | None = None
    chips: str | None = None
    workloads: dict[str, dict[str, Value]] | None = None
    axes: dict[str, list[Value] | RangeModel]
    objectives: list[str] | None = None
    at_most: dict[str, Value] | None = None
    at_least: dict[str, Value] | None = None


def problem_in(path: str | os.PathLike[str]) -> Problem:
    """The design problem that a file describes.

    Raises: SpecError: a key that is unknown, missing or of another kind, or of the other form of problem; all errors of
        `task_problem` and `chip_problem`; FileFormatError.
    """
    document = load_yaml(path)
    asked = validated(DesignFile, document, part=_part, page="see the page on searching designs")
    axes = {name: one.model_dump() if isinstance(one, RangeModel) else one for name, one in asked.axes.items()}
    common: dict[str, Any] = {"axes": axes, "at_most": asked.at_most, "at_least": asked.at_least}
    if asked.chips is not None:
        _without(document, "case", "on", "most_chips", "task", why="chips are judged by workloads")
        objectives: dict[str, Any] = {} if asked.objectives is None else {"objectives": asked.objectives}
        return chip_problem(base=asked.chips, workloads=asked.workloads or {}, **objectives, **common)
    _without(document, "workloads", why="workloads judge chips: name a base with `chips`")
    if not asked.objectives:
        raise SpecError("a search has objectives", at=document.where(), fix="add objectives: [tpot_s, ...]")
    case: Mapping[str, Any] = asked.case or {}
    return task_problem(
        asked.task, objectives=asked.objectives, most_chips=asked.most_chips, on=asked.on, **common, **case
    )


def _without(document: Document, *keys: str, why: str) -> None:
    for key in keys:
        if key in document.data:
            raise SpecError(f"{key!r} has no place here: {why}", at=document.where(key), got=key, fix="leave it out")


def _part(loc: Place) -> type[BaseModel]:
    return DesignFile if len(loc) < 3 else RangeModel


def write_designs(found: Found, path: str | os.PathLike[str]) -> None:
    """Every design that a search evaluated, in order, as a table: axes, objectives (empty if infeasible), on the front.

    Raises: FileFormatError: the file cannot be written.
    """
    designs = found.designs(np.arange(found.evaluations))
    designs["front"] = np.isin(np.arange(found.evaluations), found.front).astype(np.float64)
    write_table(from_mapping({"evaluation": np.arange(1.0, found.evaluations + 1)}, columns={}), designs, path)


@dataclass(frozen=True)
class FoundView:
    """A search as people read it."""

    found: Found

    def __rich__(self) -> RenderableType:
        """The front, and how the agent fared against points at random."""
        found = self.found
        head = Text(f"{found.problem.name}: {found.evaluations:,} designs evaluated by {found.agent}")
        if not found.front.size:
            return Group(head, Text("none of them is feasible"))
        shown = found.front
        if shown.size > ROWS:
            shown = shown[np.unique(np.linspace(0, shown.size - 1, ROWS).astype(int))]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        columns = found.designs(shown)
        for name in columns:
            table.add_column(name.replace("_", " "), justify="right")
        for row in zip(*columns.values(), strict=True):
            table.add_row(*(_unbroken(found.problem, name, value) for name, value in zip(columns, row, strict=True)))
        words = f"{found.front.size} designs that nothing beats" if len(found.problem.objectives) > 1 else "the best"
        if shown.size < found.front.size:
            words += f", {shown.size} of them shown"
        return Group(head, Text(words), table, Text(_against_random(found)))


def _cell(problem: Problem, name: str, value: Any) -> str:
    if isinstance(value, str):
        return value or "as published"
    if name.endswith("bytes_per_s"):
        return units.si(float(value), "B/s")
    if name in RATIOS:
        return f"{float(value):.3g}"
    if name in problem.space.names and not isinstance(problem.space.axis(name), Range) and not name.endswith("bytes"):
        return f"{float(value):g}"
    if name == "area_m2":
        return f"{float(value) * 1e6:.0f} mm²"
    if name == "cost_usd":
        return f"${float(value):,.0f}"
    return human(name, float(value))


def _unbroken(problem: Problem, name: str, value: Any) -> Text:
    return Text(_cell(problem, name, value), no_wrap=True)


def _against_random(found: Found) -> str:
    """One line on what the same number of points at random gave."""
    other = found.baseline
    if other is None:
        return "every legal design was evaluated" if found.agent == "exhaustive" else "these are points at random"
    if len(found.problem.objectives) > 1:
        ours, theirs = found.hypervolume(), other.hypervolume(found.reference)
        share = f"{ours / theirs:.3f} times" if theirs > 0 else "beyond"
        return f"hypervolume: {share} that of {other.evaluations:,} points at random"
    if other.best is None:
        return f"{other.evaluations:,} points at random gave nothing feasible"
    name = found.problem.objectives[0].name
    value = found.problem.objectives[0].natural(other.values[other.best, 0])
    return f"the best of {other.evaluations:,} points at random: {_cell(found.problem, name, float(value))}"


@dataclass(frozen=True)
class ComparisonView:
    """A comparison of agents as people read it."""

    comparison: Comparison

    def __rich__(self) -> RenderableType:
        """One row per agent, the best first."""
        made = self.comparison
        head = f"{made.problem.name}: {made.measure} after {made.budget:,} evaluations, {len(made.seeds)} seeds"
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("agent")
        for name in ("mean", "best", "worst", "spread", "beats random"):
            table.add_column(name, justify="right")
        for one in made.standings:
            numbers = (f"{value:.5g}" for value in (one.mean, one.best, one.worst, one.spread))
            table.add_row(one.agent, *numbers, f"{one.beats_random:.0%}")
        return Group(Text(head), table)
