"""Prefill attention: FlashAttention-style blocks of queries against blocks of keys (Dao, arXiv 2307.08691).

A CTA owns a tile of query rows and walks the key blocks that some of its rows can see. The work of all CTAs is shared
by the SMs; the CTA that walks the most blocks ends last; operand bytes add to it, because the phases of one tile
overlap badly with the loads of the next. Exponentials cost cycles of their own, which is why a small head_dim reaches
a smaller share of the matrix peak (Shah et al., arXiv 2407.08608, section 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.room import Facts, Numbers, two_level
from ridgeline.hardware.chip import Value
from ridgeline.workloads.ops import Attention

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """How a tiled kernel cuts the score matrix: CTAs, key blocks over all CTAs, and key blocks of the longest CTA."""

    ctas: Array
    blocks: Array
    longest: Array


def count_blocks(op: Attention, tile_rows: Value, tile_keys: Value, packed: bool) -> Blocks:
    """Visible key blocks of every query tile, in closed form.

    `packed` says that the query heads of one key-value head share a tile (rows = tokens x group). A tile of `span`
    tokens whose last query sits at key position x visits ceil(x / tile_keys) blocks, less those that end before the
    window of its first query. Rounding is exact where spans and blocks divide each other, and its mean elsewhere.
    """
    q = np.asarray(op.q_len, float)
    kv = np.asarray(op.kv_len, float)
    group = np.asarray(op.heads, float) / np.maximum(op.kv_heads, 1.0) if packed else np.float64(1.0)
    streams = np.asarray(op.batch * (op.kv_heads if packed else op.heads), float)
    span = tile_rows / group
    tiles = np.ceil(q / span)
    past = kv - q
    full = np.ceil(kv / tile_keys)
    if not op.causal:
        return Blocks(ctas=streams * tiles, blocks=streams * tiles * full, longest=full)
    ratio = span / tile_keys
    rounding = (1.0 - np.minimum(ratio, 1.0)) / 2.0
    inner = np.maximum(tiles - 1.0, 0.0)
    upper = inner * (past / tile_keys + rounding) + ratio * inner * tiles / 2.0 + full
    window = np.asarray(op.window, float)
    if np.any(window > 0):
        start = np.where(window > 0, past - window + 1.0, -np.inf)
        first = np.clip(np.ceil(-start / span), 0.0, tiles)
        count = tiles - first
        finite = np.where(window > 0, start, 0.0)
        skipped = (
            count * (finite / tile_keys - rounding) + ratio * (tiles * (tiles - 1.0) - first * (first - 1.0)) / 2.0
        )
        upper = upper - np.where(window > 0, np.maximum(skipped, 0.0), 0.0)
        reach = np.ceil((window + span) / tile_keys) + 1.0
        longest = np.where(window > 0, np.minimum(full, reach), full)
    else:
        longest = full
    selected = np.asarray(op.selected, float)
    if np.any(selected > 0):
        chosen = np.where(selected > 0, np.ceil(selected / tile_keys), np.inf)
        upper = np.minimum(upper, q * chosen)
        longest = np.minimum(longest, chosen * np.maximum(span, 1.0))
    return Blocks(ctas=streams * tiles, blocks=streams * np.maximum(upper, tiles), longest=longest)


def tiled_time(op: Attention, facts: Facts, c: Numbers, packed: bool, resident: bool = True) -> dict[str, Value]:
    """Terms in seconds of a tiled prefill kernel; their sum is its time (no term hides another).

    `resident` says that operands may still lie in the last-level cache, as activations just written do.
    """
    cut = count_blocks(op, c["tile_rows"], c["tile_keys"], packed)
    scores = np.asarray(c["tile_rows"]) * c["tile_keys"]
    width = op.head_dim + op.v_head_dim
    share = efficiency(np.asarray(width) / 2.0, c)
    block_s = 2.0 * scores * width * facts.units / (facts.peak_flops_per_s * share)
    exp_s = c["exp_cycles"] * scores / facts.clock_hz
    cta_s = c["cta_cycles"] / facts.clock_hz
    moved = operand_bytes(op)
    return {
        "launch": np.asarray(c["launch_cycles"]) / facts.clock_hz,
        "compute": cut.blocks * block_s / facts.units,
        "softmax": cut.blocks * exp_s / facts.units,
        "blocks": cut.ctas * cta_s / facts.units,
        "tail": c["tail"] * (cta_s + cut.longest * (block_s + exp_s)),
        **two_level(moved, facts, c, resident),
    }


def efficiency(width: Array, c: Numbers) -> Array:
    """Share of the matrix peak for a mean head width: fitted at 64, 128 and 256, linear in log2 between them."""
    place = np.clip(np.log2(np.maximum(width, 1.0)), 6.0, 8.0)
    low = np.clip(7.0 - place, 0.0, 1.0)
    high = np.clip(place - 7.0, 0.0, 1.0)
    return low * c["share_64"] + (1.0 - low - high) * c["share_128"] + high * c["share_256"]


def operand_bytes(op: Attention) -> Array:
    """Queries and outputs in 16 bits, keys and values in the cache format, the visible ones once."""
    queries = np.asarray(op.batch, float) * op.q_len * op.heads * (op.head_dim + op.v_head_dim) * 2.0
    heads = op.heads if op.is_latent else op.kv_heads
    keys = np.asarray(op.batch, float) * op.cached_tokens_read() * heads * (op.head_dim + op.v_head_dim)
    moved: Array = queries + keys * op.kv.element_bytes
    return moved


def expanded(op: Attention) -> Attention:
    """MLA prefill works on expanded heads: every query head has its own keys and values."""
    return replace(op, kv_heads=op.heads) if op.is_latent else op
