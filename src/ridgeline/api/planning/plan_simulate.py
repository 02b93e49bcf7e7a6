"""Candidates of a plan played request by request: what the search predicted beside what a simulation gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.planning.plan_question import Asked
from ridgeline.api.simulations.simulate import Progress, simulate
from ridgeline.serving.record.latency import tpot_of
from ridgeline.serving.record.played import DONE

LEAST, MOST = 2_000, 60_000
"""Requests of a run."""

TURNOVERS, WARM_UP = 10, 2
"""Times that the requests in flight are exchanged in a run, about; of these, how many are left out at its start."""

TAIL = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a simulation gives, from its steady state.

    Attributes:
        mean_s, tail_s, limited_s: of ttft, tpot and e2e: mean, 99th percentile, and the statistic that its limit is on.
        request_per_s: completed. requests: simulated.
        keeps: whether all limits hold.
    """

    mean_s: Mapping[str, float]
    tail_s: Mapping[str, float]
    limited_s: Mapping[str, float]
    request_per_s: float
    requests: int
    keeps: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        named = {"mean": self.mean_s, "p99": self.tail_s}
        told = {f"{name}_{which}_s": value for which, values in named.items() for name, value in values.items()}
        return {**told, "request_per_s": self.request_per_s, "requests": self.requests, "keeps_limits": self.keeps}


def checked(case: Mapping[str, float | str], e2e_s: float, asked: Asked, progress: Progress | None = None) -> Checked:
    """Simulate one candidate under the load of the question.

    Args:
        case: of the candidate.
        e2e_s: its time of a request, which says how long a run must be.
        asked: the question.
        progress: as of `simulate`.
    Raises: KeyboardInterrupt: the run was stopped; part of one says nothing of percentiles.
    """
    q = asked.question
    in_flight = float(case.get("concurrency", 0.0)) or float(case.get("request_rate_per_s", 0.0)) * e2e_s
    words: dict[str, Any] = dict(asked.load)
    if "trace" not in words:
        words["requests"] = float(np.clip(round(TURNOVERS * in_flight), LEAST, MOST))
    run = simulate(**{**case, **words}, keep_runs=False, progress=progress)
    if run.interrupted:
        raise KeyboardInterrupt
    played, steady = run.played, run.answers.steady
    start_s = min(max(steady.start_s, WARM_UP * e2e_s), steady.end_s / 2.0)
    there = (played.end == DONE) & (played.arrival_s >= start_s) & (played.arrival_s <= steady.end_s)
    done = (played.end == DONE) & (played.last_s >= start_s) & (played.last_s <= steady.end_s)
    columns = {
        "ttft": (played.first_s - played.arrival_s)[there],
        "tpot": tpot_of(played)[there],
        "e2e": (played.last_s - played.arrival_s)[there],
    }
    limited = {name: _statistic(column, asked.percentiles.get(name)) for name, column in columns.items()}
    return Checked(
        mean_s={name: _statistic(column, None) for name, column in columns.items()},
        tail_s={name: _statistic(column, TAIL) for name, column in columns.items()},
        limited_s=limited,
        request_per_s=float(np.count_nonzero(done)) / (steady.end_s - start_s),
        requests=int(played.arrival_s.size),
        keeps=all(not value > getattr(q.slo, f"{name}_s") for name, value in limited.items()),
    )


def _statistic(values: NDArray[np.float64], level: float | None) -> float:
    """Mean, or a percentile, of what is finite; NaN without values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return math.nan
    return float(finite.mean() if level is None else np.quantile(finite, level))
