"""What the compiled core of the serving engine works on: records, arrays, and the table of step times.

Lengths and counts of tokens are float64, which holds whole numbers exactly. A running request has a *node*; all nodes
of a lane form a list, oldest first, and those that prefill a second one, whose first `chunks` nodes have a chunk in the
run under way. The queue is a stack of nodes that came back to its front, then a chain of fresh requests through
`behind`. Only `play.py` imports the compiled modules, and late: numba takes half a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit

from ridgeline.serving.engine import step_table

WHOLE, PREFILL_FIRST = 1, 2
"""Codes of `Rules.prompts`; 0 is chunked."""

RULES = np.dtype(
    [(name, np.int64) for name in ("slots", "prompts", "grows", "part", "swap", "block", "wait_steps", "longest_run")]
    + [(name, np.int64) for name in ("keep_runs", "hits", "heap", "lanes", "router", "rows", "closed")]
    + [(name, np.float64) for name in ("token_budget", "longest_chunk", "capacity", "watermark", "copy_s", "lag")]
    + [(name, np.float64) for name in ("wait_frac", "front_end_s", "growth", "width", "host_sequence_s", "launch_s")]
    + [("longest", np.float64)]
)
"""What is the same for every lane: `Rules`, scalars of `StepTimes`, and sizes."""

LANE = np.dtype(
    [(name, np.int64) for name in ("index", "k", "n", "iteration", "step", "events", "preempted", "waited", "moving")]
    + [(name, np.int64) for name in ("outstanding", "promised", "room", "held", "running", "waiting", "clock")]
    + [(name, np.int64) for name in ("latest", "chunks", "prompts", "heaped", "heap", "taken", "nodes", "spare")]
    + [(name, np.int64) for name in ("oldest", "youngest", "first_prompt", "last_prompt", "stack", "head", "tail")]
    + [(name, np.float64) for name in ("t", "start", "end", "u", "v", "copying", "front", "area", "busy", "used")]
    + [(name, np.float64) for name in ("free", "context", "offset")]
)
"""An engine. `clock` counts iterations as lagging requests see them: it also jumps to `latest`, the last that one
waits for, when nothing runs. `heap`, `nodes`: where its own part of the arrays starts."""

NODE = np.dtype(
    [(name, np.int64) for name in ("request", "prompt", "output", "key", "decoding", "redo", "ready")]
    + [(name, np.int64) for name in ("older", "newer", "before", "after")]
    + [(name, np.float64) for name in ("remaining", "chunk", "base", "context", "loading")]
)
"""A request that runs, or that came back to the front of the queue."""

Record = Any
Array = Any
"""numba knows their types; the source cannot say them."""

F = TypeVar("F", bound=Callable[..., Any])


class World(NamedTuple):
    """Every array of a fleet. `rules` and `fleet` have one record; heaps and nodes a part per lane."""

    rules: Array
    fleet: Array
    lanes: Array
    nodes: Array
    keys: Array  # finish keys, a heap per lane
    places: Array  # their nodes
    residues: Array
    behind: Array  # request -> the next one in its queue
    eligible: Array
    prompts: Array
    outputs: Array
    hits: Array
    arrivals: Array
    think_s: Array
    given: Array  # request -> lane, where routing is known beforehand
    uniforms: Array  # draws of the router
    sent: Array
    admitted: Array
    first: Array
    last: Array
    preempted: Array
    end: Array
    lane: Array
    runs: Array  # [rows, lane and numbers of a run]
    done: Array  # requests that a boundary completes
    ends: Array  # tournament over the ends of runs: times, and whose they are
    ends_lane: Array
    loads: Array  # the same over loads, for routers that take the least
    loads_lane: Array
    released_s: Array  # heap of times at which clients send next
    released: Array
    pieces: Array  # [sequences, pieces, (bend, seconds, seconds per token)]
    bodies: Array  # [sequences] body of their tokens
    captured: Array  # sizes to which merged tokens are padded, rising
    grid: Array  # [(tokens, body_s), sizes]
    chunk_grid: Array  # [(chunks, extra_s, prefix_s), sizes]


def _options() -> dict[str, Any]:
    """Division by zero is not looked for, nor are references counted: nothing is allocated, and whoever calls keeps the
    arrays. Counting would cost four fifths of the speed; numba has the option for its own use, so it may be gone.
    """
    try:
        cast(Any, njit)(_nrt=False)(lambda: None)
    except (KeyError, TypeError):
        return {"error_model": "numpy"}
    return {"error_model": "numpy", "_nrt": False}


OPTIONS = _options()


def kernel(function: F) -> F:
    """Compiled when a compiled function first calls it."""
    return cast(F, njit(**OPTIONS)(function))


# Step times ----------------------------------------------------------------------------------------------------------


steps_until = kernel(step_table.steps_until)


@kernel
def place(grid: Array, x: float) -> tuple[int, float]:
    """As `step_table._place`."""
    low, high = 0, len(grid)
    while low < high:
        middle = (low + high) >> 1
        if x < grid[middle]:
            high = middle
        else:
            low = middle + 1
    i = min(max(low - 1, 0), len(grid) - 2)
    return i, max((x - grid[i]) / (grid[i + 1] - grid[i]), 0.0)


@kernel
def between(values: Array, i: int, w: float) -> float:
    """As `step_table._between`."""
    return values[i] + w * (values[i + 1] - values[i])


@kernel
def padded(captured: Array, tokens: float) -> float:
    """As `StepTimes.body` pads."""
    low, high = 0, len(captured)
    while low < high:
        middle = (low + high) >> 1
        if captured[middle] < tokens:
            low = middle + 1
        else:
            high = middle
    return captured[low] if tokens > 0 and low < len(captured) else tokens


@kernel
def prompt_times(w: World, s: Record, n: int) -> tuple[float, float]:
    """As `StepTimes.prompts`, of the chunks of the lane."""
    r = w.rules[0]
    new = n * r.width
    total = r.host_sequence_s * s.chunks - r.launch_s * (s.chunks - 1)
    rise = 0.0
    node = s.first_prompt
    for _ in range(s.chunks):
        p = w.nodes[node]
        i, x = place(w.chunk_grid[0], p.chunk)
        prefix_s = between(w.chunk_grid[2], i, x)
        total += between(w.chunk_grid[1], i, x) + prefix_s * (p.prompt - p.remaining)
        rise += prefix_s * p.chunk
        new += p.chunk
        node = p.after
    i, x = place(w.grid[0], padded(w.captured, new))
    return total + between(w.grid[1], i, x) - w.bodies[n], rise
