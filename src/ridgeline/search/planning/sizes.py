"""Sizes of two pools: every pair where these are few, else the pairs that fit each other or the load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ridgeline.hardware.chip import Value
from ridgeline.search.planning.aggregated import MOST_LOADED
from ridgeline.search.planning.question import Column, Question, most_sequences
from ridgeline.search.planning.rows import Index
from ridgeline.serving.steady import Curve

if TYPE_CHECKING:
    from ridgeline.search.planning.pools import Pools

MOST_SIZES = 2048
"""Pairs of pool sizes that are all tried for one pair of engines."""

MORE = np.array([0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 48, 96], dtype=np.float64)
"""Workers that are tried beyond the fewest that can carry a rate, where there are more pairs of sizes than that."""

PARTS = np.array([1.0, 0.75, 0.5, 0.25, 0.1])
"""Of the machines: where the load is free, pools are matched to each other on these."""

AROUND = np.array([-1.0, 0.0, 1.0])
"""Prefill workers beside the number that matches."""

MOST_TAILORED = MORE.size**2
"""Pairs of sizes of one pair of engines, then."""


def count(own: float, other: float, chips: int) -> int:
    """Pairs of numbers of workers, of `own` and `other` chips, on at most `chips` (as if there were no limit)."""
    x = np.arange(1, max(int((chips - other) // own), 0) + 1)
    return int(np.floor((chips - own * x) / other).sum()) if x.size else 0


def spread(own: float, other: float, chips: int) -> tuple[Column, Column]:
    """Workers of both pools, `own` and `other` chips each: every pair on at most `chips`, or about `MOST_SIZES`."""
    most_x, most_y = int((chips - other) // own), int((chips - own) // other)
    if most_x < 1 or most_y < 1:
        return np.empty(0), np.empty(0)
    choices = [np.arange(1.0, most + 1.0) for most in (most_x, most_y)]
    while choices[0].size * choices[1].size > 4 * MOST_SIZES:
        longer = int(choices[1].size > choices[0].size)
        choices[longer] = np.unique(np.round(np.geomspace(1.0, choices[longer][-1], choices[longer].size // 2)))
    x, y = (np.asarray(grid.ravel()) for grid in np.meshgrid(*choices, indexing="ij"))
    fits = own * x + other * y <= chips
    return x[fits], y[fits]


def tailor(
    pools: Pools, question: Question, prefill: Index, decode: Index, chips: tuple[float, float, int]
) -> tuple[Column, Column]:
    """Workers of both pools for each pair of engines, [prefill, decode, sizes].

    Where a rate must be served: from the fewest that can carry it upwards. Where the load is free: those that carry the
    same rate, on all machines or a part of them; sizes below 1 are no candidates.
    """
    own, other, there = chips
    prompts, tokens = _carried(pools, question, prefill, decode)
    if question.rate_per_s:
        x, y = (grid.ravel() for grid in np.meshgrid(MORE, MORE, indexing="ij"))
        least_x, least_y = (np.maximum(np.ceil(question.rate_per_s / each), 1.0) for each in (prompts, tokens))
        return least_x[:, None, None] + x, least_y[None, :, None] + y
    parts, around = (grid.ravel() for grid in np.meshgrid(PARTS, AROUND, indexing="ij"))
    used = np.floor(there * parts)
    a, b = prompts[:, None, None], tokens[None, :, None]
    x = np.maximum(np.round(used * b / (own * b + other * a)), 1.0) + around
    return x, np.floor((used - own * x) / other)


def _carried(pools: Pools, question: Question, prefill: Index, decode: Index) -> tuple[Column, Column]:
    """Requests per second of a worker of either pool, at most: [prefill], [decode]."""
    prompts = MOST_LOADED * pools.waves[prefill] * pools.prefill_lanes[prefill] / pools.prompt_s[prefill]
    (k0, k1, k2), (t0, t1, t2) = (
        tuple(column[decode, 0] for column in part) for part in (pools.step_s.knots, pools.step_s.times_s)
    )
    curve, slots = Curve(knots=(k0, k1, k2), times_s=(t0, t1, t2)), pools.slots[decode, 0]
    limit_s = question.slo.tpot_s * pools.tokens_per_step[decode, 0]
    n = np.minimum(most_sequences(slots), batch_within(curve, limit_s, slots))
    busy = pools.iterations[decode, 0] * curve(n)
    return np.asarray(prompts), np.asarray(pools.decode_lanes[decode, 0] * n / np.maximum(busy, 1e-12))


def batch_within(curve: Curve, limit_s: Value, slots: Value) -> Column:
    """Most sequences whose step takes at most `limit_s`; one where none does."""
    (x0, x1, x2), (y0, y1, y2) = curve.knots, curve.times_s
    first, second = (np.maximum(slope, 0.0) for slope in curve.slopes)
    n = np.where(
        limit_s < y1,
        np.where(first > 0, x0 + (limit_s - y0) / np.where(first > 0, first, 1.0), x1),
        np.where(second > 0, x1 + (limit_s - y1) / np.where(second > 0, second, 1.0), x2),
    )
    return np.asarray(np.clip(np.where(limit_s >= y2, x2, n), np.minimum(x0, slots), slots))
