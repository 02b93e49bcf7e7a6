"""Decoders with multi-head latent attention: DeepSeek V2 to V4, Kimi K2, GLM-5."""

from __future__ import annotations

from dataclasses import replace

from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.importers.layers import Layer, experts, layer_count
from ridgeline.workloads.importers.readers.common import Reader, decoder, draft_layers, paired
from ridgeline.workloads.importers.readers.mixtures import feed_forwards
from ridgeline.workloads.model import CompressedLatent, FeedForward, Latent, Model


def latent(config: Config) -> Latent:
    """The attention of DeepSeek-V2, with the indexer of V3.2 where its fields are there."""
    indexed = config.has("index_n_heads")
    return Latent(
        heads=config.size("num_attention_heads"),
        q_rank=config.amount("q_lora_rank", default=0.0),
        kv_rank=config.size("kv_lora_rank"),
        nope_dim=config.size("qk_nope_head_dim"),
        rope_dim=config.size("qk_rope_head_dim"),
        v_head_dim=config.size("v_head_dim"),
        index_heads=config.size("index_n_heads") if indexed else 0.0,
        index_dim=config.size("index_head_dim") if indexed else 0.0,
        selected=config.size("index_topk") if indexed else 0.0,
    )


def read(config: Config) -> Model:
    """Dense first layers, then experts; layers that reuse the selection of another have no indexer."""
    count = layer_count(config)
    mixer = latent(config)
    mixers = [mixer] * count
    if config.has("indexer_types"):
        kinds = config.per_layer("indexer_types", config.texts("indexer_types"), count)
        mixers = [mixer if kind == "full" else replace(mixer, index_heads=0.0, index_dim=0.0) for kind in kinds]
    if config.has("n_routed_experts"):
        ffns = feed_forwards(config, count, experts(config))
    else:
        ffns = [FeedForward(inter=config.size("intermediate_size"))] * count
    layers = paired(mixers, ffns)
    return decoder(config, layers, drafts=draft_layers(config, Layer(mixer=mixer, ffn=ffns[-1])))


def compressed(config: Config) -> Model:
    """DeepSeek-V4: windows, pooled latents by `compress_ratios`, hyper-connections, experts in every layer.

    A ratio of 4 pools over two neighbouring groups and selects by an indexer, any other ratio reads all pooled latents
    (the publisher's inference code: `overlap = compress_ratio == 4`).
    """
    count = layer_count(config)
    ratios = config.per_layer("compress_ratios", config.amounts("compress_ratios"), count)
    base = CompressedLatent(
        heads=config.size("num_attention_heads"),
        head_dim=config.size("head_dim"),
        rope_dim=config.size("qk_rope_head_dim"),
        q_rank=config.size("q_lora_rank"),
        window=config.size("sliding_window"),
        out_groups=config.size("o_groups"),
        out_rank=config.size("o_lora_rank"),
    )
    sparse = replace(
        base,
        overlap=2.0,
        selected=config.size("index_topk"),
        index_heads=config.size("index_n_heads"),
        index_dim=config.size("index_head_dim"),
    )
    mixers = [replace(sparse if ratio == 4 else base, ratio=ratio) if ratio else base for ratio in ratios]
    layers = paired(mixers, [experts(config)] * count)
    drafts = draft_layers(config, Layer(mixer=base, ffn=layers[-1].ffn))
    return decoder(config, layers, drafts=drafts, streams=config.size("hc_mult"))


READERS: dict[str, Reader] = {
    "deepseek_v2": read,
    "deepseek_v3": read,
    "deepseek_v32": read,
    "deepseek_v4": compressed,
    "kimi_k2": read,
    "glm_moe_dsa": read,
    "glm4_moe_lite": read,
}
