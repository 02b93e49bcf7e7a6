"""What waits for links in a training step: tensor, expert, context, data and pipeline parallelism."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgeline.training.attention import attention_s
from ridgeline.training.layout import ALL_TO_ALL, BOTH, Layout
from ridgeline.training.setup import VALUE_BYTES, Setup
from ridgeline.training.work import Work
from ridgeline.workloads.ops import Dim

Column = NDArray[np.float64]

MERGE_BYTES = 10.0
"""A running result in 32 bits is read and written, a partial one of 16 bits is read."""


def tensor_parallel_s(work: Work, layout: Layout, setup: Setup, share: Dim) -> Dim:
    """Ring all-reduces of the partial sums, forward, backward and where matmuls are redone."""
    c, tp = setup.coefficients, np.asarray(layout.tp, float)
    sent = 2.0 * (tp - 1.0) / tp * work.reduced_values * share * VALUE_BYTES
    link = setup.links.direct_bytes_per_s(tp, tp)
    repeats = layout.passes(1.0 + np.asarray(layout.redone_matmul))
    return np.asarray(c.of("tensor_exposed", setup.profile.coefficients) * sent * repeats / link)


def expert_parallel_s(work: Work, layout: Layout, setup: Setup, sharded: Dim) -> Dim:
    """Dispatch and combine, forward and backward: inside the link domain at its rate, beyond it at the network's.

    With virtual stages a framework may run the exchange of one micro-batch beside the compute of the next (combined
    1F1B); then only a share of it is waited for.
    """
    c = setup.coefficients
    sent = 2.0 * layout.passes(1.0) * work.routed_values * sharded * VALUE_BYTES
    inside, outside = setup.links.exchange_s(layout.ep, 1.0, sent, work.expert_copies)
    whole = np.maximum(inside / c.of("exchange_inside"), outside / c.of("exchange_outside"))
    return np.asarray(whole * waited_share(layout, setup))


def waited_share(layout: Layout, setup: Setup) -> Column:
    """Share of the waits of a mixture that remains where another micro-batch computes meanwhile."""
    hidden = setup.profile.overlaps_exchange & (np.asarray(layout.vp) > 1) & (np.asarray(layout.redone_layers) < 1)
    return np.where(hidden, setup.coefficients.of("exchange_overlapped"), 1.0)


def context_parallel_s(work: Work, layout: Layout, setup: Setup, sharded: Dim) -> Dim:
    """Ring attention, an all-to-all of heads, or both (the all-to-all inside the innermost link domain)."""
    ranks, turns = context_ranks(layout, setup)
    return np.asarray(_heads_s(work, layout, setup, sharded, ranks) + _ring_s(work, layout, setup, sharded, turns))


def context_ranks(layout: Layout, setup: Setup) -> tuple[Column, Column]:
    """How many ranks exchange heads, and how many pass keys and values round; their product is cp."""
    cp, kind = np.asarray(layout.cp, float), np.asarray(layout.context)
    inside = np.maximum(np.floor(setup.links.sizes[0] / np.asarray(layout.tp, float)), 1.0)
    # The largest divisor of cp that fits the domain, as degrees are products of small primes.
    near = np.where(cp <= inside, cp, np.where(cp % inside == 0, inside, 1.0))
    heads = np.where(kind == ALL_TO_ALL, cp, np.where(kind == BOTH, near, 1.0))
    return heads, np.asarray(cp / heads)


def _heads_s(work: Work, layout: Layout, setup: Setup, sharded: Dim, ranks: Column) -> Column:
    """Queries, keys and values go from tokens to heads, results come back; gradients too (arXiv 2309.14509)."""
    values = (2.0 * work.query_values + work.key_values) * sharded
    sent = values * VALUE_BYTES * (ranks - 1.0) / ranks * layout.passes(1.0 + np.asarray(layout.redone_attention))
    link = setup.links.direct_bytes_per_s(np.asarray(layout.tp) * ranks, ranks)
    return np.asarray(np.where(ranks > 1, sent / link, 0.0))


def _ring_s(work: Work, layout: Layout, setup: Setup, sharded: Dim, ranks: Column) -> Column:
    """Keys and values go round: what does not hide behind the attention itself, and partial results that are added in
    32 bits after each turn (arXiv 2310.01889, section 3).
    """
    cp = np.asarray(layout.cp, float)
    # Forward, backward with gradients of keys and values, and again where attention is redone.
    passes = layout.passes(2.0 + np.asarray(layout.redone_attention))
    passed = work.key_values * sharded * (ranks - 1.0) * VALUE_BYTES * passes
    link = setup.links.direct_bytes_per_s(np.asarray(layout.tp) * cp, ranks)
    bandwidth = setup.chips.gather(lambda chip: chip.dram.bandwidth_bytes_per_s)
    turns = MERGE_BYTES * layout.passes(1.0 + np.asarray(layout.redone_attention)) * (ranks - 1.0)
    merged = setup.coefficients.of("vector_passes", setup.profile.coefficients) * turns * work.query_values * sharded
    exposed = np.maximum(passed / link - attention_s(work, layout, setup, sharded), 0.0)
    return np.asarray(exposed + merged / bandwidth)


def gathers_each_time(layout: Layout) -> NDArray[np.bool_]:
    """FSDP gathers weights for every micro-batch; under a pipeline a stage keeps them until the step ends."""
    return (np.asarray(layout.zero) >= 3) & (np.asarray(layout.pp) <= 1)


def gather_s(work: Work, layout: Layout, setup: Setup) -> Column:
    """FSDP: weights gathered for the forward and the backward pass, gradients scattered, each micro-batch.

    Secondary shards serve the backward pass from inside the innermost link domain; narrow weights and gradients send
    fewer bytes (ZeRO++, arXiv 2306.10209).
    """
    trained = layout.learning_weights
    weights = np.asarray(layout.weight_wire_bytes, float)
    far, near = sharing_s(work, layout, setup), sharing_s(work, layout, setup, inside=True)
    again = np.where(np.asarray(layout.secondary) > 0, near, far) * weights * layout.learning
    total = far * (weights + gradient_wire_bytes(layout, setup) * trained) + again
    return np.asarray(np.where(gathers_each_time(layout), setup.coefficients.of("gather_traffic") * total, 0.0))


def gradient_wire_bytes(layout: Layout, setup: Setup) -> Column:
    """Bytes per gradient on the wire: as the framework reduces, unless the layout says."""
    given = np.asarray(layout.gradient_wire_bytes, float)
    return np.asarray(np.where(given > 0, given, setup.profile.reduce_bytes))


def sharing_s(work: Work, layout: Layout, setup: Setup, *, inside: bool = False) -> Column:
    """Seconds to pass one byte per parameter through the groups that share dense weights, and experts.

    `inside`: through the members of the group in one innermost link domain only.
    """
    total: Column = np.zeros(1)
    dense = (work.dense_weights + work.table_weights) / (layout.tp * layout.pp)
    experts = work.expert_weights / (layout.ep * layout.pp)
    parts = ((dense, layout.sharding_ranks, layout.tp), (experts, layout.expert_sharding_ranks, layout.ep))
    for weights, group, stride in parts:
        ranks = np.asarray(group, float)
        if inside:
            ranks = np.minimum(ranks, np.maximum(np.floor(setup.links.sizes[0] / np.asarray(stride, float)), 1.0))
        total = total + np.where(ranks > 1, weights / setup.links.gather_bytes_per_s(ranks, stride), 0.0)
    return np.asarray(total)


def gradients_s(work: Work, layout: Layout, setup: Setup) -> Column:
    """Once per step: gradients reduced and weights gathered of ZeRO 0-2; replicas of shards agree on gradients."""
    trained = layout.learning_weights
    exposed = setup.coefficients.of("data_exposed") * trained
    width = gradient_wire_bytes(layout, setup) + VALUE_BYTES
    whole = np.where(gathers_each_time(layout), 0.0, exposed * width * sharing_s(work, layout, setup))
    copies = np.asarray(layout.replicas, float)
    held = work.weights / (layout.tp * layout.pp * layout.sharding_ranks)
    rate = setup.links.direct_bytes_per_s(layout.chips / np.asarray(layout.pp, float), copies)
    agreed = 2.0 * (copies - 1.0) / copies * gradient_wire_bytes(layout, setup) * held / rate
    return np.asarray(whole + np.where(copies > 1, exposed * agreed, 0.0))


def pipeline_transfer_s(work: Work, layout: Layout, setup: Setup) -> Dim:
    """Activations and their gradients between neighbouring stages, the part that compute does not hide."""
    c, pp = setup.coefficients, np.asarray(layout.pp, float)
    split = np.where(np.asarray(layout.sequence_parallel) > 0, layout.tp, 1.0)
    sent = 2.0 * layout.micro_batch * work.seq * work.hidden * VALUE_BYTES / (layout.cp * split)
    link = setup.links.direct_bytes_per_s(np.where(pp > 1, 2.0 * layout.chips / pp, 1.0), 2.0)
    rounds = layout.micro_batches * layout.vp + pp - 1.0
    exposed = c.of("pipeline_exposed", setup.profile.coefficients) * sent / link * rounds
    return np.where(pp > 1, exposed, 0.0)
