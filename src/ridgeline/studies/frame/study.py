"""What a study is: a paper, its claims, our assumptions, and a function that gives our numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ridgeline.core.errors import SpecError

TOLERANCES: Mapping[str, float] = {"ratio": 0.25, "absolute": 0.30, "exact": 0.01}
"""How far our number may be from the claimed one, as a share of it, for a claim to count as reproduced. They were set
for all studies before any was run (shared by design): ratios ±25 %, absolute numbers ±30 %, exact tables ±1 %.
"""
TREND_FACTOR = 2.0
"""An absolute number that is off by more than the tolerance, but by no more than this factor, shows the trend."""


class Verdict(StrEnum):
    """What came of a claim."""

    REPRODUCED = "reproduced"
    TREND = "trend"
    NOT_REPRODUCED = "not reproduced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One published number.

    Attributes:
        metric: what was measured, in words, with its unit.
        value: the number, or the two ends of a published range ("1.4-11.2x").
        kind: `ratio` (a gain over a baseline), `absolute` (a number with a unit) or `exact` (arithmetic on a table).
        source: where in the paper; "abstract" is enough.
        baseline: what the ratio is over.
        why: where we do not reproduce it: what is missing or what the physics says. Empty where we do.
    """

    metric: str
    value: float | tuple[float, float]
    kind: str = "ratio"
    source: str = "abstract"
    baseline: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        """Refuse unknown kinds and numbers that no result could be compared with."""
        if self.kind not in TOLERANCES:
            raise SpecError("unknown kind of claim", at=self.metric, got=self.kind, fix=" or ".join(TOLERANCES))
        if not all(math.isfinite(v) and v != 0 for v in self.ends):
            raise SpecError("a claim is a finite number other than 0", at=self.metric, got=self.value)
        if self.ends[0] > self.ends[1]:
            raise SpecError("a claimed range goes from low to high", at=self.metric, got=self.value)

    @property
    def ends(self) -> tuple[float, float]:
        """The claimed range; a single number is both of its ends."""
        return self.value if isinstance(self.value, tuple) else (self.value, self.value)

    @property
    def tolerance(self) -> float:
        """Share of the claimed number by which ours may differ."""
        return TOLERANCES[self.kind]

    def judge(self, ours: tuple[float, float]) -> Verdict:
        """The verdict on our number, or on the two ends of our sweep.

        A range is reproduced if our sweep stays inside it; a number, if ours is within the tolerance. A gain shows the
        trend if ours is one too; an absolute number if ours is within a factor of two.
        """
        low, high = self.ends
        if isinstance(self.value, tuple):
            if low <= ours[0] and ours[1] <= high:
                return Verdict.REPRODUCED
        elif all(abs(v - low) <= self.tolerance * abs(low) for v in ours):
            return Verdict.REPRODUCED
        if self.kind == "ratio":
            middle, claimed = (math.sqrt(max(a * b, 0.0)) for a, b in (ours, self.ends))
            same = (middle - 1) * (claimed - 1) > 0
        else:
            same = all(v * low > 0 and low / TREND_FACTOR <= v <= high * TREND_FACTOR for v in ours)
        return Verdict.TREND if same else Verdict.NOT_REPRODUCED


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """A number that the paper does not give, or that we take from elsewhere.

    Attributes:
        value: the number that the study runs with.
        source: a document, or why this value is reasonable where none was found.
        uncertain: one of the (at most two) numbers that the result is checked against, moved by 20 % each way.
        whole: moved values are rounded to whole numbers (layers, devices).
    """

    name: str
    value: float
    unit: str = ""
    source: str
    uncertain: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What is drawn: lines by name over a common x."""

    title: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    x_label: str
    y_label: str
    x_log: bool = False
    y_log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Our numbers: by metric a number, or every number of a sweep; and what else a reader should know."""

    results: Mapping[str, float | Sequence[float]]
    figure: Figure | None = None
    notes: tuple[str, ...] = ()

    def ends(self, metric: str) -> tuple[float, float]:
        """Lowest and highest of our numbers of a metric."""
        value = self.results[metric]
        values = [float(value)] if isinstance(value, int | float) else [float(v) for v in value]
        return min(values), max(values)


Run = Callable[[Mapping[str, float]], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A published system.

    Attributes:
        name: as the command line takes it.
        n: its number in the project's list of literature.
        paper: authors, title, place and year, with an identifier.
        idea: the mechanism and how both sides are built here, in two or three sentences.
        claims: what is compared; the first is the one that the sensitivity is about.
        run: gives our numbers from the values of the assumptions.
    """

    name: str
    n: int
    area: str
    paper: str
    idea: str
    claims: tuple[Claim, ...]
    run: Run
    assumptions: tuple[Assumption, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a study that would compare nothing, or leave its doubts out."""
        if not self.claims:
            raise SpecError("a study compares at least one claim", at=self.name)
        if len({a.name for a in self.assumptions}) < len(self.assumptions):
            raise SpecError("two assumptions of a study have one name", at=self.name)
        if sum(a.uncertain for a in self.assumptions) > 2:
            raise SpecError("a study is checked against its two most uncertain assumptions", at=self.name)

    def assumed(self, **moved: float) -> dict[str, float]:
        """Values of the assumptions, some of them moved."""
        return {a.name: a.value for a in self.assumptions} | moved
