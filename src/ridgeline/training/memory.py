"""Bytes on the fullest rank of a training job: model state, saved activations, logits, what the runtime keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.hardware.chip import ChipColumns
from ridgeline.training.layout import Layout
from ridgeline.training.power import NARROW
from ridgeline.training.profile import Coefficients, Profile, Recipe
from ridgeline.training.schedules import DUALPIPE, in_flight_of
from ridgeline.training.work import Work
from ridgeline.workloads.ops import Dim

Column = NDArray[np.float64]

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


def memory_of(
    work: Work,
    layout: Layout,
    profile: Profile,
    coefficients: Coefficients,
    chips: ChipColumns,
    recipe: Recipe,
    domain: Dim = 8.0,
) -> Memory:
    """What each layout keeps on its fullest rank: the first pipeline stage holds the embedding and waits longest.

    `domain`: chips of the innermost link domain, among which secondary shards are spread.
    """
    weights, optimizer = _state_bytes(work, layout, profile, domain)
    kinds = (
        weights,
        optimizer,
        _activation_bytes(work, layout, _operand_bytes(profile, recipe)),
        LOGIT_BYTES * work.logit_values * layout.micro_batch / (layout.tp * layout.cp) / layout.pp,
        coefficients.of("reserve_bytes"),
        chips.gather(lambda chip: chip.dram.capacity_bytes),
    )
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(kind, float)) for kind in kinds))
    names = ("weights_bytes", "optimizer_bytes", "activations_bytes", "logits_bytes", "reserve_bytes", "capacity_bytes")
    return Memory(**dict(zip(names, columns, strict=True)))


def _state_bytes(work: Work, layout: Layout, profile: Profile, domain: Dim) -> tuple[Dim, Dim]:
    """Weights with gradients, and optimizer state, each sharded as far as `zero` says."""
    layers = np.asarray(work.layers, float)
    stage = np.ceil(layers / layout.pp - 1e-9) / layers
    one_table = work.table_weights / np.where(np.asarray(layout.pp) > 1, 2.0, 1.0)
    dense = (work.dense_weights * stage + one_table) / layout.tp
    experts = work.expert_weights * stage / layout.ep
    trained = layout.learning_weights
    zero, offload, base = np.asarray(layout.zero), np.asarray(layout.offload), np.asarray(layout.base_bytes)
    # DualPipe keeps the weights of two stages (arXiv 2412.19437, table 2).
    copies = np.where((np.asarray(layout.schedule) == DUALPIPE) & (np.asarray(layout.pp) > 1), 2.0, 1.0)
    weights: Dim = 0.0
    optimizer: Dim = 0.0
    for held, ranks in ((dense, layout.sharding_ranks), (experts, layout.expert_sharding_ranks)):
        gradients = (profile.weight_bytes - 2.0) * trained
        kept = np.where(zero >= 2, gradients / ranks, gradients) + np.where(zero >= 3, base / ranks, base)
        # With a pipeline, FSDP keeps a stage's weights and gradients whole between micro-batches.
        whole = base + gradients
        whole_stage = np.where((zero >= 3) & (np.asarray(layout.pp) > 1), whole, kept)
        all_sharded = 2.0 * trained + base
        fully = np.where((zero >= 3) & (np.asarray(layout.pp) <= 1), all_sharded / ranks, whole_stage)
        secondary = np.where(np.asarray(layout.secondary) > 0, 2.0 / np.minimum(ranks, domain), 0.0)
        weights = weights + copies * held * np.where(offload >= 2, 0.0, fully + secondary)
        adam = profile.optimizer_bytes * trained * held / np.where(zero >= 1, ranks, 1.0)
        optimizer = optimizer + np.where(offload >= 1, 0.0, adam)
    return weights, optimizer


def _operand_bytes(profile: Profile, recipe: Recipe) -> float:
    """What is kept per value that a matmul of the backward pass reads again."""
    return 1.0 if profile.saves_narrow and recipe.compute in NARROW else 2.0


def _activation_bytes(work: Work, layout: Layout, operand_bytes: float) -> Dim:
    """Values that the backward pass needs, for every micro-batch in flight on the first stage."""
    layers = np.asarray(work.layers, float)
    stage = np.ceil(layers / layout.pp - 1e-9)
    split = np.where(np.asarray(layout.sequence_parallel) > 0, layout.tp, 1.0)
    whole = np.where(np.asarray(layout.redone_matmul) >= 1.0, 1.0, layout.redone_layers)
    unfused = np.asarray(layout.flash) <= 0
    everything = 2.0 * (work.saved_whole / split + work.saved_sharded / layout.tp)
    narrowed = (2.0 - operand_bytes) * (work.normed / split + (work.saved_operands - work.normed) / layout.tp)
    per_layer = (everything - narrowed) / layers
    # Norms and activations that are redone leave the operands behind them out; matmuls redone leave half of the rest.
    freed = operand_bytes * (work.normed / split + work.activated / layout.tp) / layers
    selective = np.clip(np.asarray(layout.redone_matmul), 0.0, 1.0)
    # Scores and probabilities in 16 bits and a mask byte, unless attention is redone (arXiv 2205.05198, section 4.1).
    scores = np.where(unfused, 5.0 * work.score_values / layout.tp / layers, 0.0)
    kept_scores = np.where(np.asarray(layout.redone_attention) > 0, 0.0, scores)
    partly = (per_layer - freed * np.minimum(layout.redone_vector, 1.0)) * (1.0 - 0.5 * selective) + kept_scores
    kept = whole * 2.0 * work.saved_layer / split + (1.0 - whole) * partly
    working = np.where(whole > 0, per_layer + scores, np.where(unfused, scores, 0.0))
    in_flight = in_flight_of(layout.schedule, layout.pp, layout.vp, layout.micro_batches)
    sequences = layout.micro_batch / layout.cp
    return np.asarray(sequences * (kept * stage * layout.learning * in_flight + working))
