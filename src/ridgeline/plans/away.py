"""Decode attention on chips of its own: where the cache is, there its attention runs, and the rest stays.

As in Lamina (arXiv 2405.01814): per layer the queries, keys and values of the new tokens go over a link to the chips
that hold the cache, and the outputs of attention come back. Those chips divide the heads of a layer, and its sequences
once there are more chips than key/value heads; a latent has one head for all. Prompts are computed where the weights
are: what a prompt needs of earlier tokens comes over the link, and its keys and values go there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgeline.workloads.model import GroupedQuery, Model
from ridgeline.workloads.ops import Attention, Copy, Dim, Op

AWAY, LINK = "attention_away", "attention_link"
"""Parts of a model that are ops on the chips of the cache, and what passes between both kinds of chips."""


def sent_away(op: Attention, chips: Dim) -> tuple[Op, ...]:
    """A decode attention of whole heads as its exchanges and its work on one of `chips`.

    The sizes of the exchanges are of all ranks together.
    """
    out, kv, back = op.operands()
    there = Copy(
        name=f"{op.name}_send",
        part=LINK,
        size_bytes=np.asarray(out.read_bytes) + kv.write_bytes,
        target="peer",
    )
    here = Copy(name=f"{op.name}_return", part=LINK, size_bytes=back.write_bytes, source="peer")
    return there, _share(op, chips), here


def fed_from_away(op: Attention) -> tuple[Op, ...]:
    """What a prompt's attention, of whole heads, exchanges with the chips of the cache: (before it, after it)."""
    written = op.operands()[1].write_bytes
    if op.cross:
        return ()
    past = np.maximum(np.asarray(op.cached_tokens_read()) - op.q_len, 0.0)
    read = op.batch * past * op.kv_values_per_token() * op.kv.element_bytes
    return (
        Copy(name=f"{op.name}_past", part=LINK, size_bytes=read, source="peer"),
        Copy(name=f"{op.name}_kept", part=LINK, size_bytes=written, target="peer"),
    )


def groups_of(model: Model, chips: Dim) -> Dim:
    """Groups of chips among which sequences are divided; each sequence lies on the chips of one group."""
    heads: Dim = np.inf
    for block in model.blocks:
        mixer = block.mixer
        heads = np.minimum(heads, np.asarray(mixer.kv_heads, float) if isinstance(mixer, GroupedQuery) else 1.0)
    chips = np.asarray(chips, float)
    groups: Dim = np.maximum(chips / np.minimum(np.maximum(chips, 1.0), heads), 1.0)
    return groups


def _share(op: Attention, chips: Dim) -> Attention:
    """One chip's part: of the heads as far as they go, of the sequences beyond (the fullest chip)."""
    whole = op.is_latent or op.shard == "none"
    across = np.float64(1.0) if whole else np.minimum(np.asarray(chips, float), op.kv_heads)
    groups = np.maximum(np.asarray(chips, float) / across, 1.0)
    batch = np.ceil(np.asarray(op.batch, float) / groups)
    return replace(
        op,
        part=AWAY,
        batch=batch,
        heads=op.heads / across,
        kv_heads=op.kv_heads if whole else op.kv_heads / across,
        shard="none",
    )
