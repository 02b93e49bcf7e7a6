"""Runs of iterations cut at the edges of windows: whole iterations by the inverse of their time, time by time.

A run whose j-th iteration lasts u + j v has done `j` of them after j u + v j (j - 1) / 2 seconds. An iteration counts
where it ends. Nothing here loops over runs: a run that straddles edges becomes one row per window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.serving.record.played import Column, Runs, run_ends_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pieces:
    """Parts of runs, one per run and window that it touches.

    Attributes:
        run, window: index of the run, and of the window of equal width counted from time 0.
        done: iterations that end in the piece.
        since_s, time_s: seconds of the run before the piece, and of it.
    """

    run: NDArray[np.int64]
    window: NDArray[np.int64]
    done: Column
    since_s: Column
    time_s: Column


def run_times_s(runs: Runs) -> Column:
    """How long each run lasted."""
    lasted: Column = time_of(runs, runs["iterations"])
    return lasted


def time_of(runs: Runs, iterations: Column) -> Column:
    """Seconds of the first `iterations` of each run."""
    taken: Column = iterations * runs["first_s"] + runs["rise_s"] * (iterations * (iterations - 1.0) / 2.0)
    return taken


def iterations_after(runs: Runs, elapsed_s: Column) -> Column:
    """Iterations of each run that have ended so many seconds after its start, shape of `runs`."""
    u, v, k = runs["first_s"], runs["rise_s"], runs["iterations"]
    x = np.maximum(elapsed_s, 0.0)
    b = u - v / 2.0
    root = b + np.sqrt(b * b + 2.0 * v * x)  # without cancellation, also for v = 0
    j = np.floor(np.divide(2.0 * x, root, out=np.array(k, np.float64), where=root > 0))
    j = np.clip(j, 0.0, k)
    j = np.where((j > 0) & (time_of(runs, j) > x), j - 1.0, j)
    done: Column = np.where((j < k) & (time_of(runs, np.minimum(j + 1.0, k)) <= x), j + 1.0, j)
    return done


def part_of(runs: Runs, start_s: float, end_s: float) -> tuple[Column, Column]:
    """(iterations that end in (start_s, end_s], seconds in it) of each run."""
    lasting = run_times_s(runs)
    since, to = (np.clip(edge - runs["start_s"], 0.0, lasting) for edge in (start_s, end_s))
    if not ((since > 0).any() or (to < lasting).any()):
        return np.array(runs["iterations"]), to - since
    done = np.where(to >= lasting, runs["iterations"], iterations_after(runs, to))
    done = done - np.where(since >= lasting, runs["iterations"], iterations_after(runs, since))
    return done, to - since


def time_in(runs: Runs, start_s: float, end_s: float) -> Column:
    """Seconds of each run in a stretch of time."""
    lasting = run_times_s(runs)
    since, to = (np.clip(edge - runs["start_s"], 0.0, lasting) for edge in (start_s, end_s))
    inside: Column = to - since
    return inside


def pieces_of(runs: Runs, width_s: float) -> Pieces:
    """Cut runs at the multiples of `width_s`. Iterations and seconds of the pieces of a run sum to those of the run."""
    first = np.floor(runs["start_s"] / width_s).astype(np.int64)
    last = np.maximum(np.floor(run_ends_s(runs) / width_s).astype(np.int64), first)
    index = np.arange(runs.size)
    inside, across = index[first == last], index[first < last]
    count = (last - first)[across] + 1
    run = np.repeat(across, count)
    window = first[run] + (np.arange(run.size) - np.repeat(np.cumsum(count) - count, count))
    cut = runs[run]
    lasting, total = run_times_s(cut), cut["iterations"]
    to = np.where(window == last[run], lasting, np.clip((window + 1) * width_s - cut["start_s"], 0.0, lasting))
    done = np.where(window == last[run], total, iterations_after(cut, to))
    fresh = window == first[run]
    since, before = (np.where(fresh, 0.0, np.concatenate([[0.0], column[:-1]])) for column in (to, done))
    return Pieces(
        run=np.concatenate([inside, run]),
        window=np.concatenate([first[inside], window]),
        done=np.concatenate([runs["iterations"][inside], done - before]),
        since_s=np.concatenate([np.zeros(inside.size), since]),
        time_s=np.concatenate([run_times_s(runs[inside]), to - since]),
    )
