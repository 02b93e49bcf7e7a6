"""What becomes of a cache that is not simply appended to, as rewrites of a step's attention."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ridgeline.workloads.graph import Graph, rewrite
from ridgeline.workloads.ops import Attention, Copy, Dim, Op


def copied_cache(graph: Graph, *, copies: Dim = 1.0) -> Graph:
    """Decoding with a cache that grows by concatenation: each step writes it anew, with the new keys at its end.

    Eager model code does so (`torch.cat` in `DynamicCache.update`, huggingface/transformers, cache_utils.py); engines
    that allocate blocks or the whole length ahead do not.

    Args:
        graph: of one step, before or after a plan has cut it.
        copies: how often a step copies the cache of a layer.
    """

    def rule(op: Op) -> Iterable[Op]:
        if not isinstance(op, Attention) or op.phase != "decode" or op.cross:
            return (op,)
        held = np.asarray(op.batch, float) * (np.asarray(op.kv_len, float) - op.q_len)
        size_bytes = copies * held * op.kv_values_per_token() * op.kv.element_bytes
        return (Copy(name=f"{op.name}_grow", part=op.part, size_bytes=size_bytes, role="kv"), op)

    return rewrite(graph, rule)
