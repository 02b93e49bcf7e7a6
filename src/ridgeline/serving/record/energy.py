"""Energy of a simulated run: power over time, lane by lane, and whose it is.

A lane draws its power of iterations while it iterates, static power while requests are resident and nothing runs, idle
power else, and nothing while it is down. Boards alone: hosts, fans and losses of supplies are not known.

Each request pays a part of the static power of its lane for the time that it is resident, divided equally among those
resident with it; and of what iterations draw above that, a part for its tokens: an iteration's energy is divided
equally among its tokens, that of prompts among the requests that prefill then, by the length of their prompts. What a
lane draws while no request is there belongs to none. Requests and idle add up to the total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError, did_you_mean
from ridgeline.serving.record.played import DECODE, MIXED, PREFILL, Column, Lane, Played, run_ends_s
from ridgeline.serving.record.power_table import PowerTable
from ridgeline.serving.record.run_windows import run_times_s, time_in
from ridgeline.serving.record.spans import Spans, shared_time, spread, union


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resident:
    """The requests of a lane: index in `Played`, since when they are resident, first token, and until when."""

    request: NDArray[np.intp]
    begin_s: Column
    first_s: Column
    end_s: Column


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Energy:
    """Energy of boards over the whole run, J.

    Attributes:
        total_j: integral of power.
        per_request_j: of each request, shape (n,).
        idle_j: while lanes had no request.
    """

    total_j: float
    per_request_j: Column
    idle_j: float


def table_of(powers: Mapping[str, PowerTable], lane: Lane) -> PowerTable:
    """The powers of a lane's pool. Raises DomainError: there are none."""
    if lane.pool not in powers:
        raise DomainError(
            "no power is known for a pool", at="powers", got=lane.pool, fix=did_you_mean(lane.pool, powers)
        )
    return powers[lane.pool]


def residents(played: Played) -> tuple[Resident, ...]:
    """Who is on each lane and when; nobody on lanes that only compute prompts: which took which is not kept."""
    order = np.argsort(played.lane, kind="stable")
    edges = np.searchsorted(played.lane[order], np.arange(len(played.lanes) + 1))
    last = np.where(np.isfinite(played.last_s), played.last_s, played.end_s)
    first = np.where(np.isfinite(played.first_s), np.minimum(played.first_s, last), last)
    found = []
    for i, lane in enumerate(played.lanes):
        where = order[edges[i] : edges[i + 1]] if lane.role != PREFILL else order[:0]
        begin = first if lane.role == DECODE else played.admitted_s
        where = where[np.isfinite(begin[where])]
        found.append(Resident(request=where, begin_s=begin[where], first_s=first[where], end_s=last[where]))
    return tuple(found)


def alive_of(lane: Lane) -> Spans:
    """When a lane was up."""
    spans = np.array(lane.alive_s, np.float64).reshape(-1, 2)
    return union(spans[:, 0], spans[:, 1])


def taken_of(lane: Lane, present: Resident) -> Spans:
    """When a lane was up and had work, counted in seconds that it was up."""
    alive = alive_of(lane)
    begin = np.concatenate([present.begin_s, lane.runs["start_s"]])
    end = np.concatenate([present.end_s, run_ends_s(lane.runs)])
    return union(alive.until(begin), alive.until(end))


def rest_j(lane: Lane, present: Resident, power: PowerTable, edges_s: Column, busy_s: Column) -> Column:
    """Energy of a lane outside of iterations.

    Args:
        lane: whose.
        present: who is on it.
        power: of one of its chips.
        edges_s: shape (m + 1,): of windows that touch.
        busy_s: shape (m,): seconds of each window in iterations.
    Returns: J, shape (m,).
    """
    up = alive_of(lane).until(edges_s)
    taken = np.diff(taken_of(lane, present).until(up))
    waiting, idle = np.maximum(taken - busy_s, 0.0), np.maximum(np.diff(up) - taken, 0.0)
    rest: Column = lane.chips * (waiting * power.static_w + idle * power.idle_w)
    return rest


def watts_of(played: Played, powers: Mapping[str, PowerTable]) -> list[Column]:
    """Power of a chip during each run, lane by lane."""
    return [table_of(powers, lane).power_w(lane.runs) for lane in played.lanes]


def energy_j(
    played: Played,
    powers: Mapping[str, PowerTable],
    start_s: float,
    end_s: float,
    watts: Sequence[Column] | None = None,
) -> float:
    """Energy of all lanes between two instants: the integral of power, J. `watts` as of `watts_of`, if at hand."""
    total, edges = 0.0, np.array([start_s, end_s])
    known = watts_of(played, powers) if watts is None else watts
    for lane, present, drawn in zip(played.lanes, residents(played), known, strict=True):
        time_s = time_in(lane.runs, start_s, end_s)
        total += float(rest_j(lane, present, table_of(powers, lane), edges, np.array([time_s.sum()]))[0])
        total += lane.chips * float(time_s @ drawn)
    return total


def attributed(played: Played, powers: Mapping[str, PowerTable], watts: Sequence[Column] | None = None) -> Energy:
    """Whose energy it is; requests and idle are computed apart from the total. `watts` as of `watts_of`, if at hand."""
    shares, idle = np.zeros(played.arrival_s.size), 0.0
    known = watts_of(played, powers) if watts is None else watts
    for lane, present, drawn in zip(played.lanes, residents(played), known, strict=True):
        power = table_of(powers, lane)
        alive, taken = alive_of(lane), taken_of(lane, present)
        idle += lane.chips * power.idle_w * (alive.total_s - taken.total_s)
        if lane.role == PREFILL:
            continue
        resident_s = shared_time(alive.until(present.begin_s), alive.until(present.end_s))
        each = lane.chips * power.static_w * resident_s
        idle += lane.chips * power.static_w * taken.total_s - float(each.sum())
        more, left = _dynamic(played, lane, present, drawn - power.static_w)
        shares[present.request] += each + more
        idle += left
    each, left = _of_prompts(played, powers, known)
    total = energy_j(played, powers, 0.0, played.end_s, known)
    return Energy(total_j=total, per_request_j=shares + each, idle_j=idle + left)


def _dynamic(played: Played, lane: Lane, present: Resident, above_w: Column) -> tuple[Column, float]:
    """What iterations draw above static power, by tokens: of each resident request, and of none."""
    prompts, decoded = _per_kind(lane, above_w)
    start, who = lane.runs["start_s"], present
    computed = (played.prompt_tokens - played.found_tokens)[who.request].astype(np.float64)
    first, left = spread(start, prompts, who.begin_s, who.first_s, np.maximum(computed, 1.0))
    later, over = spread(start, decoded, who.first_s, who.end_s)
    return first + later, left + over


def _per_kind(lane: Lane, above_w: Column) -> tuple[Column, Column]:
    """Energy above static power of each run: that of its prompt tokens, and of its decoding sequences."""
    runs = lane.runs
    dynamic = lane.chips * run_times_s(runs) * above_w
    tokens = runs["prompt_tokens"] + runs["sequences"]
    prompts = np.divide(runs["prompt_tokens"], tokens, out=np.ones(runs.size), where=tokens > 0) * dynamic
    return prompts, dynamic - prompts


def _of_prompts(played: Played, powers: Mapping[str, PowerTable], watts: Sequence[Column]) -> tuple[Column, float]:
    """The same of lanes that only compute prompts: all of the pool's energy, divided among all that prefill then."""
    everyone = zip(played.lanes, watts, strict=True)
    lanes = [(lane, drawn) for lane, drawn in everyone if lane.role == PREFILL and lane.runs.size]
    if not lanes:
        return np.zeros(played.arrival_s.size), 0.0
    start = np.concatenate([lane.runs["start_s"] for lane, _ in lanes])
    static, dynamic = [], []
    for lane, drawn in lanes:
        power, chip_s = table_of(powers, lane), lane.chips * run_times_s(lane.runs)
        static.append(chip_s * power.static_w)
        dynamic.append(chip_s * (drawn - power.static_w))
    order = np.argsort(start, kind="stable")
    elsewhere = np.array([lane.role == MIXED for lane in played.lanes])[played.lane] & (played.lane >= 0)
    begin = np.where(np.isfinite(played.admitted_s) & ~elsewhere, played.admitted_s, np.inf)
    end = np.where(np.isfinite(played.first_s) & ~elsewhere, played.first_s, np.maximum(begin, played.end_s))
    computed = np.maximum((played.prompt_tokens - played.found_tokens).astype(np.float64), 1.0)
    times = start[order]
    resident, left = spread(times, np.concatenate(static)[order], begin, end)
    worked, over = spread(times, np.concatenate(dynamic)[order], begin, end, computed)
    return resident + worked, left + over
