"""What a simulated run leaves behind: when what happened to each request, and the runs of iterations of each lane."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]
Runs = NDArray[np.void]
"""One record per run of equal iterations, fields as `RUN_COLUMNS`."""

RUN_COLUMNS = (
    "start_s",
    "first_s",
    "rise_s",
    "iterations",
    "sequences",
    "context_tokens",
    "prompt_tokens",
    "prompts",
    "used_blocks",
)
"""A run's start; seconds of its first iteration, and by how much each next one is longer; iterations; decoding
sequences; their total context in the first iteration (it grows by one token each); prompt tokens and prompts of each
iteration; cache blocks in use at the start."""

_RUN = np.dtype([(name, np.float64) for name in RUN_COLUMNS])

MIXED, PREFILL, DECODE = "mixed", "prefill", "decode"
"""Roles of lanes: all of a request, only its prompt, or what follows a prompt computed elsewhere."""

DONE, REJECTED, UNFINISHED, FAILED = 0, 1, 2, 3
"""Ends of a request: complete; never fits; still there when the run ended; given up (a failure, a client that left)."""


def runs_of(flat: array[float]) -> Runs:
    """The flat numbers of an engine as records."""
    return np.array(flat, dtype=np.float64).view(_RUN)


def runs_kept(played: Played) -> bool:
    """Whether the lanes' runs of iterations are there."""
    return all(lane.runs.size or not lane.busy_s for lane in played.lanes)


def run_ends_s(runs: Runs) -> Column:
    """When each run ended."""
    k = runs["iterations"]
    ends: Column = runs["start_s"] + (k * runs["first_s"] + runs["rise_s"] * (k * (k - 1) / 2.0))
    return ends


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lane:
    """One engine of the fleet.

    Attributes:
        pool: name of its pool.
        role: mixed; or prefill or decode, where another lane does the rest.
        replica: number of the replica it belongs to.
        runs: its runs in order of time (empty if they were not kept).
        alive_s: (start, end) of each time it was up.
        blocks: of its cache (inf: no bound); block_tokens: tokens of one.
        slots: sequences at once.
        chips: chips that it occupies (a share, where lanes of a replica share chips).
        busy_s: time in iterations.
        adapter_loads: how often a LoRA adapter was brought to its chips.
        model_switches, model_loads, model_fetches: how often its batch went over to another model, those of them that
            found the weights not there, and those of these that found them not in host memory either.
    """

    pool: str
    replica: int
    runs: Runs
    alive_s: tuple[tuple[float, float], ...]
    blocks: float
    block_tokens: int
    slots: int
    chips: float
    busy_s: float
    adapter_loads: int = 0
    model_switches: int = 0
    model_loads: int = 0
    model_fetches: int = 0
    role: str = MIXED


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Played:
    """A simulated run. Columns have one entry per request, in the order of arrival; NaN is a time that never came.

    Attributes:
        arrival_s, admitted_s, first_s, last_s: arrival, first admission to a batch, first and last token, as the client
            sees them.
        prompt_tokens, output_tokens: lengths.
        found_tokens: prompt tokens found in a prefix cache.
        preemptions: how often it was preempted.
        end: DONE, REJECTED, UNFINISHED or FAILED.
        lane: index of the lane that emitted its last token (-1: none).
        end_s: time at which the run ended.
    """

    arrival_s: Column
    admitted_s: Column
    first_s: Column
    last_s: Column
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    found_tokens: NDArray[np.int64]
    preemptions: NDArray[np.int32]
    end: NDArray[np.int8]
    lane: NDArray[np.int32]
    lanes: tuple[Lane, ...]
    end_s: float
