"""Dense decoders of the Llama kind: grouped-query attention, rotary positions, a gated feed-forward, two RMS norms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.importers.layers import (
    Layer,
    attention,
    head_width,
    hidden_width,
    inner_width,
    layer_count,
    windows,
)
from ridgeline.workloads.importers.readers.common import Reader, decoder, draft_layers, paired
from ridgeline.workloads.model import FeedForward, GroupedQuery, Model

SANDWICH = ("mixer", "mixer_out", "ffn", "ffn_out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a family departs from Llama. A bias of None follows `attention_bias`; `qkv_only` spares the output
    projection.
    """

    qkv_bias: bool | None = None
    qkv_only: bool = False
    qk_norm: bool = False
    gated: bool = True
    norms: tuple[str, ...] = ("mixer", "ffn")
    norm_bias: bool = False
    parallel: bool = False
    tied: bool = False


def read(config: Config, style: Style) -> Model:
    """A dense decoder in the given style."""
    count = layer_count(config)
    stated = config.flag("attention_bias", "use_qkv_bias", "add_qkv_bias", "bias")
    mixer = attention(
        config,
        qkv_bias=stated if style.qkv_bias is None else style.qkv_bias,
        out_bias=stated and style.qkv_bias is None and not style.qkv_only,
        qk_norm=style.qk_norm or config.flag("use_qk_norm", "qk_layernorm"),
    )
    ffn = FeedForward(inter=inner_width(config), gated=style.gated, bias=config.flag("mlp_bias"))
    mixers = [replace(mixer, window=window) for window in windows(config, count)]
    layers = paired(mixers, [ffn] * count, norms=style.norms, norm_bias=style.norm_bias, parallel=style.parallel)
    return decoder(config, layers, tied=style.tied, drafts=draft_layers(config, layers[-1]))


def starcoder2(config: Config) -> Model:
    """StarCoder 2 (arXiv 2402.19173): biases throughout, LayerNorm, two matrices in the feed-forward."""
    count, bias = layer_count(config), config.flag("use_bias", default=True)
    mixer = attention(config, qkv_bias=bias, out_bias=bias)
    ffn = FeedForward(inter=inner_width(config), gated=False, bias=bias)
    mixers = [replace(mixer, window=window) for window in windows(config, count)]
    return decoder(config, paired(mixers, [ffn] * count, norm_bias=True), tied=True)


def phi(config: Config) -> Model:
    """Phi 1.5 and 2: attention and feed-forward in parallel after one LayerNorm, biases throughout, an untied head."""
    mixer = attention(config, qkv_bias=True, out_bias=True, qk_norm=config.flag("qk_layernorm"))
    ffn = FeedForward(inter=inner_width(config), gated=False, bias=True)
    layer = Layer(mixer=mixer, ffn=ffn, norms=("mixer",), norm_bias=True, parallel=True)
    return decoder(config, [layer] * layer_count(config), head_bias=True)


def phi3_small(config: Config) -> Model:
    """Phi-3-small: biases throughout, LayerNorm, a gated feed-forward. Block-sparse layers are read as full ones."""
    mixer = attention(config, qkv_bias=True, out_bias=True)
    ffn = FeedForward(inter=config.size("ff_intermediate_size", "intermediate_size"), bias=True)
    notes = ("blocksparse attention layers are counted as full attention",)
    layers = [Layer(mixer=mixer, ffn=ffn, norm_bias=True)] * layer_count(config)
    return decoder(config, layers, tied=True, notes=notes)


def persimmon(config: Config) -> Model:
    """Persimmon: biases throughout, LayerNorm, query-key norms, two matrices in the feed-forward."""
    mixer = attention(config, qkv_bias=True, out_bias=True, qk_norm=config.flag("qk_layernorm", default=True))
    ffn = FeedForward(inter=inner_width(config), gated=False, bias=True)
    return decoder(config, [Layer(mixer=mixer, ffn=ffn, norm_bias=True)] * layer_count(config))


def stablelm(config: Config) -> Model:
    """StableLM 2: LayerNorm with bias, no biases elsewhere but perhaps on queries, keys and values."""
    mixer = attention(config, qkv_bias=config.flag("use_qkv_bias"), qk_norm=config.flag("qk_layernorm"))
    parallel = config.flag("use_parallel_residual")
    norms = ("mixer",) if parallel else ("mixer", "ffn")
    layer = Layer(
        mixer=mixer, ffn=FeedForward(inter=inner_width(config)), norms=norms, norm_bias=True, parallel=parallel
    )
    return decoder(config, [layer] * layer_count(config))


def nemotron(config: Config) -> Model:
    """Nemotron-4 (arXiv 2402.16819): squared ReLU without a gate, LayerNorm with bias."""
    mixer = attention(config)
    ffn = FeedForward(inter=inner_width(config), gated=False, bias=config.flag("mlp_bias"))
    return decoder(config, [Layer(mixer=mixer, ffn=ffn, norm_bias=True)] * layer_count(config))


def chatglm(config: Config) -> Model:
    """ChatGLM 2 and 3, GLM-4-9B: keys in a few groups, biases on queries, keys and values, a gated feed-forward."""
    heads = config.size("num_attention_heads")
    grouped = config.flag("multi_query_attention")
    width = config.size("kv_channels", default=head_width(config, heads))
    mixer = GroupedQuery(
        heads=heads,
        kv_heads=config.size("multi_query_group_num") if grouped else heads,
        head_dim=width,
        v_head_dim=width,
        qkv_bias=config.flag("add_qkv_bias", default=True),
    )
    ffn = FeedForward(inter=config.size("ffn_hidden_size"))
    return decoder(config, [Layer(mixer=mixer, ffn=ffn)] * layer_count(config))


def deci(config: Config) -> Model:
    """DeciLM and Nemotron-NAS (arXiv 2411.19146): every layer has its own attention groups and feed-forward width, or
    none.
    """
    count = layer_count(config)
    heads = config.size("num_attention_heads")
    width = head_width(config, heads)
    if not config.has("block_configs"):
        per_layer = config.per_layer(
            "num_key_value_heads_per_layer", config.amounts("num_key_value_heads_per_layer"), count
        )
        ffn = FeedForward(inter=inner_width(config))
        layers = [Layer(mixer=_grouped(heads, max(kv, 1.0), width), ffn=ffn) for kv in per_layer]
        return decoder(config, layers)
    listed = config.data["block_configs"]
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise config.error("block_configs is not a list of objects", "block_configs")
    chosen = config.per_layer("block_configs", listed, count)
    return decoder(config, [_nas_layer(Config.of(item, config.document.name), config, heads, width) for item in chosen])


def _grouped(heads: float, kv: float, width: float) -> GroupedQuery:
    return GroupedQuery(heads=heads, kv_heads=kv, head_dim=width, v_head_dim=width)


def _nas_layer(block: Config, config: Config, heads: float, width: float) -> Layer:
    mixer, ffn = block.sub("attention"), block.sub("ffn")
    for part in (mixer, ffn):
        if part.flag("replace_with_linear"):
            raise config.error("a block replaced by a linear map is not modelled", "block_configs")
    grouped = None if mixer.flag("no_op") else _grouped(heads, heads / mixer.size("n_heads_in_group"), width)
    inner = None
    if not ffn.flag("no_op"):
        if not ffn.has("ffn_mult"):
            raise ffn.missing("ffn_mult")
        inner = FeedForward(inter=_inner(ffn.ratio("ffn_mult", default=1.0), config))
    norms = tuple(name for name, part in (("mixer", grouped), ("ffn", inner)) if part is not None)
    return Layer(mixer=grouped, ffn=inner, norms=norms)


def _inner(multiple: float, config: Config) -> float:
    """The publisher's rule: two thirds of `multiple` times the hidden width, rounded up to a multiple of 256."""
    wanted = int(2.0 * multiple * hidden_width(config) / 3.0)
    return float(-(-wanted // 256) * 256)


def mllama(config: Config) -> Model:
    """Llama 3.2 Vision text: layers that attend to an image are skipped without one; here they are held but not run."""
    count = layer_count(config)
    crossing = config.amounts("cross_attention_layers")
    mixer, hidden = attention(config), hidden_width(config)
    layer = Layer(mixer=mixer, ffn=FeedForward(inter=inner_width(config)))
    width = mixer.heads * mixer.head_dim
    keys = mixer.kv_heads * (mixer.head_dim + mixer.v_head_dim)
    each = hidden * (2.0 * width + keys) + 3.0 * hidden * inner_width(config) + 2.0 * hidden
    notes = (f"{len(crossing)} layers of cross attention to images are held, not run",)
    extra = len(crossing) * each + 8.0 * hidden
    return decoder(config, [layer] * (count - len(crossing)), extra_parameters=extra, notes=notes)


_STYLES = {
    "llama": Style(),
    "mistral": Style(),
    "ministral": Style(),
    "ministral3": Style(),
    "baichuan": Style(),
    "yi": Style(),
    "xgen": Style(),
    "internlm": Style(),
    "internlm2": Style(),
    "internlm3": Style(),
    "granite": Style(),
    "smollm3": Style(tied=True),
    "seed_oss": Style(qkv_only=True),
    "phi3": Style(),
    "qwen2": Style(qkv_bias=True),
    "qwen": Style(qkv_bias=True),
    "qwen3": Style(qk_norm=True),
    "mimo": Style(qkv_only=True),
    "olmo": Style(),
    "olmo2": Style(qk_norm=True, norms=("mixer_out", "ffn_out")),
    "olmo3": Style(qk_norm=True, norms=("mixer_out", "ffn_out")),
    "exaone4": Style(qk_norm=True, norms=("mixer_out", "ffn_out")),
    "glm": Style(qkv_only=True),
    "glm4": Style(qkv_only=True, norms=SANDWICH),
    "cohere": Style(norms=("mixer",), parallel=True, tied=True),
    "cohere2": Style(norms=("mixer",), parallel=True, tied=True),
}

READERS: dict[str, Reader] = {
    **{name: partial(read, style=style) for name, style in _STYLES.items()},
    "starcoder2": starcoder2,
    "phi": phi,
    "phi3small": phi3_small,
    "persimmon": persimmon,
    "stablelm": stablelm,
    "stablelm_epoch": stablelm,
    "nemotron": nemotron,
    "chatglm": chatglm,
    "deci": deci,
    "mllama_text_model": mllama,
    "nemotron-nas": deci,
    "decilm": deci,
}
