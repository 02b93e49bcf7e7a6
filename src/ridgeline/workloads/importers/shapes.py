"""Models from plain numbers, as case tables and papers give them (Megatron shapes)."""

from __future__ import annotations

import numpy as np

from ridgeline.core.errors import DomainError
from ridgeline.workloads.model import Block, FeedForward, GroupedQuery, MixtureOfExperts, Model
from ridgeline.workloads.ops import Dim


def from_shape(
    *,
    layers: Dim,
    hidden: Dim,
    heads: Dim,
    vocab: Dim,
    seq: Dim,
    kv_heads: Dim = 0.0,
    ffn_hidden: Dim = 0.0,
    experts: Dim = 0.0,
    topk: Dim = 0.0,
    expert_hidden: Dim = 0.0,
    shared_experts: Dim = 0.0,
    gated: bool | None = None,
    name: str = "shape",
) -> Model:
    """A decoder of equal layers. Any size may be a column.

    Args:
        layers: number of layers.
        hidden: width of the residual stream.
        heads: attention heads, which divide `hidden`.
        vocab: tokens of the vocabulary.
        seq: longest sequence.
        kv_heads:      0 for as many as `heads`.
        ffn_hidden:    inner width of the dense feed-forward; 0 for 4 x hidden.
        experts: routed experts; 0 for a dense model.
        topk: how many of them a token meets.
        expert_hidden: inner width of an expert; 0 for `ffn_hidden`.
        shared_experts: experts that every token meets, as wide as the others.
        gated: whether the feed-forward has a gate. By default as its width suggests: a width other than 4 x hidden,
        fewer
            key heads than heads, or experts are the Llama kind (gate, RMS norm, rotary positions, no biases), else it
            is the GPT kind (two matrices, LayerNorm and biases, learned positions, tied embeddings).
        name: what to call it.
    Raises:
        DomainError: a size is not a whole number, heads do not divide the hidden width, kv_heads do not divide heads.
    """
    sizes = {"layers": layers, "hidden": hidden, "heads": heads, "vocab": vocab, "seq": seq}
    for key, value in sizes.items():
        _check(key, value, 1)
    optional = {"kv_heads": kv_heads, "ffn_hidden": ffn_hidden, "experts": experts, "topk": topk}
    for key, value in {**optional, "expert_hidden": expert_hidden, "shared_experts": shared_experts}.items():
        _check(key, value, 0)
    keys = _or(kv_heads, heads)
    inner = _or(ffn_hidden, 4.0 * hidden)
    _check_multiple("hidden", hidden, "heads", heads)
    _check_multiple("heads", heads, "kv_heads", keys)
    llama = _llama_kind(heads, keys, hidden, inner, experts) if gated is None else gated
    width = hidden / heads
    mixer = GroupedQuery(
        heads=heads,
        kv_heads=keys,
        head_dim=width,
        v_head_dim=width,
        qkv_bias=not llama,
        out_bias=not llama,
        rope=llama,
    )
    ffn: FeedForward | MixtureOfExperts = FeedForward(inter=inner, gated=llama, bias=not llama)
    if np.any(np.asarray(experts) > 0):
        ffn = _mixture(experts, topk, _or(expert_hidden, inner), shared_experts, gated=llama)
    kind = "attention_dense" if isinstance(ffn, FeedForward) else "attention_moe"
    block = Block(name=kind, count=layers, mixer=mixer, ffn=ffn, norm_bias=not llama)
    return Model(
        name=name,
        family="llama" if llama else "gpt",
        hidden=hidden,
        vocab=vocab,
        context=seq,
        blocks=(block,),
        tied=not llama,
        positions=0.0 if llama else seq,
        card="plain numbers",
    )


def _mixture(experts: Dim, topk: Dim, inter: Dim, shared: Dim, *, gated: bool) -> MixtureOfExperts:
    chosen = _or(topk, np.ones_like(np.asarray(experts, float)))
    if np.any(np.asarray(experts) <= 0) or np.any(np.asarray(chosen) > experts):
        raise DomainError(
            "every row needs experts, and at most as many per token", at="topk", got=topk, fix="topk <= experts"
        )
    return MixtureOfExperts(experts=experts, topk=chosen, inter=inter, shared_inter=shared * inter, gated=gated)


def _llama_kind(heads: Dim, keys: Dim, hidden: Dim, inner: Dim, experts: Dim) -> bool:
    signs = (
        np.any(np.asarray(keys) < heads),
        np.any(np.asarray(inner) != 4.0 * hidden),
        np.any(np.asarray(experts) > 0),
    )
    return bool(any(signs))


def _or(value: Dim, other: Dim) -> Dim:
    """`value` where it is given, else `other`; plain numbers stay plain."""
    if isinstance(value, (int, float)):
        return value or other
    chosen: Dim = np.where(value > 0, value, other)
    return chosen


def _check(name: str, value: Dim, least: int) -> None:
    values = np.asarray(value, dtype=np.float64)
    bad = ~(np.isfinite(values) & (values >= least) & (values == np.floor(values)))
    if np.any(bad):
        got = values[bad].flat[0] if values.ndim else value
        raise DomainError(f"{name} is not a whole number >= {least}", at=name, got=got, fix="give a count")


def _check_multiple(name: str, value: Dim, by_name: str, by: Dim) -> None:
    if np.any(np.mod(np.asarray(value, float), by) != 0):
        raise DomainError(f"{name} is no multiple of {by_name}", at=by_name, got=by, fix=f"choose a divisor of {name}")
