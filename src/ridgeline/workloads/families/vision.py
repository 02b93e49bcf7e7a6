"""Vision towers: patches of images through an encoder of their own."""

from __future__ import annotations

from dataclasses import replace

from ridgeline.workloads.families.transformer import forward
from ridgeline.workloads.graph import Graph
from ridgeline.workloads.model import Batch, Model
from ridgeline.workloads.ops import Dim, Matmul


def forward_tower(tower: Model, images: Dim, *, patches: Dim | None = None) -> Graph:
    """The ops that encode `images` pictures.

    Args:
        tower:   a model without vocabulary whose `patch_values` is the number of values in a patch.
        images:  pictures in the step.
        patches: patches of each; by default as many as the tower was made for (`context`).
    """
    length = tower.context if patches is None else patches
    batch = Batch(prefill_seqs=images, prefill_tokens=length)
    body = forward(tower, batch)
    embed = Matmul(
        name="patch_embed",
        part="vision",
        m=batch.tokens,
        n=tower.hidden,
        k=tower.patch_values,
        scheme=tower.precision.attention,
        bias=tower.head_bias,
    )
    return replace(body, items=(embed, *body.items))
