"""Decoders from before Llama: GPT-2, GPT-J, GPT-Neo, GPT-NeoX, GPT-BigCode, OPT, BLOOM, Falcon, MPT."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.importers.layers import (
    Layer,
    attention,
    head_width,
    hidden_width,
    inner_width,
    kv_heads,
    layer_count,
)
from ridgeline.workloads.importers.readers.common import Reader, context_length, decoder
from ridgeline.workloads.model import FeedForward, GroupedQuery, Model


def _layer(
    config: Config,
    inner: float,
    *,
    qkv_bias: bool = True,
    out_bias: bool = True,
    mlp_bias: bool = True,
    norm_bias: bool = True,
    rope: bool = False,
    **style: Any,
) -> Layer:
    """The layer of GPT-2, or one that departs from it as said."""
    mixer = attention(config, qkv_bias=qkv_bias, out_bias=out_bias, rope=rope)
    ffn = FeedForward(inter=inner, gated=False, bias=mlp_bias)
    return Layer(mixer=mixer, ffn=ffn, norm_bias=norm_bias, **style)


def _four_times(config: Config, *keys: str) -> float:
    return config.size(*keys, default=4.0 * hidden_width(config))


def gpt2(config: Config) -> Model:
    """GPT-2: learned positions, biases throughout."""
    layer = _layer(config, _four_times(config, "n_inner"))
    return decoder(config, [layer] * layer_count(config), tied=True, positions=context_length(config))


def gpt_bigcode(config: Config) -> Model:
    """StarCoder and SantaCoder: GPT-2 with one key and value head."""
    layer = _layer(config, _four_times(config, "n_inner"))
    if config.flag("multi_query", default=True) and isinstance(layer.mixer, GroupedQuery):
        layer = replace(layer, mixer=replace(layer.mixer, kv_heads=1.0))
    return decoder(config, [layer] * layer_count(config), tied=True, positions=context_length(config))


def gpt_j(config: Config) -> Model:
    """GPT-J and CodeGen: attention and feed-forward in parallel after one norm, rotary positions, a head with bias."""
    inner = _four_times(config, "n_inner")
    layer = _layer(config, inner, qkv_bias=False, out_bias=False, rope=True, norms=("mixer",), parallel=True)
    return decoder(config, [layer] * layer_count(config), head_bias=True)


def gpt_neo(config: Config) -> Model:
    """GPT-Neo: learned positions, no biases on queries, keys and values; local layers are read as full ones."""
    layer = _layer(config, _four_times(config, "intermediate_size"), qkv_bias=False)
    return decoder(config, [layer] * layer_count(config), tied=True, positions=context_length(config))


def gpt_neox(config: Config) -> Model:
    """GPT-NeoX, Pythia, RedPajama: two norms, halves in parallel unless the file says otherwise."""
    bias = config.flag("attention_bias", default=True)
    parallel = config.flag("use_parallel_residual", default=True)
    layer = _layer(config, inner_width(config), qkv_bias=bias, out_bias=bias, rope=True, parallel=parallel)
    return decoder(config, [layer] * layer_count(config))


def opt(config: Config) -> Model:
    """OPT (arXiv 2205.01068): positions are offset by two; the 350M model embeds in a narrower width."""
    bias = config.flag("enable_bias", default=True)
    layer = _layer(config, config.size("ffn_dim"), qkv_bias=bias, out_bias=bias, mlp_bias=bias)
    hidden = hidden_width(config)
    width = config.size("word_embed_proj_dim", default=hidden)
    return decoder(
        config,
        [layer] * layer_count(config),
        tied=True,
        positions=context_length(config) + 2.0,
        embedding_width=0.0 if width == hidden else width,
        final_norm=config.flag("do_layer_norm_before", default=True),
    )


def bloom(config: Config) -> Model:
    """BLOOM (arXiv 2211.05100): ALiBi instead of positions, a norm after the embedding."""
    layer = _layer(config, 4.0 * hidden_width(config))
    return decoder(config, [layer] * layer_count(config), tied=True, embedding_norm=True)


def falcon(config: Config) -> Model:
    """Falcon (arXiv 2311.16867): one key head (7B) or groups of them (40B, 180B), halves in parallel."""
    heads = config.size("num_attention_heads", "n_head")
    modern, bias = config.flag("new_decoder_architecture"), config.flag("bias")
    parallel = modern or config.flag("parallel_attn", default=True)
    groups = heads
    if modern:
        groups = kv_heads(config, heads, "num_kv_heads", "n_head_kv")
    elif config.flag("multi_query", default=True):
        groups = 1.0
    width = head_width(config, heads)
    mixer = GroupedQuery(
        heads=heads,
        kv_heads=groups,
        head_dim=width,
        v_head_dim=width,
        qkv_bias=bias,
        out_bias=bias,
        rope=not config.flag("alibi"),
    )
    ffn = FeedForward(inter=_four_times(config, "ffn_hidden_size"), gated=False, bias=bias)
    norms = ("mixer",) if parallel and not modern else ("mixer", "ffn")
    layer = Layer(mixer=mixer, ffn=ffn, norms=norms, norm_bias=True, parallel=parallel)
    return decoder(config, [layer] * layer_count(config), tied=True)


def mpt(config: Config) -> Model:
    """MPT: sizes of attention stand in `attn_config`; no biases in the released models, positions by ALiBi."""
    attn = config.sub("attn_config") if config.has("attn_config") else Config.of({})
    bias = not config.flag("no_bias", default=True)
    heads = config.size("n_heads")
    width = head_width(config, heads)
    mixer = GroupedQuery(
        heads=heads,
        kv_heads=kv_heads(attn, heads, "kv_n_heads"),
        head_dim=width,
        v_head_dim=width,
        qkv_bias=bias,
        out_bias=bias,
        rope=False,
    )
    inner = config.size("expansion_ratio", default=4.0) * hidden_width(config)
    layer = Layer(mixer=mixer, ffn=FeedForward(inter=inner, gated=False, bias=bias), norm_bias=bias)
    learned = config.flag("learned_pos_emb", default=True) and not attn.flag("alibi")
    positions = context_length(config) if learned else 0.0
    return decoder(config, [layer] * layer_count(config), tied=True, positions=positions)


READERS: dict[str, Reader] = {
    "gpt2": gpt2,
    "gpt_bigcode": gpt_bigcode,
    "gptj": gpt_j,
    "codegen": gpt_j,
    "gpt_neo": gpt_neo,
    "gpt_neox": gpt_neox,
    "opt": opt,
    "bloom": bloom,
    "falcon": falcon,
    "refinedweb": falcon,
    "refinedwebmodel": falcon,
    "mpt": mpt,
}
