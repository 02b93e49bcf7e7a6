"""Decoders with experts and ordinary attention: Mixtral, Qwen, Llama 4, gpt-oss, GLM-4.5, MiniMax, MiMo, Step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.importers.layers import (
    Layer,
    attention,
    experts,
    head_width,
    inner_width,
    kv_heads,
    layer_count,
    sparse_layers,
    windows,
)
from ridgeline.workloads.importers.readers.common import Reader, decoder, draft_layers, paired
from ridgeline.workloads.model import FeedForward, GroupedQuery, LinearAttention, MixtureOfExperts, Model

Ffn = FeedForward | MixtureOfExperts


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a family departs from Mixtral; a bias of None follows `attention_bias`."""

    qkv_bias: bool | None = None
    qk_norm: bool = False
    norm_bias: bool = False
    shared_gate: bool = False
    tied: bool = False


def feed_forwards(config: Config, count: int, moe: MixtureOfExperts) -> list[Ffn]:
    """Dense or expert feed-forward of every layer, by whichever of the usual keys is there."""
    sparse = sparse_layers(config, count)
    if all(sparse):
        return [moe] * count
    dense = FeedForward(inter=config.size("intermediate_size_mlp", "intermediate_size"))
    return [moe if chosen else dense for chosen in sparse]


def read(config: Config, style: Style) -> Model:
    """A decoder with experts in the given style."""
    count = layer_count(config)
    stated = config.flag("attention_bias")
    mixer = attention(
        config,
        qkv_bias=stated if style.qkv_bias is None else style.qkv_bias,
        qk_norm=style.qk_norm or config.flag("use_qk_norm"),
    )
    moe = replace(experts(config), shared_gate=style.shared_gate)
    mixers = [replace(mixer, window=window) for window in windows(config, count)]
    layers = paired(mixers, feed_forwards(config, count, moe), norm_bias=style.norm_bias)
    return decoder(config, layers, tied=style.tied, drafts=draft_layers(config, layers[-1]))


def phi_moe(config: Config) -> Model:
    """Phi-3.5-MoE: biases on the projections and the head, LayerNorm with bias."""
    mixer = attention(config, qkv_bias=True, out_bias=True)
    moe = experts(config)
    layers = [Layer(mixer=mixer, ffn=moe, norm_bias=True)] * layer_count(config)
    return decoder(config, layers, head_bias=config.flag("lm_head_bias"))


def qwen_hybrid(config: Config) -> Model:
    """Qwen3-Next and Qwen3.5: three gated delta-rule layers to one gated softmax layer; dense or with experts."""
    count = layer_count(config)
    softmax = attention(config, qk_norm=True, gated=config.flag("attn_output_gate", default=True))
    delta = LinearAttention(
        kind="delta",
        key_heads=config.size("linear_num_key_heads"),
        value_heads=config.size("linear_num_value_heads"),
        key_dim=config.size("linear_key_head_dim"),
        value_dim=config.size("linear_value_head_dim"),
        conv=config.size("linear_conv_kernel_dim", default=4.0),
    )
    if config.has("layer_types"):
        kinds = config.per_layer("layer_types", config.texts("layer_types"), count)
        mixers = [delta if kind == "linear_attention" else softmax for kind in kinds]
    else:
        every = config.size("full_attention_interval", default=4.0)
        mixers = [softmax if (i + 1) % every == 0 else delta for i in range(count)]
    ffns: Sequence[Ffn]
    if any(config.has(key) for key in ("num_experts", "num_local_experts")):
        moe = replace(experts(config), shared_gate=True)
        ffns = feed_forwards(config, count, moe)
    else:
        ffns = [FeedForward(inter=inner_width(config))] * count
    layers = paired(mixers, ffns)
    draft = Layer(mixer=softmax, ffn=ffns[-1])
    return decoder(config, layers, drafts=draft_layers(config, draft))


def llama4(config: Config) -> Model:
    """Llama 4 text: chunked attention in three of four layers, a shared expert as wide as a routed one."""
    count = layer_count(config)
    mixer = attention(config, qkv_bias=config.flag("attention_bias"))
    inter = config.size("intermediate_size")
    moe = replace(experts(config, inter), shared_inter=inter)
    # Published layers 4, 8, 12, ... have no positions and see everything; a chunk is read as a window of its length,
    # which bounds what a query sees from above.
    chunk = config.amount("attention_chunk_size", default=0.0)
    full = [(i + 1) % 4 == 0 for i in range(count)]
    if config.has("layer_types"):
        full = [
            kind == "full_attention" for kind in config.per_layer("layer_types", config.texts("layer_types"), count)
        ]
    mixers = [replace(mixer, window=0.0 if wide else chunk, rope=not wide) for wide in full]
    dense = FeedForward(inter=config.size("intermediate_size_mlp", default=inter))
    ffns = [moe if sparse else dense for sparse in sparse_layers(config, count)]
    return decoder(config, paired(mixers, ffns))


def gpt_oss(config: Config) -> Model:
    """gpt-oss (arXiv 2508.10925): sinks, biases throughout, a window in every other layer."""
    count = layer_count(config)
    mixer = attention(config, qkv_bias=True, out_bias=True, sinks=True)
    moe = replace(experts(config, config.size("intermediate_size"), bias=True), router_bias=True)
    kinds = windows(config, count, default_pattern=(True, False))
    return decoder(config, paired([replace(mixer, window=window) for window in kinds], [moe] * count))


def minimax_m1(config: Config) -> Model:
    """MiniMax-Text-01 and M1 (arXiv 2501.08313): seven lightning-attention layers to one softmax layer."""
    count = layer_count(config)
    softmax = attention(config)
    linear = LinearAttention(
        kind="linear",
        key_heads=softmax.heads,
        value_heads=softmax.heads,
        key_dim=softmax.head_dim,
        value_dim=softmax.head_dim,
    )
    if config.has("layer_types"):
        full = [kind == "full_attention" for kind in config.texts("layer_types")]
    else:
        full = [kind == 1 for kind in config.per_layer("attn_type_list", config.amounts("attn_type_list"), count)]
    moe = experts(config, config.size("intermediate_size"))
    return decoder(config, paired([softmax if chosen else linear for chosen in full], [moe] * count))


def mimo_v2(config: Config) -> Model:
    """MiMo-V2-Flash: windowed layers with their own head counts, values narrower than keys, sinks where stated."""
    count = layer_count(config)
    full = attention(config, sinks=config.flag("add_full_attention_sink_bias"))
    heads = config.size("swa_num_attention_heads", default=full.heads)
    local = GroupedQuery(
        heads=heads,
        kv_heads=kv_heads(config, heads, "swa_num_key_value_heads"),
        head_dim=config.size("swa_head_dim", default=full.head_dim),
        v_head_dim=config.size("swa_v_head_dim", default=full.v_head_dim),
        window=config.size("sliding_window", "sliding_window_size"),
        sinks=config.flag("add_swa_attention_sink_bias"),
    )
    pattern = config.per_layer("hybrid_layer_pattern", config.amounts("hybrid_layer_pattern"), count)
    mixers = [local if kind else full for kind in pattern]
    layers = paired(mixers, feed_forwards(config, count, experts(config)))
    return decoder(config, layers, drafts=draft_layers(config, Layer(mixer=local, ffn=layers[0].ffn)))


def step3(config: Config) -> Model:
    """Step-3.x: grouped-query attention with windows, dense first layers, then experts beside a shared one."""
    count = layer_count(config)
    mixer = attention(config, qk_norm=config.flag("use_qk_norm", default=True))
    mixers = [replace(mixer, window=window) for window in windows(config, count)]
    layers = paired(mixers, feed_forwards(config, count, experts(config)))
    return decoder(config, layers, drafts=draft_layers(config, layers[-1]))


def dbrx(config: Config) -> Model:
    """DBRX: its sizes stand in `attn_config` and `ffn_config`."""
    attn, ffn = config.sub("attn_config"), config.sub("ffn_config")
    heads = config.size("n_heads")
    width = head_width(config, heads)
    mixer = GroupedQuery(heads=heads, kv_heads=kv_heads(attn, heads, "kv_n_heads"), head_dim=width, v_head_dim=width)
    moe = MixtureOfExperts(
        experts=ffn.size("moe_num_experts"), topk=ffn.size("moe_top_k"), inter=ffn.size("ffn_hidden_size")
    )
    return decoder(config, [Layer(mixer=mixer, ffn=moe)] * layer_count(config))


def grok(config: Config) -> Model:
    """Grok-1: eight experts, a norm before and after each half of a layer."""
    norms = ("mixer", "mixer_out", "ffn", "ffn_out")
    layer = Layer(mixer=attention(config), ffn=experts(config, config.size("intermediate_size")), norms=norms)
    return decoder(config, [layer] * layer_count(config), tied=True)


_STYLES = {
    "mixtral": Style(),
    "qwen2_moe": Style(qkv_bias=True, shared_gate=True),
    "qwen3_moe": Style(qk_norm=True),
    "glm4_moe": Style(),
    "minimax_m2": Style(qk_norm=True),
    "olmoe": Style(qk_norm=True),
    "granitemoe": Style(tied=True),
    "ernie4_5_moe": Style(tied=True),
    "hunyuan_v1_moe": Style(qk_norm=True, tied=True),
    "dots1": Style(qk_norm=True),
    "bailing_moe": Style(),
    "deepseek": Style(),
}

READERS: dict[str, Reader] = {
    **{name: partial(read, style=style) for name, style in _STYLES.items()},
    "phimoe": phi_moe,
    "qwen3_next": qwen_hybrid,
    "qwen3_5_text": qwen_hybrid,
    "qwen3_5_moe_text": qwen_hybrid,
    "llama4_text": llama4,
    "gpt_oss": gpt_oss,
    "minimax_m1": minimax_m1,
    "minimax_text_01": minimax_m1,
    "minimax": minimax_m1,
    "mimo_v2_flash": mimo_v2,
    "step3p5": step3,
    "step3p7": step3,
    "dbrx": dbrx,
    "grok-1": grok,
}
