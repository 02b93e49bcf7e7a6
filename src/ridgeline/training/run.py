"""A training run over weeks: it computes, checkpoints, fails, waits for a node, and does again what was lost.

A job steps in unison, so one failure stops all of it; between failures nothing happens but work and checkpoints, which
are counted, not played. Times to failure are exponential and independent of what the job does meanwhile.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import numpy as np

from ridgeline.core.errors import DomainError
from ridgeline.core.seeding import stream
from ridgeline.training.checkpoint import Checkpoint
from ridgeline.training.reliability import Part, Reliability

MOST_EVENTS = 1_000_000
"""Failures after which a run is given up; one that needs more between two checkpoints is not begun."""

STATES = ("compute", "redo", "checkpoint", "detect", "wait", "reshape", "restart")
"""What a job does: new work, work done before, stalls, a failure not yet noticed, waiting for a node, making a
checkpoint over for other nodes, starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run without what goes wrong: `work_s` seconds of steps on `chips` in nodes of `node_chips`, `spares` nodes.

    `shrinks`: without a spare it goes on with the nodes that are left, at their share of the speed, and takes one back
    when it is repaired, each time from a checkpoint that is made over.
    """

    work_s: float
    chips: int
    node_chips: int
    spares: int
    checkpoint: Checkpoint
    reliability: Reliability
    shrinks: bool = False

    def __post_init__(self) -> None:
        """Refuse jobs that cannot be."""
        if not 0 < self.work_s < math.inf or min(self.chips, self.node_chips) < 1 or self.spares < 0:
            raise DomainError("a job has work, chips, and spare nodes from 0", at="job", got=self.chips)


@dataclass(slots=True)
class Played:
    """One simulated run.

    Attributes:
        wall_s: from start to end; `spent_s` seconds by state, which add up to it.
        failures: by part; `slow` how often a chip was slow; `lost_s` work that was done again.
        spans: (start, end, state) in order, if they were kept.
    """

    wall_s: float = 0.0
    spent_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STATES, 0.0))
    failures: dict[str, int] = field(default_factory=dict)
    slow: int = 0
    lost_s: float = 0.0
    spans: list[tuple[float, float, str]] = field(default_factory=list)

    @property
    def events(self) -> int:
        """Failures and slow chips so far."""
        return sum(self.failures.values()) + self.slow


def play_run(job: Job, seed: int, *, keep_spans: bool = False) -> Played:
    """Play a job to its end.

    Raises DomainError: the job fails so often that it does not end.
    """
    return _Run(job, seed, keep_spans=keep_spans).play()


class _Run:
    """The state of a job: progress, what of it is safe, nodes in repair."""

    def __init__(self, job: Job, seed: int, *, keep_spans: bool) -> None:
        self.job, self.keep = job, keep_spans
        self.random = stream(seed, "training failures")
        self.played = Played(failures={part.name: 0 for part in job.reliability.parts})
        self.now = self.done = self.safe = self.furthest = 0.0
        self.spares, self.back, self.short = job.spares, list[float](), 0
        self.nodes = max(math.ceil(job.chips / job.node_chips), 1)
        rates = np.array([1.0 / part.mtbf_chip_s for part in job.reliability.parts])
        self.shares = np.cumsum(rates[:-1]) / rates.sum()

    def play(self) -> Played:
        job, parts = self.job, self.job.reliability
        rate = parts.rate_per_s(job.chips)
        slow_rate = job.chips / parts.slow_chip_s if parts.slow_frac > 0 else 0.0
        # Work from one checkpoint to the next takes e^(rate x time) attempts.
        stretch = min(job.checkpoint.interval_s, job.work_s) + job.checkpoint.stall_s
        if rate * stretch > math.log(MOST_EVENTS):
            raise self._hopeless()
        while self.done < job.work_s:
            if self.played.events > MOST_EVENTS:
                raise self._hopeless()
            wait = self._wait((rate + slow_rate) * self._share)
            back = max(self.back[0] - self.now, 0.0) if self.short else math.inf
            if not self._work(min(wait, back), speed=self._share):
                break
            if back < wait:
                self._grow(rate)
                continue
            if self.random.random() * (rate + slow_rate) < rate:
                self._fail(rate)
            else:
                self._slow(rate)
        self.played.wall_s = self.now
        return self.played

    @property
    def _share(self) -> float:
        """Nodes at work over all of the job's."""
        return 1.0 - self.short / self.nodes

    def _hopeless(self) -> DomainError:
        got = f"{self.done:g} of {self.job.work_s:g} s done"
        return DomainError(
            "the job fails before it gets on", at="run", got=got, fix="checkpoint more often, or use fewer chips"
        )

    def _wait(self, rate: float) -> float:
        return float(self.random.exponential(1.0 / rate)) if rate > 0 else math.inf

    def _work(self, until_s: float, *, speed: float) -> bool:
        """Work and checkpoint for so long; False when the job is done first. Checkpoints are counted in one go."""
        made = self.job.checkpoint
        left = self.job.work_s - self.done
        pace = made.interval_s / speed
        # The end of the work needs no checkpoint after it.
        whole = math.ceil(left / made.interval_s) - 1 if math.isfinite(made.interval_s) else 0
        needed = left / speed + whole * made.stall_s
        if needed <= until_s:
            self._account(left, left / speed, whole * made.stall_s)
            self.safe = self.done
            return False
        period = pace + made.stall_s
        rounds = math.floor(until_s / period) if math.isfinite(period) else 0
        inside = min(until_s - rounds * period if rounds else until_s, pace)
        whole_s = rounds * pace if rounds else 0.0
        worked = whole_s * speed + inside * speed
        start = self.done
        self._account(worked, whole_s + inside, until_s - whole_s - inside)
        # A checkpoint is safe when it has reached the store.
        flushed = until_s - made.flush_s
        if math.isfinite(period) and flushed >= period:
            self.safe = start + math.floor(flushed / period) * made.interval_s
        return True

    def _account(self, worked: float, took: float, stalled: float) -> None:
        """Split time between new work, work that was lost before, and stalls."""
        again = min(max(self.furthest - self.done, 0.0), worked)
        share = again / worked if worked > 0 else 0.0
        self._spend("redo", took * share)
        self._spend("compute", took * (1.0 - share))
        self._spend("checkpoint", stalled)
        self.done += worked
        self.furthest = max(self.furthest, self.done)

    def _spend(self, state: str, time_s: float) -> None:
        if time_s <= 0:
            return
        if self.keep:
            self.played.spans.append((self.now, self.now + time_s, state))
        self.played.spent_s[state] += time_s
        self.now += time_s

    def _fail(self, rate: float) -> None:
        """Lose what is not safe, replace the node if it takes that, and start again, as often as it takes."""
        self.played.lost_s += self.done - self.safe
        self.done = self.safe
        while True:
            part = self._part()
            self.played.failures[part.name] += 1
            self._spend("detect", self.job.reliability.detect_s)
            if part.needs_node:
                self._replace()
            if not self._interrupted("restart", self.job.reliability.restart_s + self.job.checkpoint.load_s, rate):
                return

    def _part(self) -> Part:
        return self.job.reliability.parts[int(np.searchsorted(self.shares, self.random.random(), side="right"))]

    def _replace(self) -> None:
        """A spare joins; without one the job waits for the first repaired node, its own at the latest."""
        # Nodes that a short job waits for join it before they are spares.
        while len(self.back) > self.short and self.back[0] <= self.now:
            heapq.heappop(self.back)
            self.spares += 1
        heapq.heappush(self.back, self.now + self.job.reliability.repair_s)
        if self.spares == 0 and self.job.shrinks and self.short + 1 < self.nodes:
            self.short += 1
            self._spend("reshape", self.job.checkpoint.reshape_s)
            return
        if self.spares == 0:
            self._spend("wait", heapq.heappop(self.back) - self.now)
        else:
            self.spares -= 1
        self._spend("wait", self.job.reliability.swap_s)

    def _grow(self, rate: float) -> None:
        """A repaired node joins a job that was short of it: a planned stop, a checkpoint made over, a start."""
        heapq.heappop(self.back)
        self.short -= 1
        self._stop_safely()
        self._spend("reshape", self.job.checkpoint.reshape_s)
        self._start(rate)

    def _interrupted(self, state: str, time_s: float, rate: float) -> bool:
        """Whether a failure strikes within so long; the time until then is spent."""
        wait = self._wait(rate)
        self._spend(state, min(wait, time_s))
        return wait < time_s

    def _slow(self, rate: float) -> None:
        """The whole job steps at the pace of its slowest chip until that is noticed; then its node is replaced."""
        parts = self.job.reliability
        self.played.slow += 1
        strikes = self._wait(rate)
        if not self._work(min(strikes, parts.slow_detect_s), speed=self._share * (1.0 - parts.slow_frac)):
            return
        if strikes < parts.slow_detect_s:
            self._fail(rate)
            return
        self._stop_safely()
        self._replace()
        self._start(rate)

    def _stop_safely(self) -> None:
        """A planned stop writes a checkpoint first."""
        self._spend("checkpoint", self.job.checkpoint.stall_s + self.job.checkpoint.flush_s)
        if math.isfinite(self.job.checkpoint.interval_s):
            self.safe = self.done

    def _start(self, rate: float) -> None:
        """Start again after a planned stop."""
        if self._interrupted("restart", self.job.reliability.restart_s + self.job.checkpoint.load_s, rate):
            self._fail(rate)
        elif math.isinf(self.job.checkpoint.interval_s):
            self.played.lost_s += self.done - self.safe
            self.done = self.safe
