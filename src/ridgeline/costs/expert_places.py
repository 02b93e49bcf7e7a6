"""Where expert shapes lie in residual tables: rows per expert, local experts, weights of one expert."""

from __future__ import annotations

import numpy as np

from ridgeline.costs.residual import Grid
from ridgeline.costs.room import Place, columns
from ridgeline.workloads.ops import Experts

GRID = Grid(start=(-9.0, 0.0, 16.0), step=(1.0, 1.0, 1.0), count=(24, 10, 11))


def expert_places(op: Experts) -> list[Place]:
    """Even and skewed loads have tables of their own; random ones are nearly even."""
    per_expert = np.asarray(op.tokens, float) * op.topk / np.maximum(op.experts, 1.0)
    local = np.asarray(op.experts, float) / np.maximum(op.ep, 1.0)
    width = np.asarray(op.hidden, float) * op.inter / np.maximum(op.tp, 1.0)
    dims = columns(per_expert, local, width)
    form = ("skewed" if op.distribution.startswith("power_law") else "even") + ("" if op.gated else "-plain")
    return [Place(variant=form, rows=np.ones(dims[0].shape, bool), dims=dims)]
