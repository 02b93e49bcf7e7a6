"""`rl.predict`: one case in, one typed result out that says what, how sure, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ridgeline.api.predictions.breakdown import breakdown_of
from ridgeline.api.tables.columns import NUMBER, Column
from ridgeline.api.tables.intake import intake, task_columns, wanted
from ridgeline.api.tables.tasks import evaluate_table
from ridgeline.core import units
from ridgeline.core.errors import DomainError, RidgelineError, SpecError, UnknownNameError, did_you_mean
from ridgeline.core.tables import Labels, from_mapping
from ridgeline.hardware.machine import machine
from ridgeline.plans.plan import FORMATS, parse_plan


class CaseError(RidgelineError):
    """A case that cannot be evaluated; the message is the one that its row of a table would hold."""

    code = "RL0110"


@dataclass(frozen=True)
class Prediction:
    """The result of one case.

    `values` holds the result columns of the task by name (SI units in the names); they are attributes too:
    `prediction.tpot_s`. `case` holds the inputs as they were understood. `explained` prices the phases when asked.
    """

    task: str
    case: Mapping[str, float | str]
    values: Mapping[str, float | str]
    explained: Callable[[], tuple[Any, ...]] = field(default=tuple, repr=False, compare=False)

    @cached_property
    def phases(self) -> tuple[Any, ...]:
        """Typical iterations, op by op (`serving.explain.Phase`); none where the task has none."""
        return self.explained()

    def __getattr__(self, name: str) -> float | str:
        """A result column. Raises AttributeError with the nearest columns."""
        values: Mapping[str, float | str] = self.__dict__.get("values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"no result {name!r}; {did_you_mean(name, values)}")

    def to_dict(self) -> dict[str, Any]:
        """Inputs, results and breakdown as plain values, for JSON. Absent results are None."""
        values = {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in self.values.items()}
        breakdown = {phase.name: breakdown_of(phase.step) for phase in self.phases}
        return {"task": self.task, "case": dict(self.case), "results": values, "breakdown": breakdown}

    def __rich__(self) -> Any:
        """The table that a terminal shows."""
        from ridgeline.api.predictions.show import prediction_view

        return prediction_view(self)

    def __str__(self) -> str:
        """The same as plain text."""
        from ridgeline.api.predictions.show import plain

        return plain(self)

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        from ridgeline.api.predictions.show import html

        return html(self)


def predict(task: str = "serving", *, on: str = "", plan: str = "", **case: Any) -> Prediction:
    """Predict one case.

    Args:
        task: serving, ops, training or vision.
        on:   machines, as "8x h100-sxm" or "4x dgx-h100", instead of `chip` (and `chips`, `node`).
        plan: the plan's notation ("tp8 pp2 kv=fp8") instead of its columns.
        case: the task's columns; quantities may be text with a unit ("40ms").
    Raises:
        UnknownNameError: an unknown column, with the nearest ones. DomainError, UnitError: a value that cannot be.
        CaseError: the case cannot be evaluated (it does not fit, the plan is illegal, ...).

    Example: `rl.predict(model="meta-llama/Llama-3.1-70B", on="8x h100-sxm", tp=8, isl=1024, osl=1024, concurrency=64)`
    """
    values = case_values(task, on=on, plan=plan, case=case)
    return _evaluate(task, values)


def case_values(task: str, *, on: str, plan: str, case: Mapping[str, Any]) -> dict[str, float | str]:
    """The columns that a case gives, by name and in SI units; arguments and errors are those of `predict`."""
    columns = {name: column for column in task_columns(task) for name in (column.name, *column.aliases)}
    given: dict[str, Any] = dict(case)
    for name in given:
        if name not in columns:
            fix = did_you_mean(name, columns, listing=f"`ridgeline predict {task} --help` lists them")
            raise UnknownNameError(f"unknown column {name!r} of predict {task}", at=name, fix=fix)
    if plan:
        given = with_plan(given, plan)
    if task == "training" and "+" in on:
        # The chip is the first island's; each island stands in its own nodes.
        parts = [machine(part.strip(), at="on") for part in on.split("+")]
        given = {"chip": parts[0].chip.name, "chips": sum(part.count for part in parts)} | given | {"islands": on}
        on = ""
    machines = machine(on, at="on") if on else None
    if machines is not None:
        given.setdefault("chip", machines.chip.name)
        if machines.node is not None and "node" in columns:
            given.setdefault("node", machines.node.name)
        if "chips" in columns:
            given.setdefault("chips", machines.count)
    values = {
        columns[name].name: cell_value(columns[name], value) for name, value in given.items() if value is not None
    }
    if machines is not None and task == "serving":
        values.update(_fill_machine(values, machines.count))
    return values


def _evaluate(task: str, values: Mapping[str, float | str]) -> Prediction:
    table = from_mapping({name: [value] for name, value in values.items()}, columns=wanted(task))
    results, _ = evaluate_table(task, table)
    plain = {name: _cell(column) for name, column in results.items()}
    error = plain.pop("error")
    if error:
        raise CaseError(str(error), at=f"predict {task}")
    cases, _ = intake(task, table)
    case: dict[str, float | str] = {name: float(cases.number(name)[0]) for name in cases.numbers}
    case |= {name: cases.text(name, 0) for name in cases.texts}
    if task != "serving":
        return Prediction(task, case, plain)

    def explained() -> tuple[Any, ...]:
        from ridgeline.serving.explain import explain

        with np.errstate(all="ignore"):
            return explain(cases, batch=float(plain["batch"]))

    return Prediction(task, case, plain, explained)


def with_plan(given: dict[str, Any], plan: str) -> dict[str, Any]:
    """The case with the plan's words as columns; saying one thing twice is refused."""
    parsed = parse_plan(plan)
    words: dict[str, Any] = {name: getattr(parsed, name) for name in FORMATS.values() if getattr(parsed, name)}
    for name, default in (("tp", 1.0), ("pp", 1.0), ("dp", 1.0), ("cp", 1.0), ("ep", 0.0), ("moe_tp", 0.0)):
        if getattr(parsed, name) != default:
            words[name] = getattr(parsed, name)
    twice = sorted(name for name in words if given.get(name) is not None)
    if twice:
        raise SpecError(
            "the plan and a column both give a degree", at=", ".join(twice), got=plan, fix="give one of them"
        )
    return {**given, **words}


def _fill_machine(values: Mapping[str, float | str], chips: int) -> dict[str, float]:
    """As many replicas as the machine holds, unless the case says. Raises DomainError when there is no room."""
    if values.get("mode") == "disagg":
        return {}
    per = float(np.prod([float(values.get(name, 1.0)) for name in ("tp", "pp", "dp", "cp")]))
    if not per > 0:  # the row's own check says which degree cannot be
        return {}
    asked = float(values.get("replicas", max(chips // per, 1.0)))
    if asked * per > chips:
        raise DomainError(
            f"the plan needs {asked * per:g} chips and the machine has {chips}",
            at="on",
            got=chips,
            fix=f"name at least {asked * per:g} chips, or lower tp, pp, dp or replicas",
        )
    return {"replicas": asked}


def cell_value(column: Column, value: Any) -> float | str:
    """A value as a cell: text with a unit becomes SI."""
    if column.kind != NUMBER:
        return str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, str):
        return units.parse(value, column.unit or "count", at=column.name, bare_ok=True)
    if isinstance(value, bool) or not np.isfinite(float(value)):
        raise DomainError(f"{column.name} must be a finite number", at=column.name, got=value, fix=column.doc)
    return float(value)


def _cell(column: Any) -> float | str:
    if isinstance(column, Labels):
        return column.texts()[0]
    value = column[0]
    return value if isinstance(value, str) else float(value)
