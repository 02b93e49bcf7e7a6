"""The few quantiles of distributions that intervals need, without scipy."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from ridgeline.core.errors import DomainError

MANY = 200
"""Degrees of freedom from which the expansion of Student's quantile is exact to 1e-9."""


def fraction(value: float, at: str) -> float:
    """A number strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise DomainError("a fraction between 0 and 1, both excluded", at=at, got=value, fix="give for example 0.95")
    return float(value)


def normal_quantile(probability: float) -> float:
    """The standard normal value below which that probability lies."""
    return NormalDist().inv_cdf(probability)


@lru_cache(maxsize=1024)
def student_half_width(degrees: int, confidence: float) -> float:
    """The t with P(|T| < t) = confidence.

    Source: Abramowitz and Stegun, 26.7.3 and 26.7.4 (exact sums, solved by bisection), 26.7.5 (expansion).
    """
    if degrees >= MANY:
        x = normal_quantile(0.5 + confidence / 2)
        n, y = float(degrees), x * x
        return x * (
            1
            + (y + 1) / (4 * n)
            + ((5 * y + 16) * y + 3) / (96 * n**2)
            + (((3 * y + 19) * y + 17) * y - 15) / (384 * n**3)
            + ((((79 * y + 776) * y + 1482) * y - 1920) * y - 945) / (92160 * n**4)
        )
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(degrees, middle) < confidence else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _inside(degrees: int, angle: float) -> float:
    """P(|T| < sqrt(degrees) tan(angle))."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, degrees, 2):
        total += term
        term *= cosine * cosine * k / (k + 1)
    return (angle + sine * total) * 2 / math.pi if odd else sine * total


@lru_cache(maxsize=1024)
def binomial_ranks(count: int, level: float, confidence: float) -> tuple[int, int]:
    """The ranks (from 1) of the order statistics that enclose a quantile with at least that confidence.

    The lower rank is 0 and the upper one count + 1 where the sample is too small to bound the quantile on that side.

    Source: David and Nagaraja, Order Statistics, 2003, 7.1; the binomial is summed over its ratio of neighbours.
    """
    reach = 10 * math.sqrt(count * level * (1 - level)) + 40
    first, last = max(0, math.floor(count * level - reach)), min(count, math.ceil(count * level + reach))
    k = np.arange(first, last)
    steps = np.log((count - k) / (k + 1.0) * (level / (1 - level)))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    masses = np.exp(logs - logs.max())
    masses /= masses.sum()
    tail = (1 - confidence) / 2
    below = np.cumsum(masses)  # P(B <= first + i)
    above = np.concatenate([np.cumsum(masses[::-1])[::-1][1:], [0.0]])  # P(B > first + i)
    return first + int(np.count_nonzero(below <= tail)), first + 1 + int(np.argmax(above <= tail))
