"""Memory of one chip under a plan: weights, cache per sequence, what the engine reserves, and what is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgeline.core.dtypes import DTYPES
from ridgeline.hardware.chip import Value
from ridgeline.plans import Plan, groups_of, parallelise
from ridgeline.workloads.families.size import cache_bytes, parameters
from ridgeline.workloads.families.transformer import forward
from ridgeline.workloads.model import Batch, Model

WIDE_BYTES = DTYPES["bf16"].element_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on one chip (the fullest stage of a pipeline).

    `sequence_bytes` is what one sequence holds on a chip; `free_bytes` what weights and reserve leave for the cache
    (negative: the model does not fit). Where the cache is on chips of its own, both are theirs, and `spare_bytes` is
    what weights and reserve leave on their chip (negative: they do not fit); else it is 0. Each sequence lies in one of
    `groups` of these chips, so that it takes so many times `sequence_bytes`, the mean, on each chip of its group.
    """

    capacity_bytes: Value
    weights_bytes: Value
    reserve_bytes: Value
    sequence_bytes: Value
    free_bytes: Value
    spare_bytes: Value = 0.0
    groups: Value = 1.0

    @property
    def fits(self) -> Value:
        """Whether weights, reserve and one sequence fit."""
        alone = self.sequence_bytes * np.asarray(self.groups)
        return np.asarray((self.free_bytes >= alone) & (np.asarray(self.spare_bytes) >= 0))

    @property
    def max_sequences(self) -> Value:
        """Whole sequences whose cache fits at once."""
        return np.maximum(np.floor(self.free_bytes / self.sequence_bytes), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Chips that hold a cache and no weights: so many for each stage and group of ranks, and the capacity of each."""

    chips: Value
    capacity_bytes: Value


def weight_bytes(model: Model, plan: Plan, *, drafts: bool = False) -> Value:
    """Weights on the fullest chip: layers split as evenly as stages allow, the embedding or the head on one of them.

    Towers and parameters outside the blocks are kept in 16 bits and cut like the rest.
    """
    graph = parallelise(forward(model, Batch(decode_seqs=1.0, decode_context=1.0), drafts=drafts), plan)
    ends = sum((op.weight_bytes() for op, _ in graph.walk() if op.part in ("embedding", "head")), start=np.float64(0.0))
    layers = graph.weight_bytes() - ends
    deepest = np.ceil(np.asarray(model.layers) / plan.pp) / np.asarray(model.layers)
    outside = model.extra_parameters + sum((parameters(tower).total for tower in model.towers), start=np.float64(0.0))
    staged = layers * deepest + np.where(np.asarray(plan.pp) > 1, ends / 2.0, ends)
    total: Value = staged + outside * WIDE_BYTES / plan.tp
    return total


def memory_of(
    model: Model,
    plan: Plan,
    *,
    context: Value,
    capacity_bytes: Value,
    memory_frac: Value,
    reserve_bytes: Value,
    of_free: bool,
    drafts: bool = False,
    store: Store | None = None,
) -> Memory:
    """Memory of a deployment.

    Args:
        model: formats included.
        plan: how it is cut.
        context: tokens that one resident sequence is counted with.
        capacity_bytes: of one chip.
        memory_frac: share of the capacity for weights, reserve and cache; or of what weights and reserve leave.
        reserve_bytes: activations and buffers.
        of_free: whether `memory_frac` is of what is left (TensorRT-LLM's free_gpu_memory_fraction).
        drafts: whether multi-token prediction blocks are loaded.
        store: where the cache is, if not beside the weights; its chips keep the same share and reserve.
    """
    weights = weight_bytes(model, plan, drafts=drafts)
    deepest = np.ceil(np.asarray(model.layers) / plan.pp) / np.asarray(model.layers)
    free = _left(capacity_bytes, memory_frac, weights, reserve_bytes, of_free=of_free)
    spare: Value = 0.0
    if store is None:
        sequence = cache_bytes(model, context, plan.tp) * deepest / np.asarray(plan.cp, float)
    else:
        sequence = cache_bytes(model, context) * deepest / np.asarray(store.chips, float)
        spare = free
        free = _left(store.capacity_bytes, memory_frac, reserve_bytes, of_free=of_free)
    return Memory(
        capacity_bytes=capacity_bytes,
        weights_bytes=weights,
        reserve_bytes=reserve_bytes,
        sequence_bytes=np.maximum(sequence, 1.0),
        free_bytes=free,
        spare_bytes=spare,
        groups=1.0 if store is None else groups_of(model, store.chips),
    )


def _left(capacity_bytes: Value, memory_frac: Value, *taken_bytes: Value, of_free: bool) -> Value:
    """What is left of the engine's share of a chip; the share is of the whole, or of what is left."""
    left = capacity_bytes if of_free else capacity_bytes * memory_frac
    for taken in taken_bytes:
        left = left - taken
    free: Value = np.where(left > 0, left * memory_frac, left) if of_free else left
    return free
