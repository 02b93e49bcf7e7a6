"""Timing for benchmarks: the median of repeats, and a ratio to a reference measured in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds that one call took: the median of `repeats` calls, and the fastest."""

    median_s: float
    best_s: float
    repeats: int


def measure(call: Callable[[], object], *, repeats: int = 5, warm_up: int = 1) -> Timing:
    """Time `call` by the wall clock; the first `warm_up` calls do not count."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return Timing(median_s=statistics.median(times), best_s=min(times), repeats=repeats)


def report(
    name: str,
    timing: Timing,
    *,
    count: int = 1,
    unit: str = "calls",
    goal_per_s: float | None = None,
    goal_s: float | None = None,
    reference: Timing | None = None,
) -> None:
    """Print one line: the rate or the time, beside its goal, and the ratio to `reference` if there is one.

    Machines differ and share cores, so a goal is printed and never asserted; the ratio to a reference that ran on the
    same machine a moment ago is the figure to compare between runs.
    """
    if count > 1 or goal_per_s is not None:
        figure = f"{count / timing.median_s:,.0f} {unit}/s"
    else:
        figure = f"{timing.median_s * 1e3:,.1f} ms"
    notes = [f"median of {timing.repeats}"]
    if goal_per_s is not None:
        notes.append(f"goal >= {goal_per_s:,.0f} {unit}/s")
    if goal_s is not None:
        notes.append(f"goal < {goal_s * 1e3:,.0f} ms")
    if reference is not None:
        notes.append(f"{timing.median_s / reference.median_s:.2f}x the reference")
    print(f"{name:<44} {figure:>24}   ({', '.join(notes)})")
