"""A load generator's run, row by row: what it sends, what the engine does with it, and the means it prints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.seeding import stream
from ridgeline.hardware.chip import Value
from ridgeline.serving.engine.alone import serve
from ridgeline.serving.engine.engine import Engine
from ridgeline.serving.engine.rules import Log, Requests, Rules
from ridgeline.serving.engine.step_table import StepTimes, sample
from ridgeline.serving.load import Load, Procedure
from ridgeline.serving.stepper import Stepper

Column = NDArray[np.float64]

MOST_REQUESTS = 20_000
"""Requests of one run: a larger one is so close to its steady state that the closed form serves as well."""

SETTLED_WAVES = 2
"""Waves of requests that count as the start of a closed loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Means over the requests of a lane's run, in seconds; `steady_*` without its first waves and its last one."""

    ttft_s: Value
    tpot_s: Value
    steady_ttft_s: Value
    steady_tpot_s: Value
    request_per_s: Value
    batch: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Whole requests that a lane's clients send.

    `low_frac` is the shortest over the longest length (1: all equal). From request `unique` on prompts repeat earlier
    ones and are found in the cache (0: no prompt repeats).
    """

    isl: int
    osl: int
    low_frac: float
    clients: int
    count: int
    hit_frac: float
    unique: int

    def requests(self) -> Requests:
        """The requests; lengths are drawn from a stream of their own, the same for every deployment."""
        prompts, outputs = (list(_lengths(n, self.low_frac, self.count, w)) for n, w in self._sides())
        hits = [min(int(p * self.hit_frac), p - 1) for p in prompts]
        if self.unique:
            hits[self.unique :] = [p - 1 for p in prompts[self.unique :]]
        return Requests(prompts=prompts, outputs=outputs, hits=hits, clients=self.clients)

    def _sides(self) -> tuple[tuple[int, str], tuple[int, str]]:
        return (self.isl, "prompts"), (self.osl, "outputs")


@lru_cache(maxsize=256)
def _lengths(nominal: int, low_frac: float, count: int, which: str) -> tuple[int, ...]:
    """Uniform whole numbers from `low_frac` of the nominal length to all of it."""
    if low_frac >= 1.0:
        return (nominal,) * count
    low = max(int(nominal * low_frac), 1)
    drawn = stream(0, f"serving {which}").integers(low, nominal + 1, size=count)
    return tuple(drawn.tolist())


def run(times: StepTimes, rules: Rules, traffic: Benchmark) -> Measured:
    """The means that are printed, and those of the settled part of the run."""
    requests = traffic.requests()
    log = Log(traffic.count)
    engine = Engine(times, rules, requests, log)
    serve(engine, requests)
    sent, first, last, outputs = (np.array(x) for x in (log.sent, log.first, log.last, requests.outputs))
    gaps = np.maximum(outputs - 1, 0)
    ttft = first - sent
    tpot = np.where(gaps > 0, (last - first) / np.maximum(gaps, 1), 0.0)
    start, end = SETTLED_WAVES * traffic.clients, traffic.count - traffic.clients
    settled = slice(start, end) if end > start else slice(None)
    return Measured(
        ttft_s=float(ttft.mean()),
        tpot_s=float(tpot.mean()),
        steady_ttft_s=float(ttft[settled].mean()),
        steady_tpot_s=float(tpot[settled].mean()),
        request_per_s=traffic.count / float(last.max()),
        batch=engine.area / engine.t,
    )


def applies(measured: Procedure) -> bool:
    """Whether a run of the engine answers: a closed loop whose start the procedure averages in."""
    return measured.requests_per_client <= MOST_REQUESTS


def run_rows(
    stepper: Stepper,
    load: Load,
    procedure: Procedure,
    cases: Mapping[str, Column],
    *,
    cache_tokens: Value,
    front_end_share: Value,
) -> tuple[Measured, NDArray[np.bool_]]:
    """Run the procedure on every row whose load is a closed loop of moderate size.

    Args:
        stepper: of one lane; its runtime has the procedure's settings, its columns one entry per row.
        load: of one lane.
        procedure: what is sent and averaged.
        cases: columns of the case table.
        cache_tokens: tokens that the cache of a lane holds.
        front_end_share: lanes that share one front-end process.
    Returns: the means, NaN where no run was made; and where runs were made. Equal rows are run once.
    """
    rows, r = cases["isl"].size, stepper.runtime
    room, concurrency, hits, growth, share = (
        np.broadcast_to(np.asarray(x, float), (rows,))
        for x in (cache_tokens, load.concurrency, load.prefix_hit_frac, load.tokens_per_step, front_end_share)
    )
    clients = np.where(np.isfinite(concurrency), np.round(concurrency), 0.0)
    count = clients * procedure.requests_per_client
    made = (clients >= 1) & (count <= MOST_REQUESTS) & (room >= cases["isl"] + cases["osl"])
    values = {field.name: np.full(rows, np.nan) for field in fields(Measured)}
    if not made.any():
        return Measured(**values), made
    slots = np.minimum(np.where(cases["max_batch"] > 0, cases["max_batch"], r.max_batch), np.maximum(clients, 1.0))
    slots = np.where(made, np.where(slots > r.lost_slots, slots - r.lost_slots, slots), 1.0)
    budget = np.where(made, np.maximum(r.token_budget(cases), 1.0), 1.0)
    longest = cases["isl"] + cases["osl"]
    tables = sample(stepper, rows=rows, low=cases["isl"], high=longest, slots=slots, budget=budget)
    waits = r.batch_waits(cases)
    known: dict[object, Measured] = {}
    for i in np.flatnonzero(made).tolist():
        traffic = Benchmark(
            isl=max(round(cases["isl"][i]), 1),
            osl=max(round(cases["osl"][i]), 1),
            low_frac=procedure.low_frac,
            clients=int(clients[i]),
            count=int(count[i]),
            hit_frac=float(hits[i]),
            unique=procedure.unique_prompts if r.prefix_cache else 0,
        )
        rules = Rules(
            slots=int(slots[i]),
            token_budget=float(budget[i]),
            prompts=r.prompt_policy,
            cache=r.cache_policy,
            cache_tokens=math.floor(room[i]),
            lag=r.admission_lag_steps,
            wait_steps=int(r.batch_wait_steps) if waits[i] else 0,
            wait_frac=r.batch_wait_frac,
            front_end_s=r.front_end_token_s * float(share[i]),
            growth=float(growth[i]),
        )
        key = (rules, traffic, _key(tables[i]))
        if key not in known:
            known[key] = run(tables[i], rules, traffic)
        for name, column in values.items():
            column[i] = getattr(known[key], name)
    return Measured(**values), made


def _key(times: StepTimes) -> tuple[object, ...]:
    """What makes two tables the same."""
    lists = (times.body_s, times.decode_s, times.context_s, times.extra_s, times.prefix_s)
    return (*(tuple(x) for x in lists), times.width, times.host_s, times.host_sequence_s)
