"""Bytes on the fullest rank of a training job: model state, saved activations, logits, what the runtime keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.hardware.chip import ChipColumns
from ridgeline.training.layout import Layout
from ridgeline.training.profile import Coefficients, Profile
from ridgeline.training.work import Work
from ridgeline.workloads.ops import Dim

Column = NDArray[np.float64]

ADAM_BYTES = 12.0
"""Master weights and two moments in 32 bits (ZeRO, arXiv 1910.02054, section 3.1)."""

FULL_STATE_BYTES = 16.0
"""What mixed-precision Adam needs per parameter when all of it is sharded (same source)."""

LOGIT_BYTES = 8.0
"""Logits in 16 bits, their 32-bit copy for the loss, and the gradient written over one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of the fullest rank by kind, and what the chip has."""

    weights_bytes: Column
    optimizer_bytes: Column
    activations_bytes: Column
    logits_bytes: Column
    reserve_bytes: Column
    capacity_bytes: Column

    @property
    def total_bytes(self) -> Column:
        """All kinds together."""
        state = self.weights_bytes + self.optimizer_bytes
        return state + self.activations_bytes + self.logits_bytes + self.reserve_bytes

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Whether the chip holds it."""
        return np.asarray(self.total_bytes <= self.capacity_bytes)


def memory_of(work: Work, layout: Layout, profile: Profile, coefficients: Coefficients, chips: ChipColumns) -> Memory:
    """What each layout keeps on its fullest rank: the first pipeline stage holds the embedding and waits longest."""
    weights, optimizer = _state_bytes(work, layout, profile)
    kinds = (
        weights,
        optimizer,
        _activation_bytes(work, layout),
        LOGIT_BYTES * work.logit_values * layout.micro_batch / (layout.tp * layout.cp) / layout.pp,
        coefficients.of("reserve_bytes"),
        chips.gather(lambda chip: chip.dram.capacity_bytes),
    )
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(kind, float)) for kind in kinds))
    names = ("weights_bytes", "optimizer_bytes", "activations_bytes", "logits_bytes", "reserve_bytes", "capacity_bytes")
    return Memory(**dict(zip(names, columns, strict=True)))


def _state_bytes(work: Work, layout: Layout, profile: Profile) -> tuple[Dim, Dim]:
    """Weights with gradients, and optimizer state, each sharded as far as `zero` says."""
    layers = np.asarray(work.layers, float)
    stage = np.ceil(layers / layout.pp - 1e-9) / layers
    one_table = work.table_weights / np.where(np.asarray(layout.pp) > 1, 2.0, 1.0)
    dense = (work.dense_weights * stage + one_table) / layout.tp
    experts = work.expert_weights * stage / layout.ep
    trained = 1.0 - np.asarray(layout.lora)
    zero, offload = np.asarray(layout.zero), np.asarray(layout.offload)
    weights: Dim = 0.0
    optimizer: Dim = 0.0
    for held, ranks in ((dense, layout.sharding_ranks), (experts, layout.expert_sharding_ranks)):
        gradients = (profile.weight_bytes - 2.0) * trained
        kept = np.where(zero >= 2, gradients / ranks, gradients) + np.where(zero >= 3, 2.0 / ranks, 2.0)
        # With a pipeline, FSDP keeps a stage's weights and gradients whole between micro-batches.
        whole = 2.0 + gradients
        whole_stage = np.where((zero >= 3) & (np.asarray(layout.pp) > 1), whole, kept)
        all_sharded = (FULL_STATE_BYTES - ADAM_BYTES) * trained + 2.0 * (1.0 - trained)
        fully = np.where((zero >= 3) & (np.asarray(layout.pp) <= 1), all_sharded / ranks, whole_stage)
        weights = weights + held * np.where(offload >= 2, 0.0, fully)
        adam = ADAM_BYTES * trained * held / np.where(zero >= 1, ranks, 1.0)
        optimizer = optimizer + np.where(offload >= 1, 0.0, adam)
    return weights, optimizer


def _activation_bytes(work: Work, layout: Layout) -> Dim:
    """16-bit values that the backward pass needs, for every micro-batch in flight on the first stage."""
    layers = np.asarray(work.layers, float)
    stage = np.ceil(layers / layout.pp - 1e-9)
    split = np.where(np.asarray(layout.sequence_parallel) > 0, layout.tp, 1.0)
    per_layer = (work.saved_whole / split + work.saved_sharded / layout.tp) / layers
    full = np.asarray(layout.redone_matmul) >= 1.0
    unfused = np.asarray(layout.flash) <= 0
    # Scores and probabilities in 16 bits and a mask byte, unless attention is redone (arXiv 2205.05198, section 4.1).
    scores = np.where(unfused, 2.5 * work.score_values / layout.tp / layers, 0.0)
    kept_scores = np.where(np.asarray(layout.redone_attention) > 0, 0.0, scores)
    selective = np.clip(np.asarray(layout.redone_matmul), 0.0, 1.0)
    inputs = work.saved_layer / split
    kept = np.where(full, inputs, per_layer * (1.0 - 0.5 * selective) + kept_scores)
    working = np.where(full, per_layer + scores, np.where(unfused, scores, 0.0))
    # Interleaving keeps a little more in flight (arXiv 2104.04473, section 2.2).
    extra = np.where(np.asarray(layout.vp) > 1, (layout.pp - 1.0) / layout.vp, 0.0)
    in_flight = np.minimum(layout.pp + extra, layout.micro_batches)
    tokens = 2.0 * layout.micro_batch / layout.cp
    return tokens * (kept * stage * np.maximum(in_flight, 1.0) + working)
