"""State-space decoders and hybrids: Mamba 1 and 2, Nemotron-H, Jamba, Zamba 2."""

from __future__ import annotations

import math
from dataclasses import replace

from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.importers.layers import (
    Layer,
    attention,
    experts,
    extra_layers,
    hidden_width,
    inner_width,
    layer_count,
)
from ridgeline.workloads.importers.readers.common import Reader, decoder
from ridgeline.workloads.model import FeedForward, GroupedQuery, Mixer, MixtureOfExperts, Model, StateSpace


def mamba(config: Config) -> Model:
    """Mamba 1 (arXiv 2312.00752): every layer is a state-space mixer after one norm."""
    return decoder(config, [Layer(mixer=_mamba1(config), ffn=None, norms=("mixer",))] * layer_count(config), tied=True)


def _mamba1(config: Config, prefix: str = "") -> StateSpace:
    hidden = hidden_width(config)
    inner = config.size("intermediate_size", default=0.0) if not prefix else 0.0
    inner = inner or config.ratio(f"{prefix}expand", default=2.0) * hidden
    rank_key = f"{prefix}dt_rank" if prefix else "time_step_rank"
    automatic = not config.has(rank_key) or config.data[rank_key] == "auto"
    return StateSpace(
        kind="mamba1",
        heads=inner,
        head_dim=1.0,
        state=config.size(f"{prefix}d_state" if prefix else "state_size", default=16.0),
        conv=config.size(f"{prefix}d_conv" if prefix else "conv_kernel", default=4.0),
        dt_rank=math.ceil(hidden / 16.0) if automatic else config.size(rank_key),
        bias=config.flag(f"{prefix}proj_bias" if prefix else "use_bias"),
    )


def mamba2(config: Config) -> Model:
    """Mamba 2 (arXiv 2405.21060)."""
    layer = Layer(mixer=_mamba2(config), ffn=None, norms=("mixer",))
    return decoder(config, [layer] * layer_count(config), tied=True)


def _mamba2(config: Config, prefix: str = "") -> StateSpace:
    hidden = hidden_width(config)
    width = config.size(f"{prefix}head_dim", f"{prefix}headdim", "head_dim", default=64.0)
    inner = config.ratio(f"{prefix}expand", "expand", default=2.0) * hidden
    keys = (f"{prefix}num_heads", "n_mamba_heads") if prefix else ("num_heads",)
    return StateSpace(
        kind="mamba2",
        heads=config.size(*keys, default=inner / width),
        head_dim=width,
        state=config.size("ssm_state_size", "state_size", f"{prefix}d_state"),
        groups=config.size("n_groups", f"{prefix}ngroups", f"{prefix}n_groups", default=1.0),
        conv=config.size("conv_kernel", f"{prefix}d_conv", default=4.0),
        bias=config.flag(f"{prefix}proj_bias", "use_bias"),
    )


_KINDS = {"M": "mamba", "E": "moe", "*": "attention", "-": "mlp"}


def nemotron_h(config: Config) -> Model:
    """Nemotron-H (arXiv 2504.03624) and Nemotron 3: each layer is one mixer or one feed-forward after one norm."""
    kinds = _nemotron_kinds(config, "layers_block_type", "hybrid_override_pattern")
    if not kinds:
        raise config.missing("layers_block_type", "hybrid_override_pattern")
    layers = [_nemotron_layer(kind, config) for kind in kinds]
    drafts: list[Layer] = []
    for _ in range(extra_layers(config, "num_nextn_predict_layers")):
        draft = _nemotron_kinds(config, "mtp_layers_block_type", "mtp_hybrid_override_pattern")
        drafts += [_nemotron_layer(kind, config) for kind in draft]
    return decoder(config, layers, drafts=drafts)


def _nemotron_kinds(config: Config, listed: str, pattern: str) -> list[str]:
    if config.has(listed):
        kinds = config.texts(listed)
        key = listed
    else:
        key = pattern
        kinds = [_KINDS.get(letter, letter) for letter in config.text(pattern, default="")]
    unknown = sorted(set(kinds) - set(_KINDS.values()))
    if unknown:
        raise config.error(f"unknown kind of layer {unknown[0]!r}", key, fix=f"known are {', '.join(_KINDS.values())}")
    return kinds


def _nemotron_layer(kind: str, config: Config) -> Layer:
    mixer: Mixer | None = None
    ffn: FeedForward | MixtureOfExperts | None = None
    if kind == "mamba":
        mixer = _mamba2(config, "mamba_")
    elif kind == "attention":
        mixer = attention(config, qkv_bias=config.flag("attention_bias"), rope=False)
    elif kind == "moe":
        ffn = replace(experts(config, gated=False), router_bias=True)
    else:
        ffn = FeedForward(inter=inner_width(config), gated=False, bias=config.flag("mlp_bias"))
    return Layer(mixer=mixer, ffn=ffn, norms=("ffn",) if mixer is None else ("mixer",))


def jamba(config: Config) -> Model:
    """Jamba (arXiv 2403.19887): one attention layer in eight, experts in every other layer."""
    count = layer_count(config)
    softmax, scan = attention(config, rope=False), _mamba1(config, "mamba_")
    dense, moe = FeedForward(inter=inner_width(config)), experts(config, inner_width(config))
    attn_every, attn_at = config.size("attn_layer_period"), config.amount("attn_layer_offset")
    moe_every, moe_at = config.size("expert_layer_period"), config.amount("expert_layer_offset")
    layers = [
        Layer(mixer=softmax if i % attn_every == attn_at else scan, ffn=moe if i % moe_every == moe_at else dense)
        for i in range(count)
    ]
    return decoder(config, layers)


def zamba2(config: Config) -> Model:
    """Zamba 2 (arXiv 2411.15242): Mamba 2 layers, and a few transformer blocks that many layers share.

    A shared block reads the stream and the embeddings side by side. Its low-rank adapters and the map after it are held
    once per use; they are counted as parameters but not as work (3 % of a step).
    """
    count, hidden = layer_count(config), hidden_width(config)
    ids = config.amounts("hybrid_layer_ids")
    if not ids:
        raise config.missing("hybrid_layer_ids")
    heads = config.size("num_attention_heads")
    width = config.size("attention_head_dim", default=2.0 * hidden / heads)
    mixer = GroupedQuery(
        heads=heads,
        kv_heads=heads,
        head_dim=width,
        v_head_dim=width,
        rope=config.flag("use_mem_rope"),
        input_width=2.0 * hidden,
    )
    inner = inner_width(config)
    shared = Layer(mixer=mixer, ffn=FeedForward(inter=inner))
    held = int(min(config.size("num_mem_blocks", default=1.0), len(ids)))
    scan = Layer(mixer=_mamba2(config, "mamba_"), ffn=None, norms=("mixer",))
    layers = [scan] * count + [shared] * held + [replace(shared, tied=True)] * (len(ids) - held)
    rank = config.amount("adapter_rank", default=0.0)
    extra = len(ids) * (rank * (hidden + 2.0 * inner) + hidden * hidden)
    notes = ("adapters of shared blocks are counted as parameters, not as work",)
    return decoder(config, layers, tied=True, extra_parameters=extra, notes=notes)


READERS: dict[str, Reader] = {
    "mamba": mamba,
    "falcon_mamba": mamba,
    "mamba2": mamba2,
    "nemotron_h": nemotron_h,
    "jamba": jamba,
    "zamba2": zamba2,
}
