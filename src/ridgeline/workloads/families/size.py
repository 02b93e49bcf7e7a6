"""What a model weighs: parameters, and the memory that one sequence's cache and states take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgeline.core.dtypes import DTYPES
from ridgeline.workloads.families.transformer import forward
from ridgeline.workloads.families.vision import forward_tower
from ridgeline.workloads.model import (
    Batch,
    Block,
    CompressedLatent,
    GroupedQuery,
    Latent,
    LinearAttention,
    Model,
    StateSpace,
    is_zero,
)
from ridgeline.workloads.ops import Dim, Experts, Matmul

LORA_PARTS = {"attention": ("attention",), "all": ("attention", "ffn", "shared_experts")}
"""Parts of a model whose projections an adapter changes; routed experts have none."""

_FUSED = {"qkv": 3.0, "kv": 2.0, "gate_up": 2.0, "shared_gate_up": 2.0}
"""Projections that run as one matmul and have an adapter of their own each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameter counts. `total` has towers and poolers but no draft blocks; `active` is what one token meets: of the
    routed experts only those chosen. `embedding` is the token table (counted once when the head shares it).
    """

    total: Dim
    active: Dim
    embedding: Dim
    experts: Dim
    drafts: Dim
    towers: Dim


def parameters(model: Model) -> Parameters:
    """Counts from the ops that hold the weights."""
    batch = Batch(prefill_seqs=1.0, prefill_tokens=1.0, source_tokens=1.0)
    main = forward(model, batch)
    towers: Dim = sum((forward_tower(tower, 1.0).parameters() for tower in model.towers), start=0.0)
    experts = main.total(lambda op: op.weight_elements() if isinstance(op, Experts) else 0.0)
    idle = main.total(_idle_experts)
    total = main.parameters() + towers + model.extra_parameters
    with_drafts = forward(model, batch, drafts=True).parameters() if model.drafts else main.parameters()
    width = model.hidden if is_zero(model.embedding_width) else model.embedding_width
    return Parameters(
        total=total,
        active=total - idle,
        embedding=model.vocab * width,
        experts=experts,
        drafts=with_drafts - main.parameters(),
        towers=towers,
    )


def _idle_experts(op: object) -> Dim:
    return op.weight_elements() * (1.0 - op.topk / op.experts) if isinstance(op, Experts) else 0.0


def cache_bytes(model: Model, context: Dim, tp: Dim = 1.0) -> Dim:
    """Bytes that one sequence of `context` tokens holds on one tensor-parallel rank: keys, values, latents and states.

    Key and value heads are divided by `tp` but never below one per rank; latents and indexer keys are replicated; a
    window caps what its layers keep. Encoder keys of cross attention count `context` too.
    """
    total: Dim = 0.0
    for block in model.blocks:
        total = total + block.count * _block_cache(block, model, context, tp)
    return total


def kv_bytes_per_token(model: Model, tp: Dim = 1.0) -> Dim:
    """Growth of `cache_bytes` per further token once every window is full."""
    far = 2.0**40
    return (cache_bytes(model, 2.0 * far, tp) - cache_bytes(model, far, tp)) / far


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSize:
    """A LoRA adapter on one tensor-parallel rank: its bytes over all layers, and the matmuls that it changes."""

    size_bytes: Dim
    matmuls: Dim


def adapter_size(model: Model, rank: Dim, *, targets: str = "attention", tp: Dim = 1.0) -> AdapterSize:
    """Size of an adapter in 16 bits (LoRA, arXiv 2106.09685): per projection A, rank x inputs, and B, outputs x rank.

    Of a projection that is cut along its outputs a rank holds its part of B and all of A, of one cut along its inputs
    its part of A and all of B (S-LoRA, arXiv 2311.03285, section 6; vLLM without `fully_sharded_loras`).

    Args:
        model: whose projections it changes.
        rank: of the adapter.
        targets: attention (its projections) or all (those of dense feed-forwards and shared experts too).
        tp: tensor-parallel degree.
    """
    total: Dim = 0.0
    matmuls: Dim = 0.0
    for op, times in forward(model, Batch(decode_seqs=1.0, decode_context=1.0)).walk():
        if not isinstance(op, Matmul) or op.part not in LORA_PARTS[targets] or not op.holds_weights:
            continue
        inputs = op.k / tp if op.shard == "row" else op.k
        outputs = op.n / tp if op.shard in ("column", "heads") else op.n
        total = total + times * rank * (_FUSED.get(op.name, 1.0) * inputs + outputs)
        matmuls = matmuls + times
    return AdapterSize(size_bytes=total * DTYPES["bf16"].element_bytes, matmuls=matmuls)


def _block_cache(block: Block, model: Model, context: Dim, tp: Dim) -> Dim:
    held: Dim = 0.0 if block.cross is None else _grouped_cache(block.cross, model, context, tp)
    match block.mixer:
        case GroupedQuery() as mixer:
            held = held + _grouped_cache(mixer, model, context, tp)
        case Latent() as mixer:
            per_token = (mixer.kv_rank + mixer.rope_dim) * model.precision.kv.element_bytes
            index = np.where(np.asarray(mixer.index_heads) > 0, mixer.index_dim, 0.0) * DTYPES["fp8"].element_bytes
            held = held + context * (per_token + index)
        case CompressedLatent() as mixer:
            held = held + _compressed_cache(mixer, model, context)
        case StateSpace() as mixer:
            inner = mixer.heads * mixer.head_dim
            channels = inner + (2.0 * mixer.groups * mixer.state if mixer.kind == "mamba2" else 0.0)
            held = held + _state_bytes(inner * mixer.state, channels, mixer.conv, tp)
        case LinearAttention() as mixer:
            state = mixer.value_heads * mixer.value_dim * mixer.key_dim
            channels = 2.0 * mixer.key_heads * mixer.key_dim + mixer.value_heads * mixer.value_dim
            held = held + _state_bytes(state, channels, mixer.conv, tp)
    return held


def _grouped_cache(mixer: GroupedQuery, model: Model, context: Dim, tp: Dim) -> Dim:
    if mixer.shared_kv or not (mixer.causal or mixer.cross):
        return 0.0
    window = np.where(np.asarray(mixer.window) > 0, mixer.window, np.inf)
    heads = np.maximum(np.asarray(mixer.kv_heads) / tp, 1.0)
    values = heads * (mixer.head_dim + mixer.v_head_dim)
    held: Dim = np.minimum(context, window) * values * model.precision.kv.element_bytes
    return held


def _compressed_cache(mixer: CompressedLatent, model: Model, context: Dim) -> Dim:
    """Latents of the window, pooled latents beyond, indexer keys, and the fp32 sums of the groups being pooled."""
    near: Dim = np.minimum(context, mixer.window) * mixer.head_dim * model.precision.kv.element_bytes
    if is_zero(mixer.ratio):
        return near
    pooled = mixer.head_dim * model.precision.kv.element_bytes + mixer.index_dim * DTYPES["fp8"].element_bytes
    open_groups = 2.0 * mixer.ratio * mixer.overlap**2 * (mixer.head_dim + mixer.index_dim)
    return near + context / mixer.ratio * pooled + open_groups * DTYPES["fp32"].element_bytes


def _state_bytes(state: Dim, channels: Dim, taps: Dim, tp: Dim) -> Dim:
    """The recurrent state in fp32 and the last inputs of the convolution in 16 bits, both divided over the ranks."""
    tail = np.maximum(np.asarray(taps) - 1.0, 0.0) * channels * DTYPES["bf16"].element_bytes
    held: Dim = (state * DTYPES["fp32"].element_bytes + tail) / tp
    return held
