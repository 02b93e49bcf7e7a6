"""Softmax attention and recurrences in training, forward and backward."""

from __future__ import annotations

import numpy as np

from ridgeline.training.layout import Layout
from ridgeline.training.setup import VALUE_BYTES, Setup, peak_rate
from ridgeline.training.work import Work
from ridgeline.workloads.ops import Dim

ATTENTION_BACKWARD = 2.5
"""A fused backward pass recomputes the scores: five products instead of two (FlashAttention-2, arXiv 2307.08691)."""


def attention_s(work: Work, layout: Layout, setup: Setup, sharded: Dim) -> Dim:
    """Fused kernels redo the scores in the backward pass; unfused ones store and reload the whole score matrix."""
    c = setup.coefficients
    peak = peak_rate(setup, "bf16")
    bandwidth = setup.chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
    redone = layout.redone_attention
    passes = layout.passes(2.0 + np.asarray(redone))
    scan_s = work.scan_flops * sharded * passes / (peak * c.of("scan_share"))
    fused = work.attention_flops * sharded * layout.passes(ATTENTION_BACKWARD + np.asarray(redone))
    fused_s = fused / (peak * c.by_generation(setup.chips, "attention_share", setup.profile.attention))
    # Unfused kernels do not skip what the mask hides: twice the pairs, and the backward pass needs no third product.
    plain_s = 2.0 * work.attention_flops * sharded * passes / (peak * c.of("attention_share", "unfused"))
    plain_s = plain_s + c.of("score_passes") * VALUE_BYTES * work.score_values * sharded * passes / bandwidth
    return np.where(np.asarray(layout.flash) > 0, fused_s, plain_s) + scan_s
