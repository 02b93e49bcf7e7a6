"""What runs of iterations add up to: the histogram of gaps between tokens, series over windows, totals. Streaming.

Runs are added lane by lane, or chunk by chunk of a lane, and are not kept, so that memory does not grow with requests:
windows double in width when there would be too many. Statistics of parts of a fleet merge into those of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ridgeline.core.errors import DomainError
from ridgeline.serving.record.gaps import gaps_of
from ridgeline.serving.record.played import Column, Runs
from ridgeline.serving.record.run_windows import pieces_of, run_times_s
from ridgeline.sim.histogram import LogHistogram

SUMS = ("iterations", "decode_tokens", "prompt_tokens", "busy_s", "sequence_s", "cache_s", "energy_j")
"""What windows hold: iterations, tokens decoded and prompt tokens computed (where their iteration ends); seconds in
iterations; integrals over those seconds of decoding sequences and of the share of cache blocks in use; energy."""

MOST_WINDOWS = 1 << 14


class RunStatistics:
    """Sums over fixed windows from time 0, and the distribution of gaps between tokens.

    Attributes:
        window_s: width of a window; it doubles when there would be more than `most_windows`.
        gaps: times between tokens; number and sum exact, quantiles within 1 %.
        totals: the sums of `SUMS` over all time, added up run by run and not from windows.
        cache_peak_frac, batch_peak: largest share of a lane's cache in use, most sequences of an iteration.
    """

    def __init__(self, *, window_s: float, most_windows: int = MOST_WINDOWS) -> None:
        """Raises DomainError: a window without width."""
        if not 0.0 < window_s < math.inf:
            raise DomainError("a window has a positive width", at="window_s", got=window_s)
        self.window_s, self.most_windows = window_s, most_windows
        self.gaps = LogHistogram()
        self.totals = dict.fromkeys(SUMS, 0.0)
        self.cache_peak_frac = self.batch_peak = 0.0
        self._sums = np.zeros((len(SUMS), 0))

    @property
    def windows(self) -> int:
        """How many windows there are so far."""
        return self._sums.shape[1]

    def series(self) -> Mapping[str, Column]:
        """The sums of each window by name."""
        return dict(zip(SUMS, self._sums, strict=True))

    def add(
        self,
        runs: Runs,
        *,
        blocks: float = math.inf,
        block_tokens: int = 1,
        power_w: Column | float = 0.0,
        growth: float = 1.0,
        grows: bool = True,
        first_tokens_s: Column | None = None,
        gaps: bool = True,
    ) -> None:
        """Add runs of one lane, in order of time.

        Args:
            runs: any number of them.
            blocks: of the lane's cache (inf: no bound).
            block_tokens: tokens of a block.
            power_w: of the lane during each run, W.
            growth: tokens per sequence and iteration.
            grows: whether the cache takes a block as a sequence needs it; false if it is reserved at admission.
            first_tokens_s: as of `gaps_of`.
            gaps: whether times between tokens are wanted.
        """
        if not runs.size:
            return
        if gaps:
            gaps_of(runs, first_tokens_s).add_to(self.gaps)
        lasting, power = run_times_s(runs), np.broadcast_to(power_w, runs.shape)
        n, k, tokens = runs["sequences"], runs["iterations"], runs["prompt_tokens"]
        used, slope = cache_shares(runs, blocks=blocks, block_tokens=block_tokens, growth=growth, grows=grows)
        self.cache_peak_frac = max(self.cache_peak_frac, float(np.max(used + slope * (k - 1.0))))
        self.batch_peak = max(self.batch_peak, float(np.max(n)))
        whole = (
            k,
            k * n * growth,
            k * tokens,
            lasting,
            lasting * n,
            _cache_s(runs, used, slope, 0.0, lasting),
            lasting * power,
        )
        for name, column in zip(SUMS, whole, strict=True):
            self.totals[name] += float(column.sum())
        while np.max(runs["start_s"] + lasting) / self.window_s >= self.most_windows:
            self._halve()
        part = pieces_of(runs, self.window_s)
        of, done, time = part.run, part.done, part.time_s
        cached = _cache_s(runs[of], used[of], slope[of], part.since_s, time)
        columns = (done, done * n[of] * growth, done * tokens[of], time, time * n[of], cached, time * power[of])
        self._cover(int(part.window.max()) + 1)
        for row, column in zip(self._sums, columns, strict=True):
            row += np.bincount(part.window, weights=column, minlength=row.size)

    def merge(self, other: RunStatistics) -> None:
        """Add what another has summed; its windows must be a power of two wider or narrower."""
        ratio = np.log2(other.window_s / self.window_s)
        if ratio != round(ratio):
            raise DomainError("windows do not nest", at="window_s", got=(self.window_s, other.window_s))
        theirs = other._sums
        while self.window_s < other.window_s:
            self._halve()
        for _ in range(round(-ratio)):
            theirs = _pairs(theirs)
        self._cover(theirs.shape[1])
        self._sums[:, : theirs.shape[1]] += theirs
        self.gaps.merge(other.gaps)
        for name in SUMS:
            self.totals[name] += other.totals[name]
        self.cache_peak_frac = max(self.cache_peak_frac, other.cache_peak_frac)
        self.batch_peak = max(self.batch_peak, other.batch_peak)

    def _halve(self) -> None:
        self.window_s *= 2.0
        self._sums = _pairs(self._sums)

    def _cover(self, windows: int) -> None:
        if windows > self.windows:
            grown = np.zeros((len(SUMS), windows))
            grown[:, : self.windows] = self._sums
            self._sums = grown


def cache_shares(
    runs: Runs, *, blocks: float, block_tokens: int, growth: float = 1.0, grows: bool = True
) -> tuple[Column, Column]:
    """(share of the cache in use at the start of each run, by how much it rises with each iteration).

    Blocks are taken one at a time, so the rise is right on average, to within a block per sequence.
    """
    used = np.minimum(runs["used_blocks"] / blocks, 1.0)
    rise = runs["sequences"] * growth / block_tokens / blocks if grows else np.zeros(runs.size)
    return used, np.minimum(rise, (1.0 - used) / np.maximum(runs["iterations"], 1.0))


def _cache_s(runs: Runs, used: Column, slope: Column, since_s: Column | float, time_s: Column) -> Column:
    """The integral of the share in use over parts of runs: it rises in proportion to time."""
    lasting, steps = run_times_s(runs), np.maximum(runs["iterations"] - 1.0, 0.0)
    middle = np.divide(since_s + time_s / 2.0, lasting, out=np.zeros_like(lasting), where=lasting > 0)
    integral: Column = time_s * (used + slope * steps * middle)
    return integral


def _pairs(sums: Column) -> Column:
    """Neighbouring windows as one."""
    even = np.concatenate([sums, np.zeros((sums.shape[0], sums.shape[1] % 2))], axis=1)
    paired: Column = even[:, ::2] + even[:, 1::2]
    return paired
