"""Design problems in plain words: any task of `predict` over axes of its columns, and chips under workloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.predictions.predict import case_values, cell_value
from ridgeline.api.tables.columns import DEGREES, NUMBER, TASKS
from ridgeline.api.tables.intake import intake, task_columns, wanted
from ridgeline.api.tables.tasks import evaluate_table
from ridgeline.core import units
from ridgeline.core.cases import Problems
from ridgeline.core.errors import DomainError, SpecError, UnknownNameError, did_you_mean
from ridgeline.core.tables import from_mapping
from ridgeline.hardware import catalogue
from ridgeline.plans import Plan, check_plan
from ridgeline.search import Choice, Limit, Objective, Ordered, Problem, Range, Space
from ridgeline.search.chips import SLOWDOWN, Workload
from ridgeline.search.chips import chip_problem as designs_of
from ridgeline.search.space import Axis, Columns, Legal
from ridgeline.serving.predict import deployment_of
from ridgeline.workloads.catalogue import model as find_model

BETTER_LARGE = frozenset(
    {
        "request_per_s", "output_tokens_per_s", "output_tokens_per_s_per_chip", "total_tokens_per_s", "tokens_per_s",
        "tokens_per_s_per_chip", "model_flops_per_s_per_chip", "hardware_flops_per_s_per_chip", "mfu", "hfu",
        "images_per_s", "max_batch_that_fits", "batch",
    }
)  # fmt: skip
"""Result columns of which more is better; of all others, less."""

UNIT_OF = {"_s": "s", "_w_per_chip": "W", "_bytes_per_chip": "bytes", "_per_s": "1/s", "_per_s_per_chip": "1/s"}
"""Units by the end of a column's name, the longest first."""

Given = Mapping[str, Any]


def task_problem(
    task: str = "serving",
    *,
    axes: Given,
    objectives: Sequence[str],
    at_most: Given | None = None,
    at_least: Given | None = None,
    most_chips: int | None = None,
    legal: Legal | None = None,
    on: str = "",
    **case: Any,
) -> Problem:
    """What `predict` says of a case, searched over some of its columns.

    Args:
        task: serving, training, ops or vision.
        axes: column -> its values (a list), or its lowest and highest value as `{"low": ..., "high": ...}`, with
            `"log": True` for equal ratios.
        objectives: result columns; throughputs and utilisations are maximised, all else minimised.
        at_most: result column -> limit, such as an SLO (`{"ttft_s": "500ms"}`).
        at_least: result column -> limit.
        most_chips: serving only: larger deployments are illegal.
        legal: a predicate over columns of the axes, besides.
        on: machines, as of `predict`.
        case: the columns that stay.
    Raises:
        UnknownNameError: a column that the task has not. DomainError, UnitError: a value that cannot be.
        SpecError: an axis that the case fixes too.
    """
    fixed = case_values(task, on=on, plan="", case=case)
    made = [_axis(task, name, values) for name, values in axes.items()]
    twice = sorted(axis.name for axis in made if axis.name in case or (axis.name in fixed and axis.name != "replicas"))
    if twice:
        raise SpecError("an axis is a column of the case too", at=twice[0], got=case.get(twice[0]), fix="give it once")
    kept = {name: value for name, value in fixed.items() if name not in axes}

    def allowed(columns: Columns) -> NDArray[np.bool_]:
        ok = np.ones(len(next(iter(columns.values()))), dtype=np.bool_)
        if most_chips is not None:
            ok &= _chips(columns, kept) <= most_chips
        if task == "serving":
            ok &= _plans_legal(columns, kept)
        return ok if legal is None else ok & legal(columns)

    def evaluated(columns: Columns) -> dict[str, Any]:
        count = len(next(iter(columns.values())))
        table: dict[str, Any] = {name: np.full(count, value) for name, value in kept.items()}
        results, problems = evaluate_table(task, from_mapping({**table, **columns}, columns=wanted(task)))
        return {
            name: np.where(problems.ok, column, np.nan)
            for name, column in results.items()
            if isinstance(column, np.ndarray) and column.dtype.kind == "f"
        }

    return Problem(
        name=f"{task} over {', '.join(axis.name for axis in made)}",
        space=Space(axes=tuple(made), legal=allowed),
        objectives=tuple(objective_of(name) for name in objectives),
        limits=(*_limits(at_most, "most"), *_limits(at_least, "least")),
        evaluate=evaluated,
    )


def objective_of(name: str) -> Objective:
    """A result column as an objective, in the direction in which it is better."""
    ends = sorted((end for end in UNIT_OF if name.endswith(end)), key=len)
    return Objective(name=name, unit=UNIT_OF[ends[-1]] if ends else "", maximise=name in BETTER_LARGE)


def _axis(task: str, name: str, values: Any) -> Axis:
    columns = {column.name: column for column in task_columns(task)}
    if name not in columns:
        fix = did_you_mean(name, columns, listing=f"`ridgeline predict {task} --help` lists them")
        raise UnknownNameError(f"unknown column {name!r} of predict {task}", at="axes", got=name, fix=fix)
    column = columns[name]
    if isinstance(values, Mapping):
        if column.kind != NUMBER or column.whole or not {"low", "high"} <= set(values) <= {"low", "high", "log"}:
            fix = "list its values" if column.whole or column.kind != NUMBER else "give low, high and log"
            raise SpecError("this axis is no range", at=name, got=dict(values), fix=fix)
        low, high = (float(cell_value(column, values[end])) for end in ("low", "high"))
        return Range(name=name, low=low, high=high, log=bool(values.get("log", False)))
    cells = [cell_value(column, value) for value in values]
    if column.kind != NUMBER:
        return Choice(name=name, values=tuple(str(cell) for cell in cells))
    return Ordered(name=name, values=tuple(sorted(float(cell) for cell in cells)))


def _limits(given: Given | None, side: str) -> list[Limit]:
    return [Limit(name=name, **{side: _number(name, value)}) for name, value in (given or {}).items()]


def _number(name: str, value: Any) -> float:
    if isinstance(value, str):
        return units.parse(value, "s" if name.endswith("_s") else "count", at=name, bare_ok=True)
    if isinstance(value, bool) or not np.isfinite(float(value)):
        raise DomainError("a limit is a finite number", at=name, got=value, fix="give for example 0.5 or '500ms'")
    return float(value)


def _column(name: str, columns: Columns, kept: Given) -> NDArray[np.float64]:
    """A numeric column of serving cases: an axis, a value of the case, or the default."""
    default = next(one.default for one in TASKS["serving"] if one.name == name)
    return np.asarray(columns.get(name, kept.get(name, default)), dtype=np.float64)


def _split(columns: Columns, kept: Given) -> NDArray[np.bool_]:
    """Which deployments have pools of their own for prompts and tokens."""
    mode = columns.get("mode", np.asarray(kept.get("mode", "agg") or "agg"))
    return np.asarray(mode == "disagg")


def _chips(columns: Columns, kept: Given) -> NDArray[np.float64]:
    """Chips of serving deployments."""
    each = [_column(name, columns, kept) for name in ("tp", "pp", "dp", "cp", "replicas")]
    pools = [
        [_column(f"{pool}_{name}", columns, kept) for name in ("workers", "tp", "pp", "dp")]
        for pool in ("prefill", "decode")
    ]
    mixed, prefill, decode = (np.prod(np.broadcast_arrays(*degrees), axis=0) for degrees in (each, *pools))
    return np.asarray(np.where(_split(columns, kept), prefill + decode, mixed))


def _plans_legal(columns: Columns, kept: Given) -> NDArray[np.bool_]:
    """Which deployments have plans that their model can follow (all, where the model is an axis itself)."""
    count = len(next(iter(columns.values())))
    if "model" not in kept:
        return np.ones(count, dtype=np.bool_)
    found, rows = find_model(str(kept["model"])), np.arange(count, dtype=np.intp)
    ok: dict[str, NDArray[np.bool_]] = {}
    for prefix in ("", "prefill_", "decode_"):
        names = [name for name in DEGREES if name != "cp" or not prefix]
        degrees: dict[str, Any] = {name: _column(f"{prefix}{name}", columns, kept) for name in names}
        problems = Problems(count)
        check_plan(found, Plan(**degrees), problems, rows)
        ok[prefix] = problems.ok
    return np.where(_split(columns, kept), ok["prefill_"] & ok["decode_"], ok[""])


def chip_problem(
    *,
    base: str,
    axes: Given,
    workloads: Mapping[str, Given],
    objectives: Sequence[str] = (SLOWDOWN, "cost_usd"),
    at_most: Given | None = None,
    at_least: Given | None = None,
) -> Problem:
    """Chips like one of the catalogue with other facts, judged by deployments on them.

    Args:
        base: chip of the catalogue.
        axes: compute_units, flops_per_unit_frac, cache_bytes, dram_bytes, dram_bytes_per_s or link_bytes_per_s ->
            values in SI units or as text ("4 TB/s"), or `{"low": ..., "high": ..., "log": True}`.
        workloads: name -> columns of `predict serving` without `chip`, and `metric` (a result column, by default
            tpot_s) and `weight`.
        objectives: slowdown against the base, area_m2, tdp_w, cost_usd, or WORKLOAD.COLUMN.
        at_most: any of these -> limit.
        at_least: any of these -> limit.
    Raises: as `predict` for a workload; UnknownNameError: an axis or metric; SpecError: a base whose die or memory is
        not known well enough.
    """
    chip = catalogue.chip(base, at="base")
    made = [_workload(name, chip.name, words) for name, words in workloads.items()]
    if not made:
        raise SpecError("chips are judged by workloads", at="workloads", fix="give at least one")
    return designs_of(
        made,
        [_chip_axis(name, values) for name, values in axes.items()],
        objectives=objectives,
        limits=(*_limits(at_most, "most"), *_limits(at_least, "least")),
        name=f"chips like {chip.name}",
    )


def _workload(name: str, chip: str, words: Given) -> Workload:
    case = {column: value for column, value in words.items() if column not in ("metric", "weight")}
    values = case_values("serving", on="", plan="", case={**case, "chip": chip})
    cases, problems = intake("serving", from_mapping({k: [v] for k, v in values.items()}, columns=wanted("serving")))
    deployment = deployment_of(cases, problems, 0)
    if deployment is None:
        raise SpecError(problems.column()[0], at=f"workloads.{name}", fix="see `ridgeline predict serving`")
    metric = str(words.get("metric", "tpot_s"))
    return Workload(
        name=name,
        deployment=deployment,
        metric=metric,
        maximise=metric in BETTER_LARGE,
        weight=float(words.get("weight", 1.0)),
        split=cases.text("mode", 0) == "disagg",
    )


_CHIP_UNITS = {
    "cache_bytes": "byte",
    "dram_bytes": "byte",
    "dram_bytes_per_s": "byte/s",
    "link_bytes_per_s": "byte/s",
    "compute_units": "count",
    "flops_per_unit_frac": "count",
}


def _chip_axis(name: str, values: Any) -> Axis:
    def number(value: Any) -> float:
        if isinstance(value, str):
            return units.parse(value, _CHIP_UNITS.get(name, "count"), at=name, bare_ok=True)
        return float(value)

    if isinstance(values, Mapping):
        return Range(
            name=name, low=number(values["low"]), high=number(values["high"]), log=bool(values.get("log", False))
        )
    return Ordered(name=name, values=tuple(sorted(number(value) for value in values)))
