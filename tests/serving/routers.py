"""Routers that the compiled core knows, in plain Python, and one that looks at no state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ridgeline.core.seeding import stream
from ridgeline.serving.fleet import Member

BLOCK = 4096


class TwoChoices:
    """The less loaded of two lanes drawn at random, of equal ones the first drawn."""

    compiled = "two-choices"

    def __init__(self, seed: int = 0) -> None:
        self._generator = stream(seed, "two choices")
        self._drawn: list[float] = []

    def uniforms(self) -> np.ndarray:
        return self._generator.random(BLOCK)

    def route(self, request: int, time: float, lanes: Sequence[Member]) -> int:
        if not self._drawn:
            self._drawn = self.uniforms()[::-1].tolist()
        count = len(lanes)
        one = int(self._drawn.pop() * (count - 1))
        other = int(self._drawn.pop() * count)
        if other == one:
            other = count - 1
        return other if lanes[other].load < lanes[one].load else one


class LeastLoaded:
    """Of the lanes that are up, the first with the fewest requests."""

    compiled = "least-loaded"

    def route(self, request: int, time: float, lanes: Sequence[Member]) -> int:
        return min((lane.load, i) for i, lane in enumerate(lanes) if lane.up)[1]


class ByNumber:
    """A lane that depends on the number of the request alone."""

    blind = True

    def route(self, request: int, time: float, lanes: Sequence[Member]) -> int:
        return request * 7919 % 13 % len(lanes)
