"""Decode attention: few query rows against a long cache, split along the keys so that all SMs help (Flash-Decoding).

One stream is the cache of one sequence and key-value head, read once for its whole group of query heads. A stream is
cut into splits while SMs are idle; each CTA first pays its start-up, then reads its share at the rate that one CTA
sustains. The kernel is as slow as the slower of two pipes, CTAs or memory; splitting adds a combine of partial
outputs. Kernels differ in when they group heads and when they split, and that decides the slow tail more than any
rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.price import pnorm
from ridgeline.costs.room import Facts, Numbers, two_level
from ridgeline.hardware.chip import Value
from ridgeline.workloads.ops import Attention

Array = NDArray[np.float64]

GREED = 1.3
"""Kernels split by simple rules, so that splitting may lose a little: up to this ratio to the unsplit time."""

REFERENCE_WIDTH = 256.0
"""Key plus value width at which `start_us` is stated: heads of 128."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """How a decode kernel cuts its work: CTAs before splitting, cache bytes of one, key blocks of one, may they split.

    `again` counts how often each cached byte is read (1 when the group of query heads shares the read); `padding` is
    the ratio of query rows multiplied, after filling up matrix tiles, to the rows that there are.
    """

    count: Array
    stream_bytes: Array
    blocks: Array
    splittable: NDArray[np.bool_]
    grouped: NDArray[np.bool_]
    again: Array
    padding: Array


def cut_streams(op: Attention, c: Numbers, pads: Value = 1.0) -> Streams:
    """Streams by the habits of a kernel family.

    `group_limit`: with more query heads per key-value head than this, each query head reads the cache for itself.
    `windowed_groups`, `lone_splits`: 0 for kernels (FlashAttention 2) that neither group nor split under a window, nor
    split when heads are not grouped. `pads`: as in `Facts`.
    """
    q, heads = np.asarray(op.q_len, float), np.asarray(op.heads, float)
    kv_heads = np.ones(()) if op.is_latent else np.maximum(np.asarray(op.kv_heads, float), 1.0)
    group = heads / kv_heads
    reads = np.asarray(op.cached_tokens_read(), float)
    windowed = np.asarray(op.window) > 0
    grouped = (group > 1.0) & (group <= c["group_limit"]) & (~windowed | (np.asarray(c["windowed_groups"]) > 0))
    rows = np.where(grouped, group, 1.0) * q
    tiles = np.ceil(rows / c["tile_rows"])
    instruction = np.where(np.asarray(pads) > 0, c["pad_rows"], 1.0)
    return Streams(
        count=np.asarray(op.batch, float) * np.where(grouped, kv_heads, heads) * tiles,
        stream_bytes=reads * np.asarray(op.kv_values_per_token()) / kv_heads * op.kv.element_bytes,
        blocks=np.maximum(reads / c["tile_keys"], 1.0),
        splittable=grouped | (~windowed & (np.asarray(c["lone_splits"]) > 0)),
        grouped=grouped,
        again=np.where(grouped, 1.0, group) * tiles,
        padding=np.ceil(rows / instruction) * instruction / np.maximum(rows, 1.0),
    )


def split_time(op: Attention, facts: Facts, c: Numbers, resident: bool) -> dict[str, Value]:
    """Terms in seconds of a split-KV decode kernel: launch, regroup, ctas, memory, l2, compute and combine.

    Streams are split over idle SMs where that about pays for the combine. `resident` says that the cache may lie in the
    last-level cache (a benchmark loop); a real step streams it.
    """
    cut = cut_streams(op, c, facts.pads)
    slots = np.asarray(c["slots_per_unit"]) * facts.units
    start_s = c["start_us"] * 1e-6 * _wider(op, c)
    stream_s = cut.stream_bytes / (np.asarray(c["stream_bytes_per_clock"]) * facts.clock_hz)
    levels = two_level(cut.count * cut.stream_bytes / np.maximum(cut.again, 1.0), facts, c, resident)
    levels["l2"] = levels["l2"] * cut.again
    compute_s = op.flops() * cut.padding / (facts.peak_flops_per_s * np.asarray(c["compute_share"]))
    bytes_s = pnorm(2.0, levels["memory"] + levels["l2"], compute_s)

    wanted = slots / np.maximum(cut.count, 1.0)
    splits = np.where(cut.splittable, np.clip(wanted, 1.0, np.minimum(cut.blocks, c["split_limit"])), 1.0)
    split_s = (start_s + stream_s / splits) * np.maximum(cut.count * splits / slots, 1.0)
    whole_s = (start_s + stream_s) * np.maximum(cut.count / slots, 1.0)
    partial_bytes = 8.0 * np.asarray(op.batch, float) * op.q_len * op.heads * op.v_head_dim * splits
    combine_s = (
        np.asarray(c["combine_cycles"]) / facts.clock_hz
        + c["combine_passes"] * partial_bytes / facts.bandwidth_bytes_per_s
    )
    launch_s = np.asarray(c["launch_cycles"]) / facts.clock_hz
    whole_total = launch_s + np.hypot(whole_s, bytes_s)
    pays = (splits > 1.0) & (launch_s + np.hypot(split_s, bytes_s) + combine_s < GREED * whole_total)

    copied = cut.grouped & (np.asarray(op.batch) > 1) & (np.asarray(op.kv_heads) > 1)
    return {
        "launch": launch_s,
        "regroup": np.where(copied, np.asarray(c["regroup_cycles"]) / facts.clock_hz, 0.0),
        "ctas": np.where(pays, split_s, whole_s),
        **levels,
        "compute": compute_s,
        "combine": np.where(pays, combine_s, 0.0),
    }


def decode_time(terms: dict[str, Value]) -> Value:
    """CTAs, compute and memory overlap (a 2-norm); launch, the copy that regroups queries, and combine do not."""
    memory = np.asarray(terms["memory"]) + terms["l2"]
    overlapped = pnorm(2.0, terms["ctas"], memory, terms["compute"])
    return terms["launch"] + terms["regroup"] + overlapped + terms["combine"]


def _wider(op: Attention, c: Numbers) -> Array:
    """How much longer a CTA takes to start than for the reference width of a head."""
    wider: Array = ((np.asarray(op.head_dim, float) + op.v_head_dim) / REFERENCE_WIDTH) ** c["width_power"]
    return wider
