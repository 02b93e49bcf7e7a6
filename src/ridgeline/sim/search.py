"""How long to go on: replications until an interval is narrow, and the highest load at which something still holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ridgeline.core.errors import DomainError
from ridgeline.sim._distributions import fraction
from ridgeline.sim.statistics import Estimate, mean_interval, whole

TRIES = 200
"""Evaluations of a search, at most: far more than doubling and halving need for any tolerance a float can tell."""


class Replications:
    """Independent results, one per replication, until their mean is known well enough.

    Enough is: at least `least` values, and half the confidence interval of their mean is no more than the share
    `relative` of it (of the true mean, hence relative / (1 + relative) of the sample's), or no more than `absolute`.

    Source: Chow and Robbins, Annals of Mathematical Statistics 1965; relative form and its correction: Law and Kelton,
    Simulation Modeling and Analysis, 2000, 9.4.1, who advise at least 10 values.
    """

    def __init__(
        self, *, relative: float = 0.05, absolute: float = 0.0, confidence: float = 0.95, least: int = 10
    ) -> None:
        """Raises DomainError for a tolerance or confidence outside its range."""
        if not (0.0 <= relative < 1.0 and 0.0 <= absolute < math.inf):
            raise DomainError(
                "tolerances are not negative, a relative one is below 1", at="relative", got=(relative, absolute)
            )
        self.relative, self.absolute = relative, absolute
        self.confidence = fraction(confidence, "confidence")
        self.least = whole(least, "least", least=2)
        self.values: list[float] = []

    def add(self, *values: float) -> None:
        """Take the results of further replications."""
        for value in values:
            if not math.isfinite(value):
                raise DomainError("the result of a replication is finite", at="values", got=value)
            self.values.append(float(value))

    @property
    def estimate(self) -> Estimate:
        """Mean and interval of the results so far."""
        return mean_interval(self.values, confidence=self.confidence, batches=max(len(self.values), 2))

    @property
    def enough(self) -> bool:
        """Whether the interval is narrow enough to stop."""
        if len(self.values) < self.least:
            return False
        estimate = self.estimate
        narrow = self.relative / (1 + self.relative) * abs(estimate.value)
        return estimate.half_width <= max(narrow, self.absolute)


def replicate(
    run: Callable[[int], float],
    *,
    relative: float = 0.05,
    absolute: float = 0.0,
    confidence: float = 0.95,
    least: int = 10,
    most: int = 1000,
) -> Replications:
    """Call `run(0)`, `run(1)`, ... until their mean is known well enough, or `most` times; ask `.enough` which it was.

    Args:
        run: one replication; give it streams that depend on its number, so that replications are independent.
        relative: as of `Replications`.
        absolute: as of `Replications`.
        confidence: as of `Replications`.
        least: as of `Replications`.
        most: replications after which to give up.
    """
    results = Replications(relative=relative, absolute=absolute, confidence=confidence, least=least)
    for number in range(whole(most, "most", least=results.least)):
        results.add(run(number))
        if results.enough:
            break
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """Where a condition stops to hold.

    Attributes:
        holds: the highest point at which it was seen to hold; NaN if it held nowhere.
        fails: the lowest point at which it was seen to fail; infinite if it failed nowhere.
        tried: every evaluation in order, with its outcome.
        converged: whether the two are as close as was asked for; also true when there is nothing between them because
            it held at the upper limit or failed at the lower one.
    """

    holds: float
    fails: float
    tried: tuple[tuple[float, bool], ...]
    converged: bool

    @property
    def evaluations(self) -> int:
        """How often the condition was evaluated."""
        return len(self.tried)


def highest(
    holds: Callable[[float], bool],
    low: float,
    high: float,
    *,
    tolerance: float = 0.01,
    start: float | None = None,
    whole_numbers: bool = False,
    most: int = TRIES,
) -> Bracket:
    """The highest x from `low` to `high` at which a condition holds that, once it fails, fails for all higher x.

    From `start` on x is doubled while it holds or halved while it fails, until both outcomes are known; then the
    geometric mean of the bracket is tried, until fails <= holds * (1 + tolerance). No point is tried twice.

    A condition that is simulated has to use the same random streams at each x (common random numbers): then noise moves
    the edge and does not blur it. If it still is not monotone, the answer is one of its edges, and `tried` shows them.

    Args:
        holds: the condition; is called with x.
        low: lower end of the range, above 0.
        high: upper end of the range.
        tolerance: width of the bracket as a share of its lower end.
        start: where to begin, for example a closed form's answer; `low` without.
        whole_numbers: try whole numbers only; the bracket then closes when its ends are neighbours or within tolerance.
        most: evaluations at most.
    """
    if not 0.0 < low <= high < math.inf:
        raise DomainError("a search goes from above 0 up to a finite limit", at="low", got=(low, high))
    if not tolerance > 0.0:
        raise DomainError("a tolerance is above 0", at="tolerance", got=tolerance)
    if whole_numbers:
        low, high = float(math.ceil(low)), float(math.floor(high))
        if low > high:
            raise DomainError("there is no whole number in the range", at="low", got=(low, high))
    search = _Search(holds=holds, low=low, high=high, whole_numbers=whole_numbers, most=whole(most, "most"))
    search.bracket(low if start is None else start)
    return search.halve(tolerance)


class _Search:
    """The state of one `highest`."""

    def __init__(
        self, *, holds: Callable[[float], bool], low: float, high: float, whole_numbers: bool, most: int
    ) -> None:
        self.condition, self.low, self.high, self.whole_numbers, self.most = holds, low, high, whole_numbers, most
        self.holds, self.fails = math.nan, math.inf
        self.tried: list[tuple[float, bool]] = []

    def try_at(self, x: float) -> bool:
        outcome = bool(self.condition(x))
        self.tried.append((x, outcome))
        if outcome:
            self.holds = x
        else:
            self.fails = x
        return outcome

    def bracket(self, start: float) -> None:
        """Double or halve the distance to the start until both outcomes are known or the range ends."""
        x = self.within(start)
        rising = self.try_at(x)
        factor = 2.0
        while len(self.tried) < self.most and x != (self.high if rising else self.low):
            x = self.within(x * factor if rising else x / factor)
            if self.try_at(x) != rising:
                return

    def within(self, x: float) -> float:
        x = float(math.floor(x)) if self.whole_numbers and math.isfinite(x) else x
        return min(max(x, self.low), self.high)

    def halve(self, tolerance: float) -> Bracket:
        one_sided = math.isnan(self.holds) or math.isinf(self.fails)
        done = self.holds == self.high or self.fails == self.low
        while not one_sided and not done:
            middle = self.within(math.sqrt(self.holds) * math.sqrt(self.fails))
            if self.whole_numbers and middle <= self.holds:
                middle = self.holds + 1
            done = self.fails <= self.holds * (1 + tolerance) or not self.holds < middle < self.fails
            if done or len(self.tried) >= self.most:
                break
            self.try_at(middle)
        return Bracket(holds=self.holds, fails=self.fails, tried=tuple(self.tried), converged=done)
