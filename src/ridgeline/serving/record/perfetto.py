"""A simulated run as a trace that ui.perfetto.dev and chrome://tracing open (Trace Event Format, JSON).

One process per lane with a slice per run of iterations and counters of batch, cache and power; one process for the
requests, with the queue and, for a limited number of them, their phases as async slices. Events are written one by
one, those of a track in order of time, so that memory does not grow with the run; the file appears whole or not at all.

Source: Trace Event Format, Google, docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.core.errors import DomainError
from ridgeline.core.trace_events import micro, named, write_events
from ridgeline.serving.record.energy import table_of
from ridgeline.serving.record.played import REJECTED, Lane, Played, run_ends_s
from ridgeline.serving.record.power_table import PowerTable
from ridgeline.serving.record.run_statistics import cache_shares
from ridgeline.serving.record.series import queue_of

REQUESTS_PROCESS = 1
FIRST_LANE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """What of a run a trace shows.

    Attributes:
        start_s, end_s: runs that begin, and requests that arrive, in this time.
        runs: most runs of iterations, shared equally by the lanes.
        requests: most requests, the first to arrive.
    """

    start_s: float = 0.0
    end_s: float = math.inf
    runs: int = 100_000
    requests: int = 2_000

    def __post_init__(self) -> None:
        """Refuse a window that ends before it starts, and negative numbers."""
        if not 0.0 <= self.start_s < self.end_s or min(self.runs, self.requests) < 0:
            raise DomainError("an excerpt is a stretch of time and two numbers from 0", at="excerpt", got=self)


def write_trace(
    played: Played,
    path: str | os.PathLike[str],
    *,
    excerpt: Excerpt | None = None,
    powers: Mapping[str, PowerTable] | None = None,
    name: str = "ridgeline simulate serving",
) -> str:
    """Write the trace of a run.

    Args:
        played: the run.
        path: of the JSON file.
        excerpt: what of it; None: the first of everything.
        powers: of each pool; without, there is no counter of power.
        name: title of the trace.
    Returns: one line that says what the trace holds and what it leaves out.
    Raises:
        FileFormatError: the file cannot be written.
    """
    chosen = excerpt or Excerpt()
    shown, runs_note = _shown_runs(played, chosen)
    requests = _shown_requests(played, chosen)
    inside = int(np.count_nonzero(_within(played.arrival_s, chosen)))
    note = f"{runs_note}; phases of {requests.size:,} of {inside:,} requests"
    other = {"title": name, "note": note, "start_s": chosen.start_s, "simulated_s": played.end_s}
    if math.isfinite(chosen.end_s):
        other["end_s"] = chosen.end_s
    write_events(path, _events(played, chosen, shown, requests, powers), other)
    return note


def _within(times_s: Any, chosen: Excerpt) -> Any:
    return (times_s >= chosen.start_s) & (times_s < chosen.end_s)


def _shown_runs(played: Played, chosen: Excerpt) -> tuple[list[tuple[int, int]], str]:
    """(first, last + 1) of the runs of each lane, and what that leaves out."""
    share = max(chosen.runs // max(len(played.lanes), 1), 1) if chosen.runs else 0
    spans, there = [], 0
    for lane in played.lanes:
        low, high = np.searchsorted(lane.runs["start_s"], [chosen.start_s, chosen.end_s]).tolist()
        there += high - low
        spans.append((low, min(high, low + share)))
    written = sum(high - low for low, high in spans)
    kept = "" if written == there else f", the first {share:,} of each lane"
    return spans, f"{written:,} of {there:,} runs of iterations{kept}"


def _shown_requests(played: Played, chosen: Excerpt) -> Any:
    there = np.flatnonzero(_within(played.arrival_s, chosen) & (played.end != REJECTED))
    order = np.argsort(played.arrival_s[there], kind="stable")
    return there[order][: chosen.requests]


def _events(
    played: Played,
    chosen: Excerpt,
    shown: list[tuple[int, int]],
    requests: Any,
    powers: Mapping[str, PowerTable] | None,
) -> Iterator[dict[str, Any]]:
    yield named(REQUESTS_PROCESS, "process_name", "requests")
    # What the lanes show ends somewhere; the queue is shown as far.
    last = max(
        (
            float(run_ends_s(lane.runs[low:high])[-1])
            for lane, (low, high) in zip(played.lanes, shown, strict=True)
            if high > low
        ),
        default=chosen.start_s,
    )
    times, queue = queue_of(played)
    jumps = np.flatnonzero(np.concatenate([np.diff(times) > 0, [True]]) & (times >= chosen.start_s) & (times <= last))
    for time, waiting in zip(times[jumps].tolist(), queue[jumps].tolist(), strict=True):
        yield _counter(REQUESTS_PROCESS, "queue", time, {"waiting": waiting})
    for request in requests.tolist():
        yield from _phases(played, request)
    for i, (lane, (low, high)) in enumerate(zip(played.lanes, shown, strict=True)):
        yield from _lane(lane, FIRST_LANE + i, f"{lane.pool} lane {i}, replica {lane.replica}", low, high, powers)


def _phases(played: Played, request: int) -> Iterator[dict[str, Any]]:
    """Queued, prefill, decode: each until the next, or the end of the run."""
    marks = [played.arrival_s, played.admitted_s, played.first_s, played.last_s]
    at = [float(column[request]) for column in marks]
    told = {"prompt_tokens": int(played.prompt_tokens[request]), "output_tokens": int(played.output_tokens[request])}
    for name, begin, end in zip(("queued", "prefill", "decode"), at, at[1:], strict=False):
        if math.isnan(begin):
            return
        stop = end if not math.isnan(end) else played.end_s
        base = {"name": name, "cat": "request", "id": request, "pid": REQUESTS_PROCESS, "tid": 0}
        yield {**base, "ph": "b", "ts": micro(begin), "args": told}
        yield {**base, "ph": "e", "ts": max(micro(stop), micro(begin))}


def _lane(
    lane: Lane, pid: int, title: str, low: int, high: int, powers: Mapping[str, PowerTable] | None
) -> Iterator[dict[str, Any]]:
    yield named(pid, "process_name", title)
    yield named(pid, "thread_name", "iterations")
    runs = lane.runs[low:high]
    used, _ = cache_shares(runs, blocks=lane.blocks, block_tokens=lane.block_tokens)
    watts = (lane.chips * table_of(powers, lane).power_w(runs)).tolist() if powers else [None] * runs.size
    ends = run_ends_s(runs)
    stops = np.concatenate([runs["start_s"][1:] > ends[:-1], np.ones(min(runs.size, 1), np.bool_)])
    rows = zip(runs.tolist(), ends.tolist(), stops.tolist(), used.tolist(), watts, strict=True)
    for (start, first_s, rise_s, k, n, _context, tokens, prompts, _used), end, stop, share, watt in rows:
        kind = "decode" if not prompts else "prefill" if not n else "mixed"
        args = {
            "iterations": k,
            "sequences": n,
            "prompt_tokens": tokens,
            "prompts": prompts,
            "first_iteration_ms": first_s * 1e3,
            "rise_per_iteration_ms": rise_s * 1e3,
        }
        begin = micro(start)
        slice_ = {"name": kind, "cat": "run", "ph": "X", "ts": begin, "dur": max(micro(end) - begin, 0.0)}
        yield {**slice_, "pid": pid, "tid": 0, "args": args}
        yield _counter(pid, "batch", start, {"sequences": n})
        yield _counter(pid, "KV in use", start, {"share": share})
        if watt is not None:
            yield _counter(pid, "power", start, {"W": watt})
        if stop:
            yield _counter(pid, "batch", end, {"sequences": 0})


def _counter(pid: int, name: str, time_s: float, values: dict[str, float]) -> dict[str, Any]:
    return {"name": name, "ph": "C", "ts": micro(time_s), "pid": pid, "tid": 0, "args": values}
