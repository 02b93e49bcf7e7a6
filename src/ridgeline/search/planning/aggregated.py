"""Candidates of one pool: equal replicas that share a load, each priced once by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgeline.search.planning.engines import Engines, usable
from ridgeline.search.planning.kept import Kept
from ridgeline.search.planning.predictor import Predictor
from ridgeline.search.planning.question import Column, Question, most_sequences
from ridgeline.search.planning.rows import Index, Rows

MOST_LOADED = 0.95
"""Of the rate at which queues grow without end: more is asked of no deployment, whatever its limits allow."""

LEAST_LOADED = 0.02
"""Of that rate: where the limits of service do not even hold here, they are taken not to hold at all."""

SHARES = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Loads that a deployment is tried at, of the highest that keeps all limits."""

EVERY, GROWTH = 64, 1.1
"""Numbers of replicas that are all tried, beyond the least that can carry the load; then in steps of a tenth."""

FIRST_LADDER = (LEAST_LOADED / MOST_LOADED, 0.25, 0.5, 0.75, 0.9, 1.0)
LADDER = (0.2, 0.4, 0.6, 0.8)
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a table of engines stands: its number, its machine, the name of what it holds."""

    group: int
    machine: int
    family: str


def highest_rate(engines: Engines, question: Question, predictor: Predictor) -> tuple[Column, Column]:
    """(highest rate of random arrivals that keeps all limits, rate beyond which queues grow), per row of one replica.

    Times grow with the rate, so the highest is bracketed by ladders of rates, all rows at once, to less than a
    thousandth of the saturated rate, and the lower end is taken: it keeps the limits, and leaves room for bursts in the
    batch (`most_sequences`). NaN where none does.
    """
    rows = engines.rows
    times_at, every = predictor.open_loop(rows), np.arange(rows.count)
    saturated = times_at(np.full(rows.count, np.inf), every)["request_per_s"]
    low, high = np.zeros(rows.count), MOST_LOADED * saturated
    top = high.copy()
    for turn in range(ROUNDS + 1):
        ladder = np.array(FIRST_LADDER if turn == 0 else LADDER)
        active = every if turn == 0 else np.flatnonzero((low > 0) & (low < high))
        if not active.size:
            break
        tried = low[active] + ladder[:, None] * (high - low)[active]
        many = np.tile(active, ladder.size)
        found = times_at(tried.ravel(), many)
        roomy = found["batch"] <= most_sequences(engines.slots[many])
        keeps = ((question.slo.excess(found) <= 1.0) & roomy).reshape(tried.shape)
        steps = np.minimum.accumulate(keeps, axis=0).sum(axis=0)
        ends = np.vstack([low[active], tried, high[active]])
        low[active] = ends[steps, np.arange(active.size)]
        high[active] = ends[np.minimum(steps + 1, ladder.size + 1), np.arange(active.size)]
    return np.where(low > 0, low, np.nan), top / MOST_LOADED


def offer_free(engines: Engines, question: Question, predictor: Predictor, kept: Kept, place: Place) -> None:
    """Each engine at shares of the highest rate that it keeps the limits at, times every number of replicas."""
    rows, count = engines.rows, engines.rows.count
    edge, limit = highest_rate(engines, question, predictor)
    keeps = np.flatnonzero(np.isfinite(edge))
    shares = np.repeat(SHARES, keeps.size)
    index = np.concatenate([np.tile(keeps, len(SHARES)), np.setdiff1d(np.arange(count), keeps)])
    load = np.concatenate([shares * edge[index[: shares.size]], LEAST_LOADED * limit[index[shares.size :]]])
    found = predictor.evaluate(rows.take(index).put(request_rate_per_s=load))
    at, replicas = _counts(np.zeros(index.size), _most(engines, question, place)[index])
    _offer(engines, question, kept, found, at=at, engine=index[at], load=load[at], replicas=replicas, place=place)


def offer_fixed(engines: Engines, question: Question, predictor: Predictor, kept: Kept, place: Place) -> None:
    """Each engine with every number of replicas that can carry the load."""
    q, rows = question, engines.rows
    most = _most(engines, question, place)
    if q.rate_per_s:
        limit = predictor.evaluate(rows.put(load="saturated"))["request_per_s"]
        least = np.ceil(q.rate_per_s / np.where(limit > 0, MOST_LOADED * limit, np.nan) - 1e-9) - 1.0
        least = np.where(np.isfinite(least), least, most + 1.0)
    else:
        least = np.zeros(rows.count)
    index, replicas = _counts(least, most)
    load = (q.rate_per_s or q.concurrency) / replicas
    name = "request_rate_per_s" if q.rate_per_s else "concurrency"
    found = predictor.evaluate(rows.take(index).put(**{name: load}))
    every = np.arange(index.size)
    _offer(engines, q, kept, found, at=every, engine=index, load=load, replicas=replicas, place=place)


def _most(engines: Engines, question: Question, place: Place) -> Column:
    """Replicas that the machines hold."""
    return np.asarray(np.floor(usable(question, place.machine) / engines.chips + 1e-9))


def _counts(least: Column, most: Column) -> tuple[Index, Column]:
    """(row, number of replicas): more than `least` and at most `most` of each row, all of them up to `EVERY` more."""
    steps = np.concatenate([np.arange(1.0, EVERY + 1), np.floor(EVERY * GROWTH ** np.arange(1.0, 120.0))])
    counts = least[:, None] + steps
    counts[(counts > most[:, None]) & (counts - steps + np.concatenate([[0.0], steps[:-1]]) >= most[:, None])] = np.nan
    counts = np.minimum(counts, most[:, None])
    index, place = np.nonzero(np.isfinite(counts))
    return index, counts[index, place]


def _offer(
    engines: Engines,
    question: Question,
    kept: Kept,
    found: dict[str, Column],
    *,
    at: Index,
    engine: Index,
    load: Column,
    replicas: Column,
    place: Place,
) -> None:
    """Candidates: rows `at` of what was found of one replica, `replicas` of them."""
    columns = {name: column[at] for name, column in found.items()}
    if not question.concurrency:
        crowded = columns.pop("batch") > most_sequences(engines.slots[engine])
        columns["ttft_s"] = np.where(crowded, np.nan, columns["ttft_s"])
    columns["request_per_s"] = columns["request_per_s"] * replicas
    columns["chips"] = engines.chips[engine] * replicas
    columns["usd_per_s"] = columns["chips"] * question.machines[place.machine].usd_per_s

    def locate(rows: Index) -> dict[str, Column]:
        same = np.zeros(rows.size)
        return {
            "group": same + place.group,
            "engine": engine[rows].astype(np.float64),
            "plan": engines.plan[engine[rows]].astype(np.float64),
            "workers": replicas[rows],
            "load": (load * replicas)[rows],
        }

    columns["changed"] = engines.changed[engine]
    kept.offer(columns, locate, family=place.family)


def rows_of(engines: Engines, question: Question, places: dict[str, Column]) -> Rows:
    """The case rows of candidates that were located in this group."""
    index = places["engine"].astype(np.intp)
    rows = engines.rows.take(index).put(mode="agg", replicas=places["workers"])
    return rows.put(**{load_column(question): places["load"]})


def load_column(question: Question) -> str:
    """The column that says the load."""
    return "concurrency" if question.concurrency else "request_rate_per_s"
