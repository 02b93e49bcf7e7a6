"""What limits a simulated fleet, in words: who waits, and for what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.serving.record.energy import alive_of
from ridgeline.serving.record.played import DECODE, MIXED, PREFILL, Column, Lane, Played
from ridgeline.serving.record.run_windows import part_of
from ridgeline.serving.record.spans import present

RARELY = 0.3
"""Share of the time in iterations below which requests that wait are no queue."""

MOSTLY = 0.9
"""Share of the time above which a lane that only prefills has no room for more."""

WORDS = {
    "slots": "batch slots: lanes run as many sequences as the engine allows",
    "kv": "KV capacity: the cache has no room for the next prompt",
    "compute": "compute: prompts wait for the token budget of an iteration",
    "schedule": "the scheduler: requests wait although slots, cache and budget have room (lag, waits, order, adapters)",
    "arrivals": "arrival rate: the fleet keeps up, and has room for more",
    "latency": "the number of clients: each waits for its own tokens, and the fleet has room for more",
    "host": "the host: scheduling and launching take most of an iteration",
    "nothing": "nothing ran",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What limits the fleet most.

    Attributes:
        kind: a key of `WORDS`.
        words: one line that says so, with the shares it rests on.
        waiting_frac: share of the time in iterations of the first pool during which a request waits for admission.
    """

    kind: str
    words: str
    waiting_frac: float


UNKNOWN = Bound(
    kind="unknown", words="nothing that is known: runs of iterations were not kept", waiting_frac=float("nan")
)


def bound_of(
    played: Played, start_s: float, end_s: float, *, host_step_s: float = 0.0, host_sequence_s: float = 0.0
) -> Bound:
    """What limits the fleet between two instants.

    Args:
        played: the run, with its runs of iterations.
        start_s: from here,
        end_s: to here.
        host_step_s: host time within each iteration.
        host_sequence_s: and of each sequence in it.
    """
    sums: dict[str, _Sums] = {}
    order = np.argsort(played.lane, kind="stable")
    edges = np.searchsorted(played.lane[order], np.arange(len(played.lanes) + 1))
    mixed = np.array([lane.role == MIXED for lane in played.lanes], dtype=np.bool_)
    pooled = np.flatnonzero(~(mixed[played.lane] & (played.lane >= 0))) if not mixed.all() else None
    for i, lane in enumerate(played.lanes):
        runs, pool = lane.runs, sums.setdefault(lane.pool, _Sums())
        pool.prefills = lane.role == PREFILL
        done, time_s = part_of(runs, start_s, end_s)
        pool.up += float(np.diff(alive_of(lane).until(np.array([start_s, end_s])))[0])
        pool.busy += float(time_s.sum())
        pool.filled += float(time_s @ (runs["sequences"] + runs["prompts"])) / lane.slots
        pool.cached += float(time_s @ np.minimum(runs["used_blocks"] / lane.blocks, 1.0))
        pool.host += float(done @ (host_step_s + host_sequence_s * (runs["sequences"] + runs["prompts"])))
        if lane.role == DECODE:
            continue  # Who waits for which lane of a second pool is not kept.
        pool.entered += float(time_s.sum())
        where = order[edges[i] : edges[i + 1]] if pooled is None or mixed[i] else pooled
        queued, need = _queued(played, lane, where)
        lane_time = np.where(queued, time_s, 0.0)
        pool.waited += float(lane_time.sum())
        for name, share in _reasons(lane, need).items():
            pool.reasons[name] += float(lane_time @ share)
    return _told(sums, _closed(played))


class _Sums:
    """Seconds of the lanes of a pool: up, busy, busy where arrivals enter, while a request waits, and why it waits."""

    def __init__(self) -> None:
        self.up = self.busy = self.entered = self.waited = self.host = self.filled = self.cached = 0.0
        self.prefills = False
        self.reasons = dict.fromkeys(("slots", "kv", "compute", "schedule"), 0.0)

    @property
    def used(self) -> float:
        return min(self.busy / self.up, 1.0) if self.up > 0 else 0.0


def _closed(played: Played) -> bool:
    """Whether clients send their next request when the last one is complete: most arrivals are completions."""
    later = played.arrival_s[played.arrival_s > np.min(played.arrival_s, initial=np.inf)]
    return bool(later.size and 2 * np.count_nonzero(np.isin(later, played.last_s)) > later.size)


def _queued(played: Played, lane: Lane, where: NDArray[np.intp]) -> tuple[NDArray[np.bool_], float]:
    """Whether somebody waits at the start of each run, and the blocks that a prompt needs in the mean."""
    arrived, admitted = played.arrival_s[where], played.admitted_s[where]
    there = np.isfinite(arrived) & np.isfinite(admitted)
    prompts = played.prompt_tokens[where][there]
    need = float(np.mean(np.ceil(prompts / lane.block_tokens))) if prompts.size else 0.0
    waiting = present(lane.runs["start_s"], arrived[there], np.maximum(admitted[there], arrived[there]))
    return waiting > 0.5, need


def _reasons(lane: Lane, need_blocks: float) -> dict[str, Column]:
    """Why nobody more was admitted to each run: the first that holds."""
    runs = lane.runs
    slots = runs["sequences"] + runs["prompts"] >= lane.slots
    full = ~slots & (lane.blocks - runs["used_blocks"] < need_blocks)
    budget = ~slots & ~full & (runs["prompts"] > 0)
    rest = ~(slots | full | budget)
    named = {"slots": slots, "kv": full, "compute": budget, "schedule": rest}
    return {name: each.astype(np.float64) for name, each in named.items()}


def _told(sums: dict[str, _Sums], closed: bool) -> Bound:
    name = max(sums, key=lambda each: sums[each].used, default="")
    if not name or sums[name].busy <= 0:
        return Bound(kind="nothing", words=WORDS["nothing"], waiting_frac=0.0)
    busiest = sums[name]
    waited, entered = sum(s.waited for s in sums.values()), sum(s.entered for s in sums.values())
    share = waited / entered if entered > 0 else 0.0
    lanes = f"lanes of {name}" if len(sums) > 1 else "lanes"
    shares = f"{lanes} iterate {busiest.used:.0%} of the time, and requests wait {share:.0%} of it"
    slow = busiest.host > busiest.busy / 2
    if share >= RARELY:
        reasons = {each: sum(s.reasons[each] for s in sums.values()) for each in busiest.reasons}
        kind = max(reasons, key=lambda each: reasons[each])
        words = f"{WORDS[kind]} ({shares}; {reasons[kind] / waited:.0%} of the wait is for this)"
    else:
        # Lanes that decode iterate whenever anybody is there, and have room; those that only prefill have none.
        full = busiest.prefills and busiest.used >= MOSTLY
        kind = "host" if closed and slow else "latency" if closed else "compute" if full else "arrivals"
        room = f"{busiest.filled / busiest.busy:.0%} of the slots and {busiest.cached / busiest.busy:.0%} of the cache"
        words = f"{WORDS[kind]} ({shares}; iterations fill {room})"
    if slow and kind != "host":
        words += f"; the host takes {busiest.host / busiest.busy:.0%} of an iteration"
    return Bound(kind=kind, words=words, waiting_frac=share)
