"""What limits a simulated fleet, in words: who waits, and for what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.serving.record.energy import alive_of
from ridgeline.serving.record.played import MIXED, Column, Lane, Played
from ridgeline.serving.record.run_windows import part_of
from ridgeline.serving.record.spans import present

RARELY = 0.1
"""Share of the time in iterations below which requests that wait are no queue."""
MOSTLY = 0.9
"""Share of the time above which a lane counts as always busy."""

WORDS = {
    "slots": "batch slots: lanes run as many sequences as the engine allows",
    "kv": "KV capacity: the cache has no room for the next prompt",
    "compute": "compute: prompts wait for the token budget of an iteration",
    "schedule": "the scheduler: requests wait although slots, cache and budget have room (lag, batch waits, order)",
    "arrivals": "arrival rate: lanes keep up, and are idle between requests",
    "latency": "iteration time: lanes are always busy and nobody waits, so that each client waits for its own tokens",
    "host": "the host: scheduling and launching take most of an iteration",
    "nothing": "nothing ran",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What limits the fleet most.

    Attributes:
        kind: a key of `WORDS`.
        words: one line that says so, with the shares it rests on.
        waiting_frac: share of the time in iterations during which a request waits for admission.
    """

    kind: str
    words: str
    waiting_frac: float


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
    up = busy = waited = host = 0.0
    reasons = dict.fromkeys(("slots", "kv", "compute", "schedule"), 0.0)
    order = np.argsort(played.lane, kind="stable")
    edges = np.searchsorted(played.lane[order], np.arange(len(played.lanes) + 1))
    mixed = np.array([lane.role == MIXED for lane in played.lanes], dtype=np.bool_)
    pooled = np.flatnonzero(~(mixed[played.lane] & (played.lane >= 0))) if not mixed.all() else None
    for i, lane in enumerate(played.lanes):
        done, time_s = part_of(lane.runs, start_s, end_s)
        up += float(np.diff(alive_of(lane).until(np.array([start_s, end_s])))[0])
        busy += float(time_s.sum())
        host += float(done @ (host_step_s + host_sequence_s * (lane.runs["sequences"] + lane.runs["prompts"])))
        # Who waits for which lane is known only where a lane serves requests from the start.
        where = order[edges[i] : edges[i + 1]] if pooled is None or mixed[i] else pooled
        queued, need = _queued(played, lane, where)
        lane_time = np.where(queued, time_s, 0.0)
        waited += float(lane_time.sum())
        for name, share in _reasons(lane, need).items():
            reasons[name] += float(lane_time @ share)
    return _told(up, busy, waited, host, reasons)


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


def _told(up: float, busy: float, waited: float, host: float, reasons: dict[str, float]) -> Bound:
    if busy <= 0 or up <= 0:
        return Bound(kind="nothing", words=WORDS["nothing"], waiting_frac=0.0)
    share, used = waited / busy, min(busy / up, 1.0)
    shares = f"lanes iterate {used:.0%} of the time, and requests wait {share:.0%} of that"
    if share >= RARELY:
        kind = max(reasons, key=lambda name: reasons[name])
        words = f"{WORDS[kind]} ({shares}; {reasons[kind] / waited:.0%} of the wait is for this)"
    else:
        kind = "arrivals" if used < MOSTLY else "host" if host > busy / 2 else "latency"
        words = f"{WORDS[kind]} ({shares})"
    if host > busy / 2 and kind != "host":
        words += f"; the host takes {host / busy:.0%} of an iteration"
    return Bound(kind=kind, words=words, waiting_frac=share)
