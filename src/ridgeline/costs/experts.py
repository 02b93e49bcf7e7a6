"""The expert room: grouped matmuls of the routed experts that one rank holds, as slow as its busiest rank.

Each expert's rows fill whole row tiles, and a tile takes as long as its rows and the rows that a unit could have
multiplied while the tile's weights came from the cache, so that padding costs little where tiles are small and much
where experts are many. Arithmetic and weights overlap (a 2-norm); around them,
rows are permuted, quantised, activated and combined in passes over memory of their own, which cost as much as the
matmuls for many shapes. Weights are read for the experts that have work.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.expert_kernels import expert_menu
from ridgeline.costs.expert_loads import Loads, loads_of
from ridgeline.costs.expert_places import expert_places
from ridgeline.costs.price import Price, Setting, pnorm, zero_where_empty
from ridgeline.costs.room import (
    Facts,
    Numbers,
    corrected,
    facts_of,
    fastest,
    ideal,
    in_chunks,
    price_by_kernel,
    priced,
    two_level,
)
from ridgeline.hardware.chip import ChipColumns, Value
from ridgeline.workloads.ops import Experts

KIND = "experts"
Array = NDArray[np.float64]

TILE_HEIGHTS = (16.0, 32.0, 64.0, 128.0)
TILE_WIDTH = 128.0
"""Tiles that grouped kernels choose from; the fastest is taken, as their heuristics try to."""


def price_experts(op: Experts, chips: ChipColumns, setting: Setting) -> Price:
    """Price the routed experts of one layer on the busiest rank of each row.

    Args:
        op: dims are numbers or one value per row.
        chips: one chip or one per row, all of one kin.
        setting: `weights_cache` hot lets weights stay in the last-level cache, as in a benchmark loop.

    Returns: seconds and terms per row; rows without tokens cost nothing. Raises SpecError for an unknown distribution.
    """
    return in_chunks(op, chips, lambda part, columns: _price(part, columns, setting))


def _price(op: Experts, chips: ChipColumns, setting: Setting) -> Price:
    if setting.runtime == "ideal":
        return zero_where_empty(ideal(op, chips, setting), op.tokens)
    menu = expert_menu(op, chips.chips[0], setting)

    def choose(part: Experts, columns: ChipColumns, code: int) -> Price:
        return fastest(tuple(_one(part, columns, setting, kernel) for kernel in menu.choices[code]))

    return zero_where_empty(price_by_kernel(op, chips, menu.codes, choose), op.tokens)


def grouped_time(op: Experts, loads: Loads, facts: Facts, c: Numbers, resident: bool) -> dict[str, Value]:
    """Terms in seconds: launch, compute, memory and l2 (weights), activations, permute, experts."""
    inner = np.asarray(op.inter, float) / op.tp
    hidden = np.asarray(op.hidden, float)
    weight_bytes = loads.active * op.matrices * hidden * inner * op.scheme.weight.element_bytes
    entering = op.scheme.activation.element_bytes
    widths = 2.0 * hidden * (entering + 2.0) + inner * (2.0 * (op.matrices - 1.0) + entering)
    all_rows_bytes = 4.0 * np.asarray(op.tokens, float) * op.seen_frac * op.topk * hidden
    # A pass over rows waits for memory and for the units that convert and scatter what they read.
    units_rate = np.asarray(c["pass_bytes_per_clock"]) * facts.units * facts.clock_hz
    pass_s_per_byte = 1.0 / facts.bandwidth_bytes_per_s + 1.0 / units_rate
    return {
        "launch": np.asarray(c["launch_cycles"]) / facts.clock_hz,
        "compute": _compute_s(op, loads, facts, c, inner),
        **two_level(weight_bytes, facts, c, resident),
        "activations": c["local_passes"] * loads.rows * widths * pass_s_per_byte,
        "permute": c["global_passes"] * all_rows_bytes * pass_s_per_byte,
        "experts": np.asarray(c["expert_cycles"]) / facts.clock_hz * loads.active,
    }


def grouped_total(terms: dict[str, Value]) -> Value:
    """Arithmetic overlaps weights; everything else comes before or after."""
    weights = np.asarray(terms["memory"]) + terms["l2"]
    return (
        terms["launch"]
        + pnorm(2.0, terms["compute"], weights)
        + terms["activations"]
        + terms["permute"]
        + terms["experts"]
    )


def _compute_s(op: Experts, loads: Loads, facts: Facts, c: Numbers, inner: Array) -> Value:
    """Both grouped matmuls with the fastest tile height; no fewer tiles than units run at once."""
    up_columns = np.ceil((op.matrices - 1.0) * inner / TILE_WIDTH)
    down_columns = np.ceil(np.asarray(op.hidden, float) / TILE_WIDTH)
    unit_rate = facts.peak_flops_per_s * np.asarray(c["share"]) / facts.units
    # Weights of a tile come from the cache at so many bytes per clock; the unit could have multiplied these rows then.
    per_clock = facts.peak_flops_per_s / (facts.units * facts.clock_hz)
    overhead = per_clock * op.scheme.weight.element_bytes / (2.0 * np.asarray(c["feed_bytes_per_clock"]))
    best: Value = np.inf
    for height in TILE_HEIGHTS:
        tiles = loads.tiles(height)
        up = op.hidden * np.maximum(tiles * up_columns / facts.units, 1.0)
        down = inner * np.maximum(tiles * down_columns / facts.units, 1.0)
        best = np.minimum(best, (height + overhead) * (up + down))
    return 2.0 * TILE_WIDTH * best / unit_rate


def _one(op: Experts, chips: ChipColumns, setting: Setting, kernel: str) -> Price:
    c = Coefficients(KIND, kernel, chips)
    facts = facts_of(chips, op.compute)
    terms = grouped_time(op, loads_of(op), facts, c, resident=setting.weights_cache == "hot")
    total = corrected(KIND, kernel, chips, grouped_total(terms), lambda: expert_places(op))
    return priced(op, total, facts, setting, terms, c, kernel)
