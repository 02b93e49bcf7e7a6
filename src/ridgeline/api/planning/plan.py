"""`rl.plan`: from a question to a deployment, over every legal choice at once."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ridgeline.api.planning.plan_names import deployment_words, miss_words
from ridgeline.api.planning.plan_question import Asked, asked_of, finite, read_question
from ridgeline.api.predictions.predict import Prediction, predict
from ridgeline.api.tables.intake import intake
from ridgeline.api.tables.tasks import evaluate_table
from ridgeline.core import units
from ridgeline.core.errors import PlanError
from ridgeline.core.files import write_atomic
from ridgeline.core.tables import Labels, Table, from_mapping, write_table
from ridgeline.search.planning import Chosen, Found, Moved, Predictor, Question, find, joined, sensitivity, shifts

if TYPE_CHECKING:
    from ridgeline.api.planning.plan_simulate import Checked
    from ridgeline.api.simulations.simulate import Progress

TURNS = 4
"""Searches with ever tighter limits on means, at most, where limits are on percentiles."""

CHECKED = 3
"""Plans that are simulated where a limit is on a percentile."""

SHOWN = (
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "request_per_s",
    "output_tokens_per_s",
    "output_tokens_per_s_per_chip",
    "chips",
    "batch",
    "memory_bytes_per_chip",
    "power_w_per_chip",
    "energy_j_per_output_token",
    "bound",
    "regime",
)
"""Results that candidates are told with."""


class Unsatisfiable(PlanError):
    """No candidate keeps all limits; the message says by how much, and which comes nearest."""

    code = "RL0140"


@dataclass(frozen=True, eq=False)
class Candidate:
    """One deployment under its load.

    Attributes:
        case: its row of `predict serving`, absent columns left out.
        values: its results, as `predict` has them; `usd_per_h` and the cost of tokens are at the prices asked.
    """

    case: Mapping[str, float | str]
    values: Mapping[str, float | str]

    @property
    def name(self) -> str:
        """The deployment in a few words."""
        return deployment_words(self.case)

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """The case as a value that can be compared and looked up."""
        return tuple(sorted((name, str(value)) for name, value in self.case.items()))

    def predict(self) -> Prediction:
        """The whole prediction, op by op."""
        return predict("serving", **dict(self.case))  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {k: finite(v) if isinstance(v, float) else v for k, v in self.values.items()}
        return {"deployment": self.name, "case": dict(self.case), "results": values}


@dataclass(frozen=True, eq=False)
class Planned:
    """What a plan came to.

    Attributes:
        asked: the question as it was understood.
        best: deployments that keep all limits, best first. front: those that none beats in all objectives.
        families: the best of each runtime, machine and mode.
        seen, feasible, engines, search_s: candidates evaluated, those that keep all limits, engines priced, time.
        notes: what was assumed, in words. moved: what becomes of the winner when an assumption moves, if asked for.
        checks: the best that were simulated, with what came of it.
        interrupted: whether it was stopped before its end; a note says what is missing.
    """

    asked: Asked
    best: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    families: Mapping[str, Candidate]
    seen: int
    feasible: int
    engines: int
    search_s: float
    notes: tuple[str, ...] = field(default=())
    moved: tuple[Moved, ...] = field(default=())
    checks: tuple[tuple[Candidate, Checked], ...] = field(default=())
    interrupted: bool = False

    @property
    def winner(self) -> Candidate:
        """The best deployment."""
        return self.best[0]

    @property
    def question(self) -> Question:
        """What the search was asked."""
        return self.asked.question

    @cached_property
    def prediction(self) -> Prediction:
        """The winner's prediction, op by op."""
        return self.winner.predict()

    def write_table(self, path: str | os.PathLike[str]) -> int:
        """The best plans and the front as a table (.csv, .parquet; - is standard output). Returns its rows."""
        ranked = {one.key: float(place + 1) for place, one in enumerate(self.best)}
        on_front = {one.key for one in self.front}
        rows = [
            {"rank": ranked.get(key, math.nan), "front": float(key in on_front), **one.case, **one.values}
            for key, one in {one.key: one for one in (*self.best, *self.front)}.items()
        ]
        names = dict.fromkeys(name for row in rows for name in row)
        text = {name for name in names if any(isinstance(row.get(name), str) for row in rows)}
        data = {name: [row.get(name, "" if name in text else math.nan) for row in rows] for name in names}
        kinds: dict[str, Literal["number", "text"]] = {name: "text" if name in text else "number" for name in names}
        write_table(from_mapping(data, columns=kinds), {}, path)
        return len(rows)

    def write_page(self, path: str | os.PathLike[str]) -> str:
        """A page with plots, by itself: no network."""
        from ridgeline.api.planning.plan_page import plan_page

        write_atomic(path, plan_page(self))
        return os.fspath(path)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        q = self.question
        return {
            "verb": "plan",
            "task": "serving",
            "question": {name: _plain(value) for name, value in self.asked.values.items()},
            "objectives": list(q.objectives),
            "winner": self.winner.to_dict(),
            "results": self.winner.to_dict()["results"],
            "best": [one.to_dict() for one in self.best],
            "front": [one.to_dict() for one in self.front],
            "families": {name: one.to_dict() for name, one in self.families.items()},
            "search": {"candidates": self.seen, "feasible": self.feasible, "engines": self.engines},
            "simulated": [{"deployment": one.name, **found.to_dict()} for one, found in self.checks],
            "sensitivity": [_told(one) for one in self.moved],
            "notes": list(self.notes),
        }

    def __rich__(self) -> Any:
        """The table that a terminal shows."""
        from ridgeline.api.planning.plan_view import planned_view

        return planned_view(self)

    def __str__(self) -> str:
        """The same as plain text."""
        from ridgeline.api.planning.plan_view import plain

        return plain(self)


def plan(
    question: str | os.PathLike[str] = "",
    *,
    top: int = 10,
    explain: bool = False,
    simulate: int | None = None,
    progress: Progress | None = None,
    **asked: Any,
) -> Planned:
    """Search the best deployment of a model on some machines. Ctrl-C ends with what is known, once something is.

    Args:
        question: a file (.yaml, .json) with keys as below; arguments win over it.
        top: plans that are ranked.
        explain: find out which assumption, moved by a tenth, changes the winner.
        simulate: of the best plans, how many are simulated too; the first that keeps all limits there wins. By default
            none, or three where a limit is on a percentile.
        progress: told how far it is: the search as `progress(0.0, kinds of deployment searched, of how many, words)`,
            then each simulation.
        asked: what is asked, by the names of the flags of `ridgeline plan` with underscores: model, on, isl, osl, rate,
            ttft, tpot, objective, ...; quantities may be text with a unit.
    Raises:
        Unsatisfiable: no candidate keeps all limits.
        PlanError: no machine holds the model.
        RidgelineError: what is wrong with the question.

    Example: `rl.plan(model="Qwen/Qwen3-32B-FP8", on="32x h200-sxm", isl=4000, osl=1000, ttft="1s", tpot="40ms")`
    """
    given = read_question(question) if question else {}
    understood = asked_of({**given, **asked})
    start = time.perf_counter()
    predictor = Predictor(intake=serving_intake)
    found, told = _found(understood, predictor, top, simulate != 0, progress)
    if not found.best.count:
        raise _unsatisfiable(understood, found, predictor)
    best, front, families = _candidates((found.best, found.front, found.families), understood.question)
    count = simulate if simulate is not None else (CHECKED if understood.percentiles else 0)
    further = _Further(understood, found, progress)
    if not found.interrupted:
        told += further.look(best[:count], predictor if explain else None)
    ranked, said = _by_simulation(best, further.checks)
    return Planned(
        asked=understood,
        best=ranked,
        front=front,
        families=dict(zip(found.family_names, families, strict=True)),
        seen=found.seen,
        feasible=found.feasible,
        engines=found.engines,
        search_s=time.perf_counter() - start,
        notes=(*understood.notes, *found.notes, *told, *said),
        checks=tuple(further.checks),
        moved=tuple(further.moved),
        interrupted=found.interrupted or further.interrupted,
    )


@dataclass(slots=True)
class _Further:
    """What is done with the best once they are found; each step stays when a later one is stopped."""

    asked: Asked
    found: Found
    progress: Progress | None
    checks: list[tuple[Candidate, Checked]] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    interrupted: bool = False

    def look(self, best: Sequence[Candidate], predictor: Predictor | None) -> list[str]:
        """Simulate these, and move assumptions if there is a predictor for it. Returns what is to be told."""
        try:
            for one in best:
                self.checks.append((one, _played(one, self.asked, self.progress)))
            steps = 2 * len(tuple(shifts(self.found.question)))
            for one_moved in sensitivity(self.found, predictor) if predictor is not None else ():
                self.moved.append(one_moved)
                if self.progress is not None:
                    self.progress(0.0, len(self.moved), steps, f"moving assumptions: {one_moved.name}")
        except KeyboardInterrupt:
            self.interrupted = True
            missing = f"{len(best) - len(self.checks)} simulations" if len(self.checks) < len(best) else "assumptions"
            return [f"stopped before its end: {missing} are missing"]
        return []


def _played(one: Candidate, asked: Asked, progress: Progress | None) -> Checked:
    from ridgeline.api.planning.plan_simulate import checked  # what only simulations need is loaded for them

    return checked(one.case, float(one.values["e2e_s"]), asked, progress)


def _by_simulation(
    best: tuple[Candidate, ...], checks: Sequence[tuple[Candidate, Checked]]
) -> tuple[tuple[Candidate, ...], list[str]]:
    """The first that keeps all limits when simulated comes first; and what is to be told."""
    if not checks:
        return best, []
    keeping = [one for one, found in checks if found.keeps]
    if not keeping:
        return best, [f"none of the {len(checks)} plans that were simulated keeps all limits there"]
    if keeping[0] is best[0]:
        return best, []
    note = f"{best[0].name} ranks first, but does not keep all limits when simulated"
    return (keeping[0], *(one for one in best if one is not keeping[0])), [note]


def _told(one: Moved) -> dict[str, Any]:
    named = {name: getattr(one, name) for name in ("name", "factor", "plan_changes", "sizes_change")}
    deployment = deployment_words(one.case) if one.case else None
    return {**named, "objective_ratio": finite(one.objective), "deployment": deployment}


def _found(
    asked: Asked, predictor: Predictor, top: int, plays: bool, progress: Progress | None
) -> tuple[Found, list[str]]:
    """The search; where limits are on percentiles, again with means held tighter until the best keeps them as played.

    Returns: what was found, and what is to be told. If no tighter search has a candidate, the last that had one.
    """
    q, kept = asked.question, None
    notes: list[str] = []
    for _ in range(TURNS if asked.percentiles and plays else 1):
        with np.errstate(all="ignore"):
            found = find(q, predictor, top=top, progress=_searching(progress))
        if not found.best.count:
            return kept or found, notes
        kept = found
        if found.interrupted:
            return found, [*notes, f"stopped before its end: {found.seen:,} candidates were seen, not all"]
        try:
            tighter = _tighter(found, asked, progress) if asked.percentiles and plays else {}
        except KeyboardInterrupt:
            return replace(found, interrupted=True), [*notes, "stopped before its end: no percentile was checked"]
        if not tighter:
            break
        q = replace(q, slo=replace(q.slo, **{f"{name}_s": limit_s for name, limit_s in tighter.items()}))
        held = ", ".join(f"{name} to {units.duration(limit_s)}" for name, limit_s in tighter.items())
        notes = [f"means were held tighter, {held}, for the sake of the percentiles"]
    return found, notes


def _searching(progress: Progress | None) -> Callable[[int, int, str], None] | None:
    if progress is None:
        return None
    return lambda done, total, words: progress(0.0, done, total, f"searching {words}")


def _tighter(found: Found, asked: Asked, progress: Progress | None) -> dict[str, float]:
    """Limits on means that may keep the percentiles which the best misses when it is simulated; empty if it keeps all.

    A percentile is taken to go with its mean.
    """
    ((best, *_),) = _candidates((found.best,), asked.question)
    played = _played(best, asked, progress)
    limits = {name: getattr(asked.question.slo, f"{name}_s") for name in asked.percentiles}
    return {
        name: float(best.values[f"{name}_s"]) * limit_s / played.limited_s[name]
        for name, limit_s in limits.items()
        if played.limited_s[name] > limit_s
    }


def serving_intake(table: Table) -> Any:
    """The cases of a table of `predict serving`, complete."""
    return intake("serving", table)


def _candidates(parts: Sequence[Chosen], question: Question) -> list[tuple[Candidate, ...]]:
    """Candidates predicted exactly, as `predict` would show them, those of each part together."""
    tables = [part.rows for part in parts if part.rows is not None]
    if not tables:
        return [() for _ in parts]
    rows = joined(tables)
    results, _ = evaluate_table("serving", rows.table())
    named = {
        name: column.texts() if isinstance(column, Labels) else list(column)
        for name, column in results.items()
        if name in SHOWN
    }
    prices = {allowed.machine.chip.name: allowed.usd_per_s for allowed in question.machines}
    made = []
    for i in range(rows.count):
        case = {name: value for name, value in rows.case(i).items() if value == value}
        values = {name: _cell(named[name][i]) for name in SHOWN}
        usd_per_s = prices[str(case["chip"])] * float(values["chips"])
        values["usd_per_h"] = usd_per_s * 3600.0
        values["cost_usd_per_1m_output_tokens"] = usd_per_s / float(values["output_tokens_per_s"]) * 1e6
        made.append(Candidate(case, values))
    ends = np.cumsum([part.count for part in parts]).tolist()
    return [tuple(made[end - part.count : end]) for part, end in zip(parts, ends, strict=True)]


def _cell(value: Any) -> float | str:
    return value if isinstance(value, str) else float(value)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | dict) else str(value)


def _unsatisfiable(asked: Asked, found: Found, predictor: Predictor) -> Unsatisfiable:
    """What the limits are missed by, and the nearest that can be done."""
    q = asked.question
    (nearest,) = _candidates((found.nearest,), q)
    if nearest:
        what, got = miss_words(nearest[0].values, q)
        fix = f"{nearest[0].name} comes nearest: allow {got}"
        return Unsatisfiable(
            f"none of {found.seen:,} candidates keeps the limits: {what}", at=", ".join(_limited(q)), fix=fix
        )
    what = f"{q.rate_per_s:g} requests/s are more than the machines carry"
    return Unsatisfiable(what, at="rate", got=f"{q.rate_per_s:g}/s", fix=_most(asked, predictor))


def _most(asked: Asked, predictor: Predictor) -> str:
    """The highest rate that the same machines carry."""
    free = replace(asked.question, rate_per_s=0.0, concurrency=0.0, objectives=("throughput",))
    with np.errstate(all="ignore"):
        found = find(free, predictor, top=1)
    (most,) = _candidates((found.best,), free)
    if not most:
        return "no rate keeps the limits: allow more time or more machines"
    return f"{most[0].name} carries {float(most[0].values['request_per_s']):.4g}/s within the limits"


def _limited(q: Question) -> list[str]:
    return [name for name in ("ttft", "tpot", "e2e") if math.isfinite(getattr(q.slo, f"{name}_s"))]
