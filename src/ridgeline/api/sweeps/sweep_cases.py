"""Points of a sweep as cases of the verbs: which columns there are, what their values mean, and what workers do.

The functions `predict_points` and `simulate_points` are imported by name in worker processes, here or on a cluster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.predictions.predict import cell_value, with_plan
from ridgeline.api.tables.columns import FLEETS, LOADS, NUMBER, TASKS, TEXT, Column
from ridgeline.api.tables.intake import wanted
from ridgeline.api.tables.tasks import evaluate_table
from ridgeline.core.errors import RidgelineError, SpecError, UnknownNameError, did_you_mean
from ridgeline.core.tables import from_mapping
from ridgeline.hardware.machine import machine
from ridgeline.search.sweeps.points import Cell, Read
from ridgeline.search.sweeps.spec import SweepSpec
from ridgeline.search.sweeps.work import Evaluate, column_of
from ridgeline.serving.record.answer_values import ClassAnswer, Stretch
from ridgeline.serving.record.latency import LEVELS, Latency

PREDICT_CHUNK, SIMULATE_CHUNK = 2048, 1

WORDS: tuple[Column, ...] = (
    Column(name="on", kind=TEXT, doc='machines, as "8x h100-sxm"'),
    Column(name="plan", kind=TEXT, doc='the plan in words, as "tp8 kv=fp8"'),
)
"""What flags of the verbs say beside their columns."""
PLAY: tuple[Column, ...] = (
    Column(name="until", kind=TEXT, doc="end of the simulated time"),
    Column(name="engine", kind=TEXT, doc="auto, python or compiled", choices=("auto", "python", "compiled")),
)
DEGREES = ("tp", "pp", "dp", "cp")
_GIVEN = ("requests", "prefix_hit_frac")
"""Answers that bear the name of a column of points."""
_LATENCIES = ("ttft_s", "tpot_s", "itl_s", "e2e_s", "queue_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """Something that can be swept.

    Attributes:
        tasks: what it can do, by name.
        columns: of a task.
        evaluate: what workers run; a function of a module, which they import.
        alone: whether points are evaluated one by one where the file does not say, and not as arrays.
    """

    tasks: Callable[[], Sequence[str]]
    columns: Callable[[str], Sequence[Column]]
    evaluate: Evaluate
    alone: bool


Verbs = Mapping[str, Verb]


def columns_of(spec: SweepSpec, verbs: Verbs) -> dict[str, Column]:
    """Every name that a point may have, aliases too. Raises UnknownNameError: no such task."""
    if spec.verb not in verbs or spec.task not in verbs[spec.verb].tasks():
        known = [f"{name} {task}" for name, verb in verbs.items() for task in verb.tasks()]
        asked = f"{spec.verb} {spec.task}".strip()
        fix = did_you_mean(asked, known, listing=f"verbs: {', '.join(verbs)}")
        raise UnknownNameError(f"unknown task {asked!r} of a sweep", at=spec.places["task"], fix=fix)
    every = verbs[spec.verb].columns(spec.task)
    return {name: column for column in every for name in (column.name, *column.aliases)}


def _predicted(task: str) -> tuple[Column, ...]:
    return (*TASKS[task], *(WORDS if task not in ("ops", "vision") else ()))


def _played(task: str) -> tuple[Column, ...]:
    return (*TASKS[task], *LOADS, *FLEETS, *PLAY, *WORDS)


def checked(spec: SweepSpec, verbs: Verbs) -> tuple[Read, frozenset[str]]:
    """How values of this sweep are read, and which of its columns hold whole numbers.

    Raises:
        UnknownNameError: an unknown task or column, where it stands. SpecError: one column under two names, or machines
            named twice.
    """
    columns = columns_of(spec, verbs)
    seen: dict[str, str] = {}
    for axis in spec.every_axis():
        if axis.name not in columns:
            fix = did_you_mean(axis.name, columns, listing=f"`ridgeline {spec.verb} {spec.task} --help` lists them")
            raise UnknownNameError(f"unknown column {axis.name!r} of {spec.verb} {spec.task}", at=axis.at, fix=fix)
        name = columns[axis.name].name
        if name in seen:
            raise SpecError(f"{name} is given twice", at=axis.at, got=axis.name, fix=f"leave out {seen[name]}")
        seen[name] = axis.name
    doubled = [name for name in ("chip", "node", "chips") if name in seen and "on" in seen]
    if doubled:
        at = next(axis.at for axis in spec.every_axis() if axis.name == seen[doubled[0]])
        raise SpecError("on: names the machines", at=at, got=doubled[0], fix=f"leave out {doubled[0]}, or on")

    def read(name: str, value: Any) -> Cell:
        column = columns[name]
        if column.kind == TEXT and isinstance(value, float):  # YAML has made 1.1 of 1.10
            raise SpecError(f"{name} is text", at=name, got=value, fix="put it in quotes")
        cell = cell_value(column, value)
        if column.kind == NUMBER:
            number = float(cell)
            if not column.lowest <= number <= column.highest:
                what = f"{name} must lie in {column.lowest:g} .. {column.highest:g}"
                raise SpecError(what, at=name, got=value, fix=column.doc)
        return cell

    return read, frozenset(name for name, column in columns.items() if column.whole)


def usual_chunk(spec: SweepSpec, verbs: Verbs) -> int:
    """Points evaluated together where the file does not say: predictions are arrays, simulations are played alone."""
    played = verbs[spec.verb].alone or any(axis.name == "trace" for axis in spec.every_axis())
    return SIMULATE_CHUNK if played else PREDICT_CHUNK


def predict_points(question: Mapping[str, Any], columns: Mapping[str, list[Cell]]) -> dict[str, Any]:
    """Result columns of cases of `predict`; `on` and `plan` are spread into the columns that they stand for."""
    task = str(question["task"])
    count = len(next(iter(columns.values())))
    cases, errors = _spread(task, columns, count)
    good = np.flatnonzero(errors == "")
    if not good.size:
        return {"error": errors.tolist()}
    chosen = cases if good.size == count else {name: [cells[i] for i in good] for name, cells in cases.items()}
    results, _ = evaluate_table(task, from_mapping(chosen, columns=wanted(task)))
    if good.size == count:
        return results
    return {name: _placed(column_of(values), good, count) for name, values in results.items() if name != "error"} | {
        "error": _told(errors, good, results["error"])
    }


def simulate_points(question: Mapping[str, Any], columns: Mapping[str, list[Cell]]) -> dict[str, Any]:
    """Answers of simulations, one row each, over the steady state."""
    rows: list[dict[str, Cell]] = []
    for i in range(len(next(iter(columns.values())))):
        try:
            row = _simulated({name: cells[i] for name, cells in columns.items()})
        except RidgelineError as error:
            row = {"error": error.line()}
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    empty = {name: "" if any(isinstance(row.get(name), str) for row in rows) else math.nan for name in names}
    return {name: [row.get(name, empty[name]) for row in rows] for name in names}


VERBS: Verbs = {
    "predict": Verb(tasks=lambda: tuple(TASKS), columns=_predicted, evaluate=predict_points, alone=False),
    "simulate": Verb(tasks=lambda: ("serving",), columns=_played, evaluate=simulate_points, alone=True),
}
"""What can be swept; the layers above add what is theirs."""


def _simulated(case: Mapping[str, Cell]) -> dict[str, Cell]:
    from ridgeline.api.simulations.simulate import simulate

    given: dict[str, Any] = {name: value for name, value in case.items() if value != ""}
    run = simulate(**given)
    if run.interrupted:  # an answer over part of a run is none
        raise KeyboardInterrupt
    steady = run.answers.steady
    bound: dict[str, Cell] = {"bound": run.answers.bound.kind}
    return {**_requests(steady.overall), **_fleet(steady), **bound}


def _requests(answer: ClassAnswer) -> dict[str, Cell]:
    """Mean and percentiles of each latency with the ends of their intervals; then what is one number."""
    row: dict[str, Cell] = {}
    for name in _LATENCIES:
        latency, stem = getattr(answer, name), name.removesuffix("_s")
        row |= _latency(stem, latency) if latency is not None else {}
    small = [name for name in _LATENCIES if (found := getattr(answer, name)) is not None and _small(found)]
    plain = {f: getattr(answer, f) for f in ClassAnswer.__dataclass_fields__ if f not in ("name", *_LATENCIES)}
    numbers = {f"steady_{name}" if name in _GIVEN else name: float(value) for name, value in plain.items()}
    return {**row, "indicative": float(bool(small)), **numbers}


def _latency(stem: str, latency: Latency) -> dict[str, Cell]:
    mean, levels = latency.mean, [(f"_p{100 * level:g}", latency.at(level)) for level in LEVELS]
    told = [("", mean.value, mean.low, mean.high), *((name, one.value, one.low, one.high) for name, one in levels)]
    return {
        f"{stem}{level}{end}_s": float(value)
        for level, *values in told
        for end, value in zip(("", "_low", "_high"), values, strict=True)
    }


def _small(latency: Latency) -> bool:
    return any(latency.at(level).indicative for level in LEVELS)


def _fleet(steady: Stretch) -> dict[str, Cell]:
    apart = ("overall", "classes", "busy_frac", "energy_j_per_request")
    row: dict[str, Cell] = {f: float(getattr(steady, f)) for f in Stretch.__dataclass_fields__ if f not in apart}
    return row | {"energy_j_per_request_with_idle": float(steady.energy_j_per_request)}


def _spread(
    task: str, columns: Mapping[str, list[Cell]], count: int
) -> tuple[dict[str, list[Any]], NDArray[np.object_]]:
    """The columns of the task that points stand for, and what is wrong with each point so far."""
    cases: dict[str, list[Any]] = {name: list(cells) for name, cells in columns.items() if name not in ("on", "plan")}
    errors = np.full(count, "", dtype=object)
    if "plan" in columns:
        _with_plans(task, columns["plan"], cases, errors)
    if "on" in columns:
        _with_machines(task, columns["on"], cases, errors)
    return cases, errors


def _with_plans(task: str, plans: list[Cell], cases: dict[str, list[Any]], errors: NDArray[np.object_]) -> None:
    given = dict.fromkeys(cases, True)
    declared = {column.name for column in TASKS[task]}
    words: dict[Cell, dict[str, Any]] = {}
    for plan in dict.fromkeys(plans):
        try:
            words[plan] = with_plan(given, str(plan)) if plan else {}
            odd = sorted(set(words[plan]) - set(given) - declared)
            if odd:
                raise SpecError(f"predict {task} has no {odd[0]}", at="plan", got=plan, fix="leave it out of the plan")
        except RidgelineError as error:
            errors[np.array([one == plan for one in plans])] = error.line()
            words[plan] = {}
    named = [name for name in dict.fromkeys(name for each in words.values() for name in each) if name not in given]
    cases |= {name: [words[plan].get(name) for plan in plans] for name in named}


def _with_machines(task: str, names: list[Cell], cases: dict[str, list[Any]], errors: NDArray[np.object_]) -> None:
    """Chip, node and number of chips of each point's machines; of serving, as many replicas as they hold."""
    known: dict[Cell, tuple[str, str, float]] = {}
    for name in dict.fromkeys(names):
        try:
            found = machine(str(name), at="on")
            known[name] = (found.chip.name, found.node.name if found.node is not None else "", float(found.count))
        except RidgelineError as error:
            errors[np.array([one == name for one in names])] = error.line()
            known[name] = ("", "", math.nan)
    cases["chip"] = [known[name][0] for name in names]
    declared = {column.name for column in TASKS[task]}
    if "node" in declared:
        cases["node"] = [known[name][1] for name in names]
    if "chips" in declared:
        cases["chips"] = [known[name][2] for name in names]
    if task == "serving":
        _with_replicas(np.array([known[name][2] for name in names]), cases, errors)


def _with_replicas(chips: NDArray[np.float64], cases: dict[str, list[Any]], errors: NDArray[np.object_]) -> None:
    def degree(name: str, default: float) -> NDArray[np.float64]:
        cells = np.array(cases.get(name, [default] * chips.size), dtype=np.float64)
        return np.where(np.isnan(cells), default, cells)

    per = np.prod([degree(name, 1.0) for name in DEGREES], axis=0)
    with np.errstate(all="ignore"):
        asked = degree("replicas", math.nan)
        asked = np.where(np.isnan(asked), np.maximum(chips // per, 1.0), asked)
    apart = np.array([mode == "disagg" for mode in cases.get("mode", [""] * chips.size)])
    counted = ~apart & (per > 0) & np.isfinite(chips)
    few = counted & (asked * per > chips) & (errors == "")
    for need, have in sorted(set(zip((asked * per)[few].tolist(), chips[few].tolist(), strict=True))):
        which = few & (asked * per == need) & (chips == have)
        errors[which] = f"the plan needs {need:g} chips and the machine has {have:g} at on"
    cases["replicas"] = np.where(counted, asked, degree("replicas", 1.0)).tolist()


def _placed(values: Any, good: NDArray[np.intp], count: int) -> Any:
    """Results of some points in their places among all."""
    if isinstance(values, tuple):
        texts = [""] * count
        for place, text in zip(good.tolist(), values, strict=True):
            texts[place] = text
        return texts
    placed = np.full(count, np.nan)
    placed[good] = values
    return placed


def _told(errors: NDArray[np.object_], good: NDArray[np.intp], found: Any) -> list[str]:
    errors[good] = list(column_of(found))
    return [str(error) for error in errors]
