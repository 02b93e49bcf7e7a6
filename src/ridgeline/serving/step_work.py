"""What a priced step moves and computes on one chip, as the law of serving power counts it (`costs.serving_power`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgeline.costs.serving_power import ServingLoad
from ridgeline.hardware.chip import Value
from ridgeline.steps import Step
from ridgeline.workloads.model import Model
from ridgeline.workloads.ops import Experts, Op

NARROW_BITS = 8
"""Weights of at most this many bits multiply at half the energy of 16-bit ones (the power law's own convention)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """Bytes and operations of one pass on one rank of each stage; operations are those of 16-bit formats.

    Attributes:
        weight_bytes: weights read.
        kv_bytes: KV cache and recurrent state moved.
        flops: operations, half of them where weights have at most 8 bits.
        tiled_bytes, tiled_flops: parts of both in experts of exactly 8 bits, whose kernels compute whole tiles of rows.
        mixture: whether tokens are routed to experts.
        narrow: whether feed-forward weights have at most 8 bits.
    """

    weight_bytes: Value
    kv_bytes: Value
    flops: Value
    tiled_bytes: Value
    tiled_flops: Value
    mixture: bool
    narrow: Value

    def load(self, per_s: Value, prompt_flops_per_s: Value, *, chips: Value, context: Value) -> ServingLoad:
        """The load of `per_s` such passes per second beside prompts; `context` in tokens."""
        return ServingLoad(
            weight_bytes_per_s=self.weight_bytes * per_s,
            kv_bytes_per_s=self.kv_bytes * per_s,
            flops_per_s=self.flops * per_s + prompt_flops_per_s,
            tiled_bytes_per_s=self.tiled_bytes * per_s,
            tiled_flops_per_s=self.tiled_flops * per_s,
            mixture=float(self.mixture),
            narrow=self.narrow,
            chips=chips,
            context_tokens=context,
        )


def work_of(step: Step, model: Model) -> StepWork:
    """What a step does."""
    narrow = np.asarray(np.asarray(model.precision.ffn.weight.bits) <= NARROW_BITS, dtype=np.float64)
    halved = np.where(narrow > 0, 0.5, 1.0)
    tiled = step.only(_in_tiles)
    return StepWork(
        weight_bytes=step.role_bytes("weights"),
        kv_bytes=step.role_bytes("kv") + step.role_bytes("state"),
        flops=halved * step.flops,
        tiled_bytes=tiled.role_bytes("weights"),
        tiled_flops=halved * tiled.flops,
        mixture=step.has_experts,
        narrow=narrow,
    )


def _in_tiles(op: Op) -> bool:
    return isinstance(op, Experts) and op.scheme.weight.bits == NARROW_BITS
