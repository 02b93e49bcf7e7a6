"""Gemma 1 to 4: wide heads, tied embeddings, sandwich norms, windows in most layers."""

from __future__ import annotations

from dataclasses import replace

from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.importers.layers import Layer, attention, experts, inner_width, kv_heads, layer_count, windows
from ridgeline.workloads.importers.readers.common import Reader, decoder, paired
from ridgeline.workloads.importers.readers.dense import SANDWICH
from ridgeline.workloads.model import FeedForward, GroupedQuery, MixtureOfExperts, Model


def gemma(config: Config) -> Model:
    """Gemma 1 (arXiv 2403.08295): Llama with wide heads and tied embeddings."""
    layer = Layer(mixer=attention(config), ffn=FeedForward(inter=inner_width(config)))
    return decoder(config, [layer] * layer_count(config), tied=True)


def gemma2(config: Config) -> Model:
    """Gemma 2 (arXiv 2408.00118): norms before and after, a window in every other layer."""
    return _sandwich(config, (True, False), qk_norm=False)


def gemma3(config: Config) -> Model:
    """Gemma 3 (arXiv 2503.19786): five windowed layers to one full one, query-key norms."""
    return _sandwich(config, (True, True, True, True, True, False), qk_norm=True)


def _sandwich(config: Config, pattern: tuple[bool, ...], *, qk_norm: bool) -> Model:
    count = layer_count(config)
    mixer = attention(config, qk_norm=qk_norm)
    mixers = [replace(mixer, window=window) for window in windows(config, count, default_pattern=pattern)]
    ffn = FeedForward(inter=inner_width(config))
    return decoder(config, paired(mixers, [ffn] * count, norms=SANDWICH), tied=True)


def gemma4(config: Config) -> Model:
    """Gemma 4: full layers have their own head width and take values from keys; with experts, a dense feed-forward runs
    beside them in every layer.
    """
    if config.amount("hidden_size_per_layer_input", default=0.0):
        raise config.error("per-layer input embeddings are not modelled", "hidden_size_per_layer_input")
    if config.amount("num_kv_shared_layers", default=0.0):
        raise config.error("layers that share a cache are not modelled", "num_kv_shared_layers")
    count = layer_count(config)
    local = attention(config, qk_norm=True)
    width = config.size("global_head_dim", default=local.head_dim)
    tied = config.flag("attention_k_eq_v")
    groups = local.kv_heads
    if tied and config.has("num_global_key_value_heads"):
        groups = kv_heads(config, float(local.heads), "num_global_key_value_heads")
    full = GroupedQuery(
        heads=local.heads,
        kv_heads=groups,
        head_dim=width,
        v_head_dim=width,
        qk_norm=True,
        tied_values=tied,
    )
    mixers = [replace(local, window=window) if window else full for window in windows(config, count)]
    inner = inner_width(config)
    ffn: FeedForward | MixtureOfExperts = FeedForward(inter=inner)
    norms: tuple[str, ...] = SANDWICH
    if config.flag("enable_moe_block"):
        ffn = replace(experts(config), shared_inter=inner)
        norms = ("mixer", "mixer_out", "ffn", "experts", "shared_out", "experts_out", "ffn_out")
    model = decoder(config, paired(mixers, [ffn] * count, norms=norms), tied=True)
    # What runs beside the experts is called `mlp` in the file, and follows the format of a dense feed-forward.
    return replace(model, precision=replace(model.precision, shared_experts=None))


READERS: dict[str, Reader] = {
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3_text": gemma3,
    "gemma4_text": gemma4,
}
