"""Softmax attention as ops: grouped-query (MHA, GQA, MQA, windowed, cross) and multi-head latent (DeepSeek)."""

from __future__ import annotations

from collections.abc import Iterator

from ridgeline.core.dtypes import DTYPES
from ridgeline.workloads.model import Batch, GroupedQuery, Latent, Precision, is_zero
from ridgeline.workloads.ops import Attention, Dim, Matmul, Op, Vector

PART = "attention"


def grouped_query(mixer: GroupedQuery, hidden: Dim, batch: Batch, precision: Precision) -> Iterator[Op]:
    """Projections over the merged tokens, then prefill and decode attention apart, then the output projection."""
    scheme, width = precision.attention, hidden if is_zero(mixer.input_width) else mixer.input_width
    q_width = mixer.heads * mixer.head_dim * (2.0 if mixer.gated else 1.0)
    kv_width = mixer.kv_heads * (mixer.head_dim + (0.0 if mixer.tied_values else mixer.v_head_dim))
    out_width = mixer.heads * mixer.v_head_dim
    if mixer.cross:
        yield _project("q", batch.tokens, q_width, width, precision, bias=mixer.qkv_bias)
        source = batch.prefill_seqs * batch.source_tokens
        yield _project("kv", source, kv_width, width, precision, bias=mixer.qkv_bias, kv_width=kv_width)
    elif mixer.shared_kv:
        yield _project("q", batch.tokens, q_width, width, precision, bias=mixer.qkv_bias)
    else:
        n = q_width + kv_width
        yield _project("qkv", batch.tokens, n, width, precision, bias=mixer.qkv_bias, kv_width=kv_width)
    keys = 0.0 if mixer.shared_kv else mixer.kv_heads
    rotated = batch.tokens * (mixer.heads + keys) * mixer.head_dim
    if mixer.qk_norm:
        gains = mixer.head_dim * (1.0 if mixer.shared_kv else 2.0)
        yield Vector(name="qk_norm", part=PART, kind="qk_norm", elements=rotated, weights=gains)
    if mixer.rope and not mixer.cross:
        yield Vector(name="rope", part=PART, kind="rope", elements=rotated, flops_per_element=6.0)
    yield from _softmax_attention(mixer, batch, precision)
    if mixer.gated:
        elements = batch.tokens * out_width
        yield Vector(name="output_gate", part=PART, kind="activation", elements=elements, reads=2.0)
    yield Matmul(
        name="attention_out",
        part=PART,
        m=batch.tokens,
        n=hidden,
        k=out_width,
        scheme=scheme,
        shard="row",
        bias=mixer.out_bias,
    )


def _project(
    name: str, m: Dim, n: Dim, k: Dim, precision: Precision, *, bias: bool = False, kv_width: Dim = 0.0
) -> Matmul:
    return Matmul(
        name=name, part=PART, m=m, n=n, k=k, scheme=precision.attention, shard="column", bias=bias, kv_width=kv_width
    )


def _softmax_attention(mixer: GroupedQuery, batch: Batch, precision: Precision) -> Iterator[Attention]:
    reads_elsewhere = mixer.cross or mixer.shared_kv
    for phase, seqs, q_len, own_len in phases(batch):
        yield Attention(
            name=f"attention_{phase}",
            part=PART,
            phase=phase,
            batch=seqs,
            q_len=q_len,
            kv_len=batch.source_tokens if mixer.cross else own_len,
            heads=mixer.heads,
            kv_heads=mixer.kv_heads,
            head_dim=mixer.head_dim,
            v_head_dim=mixer.v_head_dim,
            kv=precision.kv,
            dtype=precision.score,
            window=mixer.window,
            causal=mixer.causal and not mixer.cross,
            cross=reads_elsewhere,
            sinks=mixer.sinks,
        )


def phases(batch: Batch) -> Iterator[tuple[str, Dim, Dim, Dim]]:
    """(phase, sequences, new tokens of each, keys of each) of the phases that the batch has at all."""
    if not is_zero(batch.prefill_seqs):
        yield "prefill", batch.prefill_seqs, batch.prefill_tokens, batch.prefill_prefix + batch.prefill_tokens
    if not is_zero(batch.decode_seqs):
        yield "decode", batch.decode_seqs, batch.decode_tokens, batch.decode_context


def latent(mixer: Latent, hidden: Dim, batch: Batch, precision: Precision) -> Iterator[Op]:
    """Multi-head latent attention (arXiv 2405.04434, 2.1): prefill expands keys and values from the latent, decode
    absorbs the expansion into queries and outputs. With an indexer both phases are absorbed (DeepSeek-V3.2).
    """
    scheme, tokens = precision.attention, batch.tokens
    head_width = mixer.nope_dim + mixer.rope_dim
    q_input = hidden
    if not is_zero(mixer.q_rank):
        q_input = mixer.q_rank
        yield Matmul(name="q_down", part=PART, m=tokens, n=mixer.q_rank, k=hidden, scheme=scheme)
    yield Matmul(name="kv_down", part=PART, m=tokens, n=mixer.kv_rank + mixer.rope_dim, k=hidden, scheme=scheme)
    width = mixer.q_rank + mixer.kv_rank
    yield Vector(name="latent_norm", part=PART, kind="norm", elements=tokens * width, weights=width)
    yield Matmul(name="q_up", part=PART, m=tokens, n=mixer.heads * head_width, k=q_input, scheme=scheme, shard="column")
    rotated = tokens * (mixer.heads + 1.0) * mixer.rope_dim
    yield Vector(name="rope", part=PART, kind="rope", elements=rotated, flops_per_element=6.0)
    if not is_zero(mixer.index_heads):
        yield from _indexer(mixer, hidden, q_input, batch)
    expands = not is_zero(batch.prefill_seqs) and is_zero(mixer.selected)
    if expands:
        cached = batch.prefill_seqs * (batch.prefill_prefix + batch.prefill_tokens)
        n = mixer.heads * (mixer.nope_dim + mixer.v_head_dim)
        yield Matmul(name="kv_up", part=PART, m=cached, n=n, k=mixer.kv_rank, scheme=scheme, shard="column")
    absorbed = batch.decode_seqs * batch.decode_tokens if expands else tokens
    absorbs = not (expands and is_zero(batch.decode_seqs))
    if absorbs:
        yield _per_head("q_absorb", mixer, absorbed, mixer.kv_rank, mixer.nope_dim, precision, tied=expands)
    yield from _latent_attention(mixer, batch, precision, expands=expands)
    if absorbs:
        yield _per_head("v_absorb", mixer, absorbed, mixer.v_head_dim, mixer.kv_rank, precision, tied=expands)
    yield Matmul(
        name="attention_out",
        part=PART,
        m=tokens,
        n=hidden,
        k=mixer.heads * mixer.v_head_dim,
        scheme=scheme,
        shard="row",
    )


def _per_head(name: str, mixer: Latent, m: Dim, n: Dim, k: Dim, precision: Precision, *, tied: bool) -> Matmul:
    """One matrix per head. Where kv_up is in the graph too, it holds these same weights."""
    return Matmul(
        name=name, part=PART, batch=mixer.heads, m=m, n=n, k=k, scheme=precision.attention, shard="heads", tied=tied
    )


def _latent_attention(mixer: Latent, batch: Batch, precision: Precision, *, expands: bool) -> Iterator[Attention]:
    for phase, seqs, q_len, kv_len in phases(batch):
        yield Attention(
            name=f"attention_{phase}",
            part=PART,
            phase=phase,
            batch=seqs,
            q_len=q_len,
            kv_len=kv_len,
            heads=mixer.heads,
            kv_heads=mixer.heads,
            head_dim=mixer.nope_dim + mixer.rope_dim,
            v_head_dim=mixer.v_head_dim,
            kv=precision.kv,
            dtype=precision.score,
            selected=mixer.selected,
            latent=mixer.kv_rank,
            rope=mixer.rope_dim,
            absorbed=not (expands and phase == "prefill"),
        )


def _indexer(mixer: Latent, hidden: Dim, q_input: Dim, batch: Batch) -> Iterator[Op]:
    """The lightning indexer (DeepSeek-V3.2 report, 2.1): small heads with one fp8 key per token score every key; every
    rank of a tensor-parallel group does them all.
    """
    bf16, tokens = Precision().attention, batch.tokens
    width = mixer.index_heads * mixer.index_dim
    yield Matmul(name="index_q", part=PART, m=tokens, n=width, k=q_input, scheme=bf16)
    yield Matmul(name="index_k", part=PART, m=tokens, n=mixer.index_dim, k=hidden, scheme=bf16)
    yield Matmul(name="index_weights", part=PART, m=tokens, n=mixer.index_heads, k=hidden, scheme=bf16)
    yield Vector(
        name="index_norm",
        part=PART,
        kind="norm",
        elements=tokens * mixer.index_dim,
        weights=2.0 * mixer.index_dim,
    )
    for phase, seqs, q_len, kv_len in phases(batch):
        yield Attention(
            name=f"index_{phase}",
            part=PART,
            phase=phase,
            batch=seqs,
            q_len=q_len,
            kv_len=kv_len,
            heads=mixer.index_heads,
            kv_heads=1.0,
            head_dim=mixer.index_dim,
            v_head_dim=0.0,
            kv=DTYPES["fp8"],
            dtype=DTYPES["fp8"],
            shard="none",
        )
