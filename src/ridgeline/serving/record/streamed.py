"""A run whose runs of iterations were summed up as they came and not kept: its fleet from the sums of each pool.

A `Collector` takes the runs that lanes hand on (`fleet.on_runs = Collector(fleet.members, powers)`). Over the whole run
the sums are exact; a stretch of time takes a part of the windows at its ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ridgeline.serving.record.energy import alive_of, residents, table_of, taken_of
from ridgeline.serving.record.latency import LEVELS, Latency
from ridgeline.serving.record.played import Played, Runs
from ridgeline.serving.record.power_table import PowerTable
from ridgeline.serving.record.run_statistics import SUMS, RunStatistics
from ridgeline.sim.histogram import LogHistogram
from ridgeline.sim.statistics import Estimate, Percentile, sample_size

Streamed = Mapping[str, RunStatistics]
"""Pool -> what its runs add up to."""


class Cache(Protocol):
    """What is asked of an engine: blocks of its cache, their tokens, and how it fills."""

    @property
    def capacity(self) -> float:
        """Blocks."""

    @property
    def block(self) -> int:
        """Tokens of a block."""

    @property
    def growth(self) -> float:
        """Tokens per sequence and iteration."""

    @property
    def grows(self) -> bool:
        """Whether blocks are taken as sequences grow."""


class Member(Protocol):
    """What is asked of a lane of a fleet."""

    @property
    def pool(self) -> str:
        """Name of its pool."""

    @property
    def chips(self) -> float:
        """Chips that it occupies."""

    @property
    def engine(self) -> Cache:
        """Its engine."""


class Collector:
    """Adds runs to the statistics of their pool as they come.

    Attributes:
        streamed: pool -> what its runs add up to, so far.
    """

    def __init__(
        self, members: Sequence[Member], powers: Mapping[str, PowerTable] | None = None, *, window_s: float = 1.0
    ) -> None:
        """Of these lanes; without `powers`, energy is 0."""
        self._members, self._powers = members, powers
        self.streamed = {member.pool: RunStatistics(window_s=window_s) for member in members}

    def __call__(self, index: int, runs: Runs) -> None:
        """Runs of the lane with that index, in order of time."""
        member = self._members[index]
        engine = member.engine
        watts = member.chips * self._powers[member.pool].power_w(runs) if self._powers else 0.0
        self.streamed[member.pool].add(
            runs,
            blocks=engine.capacity,
            block_tokens=engine.block,
            power_w=watts,
            growth=engine.growth,
            grows=engine.grows,
        )


def sums_between(statistics: RunStatistics, start_s: float, end_s: float) -> dict[str, float]:
    """The sums of a stretch of time; of all time if it holds every window."""
    edges = np.arange(statistics.windows + 1) * statistics.window_s
    if start_s <= 0 and end_s >= edges[-1] - statistics.window_s:
        return dict(statistics.totals)
    inside = np.diff(np.clip(edges, start_s, end_s)) / statistics.window_s
    series = statistics.series()
    return {name: float(series[name] @ inside) for name in SUMS}


def streamed_energy_j(
    played: Played, powers: Mapping[str, PowerTable], streamed: Streamed, start_s: float, end_s: float
) -> float:
    """Energy of all lanes in a stretch of time, J: iterations from the sums, the rest from requests and times up."""
    total, edges = 0.0, np.array([start_s, end_s])
    chip_s: dict[str, list[float]] = {}
    for lane, present in zip(played.lanes, residents(played), strict=True):
        up = alive_of(lane).until(edges)
        taken = float(np.diff(taken_of(lane, present).until(up))[0])
        sums = chip_s.setdefault(lane.pool, [0.0, 0.0, lane.chips])
        sums[0] += float(np.diff(up)[0])
        sums[1] += taken
    for lane in {lane.pool: lane for lane in played.lanes}.values():
        up_s, taken_s, chips = chip_s[lane.pool]
        power, sums_of = table_of(powers, lane), sums_between(streamed[lane.pool], start_s, end_s)
        busy = min(sums_of["busy_s"], up_s)
        taken_s = max(taken_s, busy)
        total += sums_of["energy_j"]
        total += chips * ((taken_s - busy) * power.static_w + (up_s - taken_s) * power.idle_w)
    return total


def streamed_gaps(streamed: Streamed, requests: int, confidence: float) -> Latency | None:
    """Times between tokens over the whole run, percentiles within 1 %; intervals are not known."""
    every = LogHistogram()
    for statistics in streamed.values():
        every.merge(statistics.gaps)
    if not every.count:
        return None
    found = [
        Percentile(
            level=level,
            value=float(every.quantiles(level)),
            low=-math.inf,
            high=math.inf,
            confidence=confidence,
            count=requests,
            needed=sample_size(level),
            indicative=requests < sample_size(level),
        )
        for level in LEVELS
    ]
    mean = Estimate(
        value=every.mean,
        low=-math.inf,
        high=math.inf,
        confidence=confidence,
        count=round(every.count),
        batches=1,
        independent=False,
    )
    return Latency(mean=mean, percentiles=tuple(found))
