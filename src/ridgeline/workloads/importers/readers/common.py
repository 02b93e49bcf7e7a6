"""The frame of a decoder: what every text reader fills in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ridgeline.workloads.importers.config import Config
from ridgeline.workloads.importers.layers import Layer, blocks, extra_layers, hidden_width
from ridgeline.workloads.importers.quantization import precision
from ridgeline.workloads.model import FeedForward, Mixer, MixtureOfExperts, Model

Reader = Callable[[Config], Model]


def decoder(
    config: Config, layers: Sequence[Layer], *, tied: bool = False, drafts: Sequence[Layer] = (), **more: Any
) -> Model:
    """A decoder over token embeddings. `tied` is what the family does when the file does not say."""
    return Model(
        name="",
        family=config.text("model_type", default="llama"),
        hidden=hidden_width(config),
        vocab=config.size("vocab_size", "padded_vocab_size"),
        context=context_length(config),
        tied=config.holder("tie_word_embeddings").flag("tie_word_embeddings", default=tied),
        blocks=blocks(layers),
        drafts=blocks(drafts, prefix="draft_"),
        precision=precision(config),
        **more,
    )


def context_length(config: Config) -> float:
    """The longest sequence that the file names."""
    keys = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx")
    return config.size(*keys, "model_max_length", "max_length", default=2048.0)


def draft_layers(config: Config, last: Layer, *keys: str) -> list[Layer]:
    """Multi-token prediction layers, built like the last layer of the stack."""
    keys = keys or ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
    return [last] * extra_layers(config, *keys)


def paired(mixers: Sequence[Mixer], ffns: Sequence[FeedForward | MixtureOfExperts], **style: Any) -> list[Layer]:
    """Layers of one mixer and one feed-forward each."""
    return [Layer(mixer=mixer, ffn=ffn, **style) for mixer, ffn in zip(mixers, ffns, strict=True)]
