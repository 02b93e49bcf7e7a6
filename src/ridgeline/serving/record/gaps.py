"""Times between tokens (ITL) of whole runs: a run gives `n` sequences `k` gaps each, in an arithmetic series.

Counts and quantiles come from the formula, never from a list of gaps. A gap is exact while a sequence decodes without a
break; a sequence that waits while prompts have iterations of their own is followed by the times of first tokens. What
runs do not tell: which sequences were preempted, swapped out or handed over; those waits are in TPOT and E2E.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError
from ridgeline.serving.record.played import Column, Runs, run_ends_s
from ridgeline.serving.record.run_windows import run_times_s
from ridgeline.sim.histogram import LogHistogram

BINS_PER_DOUBLING = 128
"""Of the histogram: a run whose gaps spread wider than one bin is added in parts."""

BIN = 0.01
"""Relative: how far a quantile of the histogram is from the exact one."""

SAME = 1e-9
"""Relative: prefill iterations that fill a pause to within this filled all of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gaps:
    """Groups of gaps, shape (n,) each.

    Attributes:
        at_s: when the group begins.
        first_s, rise_s, count: each of its sequences has gaps of first_s, first_s + rise_s, ... so many of them.
        weight: how many sequences.
    """

    at_s: Column
    first_s: Column
    rise_s: Column
    count: Column
    weight: Column

    @property
    def number(self) -> float:
        """Gaps in all."""
        return float(self.count @ self.weight)

    @property
    def total_s(self) -> float:
        """Their sum."""
        sums = self.count * self.first_s + self.rise_s * (self.count * (self.count - 1.0) / 2.0)
        return float(sums @ self.weight)

    def at_most(self, limit_s: float) -> float:
        """How many gaps are not longer than `limit_s`."""
        return float(self._below(limit_s) @ self.weight)

    def _below(self, limit_s: float) -> Column:
        over = limit_s - self.first_s
        steps = np.divide(over, self.rise_s, out=np.full_like(over, np.inf), where=self.rise_s > 0)
        below: Column = np.where(over < 0, 0.0, np.minimum(np.floor(steps) + 1.0, self.count))
        return below

    def quantiles(self, levels: tuple[float, ...], near: LogHistogram | None = None) -> tuple[float, ...]:
        """The smallest time that at least each share of the gaps does not exceed; NaN without gaps.

        Bisection on the bits of a float, so to the last one; groups that lie on one side leave the search.

        Args:
            levels: shares from 0 to 1.
            near: the histogram of these gaps, if there is one: the search then begins around its quantiles.
        """
        if not all(0 <= level <= 1 for level in levels):
            raise DomainError("a quantile's level lies between 0 and 1", at="levels", got=levels)
        number = self.number
        if not number:
            return (np.nan,) * len(levels)
        held = self.rows((self.weight > 0) & (self.count > 0))
        guesses = [None] * len(levels) if near is None else near.quantiles(levels).tolist()
        targets = [max(level * number * (1 - 1e-12), 1e-12) for level in levels]
        return tuple(held._quantile(target, guess) for target, guess in zip(targets, guesses, strict=True))

    def _quantile(self, target: float, guess: float | None) -> float:
        groups, below = self, 0.0
        last = groups.first_s + groups.rise_s * (groups.count - 1.0)
        # A step of rounding above the largest, so that the floor of a quotient cannot miss it.
        low, high = _bits(float(groups.first_s.min())) - 1, _bits(float(last.max()) * (1 + 1e-15)) + 1
        tries = [] if guess is None else [_bits(guess * (1 + BIN)), _bits(guess * (1 - BIN))]
        while high - low > 1:
            middle = (low + high) // 2
            if tries and low < tries[0] < high:
                middle = tries.pop(0)
            x = _float(middle)
            enough = below + groups.at_most(x) >= target
            low, high = (low, middle) if enough else (middle, high)
            kept = groups.first_s <= x if enough else last > x
            if 4 * np.count_nonzero(kept) < 3 * kept.size:
                below += 0.0 if enough else float(groups.count[~kept] @ groups.weight[~kept])
                groups, last = groups.rows(kept), last[kept]
        return _float(high)

    def rows(self, chosen: NDArray[np.bool_]) -> Gaps:
        """Some of the groups."""
        return Gaps(**{name: getattr(self, name)[chosen] for name in NAMES})

    def add_to(self, histogram: LogHistogram) -> None:
        """Count all gaps in a histogram; number and sum stay exact."""
        spread = self.rise_s * (self.count - 1.0)
        parts = np.ceil(spread / np.maximum(self.first_s, 1e-300) * BINS_PER_DOUBLING)
        parts = np.clip(parts, 1.0, np.maximum(self.count, 1.0)).astype(np.int64)
        group = np.repeat(np.arange(parts.size), parts)
        place = np.arange(group.size) - np.repeat(np.cumsum(parts) - parts, parts)
        count, many = self.count[group], parts[group]
        since, to = np.floor(place * count / many), np.floor((place + 1) * count / many)
        middle = self.first_s[group] + self.rise_s[group] * (since + to - 1.0) / 2.0
        histogram.add(middle, (to - since) * self.weight[group])


NAMES = ("at_s", "first_s", "rise_s", "count", "weight")


def join(parts: list[Gaps]) -> Gaps:
    """Gaps of several lanes as one."""
    return Gaps(**{name: np.concatenate([np.empty(0), *(getattr(part, name) for part in parts)]) for name in NAMES})


def gaps_of(runs: Runs, first_tokens_s: Column | None = None, *, handed_over: bool = False) -> Gaps:
    """The gaps of one lane's runs.

    Args:
        runs: of one lane, in order of time.
        first_tokens_s: when requests of this lane that emit more than one token emitted the first. Without, sequences
            are taken to have waited through a pause of decoding if prompts filled it.
        handed_over: first tokens come from elsewhere, at any time; a sequence then decodes from the next run on, since
            how long it queues here is not kept. Otherwise only first tokens at the end of a run of this lane count.
    """
    decoding = runs[runs["sequences"] > 0]
    n, start, ends = decoding["sequences"], decoding["start_s"], run_ends_s(decoding)
    before = np.concatenate([runs["start_s"][:1] if n.size else ends, ends[:-1]])
    pause = np.maximum(start - before, 0.0)
    if first_tokens_s is None:
        joined, at = np.empty(0), np.empty(0, np.intp)
        filled = _filled_s(runs, start, before) >= pause * (1 - SAME)
        carried = np.where(filled, np.minimum(np.concatenate([np.zeros(n.size and 1), n[:-1]]), n), 0.0)
    else:
        joined = np.sort(first_tokens_s if handed_over else first_tokens_s[np.isin(first_tokens_s, run_ends_s(runs))])
        at = np.searchsorted(start, joined, side="left")
        joined, at = joined[at < n.size], at[at < n.size]
        carried = np.maximum(n - np.bincount(at, minlength=n.size), 0.0)
    # A sequence with its first token at the very start of a run waits for nothing.
    waited = start[at] - joined
    at, waited = at[waited > 0], waited[waited > 0]
    apart = np.bincount(at, minlength=n.size)
    late = (pause > 0) | (apart > 0)
    plain = Gaps(
        at_s=start,
        first_s=np.where(late, decoding["first_s"] + decoding["rise_s"], decoding["first_s"]),
        rise_s=decoding["rise_s"],
        count=decoding["iterations"] - late,
        weight=n,
    )
    if not late.any():
        return plain
    u, stalled = decoding["first_s"], np.where(pause > 0, carried, 0.0)
    fresh = np.maximum(n - stalled - apart, 0.0)
    return join(
        [
            plain,
            _singles(start[at] - waited, u[at] + waited, np.ones(at.size)),
            _singles(start[late], u[late], fresh[late]),
            _singles(before[late], (u + pause)[late], stalled[late]),
        ]
    )


def _singles(at_s: Column, gaps_s: Column, weight: Column) -> Gaps:
    return Gaps(at_s=at_s, first_s=gaps_s, rise_s=np.zeros(gaps_s.size), count=np.ones(gaps_s.size), weight=weight)


def _filled_s(runs: Runs, start_s: Column, before_s: Column) -> Column:
    """Seconds of iterations without decoding between the times before and the starts."""
    prompts = runs[runs["sequences"] <= 0]
    spent = np.concatenate([[0.0], np.cumsum(run_times_s(prompts))])
    to, since = (np.searchsorted(prompts["start_s"], times) for times in (start_s, before_s))
    filled: Column = spent[to] - spent[since]
    return filled


def _bits(value: float) -> int:
    return int(np.float64(value).view(np.int64))


def _float(bits: int) -> float:
    return float(np.int64(bits).view(np.float64))
