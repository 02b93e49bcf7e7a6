"""Simulated runs for tests of what is made of them: the engine's random scenarios as `Played` values."""

from __future__ import annotations

import math

import numpy as np
from tests.serving.reference import Reference, Seq, Shelf, Store
from tests.serving.test_engine import TIMES, Scenario, scenario

from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.record.played import DONE, REJECTED, UNFINISHED, Lane, Played, runs_of

CHIPS = 2.0


def lane_of(engine: Engine, case: Scenario, end_s: float) -> Lane:
    return Lane(
        pool="serving",
        replica=0,
        runs=runs_of(engine.runs),
        alive_s=((0.0, end_s),),
        blocks=engine.capacity,
        block_tokens=case.rules.block_tokens,
        slots=case.rules.slots,
        chips=CHIPS,
        busy_s=engine.busy,
    )


def played_of(*cases: Scenario) -> Played:
    """Each scenario on a lane of its own."""
    engines = [case.engine() for case in cases]
    end_s = max(engine.t for engine in engines) + 0.25
    columns: dict[str, list[np.ndarray]] = {}
    for i, (engine, case) in enumerate(zip(engines, cases, strict=True)):
        count = len(case.requests.prompts)
        log = engine.log
        for name, values in {
            "arrival_s": log.sent,
            "admitted_s": log.admitted,
            "first_s": log.first,
            "last_s": log.last,
            "prompt_tokens": case.requests.prompts,
            "output_tokens": case.requests.outputs,
            "found_tokens": [log.found.get(r, 0) for r in range(count)],
            "preemptions": [log.preempted.get(r, 0) for r in range(count)],
            "end": [DONE] * count,
            "lane": [i] * count,
        }.items():
            columns.setdefault(name, []).append(np.array(values))
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    order = np.argsort(joined["arrival_s"], kind="stable")
    lanes = tuple(lane_of(engine, case, end_s) for engine, case in zip(engines, cases, strict=True))
    return Played(**{name: column[order] for name, column in joined.items()}, lanes=lanes, end_s=end_s)


def random_played(seed: int, lanes: int = 2) -> Played:
    return played_of(*(scenario(seed * lanes + i) for i in range(lanes)))


def with_unserved(played: Played) -> Played:
    """The same with one request rejected and one still there at the end."""
    nan = math.nan
    ends = {"end": [REJECTED, UNFINISHED], "lane": [-1, 0], "admitted_s": [nan, 0.0], "first_s": [nan, 0.1]}
    fixed = {"arrival_s": [0.0, 0.0], "last_s": [nan, nan], "prompt_tokens": [9, 8], "output_tokens": [5, 4]}
    zeros = {"found_tokens": [0, 0], "preemptions": [0, 0]}
    more = {**ends, **fixed, **zeros}
    columns = {name: np.concatenate([values, getattr(played, name)]) for name, values in more.items()}
    return Played(**columns, lanes=played.lanes, end_s=played.end_s)


class Watched(Reference):
    """The eager engine, which also writes down when each token came out."""

    def step(self, moving: list[Seq], chunks: list[tuple[Seq, float]], copying: float) -> None:
        waiting = [s for s, _ in chunks]
        super().step(moving, chunks, copying)
        for s in (*moving, *(s for s in waiting if s.decoding)):
            self.emitted.setdefault(s.id, []).append(self.t)

    def run(self) -> list[Seq]:
        self.emitted: dict[int, list[float]] = {}
        return super().run()


def token_times(case: Scenario) -> list[list[float]]:
    """When each request's tokens came out."""
    store = Store(case.units.__getitem__, case.unit_tokens, case.eviction) if case.units else None
    shelf = Shelf(case.adapters, **case.shelf) if case.adapters else None
    watched = Watched(TIMES, case.rules, case.requests, store, case.line(), shelf)
    watched.run()
    return [watched.emitted[i] for i in range(len(case.requests.prompts))]
