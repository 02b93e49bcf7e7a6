"""What all readers share: layers as written, grouped into blocks; attention and experts by their usual keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ridgeline.core.errors import SpecError
from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.model import (
    Block,
    CompressedLatent,
    FeedForward,
    GroupedQuery,
    Latent,
    LinearAttention,
    Mixer,
    MixtureOfExperts,
    StateSpace,
)

MOST_LAYERS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of a stack, as a block without a count."""

    mixer: Mixer | None
    ffn: FeedForward | MixtureOfExperts | None
    cross: GroupedQuery | None = None
    norms: tuple[str, ...] = ("mixer", "ffn")
    norm_bias: bool = False
    parallel: bool = False
    tied: bool = False


def blocks(layers: Iterable[Layer], prefix: str = "") -> tuple[Block, ...]:
    """Equal layers as one block with a count, in order of first appearance; named by what is in them."""
    counts: dict[Layer, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    named: list[Block] = []
    taken: dict[str, int] = {}
    for layer, count in counts.items():
        label = prefix + "_".join(
            filter(None, (_mixer_label(layer.mixer), _ffn_label(layer.ffn), "again" if layer.tied else ""))
        )
        taken[label] = taken.get(label, 0) + 1
        name = label if taken[label] == 1 else f"{label}_{taken[label]}"
        named.append(
            Block(
                name=name,
                count=float(count),
                mixer=layer.mixer,
                ffn=layer.ffn,
                cross=layer.cross,
                norms=layer.norms,
                norm_bias=layer.norm_bias,
                parallel=layer.parallel,
                tied=layer.tied,
            )
        )
    return tuple(named)


def _mixer_label(mixer: Mixer | None) -> str:
    match mixer:
        case GroupedQuery():
            return "window" if mixer.window else "attention"
        case Latent():
            return "latent"
        case CompressedLatent():
            return "window" if not mixer.ratio else "sparse" if mixer.selected else "compressed"
        case StateSpace():
            return "mamba"
        case LinearAttention():
            return "linear"
    return ""


def _ffn_label(ffn: FeedForward | MixtureOfExperts | None) -> str:
    return "" if ffn is None else "dense" if isinstance(ffn, FeedForward) else "moe"


def layer_count(config: Config, *keys: str) -> int:
    """Number of layers, small enough to be one."""
    keys = keys or ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    config.size(*keys)
    return extra_layers(config, *keys)


def extra_layers(config: Config, *keys: str, default: float = 0.0) -> int:
    """Number of layers of a further stack, which may be none."""
    count = config.amount(*keys, default=default)
    if count > MOST_LAYERS:
        key = next(key for key in keys if config.has(key))
        raise SpecError(f"{key} is more than {MOST_LAYERS} layers", at=config.at(key), got=count, fix="check the field")
    return int(count)


def attention(
    config: Config,
    *,
    qkv_bias: bool = False,
    out_bias: bool = False,
    qk_norm: bool = False,
    rope: bool = True,
    sinks: bool = False,
    gated: bool = False,
    window: float = 0.0,
) -> GroupedQuery:
    """Grouped-query attention by the usual keys."""
    heads = config.size("num_attention_heads", "n_head", "n_heads", "num_heads")
    return GroupedQuery(
        heads=heads,
        kv_heads=kv_heads(config, heads),
        head_dim=(head_dim := head_width(config, heads)),
        v_head_dim=config.size("v_head_dim", default=head_dim),
        qkv_bias=qkv_bias,
        out_bias=out_bias,
        qk_norm=qk_norm,
        rope=rope,
        sinks=sinks,
        gated=gated,
        window=window,
    )


def kv_heads(config: Config, heads: float, *keys: str) -> float:
    """Key and value heads, which must divide the query heads."""
    keys = keys or ("num_key_value_heads", "num_kv_heads", "multi_query_group_num")
    count = config.size(*keys, default=heads)
    if heads % count:
        key = next(key for key in keys if config.has(key))
        raise config.error(
            f"{key} does not divide the {heads:.0f} attention heads", key, fix="heads share keys in equal groups"
        )
    return count


def head_width(config: Config, heads: float, *keys: str) -> float:
    """Width of a head as stated, or the hidden width over the heads."""
    keys = keys or ("head_dim", "attention_head_dim", "kv_channels")
    if any(config.has(key) for key in keys):
        return config.size(*keys)
    hidden = hidden_width(config)
    if hidden % heads:
        raise config.error(
            f"the hidden width {hidden:.0f} is no multiple of {heads:.0f} heads",
            "num_attention_heads",
            fix="give head_dim",
        )
    return hidden / heads


def hidden_width(config: Config) -> float:
    """Width of the residual stream."""
    return config.size("hidden_size", "n_embd", "d_model", "n_embed", "dim")


def inner_width(config: Config) -> float:
    """Width of the dense feed-forward."""
    return config.size("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner")


def experts(config: Config, inter: float | None = None, *, gated: bool = True, bias: bool = False) -> MixtureOfExperts:
    """Routed and shared experts by the usual keys."""
    count = config.size("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
    topk = config.size("num_experts_per_tok", "top_k_experts", "num_experts_per_token", "moe_topk", "moe_top_k")
    if topk > count:
        key = next((key for key in ("num_experts_per_tok", "top_k_experts") if config.has(key)), "")
        raise config.error(f"{topk:.0f} experts per token of {count:.0f}", key, fix="choose at most all of them")
    if inter is None:
        inter = config.size("moe_intermediate_size", "expert_intermediate_size", "intermediate_size")
    stated = ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "share_expert_dim")
    shared = config.amount(*stated, default=inter) * config.amount(
        "n_shared_experts", "num_shared_experts", default=0.0
    )
    if not any(config.has(key) for key in ("n_shared_experts", "num_shared_experts")):
        shared = config.amount(*stated, default=0.0)
    return MixtureOfExperts(
        experts=count,
        topk=topk,
        inter=inter,
        shared_inter=shared,
        gated=gated,
        bias=bias,
        latent=config.amount("moe_latent_size", default=0.0),
        router_bias=has_router_bias(config),
    )


def has_router_bias(config: Config) -> bool:
    """Whether the router holds one number per expert beside its matrix (loss-free balancing, arXiv 2408.15664)."""
    if config.has("topk_method"):
        return config.text("topk_method") == "noaux_tc"
    return config.flag("use_routing_bias", "use_moe_router_bias", default=False)


def sparse_layers(config: Config, count: int) -> list[bool]:
    """Which layers have experts, by whichever of the usual keys is there; all of them when none is."""
    if config.has("mlp_layer_types"):
        kinds = config.per_layer("mlp_layer_types", config.texts("mlp_layer_types"), count)
        return [kind != "dense" for kind in kinds]
    if isinstance(config.data.get("moe_layer_freq"), list):
        return [f > 0 for f in config.per_layer("moe_layer_freq", config.amounts("moe_layer_freq"), count)]
    if config.has("moe_layers"):
        chosen = set(config.amounts("moe_layers"))
        return [i in chosen for i in range(count)]
    first = config.amount("first_k_dense_replace", default=0.0)
    step = config.size("moe_layer_freq", "decoder_sparse_step", "interleave_moe_layer_step", default=1.0)
    # DeepSeek counts layers from 0 (i % freq == 0), Qwen and Llama 4 from 1 ((i + 1) % step == 0).
    offset = 0 if config.has("moe_layer_freq") else 1
    dense = set(config.amounts("mlp_only_layers"))
    return [i >= first and (i + offset) % step == 0 and i not in dense for i in range(count)]


def windows(config: Config, count: int, *, default_pattern: Sequence[bool] = (True,)) -> list[float]:
    """The sliding window of each layer, 0 where a layer sees everything.

    `default_pattern` repeats over the layers (True: windowed) when the file has a window but no list of layer types.
    """
    window = config.amount("sliding_window", "sliding_window_size", default=0.0)
    if not config.flag("use_sliding_window", default=True):
        return [0.0] * count
    if config.has("layer_types"):
        kinds = config.per_layer("layer_types", config.texts("layer_types"), count)
        chunk = config.amount("attention_chunk_size", default=0.0)
        known = {"sliding_attention": window, "chunked_attention": chunk}
        return [known.get(kind, 0.0) for kind in kinds]
    if config.has("sliding_window_pattern"):
        every = config.size("sliding_window_pattern")
        return [window if (i + 1) % every else 0.0 for i in range(count)]
    if config.has("use_sliding_window") and config.has("max_window_layers"):
        first = config.amount("max_window_layers")
        return [window if i >= first else 0.0 for i in range(count)]
    return [window if default_pattern[i % len(default_pattern)] else 0.0 for i in range(count)]
