"""Loads of routed experts: how many rows the busiest rank computes, over how many experts, in how many row tiles.

`balanced` deals rows evenly. `random` draws the experts of every token anew, all equally likely, so that some see none
and others several: what a router does at best. `power_law_A` draws each expert's load from a density x**-A on [1, 0.8
tokens], scales the draws to tokens x topk, rounds them, deals what rounding lost one by one, and caps each at `tokens`;
the rank with most rows sets the time. This is how the measured tables were made (ai-dynamo/aiconfigurator,
collector/helper.py).

Nothing is drawn here: the busiest rank's share is the expected largest of `ep` sums of loads, each sum taken as a
gamma variable (Wilson and Hilferty, PNAS 1931) with the first two moments of the power law, and the spread of loads
within the rank follows the law's own quantiles. Against drawn loads the share is 3 % off in the median and 8 % at the
90th percentile, less than two draws differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import SpecError
from ridgeline.workloads.ops import Experts

Array = NDArray[np.float64]

RANDOM = "random"

REACH, FEW_LOW, FEW_HIGH = 0.8, 0.01, 2.0
"""Upper end of the law as a share of tokens; its ends where there are fewer rows than experts."""

GAMMA_SPREAD, GAMMA_SCORE, SHARED_SUM, CAP_SHARPNESS = 0.6522, 1.1186, 0.1, 6.3
"""Fitted once to drawn loads (alpha 1.01 and 1.2, 8 to 512 experts, 1 to 256 ranks, 16 to 16384 tokens): corrections
of the gamma's variance and of the normal score for sums of bounded draws that share one total, and the softness of
caps."""

SCORE_SCALE, SCORE_POWER = 4.91, 0.14
"""Tukey's lambda form of the normal quantile, within 0.02 of the exact one here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loads:
    """Rows, experts with at least one row, and the loads' law on the busiest rank.

    `least` is the smallest load that the law gives there, `span` the ratio of largest to smallest; alpha 0 marks even
    loads.
    """

    rows: Array
    active: Array
    local: Array
    least: Array
    span: Array
    alpha: float

    def tiles(self, height: float) -> Array:
        """Row tiles of `height` over all local experts: each expert fills up its last one."""
        if self.alpha == 0.0:
            even: Array = self.active * np.ceil(self.rows / np.maximum(self.active, 1e-300) / height - 1e-9)
            return even
        edge = height / self.least
        large = self.local * _above(edge, self.span, self.alpha)
        small = np.maximum(self.active - large, 0.0)
        spread = small + self.rows * _mass_above(edge, self.span, self.alpha) / height + 0.5 * large
        tiles: Array = np.maximum(spread, np.maximum(self.active, self.rows / height))
        return np.where(self.local <= 1.0, np.ceil(self.rows / height - 1e-9), tiles)


def loads_of(op: Experts) -> Loads:
    """Loads of the busiest rank, per row of the op. Raises SpecError for an unknown distribution."""
    if op.distribution == RANDOM:
        return _random(op)
    alpha = _alpha(op.distribution)
    tokens, topk, experts = (np.asarray(d, float) for d in (op.tokens, op.topk, op.experts))
    ep = np.maximum(np.asarray(op.ep, float), 1.0)
    pairs = tokens * topk
    mean_rows, local = pairs / ep, experts / ep
    if alpha == 0.0:
        active = np.minimum(pairs, experts) / ep
        rows = np.where(pairs > 0, np.maximum(mean_rows, np.minimum(topk, 1.0)), 0.0)
        return Loads(rows=rows, active=np.minimum(np.maximum(active, np.minimum(rows, 1.0)), local), local=local,
                     least=np.ones_like(rows), span=np.ones_like(rows), alpha=0.0)  # fmt: skip
    span = np.where(pairs > experts, np.maximum(REACH * tokens, 1.001), FEW_HIGH / FEW_LOW)
    mean, variation = _moments(span, alpha)
    share = _busiest_share(ep, local, variation, np.minimum(experts / np.maximum(topk, 1.0), span / mean))
    rows = np.where(pairs > 0, np.maximum(mean_rows * share, np.minimum(topk, 1.0)), 0.0)
    least = np.maximum(rows / np.maximum(local, 1.0), 1e-12) / mean
    some = _above(0.5 / least, span, alpha)
    dealt = rows * (1.0 - _mass_above(0.5 / least, span, alpha))
    active = local * some + dealt * (1.0 - some)
    return Loads(
        rows=rows,
        active=np.clip(active, np.minimum(rows, 1.0), np.maximum(np.minimum(rows, local), 1e-12)),
        local=local,
        least=least,
        span=span,
        alpha=alpha,
    )


def _random(op: Experts) -> Loads:
    """Independent draws: the busiest rank's rows are the largest of `ep` binomials, taken as normal ones."""
    ep = np.maximum(np.asarray(op.ep, float), 1.0)
    mean, local = np.asarray(op.rows(), float), np.asarray(op.experts, float) / ep
    rows = np.minimum(mean + _score(ep) * np.sqrt(mean * (1.0 - 1.0 / ep)), mean * ep)
    active = np.asarray(op.active_experts(), float) * rows / np.maximum(mean, 1e-300)
    active = np.clip(active, np.minimum(rows, 1.0), local)
    one = np.ones_like(rows)
    return Loads(
        rows=np.maximum(rows, np.minimum(active, 1.0)), active=active, local=local, least=one, span=one, alpha=0.0
    )


def _score(ep: Array) -> Array:
    """Expected largest of `ep` standard normal draws (Blom's plotting position)."""
    place = (ep - 0.375) / (ep + 0.25)
    score: Array = SCORE_SCALE * (place**SCORE_POWER - (1.0 - place) ** SCORE_POWER)
    return score


def _alpha(distribution: str) -> float:
    """The exponent; 0 for even loads. Exponents at the law's poles are nudged off them."""
    if distribution == "balanced":
        return 0.0
    head, _, tail = distribution.rpartition("_")
    try:
        alpha = float(tail)
    except ValueError:
        alpha = -1.0
    if head != "power_law" or not 0.0 < alpha < 10.0:
        raise SpecError("unknown distribution of expert loads", at="distribution", got=distribution,
                        fix="balanced, random, or power_law_ALPHA such as power_law_1.2")  # fmt: skip
    return alpha + 1e-4 if alpha in (1.0, 2.0, 3.0) else alpha


def _moments(span: Array, alpha: float) -> tuple[Array, Array]:
    """Mean and squared coefficient of variation of the law on [1, span]."""
    norm = (span ** (1.0 - alpha) - 1.0) / (1.0 - alpha)
    first = (span ** (2.0 - alpha) - 1.0) / (2.0 - alpha) / norm
    second = (span ** (3.0 - alpha) - 1.0) / (3.0 - alpha) / norm
    return first, np.maximum(second / first**2 - 1.0, 1e-9)


def _busiest_share(ep: Array, local: Array, variation: Array, cap: Array) -> Array:
    """Rows of the busiest of `ep` ranks over the mean rank's."""
    score = GAMMA_SCORE * _score(ep)
    spread = GAMMA_SPREAD * variation / (9.0 * np.maximum(local, 1.0))
    largest = np.maximum(1.0 - spread + score * np.sqrt(spread), 0.0) ** 3
    largest = 1.0 + (largest - 1.0) * (1.0 - 1.0 / ep) ** SHARED_SUM
    limit = np.minimum(cap, ep)
    soft = np.maximum(largest, 1e-9) ** -CAP_SHARPNESS + limit**-CAP_SHARPNESS
    share: Array = np.where(ep > 1.0, np.clip(soft ** (-1.0 / CAP_SHARPNESS), 1.0, ep), 1.0)
    return share


def _above(edge: Array, span: Array, alpha: float) -> Array:
    """Probability that a draw on [1, span] exceeds `edge`."""
    tail = span ** (1.0 - alpha)
    above: Array = (np.clip(edge, 1.0, span) ** (1.0 - alpha) - tail) / (1.0 - tail)
    return above


def _mass_above(edge: Array, span: Array, alpha: float) -> Array:
    """Share of all rows that belongs to draws above `edge`."""
    whole = span ** (2.0 - alpha)
    mass: Array = (whole - np.clip(edge, 1.0, span) ** (2.0 - alpha)) / (whole - 1.0)
    return mass
