"""Encoders and encoder-decoders: BERT and kin, T5, vision transformers."""

from __future__ import annotations

from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.importers.layers import Layer, blocks, extra_layers, hidden_width, inner_width, layer_count
from ridgeline.workloads.importers.quantization import precision
from ridgeline.workloads.importers.readers.common import Reader, decoder
from ridgeline.workloads.model import FeedForward, GroupedQuery, Model


def bert(config: Config) -> Model:
    """BERT (arXiv 1810.04805), RoBERTa: norms after each half, learned positions, a pooler, no head."""
    mixer = _bidirectional(config)
    ffn = FeedForward(inter=inner_width(config), gated=False, bias=True)
    layer = Layer(mixer=mixer, ffn=ffn, norms=("mixer_out", "ffn_out"), norm_bias=True)
    hidden = hidden_width(config)
    return decoder(
        config,
        [layer] * layer_count(config),
        head=False,
        positions=config.size("max_position_embeddings"),
        token_types=config.size("type_vocab_size", default=2.0),
        embedding_norm=True,
        final_norm=False,
        extra_parameters=hidden * hidden + hidden,
    )


def _bidirectional(config: Config) -> GroupedQuery:
    heads = config.size("num_attention_heads", "num_heads", "n_heads")
    width = hidden_width(config) / heads
    return GroupedQuery(
        heads=heads,
        kv_heads=heads,
        head_dim=width,
        v_head_dim=width,
        causal=False,
        qkv_bias=True,
        out_bias=True,
        rope=False,
    )


def distil_bert(config: Config) -> Model:
    """DistilBERT (arXiv 1910.01108): BERT without token types and pooler."""
    ffn = FeedForward(inter=config.size("hidden_dim"), gated=False, bias=True)
    layer = Layer(mixer=_bidirectional(config), ffn=ffn, norms=("mixer_out", "ffn_out"), norm_bias=True)
    positions = config.size("max_position_embeddings")
    layers = [layer] * layer_count(config)
    return decoder(config, layers, head=False, positions=positions, embedding_norm=True, final_norm=False)


def t5(config: Config) -> Model:
    """T5 (arXiv 1910.10683) and Flan-T5: relative positions, an encoder, a decoder with cross attention."""
    heads, width = config.size("num_heads"), config.size("d_kv")
    kind = config.text("feed_forward_proj", default="relu")
    ffn = FeedForward(inter=config.size("d_ff"), gated=kind.startswith("gated"))

    def mixer(*, causal: bool = False, cross: bool = False) -> GroupedQuery:
        return GroupedQuery(
            heads=heads, kv_heads=heads, head_dim=width, v_head_dim=width, causal=causal, cross=cross, rope=False
        )

    count = layer_count(config, "num_layers")
    back = extra_layers(config, "num_decoder_layers", default=float(count))
    upper = Layer(mixer=mixer(causal=True), ffn=ffn, cross=mixer(cross=True), norms=("mixer", "cross", "ffn"))
    # Two tables of relative-position biases, one per stack.
    buckets = config.size("relative_attention_num_buckets", default=32.0)
    return decoder(
        config,
        [upper] * back,
        tied=True,
        encoder=blocks([Layer(mixer=mixer(), ffn=ffn)] * count, prefix="encoder_"),
        extra_parameters=2.0 * buckets * heads,
    )


def vision_transformer(config: Config) -> Model:
    """A vision tower by any of the usual names of its sizes: ViT, CLIP, SigLIP, Qwen-VL, MoonViT, Gemma, Llama 4."""
    # Qwen2-VL calls the tower's width `embed_dim` and the language model's `hidden_size`.
    keys = ("embed_dim",) if config.has("embed_dim") and config.has("mlp_ratio") else ("hidden_size", "vt_hidden_size")
    hidden = config.size(*keys)
    heads = config.size("num_attention_heads", "num_heads", "vt_num_attention_heads")
    if hidden % heads:
        raise config.error(f"{heads:.0f} heads do not divide the width {hidden:.0f}", "num_attention_heads")
    ratio = config.ratio("mlp_ratio", default=4.0)
    inner = config.size("intermediate_size", "vt_intermediate_size", default=ratio * hidden)
    mixer = GroupedQuery(
        heads=heads,
        kv_heads=heads,
        head_dim=hidden / heads,
        v_head_dim=hidden / heads,
        causal=False,
        qkv_bias=config.flag("attention_bias", "qkv_bias", default=True),
        out_bias=config.flag("attention_bias", default=True),
        rope=False,
    )
    kind = config.text("model_type", default="") or "vit"
    gated = kind == "gemma4_vision" or config.text("hidden_act", default="gelu") == "silu"
    layer = Layer(mixer=mixer, ffn=FeedForward(inter=inner, gated=gated, bias=not gated), norm_bias=not gated)
    patch = config.size("patch_size")
    side = config.amount("image_size", default=0.0) // patch
    grid = config.amount("num_position_embeddings", "position_embedding_size", default=0.0)
    patches = side * side or grid or config.size("init_pos_emb_height", default=32.0) ** 2
    channels = config.size("in_channels", "num_channels", default=3.0)
    return Model(
        name="",
        family=kind,
        hidden=hidden,
        vocab=0.0,
        context=patches,
        blocks=blocks([layer] * layer_count(config, "num_hidden_layers", "depth", "vt_num_hidden_layers")),
        head=False,
        patch_values=patch * patch * channels * config.size("temporal_patch_size", default=1.0),
        # The position table; towers with rotary positions name no grid.
        extra_parameters=(patches if side or grid else 0.0) * hidden,
        head_bias=not gated,
        precision=precision(config),
    )


READERS: dict[str, Reader] = {
    "bert": bert,
    "roberta": bert,
    "xlm-roberta": bert,
    "camembert": bert,
    "distilbert": distil_bert,
    "t5": t5,
    "mt5": t5,
    "vit": vision_transformer,
    "clip_vision_model": vision_transformer,
    "siglip_vision_model": vision_transformer,
    "dinov2": vision_transformer,
}
