"""Where attention shapes lie in residual tables: streams, length and group, apart by head width and window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ridgeline.costs.residual import Grid
from ridgeline.costs.room import Place, columns
from ridgeline.workloads.ops import Attention

Array = NDArray[np.float64]

WIDTHS = (64.0, 128.0, 192.0, 256.0, 512.0)
"""Head widths that were measured; a width between two takes no correction unless it is within a tenth of one."""

NEAR = 1.1
NARROW_WINDOW = 512.0
"""Windows up to here leave a kernel bound by launches and blocks; wider ones behave like full attention cut short."""

DECODE_GRID = Grid(start=(0.0, 1.0, 0.0), step=(1.0, 1.0, 1.0), count=(17, 17, 8))
PREFILL_GRID = Grid(start=(0.0, 1.0, 0.0), step=(1.0, 1.0, 1.0), count=(17, 15, 8))
LATENT_GRID = Grid(start=(0.0, 0.0, 0.0), step=(1.0, 1.0, 1.0), count=(12, 18, 8))


def decode_places(op: Attention) -> list[Place]:
    """Axes: sequences x key-value heads, keys within the window, query heads per key-value head."""
    kv_heads = np.maximum(np.asarray(op.kv_heads, float), 1.0)
    keys = np.where(np.asarray(op.window) > 0, np.minimum(op.kv_len, op.window), op.kv_len)
    dims = (np.asarray(op.batch) * kv_heads, keys, np.asarray(op.heads) / kv_heads)
    return _by_width(op, dims, 1.0 / np.maximum(np.asarray(op.q_len, float), 1.0))


def prefill_places(op: Attention) -> list[Place]:
    """Axes: sequences x key-value heads, new tokens, group. The correction fades as a cached prefix outweighs them."""
    kv_heads = np.maximum(np.asarray(op.kv_heads, float), 1.0)
    dims = (np.asarray(op.batch) * kv_heads, np.asarray(op.q_len), np.asarray(op.heads) / kv_heads)
    new = np.asarray(op.q_len, float) / np.maximum(np.asarray(op.kv_len, float), 1.0)
    return _by_width(op, dims, new if op.causal else 0.0 * new)


def latent_places(op: Attention, variant: str = "kernel") -> list[Place]:
    """Axes: sequences, keys, heads. The correction fades with a cached prefix of prompts, and with tokens per step."""
    tokens = np.maximum(np.asarray(op.q_len, float), 1.0)
    like = 1.0 / tokens if op.absorbed else tokens / np.maximum(np.asarray(op.kv_len, float), 1.0)
    *dims, strength = columns(op.batch, op.kv_len, op.heads, like)
    power = 1.0 if np.all(strength >= 1.0) else np.minimum(strength, 1.0)
    return [Place(variant=variant, rows=strength > 0, dims=tuple(dims), strength=power)]


def _by_width(op: Attention, dims: tuple[Array, ...], like: Array) -> list[Place]:
    """`like` is 1 for rows like the measured ones, and falls to 0."""
    *flat, width, value, window, strength = columns(*dims, op.head_dim, op.v_head_dim, op.window, like)
    full, narrow = window <= 0, (window > 0) & (window <= NARROW_WINDOW)
    power = 1.0 if np.all(strength >= 1.0) else np.minimum(strength, 1.0)
    places = []
    for known in WIDTHS:
        close = (strength > 0) & (width == value) & (width < known * NEAR) & (width > known / NEAR)
        if np.any(close):
            for name, kind in (("full", full), ("narrow", narrow), ("wide", ~full & ~narrow)):
                places.append(
                    Place(variant=f"d{known:.0f}-{name}", rows=close & kind, dims=tuple(flat), strength=power)
                )
    return places
