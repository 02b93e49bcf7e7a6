"""What a traffic looks like, in a few numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long requests are, in tokens."""

    mean: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a traffic looks like.

    `burstiness` is the coefficient of variation of the gaps between requests that arrive by themselves (1: Poisson);
    `prefix_reuse_frac` is the share of prompt blocks that an endless cache would hold already. NaN: not defined.
    """

    requests: int
    independent: int
    sessions: int
    span_s: float
    rate_per_s: float
    prompt: Lengths
    output: Lengths
    burstiness: float
    prefix_reuse_frac: float
    per_class: dict[str, int]


def lengths_of(tokens: NDArray[np.int64]) -> Lengths:
    """Mean and percentiles; NaN without requests."""
    if not tokens.size:
        return Lengths(mean=math.nan, p50=math.nan, p99=math.nan)
    p50, p99 = np.percentile(tokens, [50, 99])
    return Lengths(mean=float(tokens.mean()), p50=float(p50), p99=float(p99))
