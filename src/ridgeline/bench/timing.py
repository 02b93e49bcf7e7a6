"""How a kernel is timed: warm-up, repeats whose median counts, a loop of a second or more with power and clocks."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ridgeline.bench.backends import Kernel

HOST_SHARE = 0.5
"""A loop is host-bound if submitting its calls took more than this share of its time."""
SAMPLE_S = 0.02
SETTLED = 0.4
"""Share of a sustained loop after which its power and clock count: NVML averages power over up to a second."""
CHUNKS = 20
"""Parts of a sustained loop between which the host waits for the device."""
SLOW_LAP_S = 0.25
"""Laps longer than this repeat three times: their spread is small and their time dear."""
WARM_DOUBLINGS = 24
"""Times that the laps of a warm-up double at most, should a clock stand still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Seconds of warm-up and of each repeat, how many repeats, and seconds of a sustained loop."""

    warm_s: float
    lap_s: float
    repeats: int
    sustain_s: float


QUICK = Effort(warm_s=0.005, lap_s=0.005, repeats=5, sustain_s=1.0)
FULL = Effort(warm_s=0.02, lap_s=0.02, repeats=9, sustain_s=2.0)


class Meter(Protocol):
    """Reads a device's board power and clock."""

    limit_w: float

    def read(self) -> tuple[float, float]:
        """Power in W and compute clock in Hz, now; NaN for what cannot be read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What was measured of one kernel.

    Attributes:
        latency_s: median over the repeats of the time per call, the device not yet hot.
        spread_frac: distance between the quartiles of the repeats, as a share of the median.
        repeats: how many.
        host_bound: whether submitting took most of the time.
        sustained_s: time per call in a loop of a second or more; NaN if that was not run.
        power_w, clock_hz: mean over the later part of that loop; NaN if not run or not readable.
        power_limit_w: the board's limit; NaN if not readable.
    """

    latency_s: float
    spread_frac: float
    repeats: int
    host_bound: bool
    sustained_s: float = math.nan
    power_w: float = math.nan
    clock_hz: float = math.nan
    power_limit_w: float = math.nan


def time_kernel(kernel: Kernel, effort: Effort, *, meter: Meter | None = None, sustain: bool = False) -> Timing:
    """Time a kernel that was checked: short repeats, then, if asked, a loop of `effort.sustain_s`."""
    lap_s = _warm_up(kernel, effort.warm_s)
    count = max(1, math.ceil(effort.lap_s / lap_s))
    repeats = min(3, effort.repeats) if lap_s > SLOW_LAP_S else effort.repeats
    laps = [kernel.laps(count) for _ in range(repeats)]
    times = np.array([lap.elapsed_s for lap in laps]) / (count * kernel.calls_per_lap)
    low, middle, high = np.percentile(times, (25, 50, 75))
    submit = float(np.median([lap.submit_s for lap in laps])) / (count * kernel.calls_per_lap)
    sustained, power, clock = _sustain(kernel, lap_s, effort.sustain_s, meter) if sustain else (math.nan,) * 3
    return Timing(
        latency_s=float(middle),
        spread_frac=float((high - low) / middle),
        repeats=repeats,
        host_bound=submit > HOST_SHARE * float(middle),
        sustained_s=sustained,
        power_w=power,
        clock_hz=clock,
        power_limit_w=meter.limit_w if meter else math.nan,
    )


def _warm_up(kernel: Kernel, warm_s: float) -> float:
    """Run until `warm_s` have passed, twice as many laps each time; the seconds of the fastest lap."""
    spent_s, best_s = 0.0, math.inf
    for doublings in range(WARM_DOUBLINGS):
        elapsed_s = kernel.laps(2**doublings).elapsed_s
        spent_s, best_s = spent_s + elapsed_s, min(best_s, elapsed_s / 2**doublings)
        if spent_s >= warm_s:
            break
    return max(best_s, 1e-9)


def _sustain(kernel: Kernel, lap_s: float, sustain_s: float, meter: Meter | None) -> tuple[float, float, float]:
    """Seconds per call, mean power and clock over the later part of a loop of `sustain_s` or a little longer."""
    chunk = max(1, math.ceil(sustain_s / CHUNKS / lap_s))
    with _Sampler(meter) as sampler:
        _loop(kernel, chunk, SETTLED * sustain_s)
        sampler.samples.clear()
        per_lap_s = _loop(kernel, chunk, (1.0 - SETTLED) * sustain_s)
    power_w, clock_hz = sampler.means()
    return per_lap_s / kernel.calls_per_lap, power_w, clock_hz


def _loop(kernel: Kernel, chunk: int, for_s: float) -> float:
    """Seconds per lap of at least `for_s` of laps, `chunk` of them at a time."""
    laps, spent_s = 0, 0.0
    while spent_s < for_s:
        spent_s += kernel.laps(chunk).elapsed_s
        laps += chunk
    return spent_s / laps


@dataclass(slots=True)
class _Sampler:
    """Reads a meter in a thread of its own while the main thread keeps the device busy."""

    meter: Meter | None
    samples: list[tuple[float, float]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> _Sampler:
        if self.meter is not None:
            self._thread = threading.Thread(target=self._watch, args=(self.meter.read,), daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, read: Callable[[], tuple[float, float]]) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.samples.append(read())

    def means(self) -> tuple[float, float]:
        """Mean power and clock of the samples kept; NaN without any."""
        if not self.samples:
            return math.nan, math.nan
        power, clock = np.mean(np.array(self.samples), axis=0)
        return float(power), float(clock)
