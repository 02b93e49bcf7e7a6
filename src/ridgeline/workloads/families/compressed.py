"""DeepSeek-V4's attention: a window of latents, and pooled latents beyond it that an indexer may select from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ridgeline.core.dtypes import DTYPES
from ridgeline.workloads.families.attention import PART, phases
from ridgeline.workloads.model import Batch, CompressedLatent, Precision, is_zero
from ridgeline.workloads.ops import Attention, Dim, Matmul, Op, Vector


def compressed_latent(mixer: CompressedLatent, hidden: Dim, batch: Batch, precision: Precision) -> Iterator[Op]:
    """Low-rank queries, one latent per token, pooling, one attention over window and pooled latents, grouped outputs.

    Source: the publisher's inference code (DeepSeek-V4 `inference/model.py`: Attention, Compressor, Indexer).
    """
    scheme, tokens, width = precision.attention, batch.tokens, mixer.heads * mixer.head_dim
    yield Matmul(name="q_down", part=PART, m=tokens, n=mixer.q_rank, k=hidden, scheme=scheme)
    yield Matmul(name="kv_down", part=PART, m=tokens, n=mixer.head_dim, k=hidden, scheme=scheme)
    ranks = mixer.q_rank + mixer.head_dim
    yield Vector(name="latent_norm", part=PART, kind="norm", elements=tokens * ranks, weights=ranks)
    yield Matmul(name="q_up", part=PART, m=tokens, n=width, k=mixer.q_rank, scheme=scheme, shard="column")
    rotated = tokens * (2.0 * mixer.heads + 1.0) * mixer.rope_dim
    yield Vector(name="rope", part=PART, kind="rope", elements=rotated, flops_per_element=6.0)
    if not is_zero(mixer.ratio):
        yield from _pool("pool", mixer, mixer.head_dim, hidden, tokens)
    if not is_zero(mixer.index_heads):
        yield from _indexer(mixer, hidden, batch)
    for phase, seqs, q_len, kv_len in phases(batch):
        yield Attention(
            name=f"attention_{phase}",
            part=PART,
            phase=phase,
            batch=seqs,
            q_len=q_len,
            kv_len=_keys_per_query(mixer, q_len, kv_len),
            heads=mixer.heads,
            kv_heads=1.0,
            head_dim=mixer.head_dim,
            v_head_dim=mixer.head_dim,
            kv=precision.kv,
            dtype=precision.score,
            causal=False,
            latent=mixer.head_dim,
            absorbed=True,
            sinks=True,
        )
    yield Matmul(
        name="out_down",
        part=PART,
        batch=mixer.out_groups,
        m=tokens,
        n=mixer.out_rank,
        k=width / mixer.out_groups,
        scheme=scheme,
        shard="heads",
    )
    k = mixer.out_groups * mixer.out_rank
    yield Matmul(name="attention_out", part=PART, m=tokens, n=hidden, k=k, scheme=scheme, shard="row")


def _keys_per_query(mixer: CompressedLatent, q_len: Dim, kv_len: Dim) -> Dim:
    """Mean over the new tokens of what each reads: the window, and the pooled latents (all, or as many as selected)."""
    mean = _mean_reach(q_len, kv_len, mixer.window)
    if is_zero(mixer.ratio):
        return mean
    limit = np.inf if is_zero(mixer.selected) else mixer.selected * mixer.ratio
    return mean + _mean_reach(q_len, kv_len, limit) / mixer.ratio


def _mean_reach(q_len: Dim, kv_len: Dim, limit: Dim) -> Dim:
    """Mean of min(position, limit) over the last `q_len` of `kv_len` positions (0 where there are none)."""
    q = np.asarray(q_len, float)
    past = np.asarray(kv_len, float) - q
    growing = np.clip(limit - past, 0.0, q)
    rest = q - growing
    total = (
        growing * past
        + growing * (growing + 1.0) / 2.0
        + np.where(rest > 0, rest * np.where(rest > 0, limit, 0.0), 0.0)
    )
    mean: Dim = total / np.maximum(q, 1.0)
    return mean


def _pool(name: str, mixer: CompressedLatent, width: Dim, hidden: Dim, tokens: Dim) -> Iterator[Op]:
    """Values and gates of the pooled latents (bf16), their learned offsets within a group, softmax over the group."""
    out = mixer.overlap * width
    yield Matmul(name=f"{name}_proj", part=PART, m=tokens, n=2.0 * out, k=hidden, scheme=Precision().attention)
    held = mixer.ratio * out + width
    yield Vector(name=name, part=PART, kind="norm", elements=tokens * 2.0 * out, writes=0.25, weights=held)


def _indexer(mixer: CompressedLatent, hidden: Dim, batch: Batch) -> Iterator[Op]:
    """The lightning indexer over pooled keys of its own; every rank of a tensor-parallel group does all its heads."""
    bf16, tokens = Precision().attention, batch.tokens
    width = mixer.index_heads * mixer.index_dim
    yield Matmul(name="index_q", part=PART, m=tokens, n=width, k=mixer.q_rank, scheme=bf16)
    yield Matmul(name="index_weights", part=PART, m=tokens, n=mixer.index_heads, k=hidden, scheme=bf16)
    yield from _pool("index_pool", mixer, mixer.index_dim, hidden, tokens)
    for phase, seqs, q_len, kv_len in phases(batch):
        yield Attention(
            name=f"index_{phase}",
            part=PART,
            phase=phase,
            batch=seqs,
            q_len=q_len,
            kv_len=_mean_reach(q_len, kv_len, np.inf) / mixer.ratio,
            heads=mixer.index_heads,
            kv_heads=1.0,
            head_dim=mixer.index_dim,
            v_head_dim=0.0,
            kv=DTYPES["fp8"],
            dtype=DTYPES["fp8"],
            causal=False,
            cross=True,
            shard="none",
        )
