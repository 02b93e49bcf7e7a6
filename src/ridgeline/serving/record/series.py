"""A simulated run over time: rates, queue, batch, cache, utilisation and power in windows of equal width."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.serving.record.energy import alive_of, residents, rest_j, table_of
from ridgeline.serving.record.played import DONE, REJECTED, Column, Played, runs_kept
from ridgeline.serving.record.power_table import PowerTable
from ridgeline.serving.record.run_statistics import SUMS, RunStatistics
from ridgeline.sim.timeline import population, window_means

MOST_WINDOWS = 1_000_000

WINDOW_COLUMNS = (
    "start_s",
    "width_s",
    "arrival_per_s",
    "request_per_s",
    "output_tokens_per_s",
    "prompt_tokens_per_s",
    "queue",
    "in_flight",
    "batch",
    "kv_use_frac",
    "busy_frac",
    "power_w",
    *SUMS,
)
"""Of each window: its start and width; requests that arrive and complete; tokens emitted, prompt tokens computed; mean
requests that wait and that are in the system; decoding sequences of a lane and share of its cache in use, means over
time in iterations; share of the lanes' time up that they iterate; power of all boards (NaN: unknown); and the sums."""


def windows_of(
    played: Played,
    *,
    width_s: float,
    powers: Mapping[str, PowerTable] | None = None,
    growth: float = 1.0,
    grows: bool = True,
) -> dict[str, Column]:
    """Series over windows from 0 to the end of the run.

    Args:
        played: the run.
        width_s: of a window; the last one may be narrower.
        powers: of each pool; without, energy is not known.
        growth: tokens per sequence and iteration.
        grows: as of `RunStatistics.add`.
    Returns: `WINDOW_COLUMNS`, one array each.
    Raises:
        DomainError: a width that is not positive, or makes more than a million windows; runs that were not kept.
    """
    if not runs_kept(played):
        raise DomainError("runs of iterations were not kept", at="keep_runs", fix="simulate with them kept")
    edges = edges_of(played.end_s, width_s)
    count, widths = edges.size - 1, np.diff(edges)
    sums, up = _sums(played, edges, width_s, powers, growth, grows)
    arrived, seen = np.isfinite(played.arrival_s), played.first_s[np.isfinite(played.first_s)]
    done = played.last_s[played.end == DONE]
    queued, inside = queue_of(played), flight_of(played)
    tokens = sums["decode_tokens"] + _counted(seen, edges)
    busy = sums["busy_s"]
    return {
        "start_s": edges[:-1],
        "width_s": widths,
        "arrival_per_s": _counted(played.arrival_s[arrived], edges) / widths,
        "request_per_s": _counted(done, edges) / widths,
        "output_tokens_per_s": tokens / widths,
        "prompt_tokens_per_s": sums["prompt_tokens"] / widths,
        "queue": window_means(*queued, edges),
        "in_flight": window_means(*inside, edges),
        "batch": _over(sums["sequence_s"], busy),
        "kv_use_frac": _over(sums["cache_s"], busy),
        "busy_frac": _over(busy, up),
        "power_w": sums["energy_j"] / widths if powers else np.full(count, math.nan),
        **sums,
    }


def edges_of(end_s: float, width_s: float) -> Column:
    """Edges of windows from 0 to `end_s`."""
    if not 0.0 < width_s < math.inf or end_s / width_s > MOST_WINDOWS:
        fix = f"give at least {end_s / MOST_WINDOWS:.3g} s"
        raise DomainError("a window needs a width", at="width_s", got=width_s, fix=fix)
    count = max(math.ceil(end_s / width_s), 1)
    edges: Column = np.arange(count + 1, dtype=np.float64) * width_s
    edges[-1] = end_s if end_s > edges[-2] else edges[-1]
    return edges


def queue_of(played: Played) -> tuple[Column, Column]:
    """Times from 0 at which the number of requests that wait for their first admission changes, and the number."""
    return _number_inside(played, played.admitted_s)


def flight_of(played: Played) -> tuple[Column, Column]:
    """The same of requests in the system: arrived, and not complete."""
    return _number_inside(played, played.last_s)


def _number_inside(played: Played, leaves_s: Column) -> tuple[Column, Column]:
    there = np.isfinite(played.arrival_s) & (played.end != REJECTED)
    gone = np.where(np.isfinite(played.last_s), played.last_s, np.inf)
    leaves = np.where(np.isfinite(leaves_s), leaves_s, gone)[there]
    times, inside = population(played.arrival_s[there], np.maximum(leaves, played.arrival_s[there]))
    return np.concatenate([[min(0.0, *times[:1])], times]), np.concatenate([[0.0], inside])


def _sums(
    played: Played,
    edges: Column,
    width_s: float,
    powers: Mapping[str, PowerTable] | None,
    growth: float,
    grows: bool,
) -> tuple[dict[str, Column], Column]:
    """The sums of runs in each window, with energy outside of iterations; and lanes' seconds up."""
    count = edges.size - 1
    whole = {name: np.zeros(count) for name in SUMS}
    up = np.zeros(count)
    for lane, present in zip(played.lanes, residents(played), strict=True):
        power = table_of(powers, lane) if powers else None
        watts = lane.chips * power.power_w(lane.runs) if power else 0.0
        statistics = RunStatistics(window_s=width_s, most_windows=count + 2)
        options = {"blocks": lane.blocks, "block_tokens": lane.block_tokens, "growth": growth, "grows": grows}
        statistics.add(lane.runs, power_w=watts, gaps=False, **options)  # type: ignore[arg-type]
        series = {name: _folded(column, count) for name, column in statistics.series().items()}
        for name in SUMS:
            whole[name] += series[name]
        up += np.diff(alive_of(lane).until(edges))
        if power:
            whole["energy_j"] += rest_j(lane, present, power, edges, series["busy_s"])
    return whole, up


def _folded(column: Column, count: int) -> Column:
    """As many windows as the series has; what lies beyond by rounding goes to the last."""
    folded = np.zeros(count)
    folded[: column.size] = column[:count]
    folded[-1] += column[count:].sum()
    return folded


def _counted(times_s: Column, edges: Column) -> NDArray[np.float64]:
    """How many lie in each window (start, end], 0 in the first."""
    at = np.clip(np.searchsorted(edges, times_s, side="left") - 1, 0, edges.size - 2)
    return np.bincount(at, minlength=edges.size - 1).astype(np.float64)


def _over(part: Column, whole: Column) -> Column:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
