"""Named rules of which lanes hand running requests to which others.

Such a rule is a function or class that takes the `Facts` of the run and gives an object with `interval_s` and `decide`;
further parameters are keywords. The driver asks every `interval_s` about the lanes of one pool, and moves one request
per pair of lanes: the one of the shortest context that decodes, as it costs the least to move. It goes on decoding
while its cache is copied; only what it has added meanwhile is copied while it stands still (Llumnix, arXiv 2406.03243).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ridgeline.core.errors import DomainError
from ridgeline.serving.policies.facts import Facts
from ridgeline.serving.policies.routers import LaneView, freeness
from ridgeline.serving.policies.settings import interval

Pairs = Sequence[tuple[int, int]]
"""(from, to) as indices of lanes, each lane in one pair at most."""


class Rebalancer(Protocol):
    """Which lanes hand requests to which others."""

    @property
    def interval_s(self) -> float:
        """Time between two decisions."""

    def decide(self, time: float, lanes: Sequence[LaneView]) -> Pairs:
        """Pairs of lanes that are up."""


class FreeCache:
    """From the lane with the least free cache to that with the most, while they are far enough apart."""

    def __init__(self, facts: Facts, *, interval_s: float = 1.0, apart_frac: float = 0.2) -> None:
        """`apart_frac` is the difference of the free shares of two caches above which a request moves."""
        if not 0 < apart_frac <= 1:
            raise DomainError("apart_frac is a share", at="apart_frac", got=apart_frac, fix="give 0.2")
        self.interval_s, self._apart = interval(interval_s), apart_frac

    def decide(self, time: float, lanes: Sequence[LaneView]) -> Pairs:
        """Looks at every lane."""
        return _pairs(lanes, lambda lane: lane.free_blocks / lane.capacity_blocks, self._apart)


class Freeness:
    """From lanes that fill soon to lanes that do not: iterations that the free cache lasts at the present batch.

    Source: Llumnix (arXiv 2406.03243, section 4.4); `routers.freeness` has the formula.
    """

    def __init__(
        self, facts: Facts, *, interval_s: float = 1.0, low: float = 100.0, high: float = 400.0, prompt: float = 0.0
    ) -> None:
        """Which lanes take part.

        Args:
            facts: of the run.
            interval_s: time between decisions.
            low: iterations; lanes below give.
            high: iterations; lanes above take.
            prompt: tokens that a waiting request is counted with; 0: the mean prompt.
        """
        if not 0 <= low < high or prompt < 0:
            raise DomainError("0 <= low < high, prompt >= 0", at="freeness", got=(low, high, prompt), fix="raise high")
        self.interval_s, self._low, self._high = interval(interval_s), low, high
        self._prompt = prompt or (sum(facts.prompt_tokens) / len(facts) if len(facts) else 0.0)

    def decide(self, time: float, lanes: Sequence[LaneView]) -> Pairs:
        """Looks at every lane."""

        def free(lane: LaneView) -> float:
            return freeness(lane, self._prompt)

        low, high = self._low, self._high
        return [
            (giver, taker)
            for giver, taker in _pairs(lanes, free, 0.0)
            if free(lanes[giver]) < low and free(lanes[taker]) > high
        ]


def _pairs(lanes: Sequence[LaneView], free: Callable[[LaneView], float], apart: float) -> list[tuple[int, int]]:
    """The fullest lane with the emptiest, the next with the next, while they are further apart."""
    order = sorted((free(lane), i) for i, lane in enumerate(lanes) if lane.up)
    return [
        (giver, taker)
        for (less, giver), (more, taker) in zip(order[: len(order) // 2], reversed(order), strict=False)
        if more - less > apart and lanes[giver].running > 1 and not lanes[taker].waiting
    ]
