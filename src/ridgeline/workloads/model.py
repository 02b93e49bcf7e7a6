"""A model as numbers: blocks of a token mixer and a feed-forward, how often each repeats, and its number formats.

Sizes are numbers or arrays: models whose blocks have the same types and flags can be stacked (`stack`) into one value
whose sizes are columns, so that a table of many models is a few numpy calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.dtypes import DTYPES, SCHEMES, DType, Scheme
from ridgeline.core.errors import SpecError
from ridgeline.workloads.ops import Dim


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Number formats by part: matmul schemes of the attention projections, the dense feed-forward, the routed experts,
    the head and the shared experts (None: as the dense feed-forward); storage of the KV cache; format of the attention
    scores.
    """

    attention: Scheme = SCHEMES["bf16"]
    ffn: Scheme = SCHEMES["bf16"]
    experts: Scheme = SCHEMES["bf16"]
    head: Scheme = SCHEMES["bf16"]
    shared_experts: Scheme | None = None
    kv: DType = DTYPES["bf16"]
    score: DType = DTYPES["bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedQuery:
    """Softmax attention with grouped keys and values (MHA: kv_heads = heads, MQA: 1). `window` 0 is full attention.

    `gated` has an output gate as wide as the queries; `shared_kv` reads another layer's cache and holds no keys itself;
    `tied_values` takes values from the key projection (Gemma 4). `input_width` > 0: projections read that width instead
    of the hidden one (Zamba reads two streams).
    """

    heads: Dim
    kv_heads: Dim
    head_dim: Dim
    v_head_dim: Dim
    window: Dim = 0.0
    causal: bool = True
    cross: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    rope: bool = True
    sinks: bool = False
    gated: bool = False
    shared_kv: bool = False
    tied_values: bool = False
    input_width: Dim = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2). `q_rank` 0: queries are not compressed. With `selected` > 0 an indexer
    of `index_heads` x `index_dim` chooses that many keys per query (DeepSeek-V3.2).
    """

    heads: Dim
    q_rank: Dim
    kv_rank: Dim
    nope_dim: Dim
    rope_dim: Dim
    v_head_dim: Dim
    index_heads: Dim = 0.0
    index_dim: Dim = 0.0
    selected: Dim = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedLatent:
    """The attention of DeepSeek-V4: one latent per token serves all heads as key and value, within a `window`; beyond
    it, every `ratio` tokens are pooled into one latent (0: none). `overlap` 2 pools over two neighbouring groups,
    `selected` > 0 reads only as many pooled latents as an indexer chose (compressed sparse attention, else heavily
    compressed attention). Outputs go through `out_groups` low-rank maps of `out_rank`.
    """

    heads: Dim
    head_dim: Dim
    rope_dim: Dim
    q_rank: Dim
    window: Dim
    out_groups: Dim
    out_rank: Dim
    ratio: Dim = 0.0
    overlap: Dim = 1.0
    selected: Dim = 0.0
    index_heads: Dim = 0.0
    index_dim: Dim = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpace:
    """Mamba: `kind` mamba1 or mamba2; `heads` x `head_dim` = inner width; `dt_rank` for Mamba 1 only; `conv` taps."""

    kind: str
    heads: Dim
    head_dim: Dim
    state: Dim
    groups: Dim = 1.0
    conv: Dim = 4.0
    dt_rank: Dim = 0.0
    bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearAttention:
    """Recurrent attention: `kind` delta (gated delta rule, Qwen3-Next) or linear (lightning attention, MiniMax)."""

    kind: str
    key_heads: Dim
    value_heads: Dim
    key_dim: Dim
    value_dim: Dim
    conv: Dim = 0.0


Mixer = GroupedQuery | Latent | CompressedLatent | StateSpace | LinearAttention


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward:
    """Dense feed-forward of inner width `inter`: gated (SwiGLU, three matrices) or not (two)."""

    inter: Dim
    gated: bool = True
    bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureOfExperts:
    """Routed experts plus `shared_inter` of always-active width. `latent` > 0: experts work in a projected width."""

    experts: Dim
    topk: Dim
    inter: Dim
    shared_inter: Dim = 0.0
    gated: bool = True
    bias: bool = False
    shared_gate: bool = False
    latent: Dim = 0.0
    router_bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """`count` equal layers: a mixer, a feed-forward (either may be absent) and normalisations of the hidden width.

    `norms` says where they stand: before the `mixer`, the `cross` attention, the `ffn`, or after one of them
    (`mixer_out`, `ffn_out`); any other name stands before the feed-forward. A `tied` block runs with the weights of an
    earlier one.
    """

    name: str
    count: Dim
    mixer: Mixer | None
    ffn: FeedForward | MixtureOfExperts | None
    cross: GroupedQuery | None = None
    norms: tuple[str, ...] = ("mixer", "ffn")
    norm_bias: bool = False
    parallel: bool = False
    tied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A network of blocks over token embeddings.

    Attributes:
        hidden, vocab: widths; `vocab` 0 for towers without tokens.
        tied: the head shares the embedding table.
        positions: rows of a learned position table (0: none); `token_types` likewise (BERT).
        embedding_width: width of the token table where it differs from `hidden` (0: it does not).
        embedding_norm: whether a norm follows the tables.
        context: longest sequence that the model was made for.
        blocks: the decoder (or the only) stack; `encoder` a stack that runs once per input (T5), `drafts` multi-token
            prediction blocks, `towers` vision or audio encoders as models of their own.
        head: whether it has a vocabulary projection.
        precision: formats as published.
        streams: parallel residual streams of hyper-connections (DeepSeek-V4; 0: the one ordinary stream).
        patch_values: values in a patch of a tower's image.
        extra_parameters: parameters outside the blocks that no op of a forward step touches (poolers, projectors).
        card: where the facts come from.
        notes: what the importer left out or assumed.
    """

    name: str
    family: str
    hidden: Dim
    vocab: Dim
    blocks: tuple[Block, ...]
    context: Dim
    tied: bool = False
    positions: Dim = 0.0
    token_types: Dim = 0.0
    embedding_width: Dim = 0.0
    embedding_norm: bool = False
    head: bool = True
    head_bias: bool = False
    final_norm: bool = True
    encoder: tuple[Block, ...] = ()
    drafts: tuple[Block, ...] = ()
    towers: tuple[Model, ...] = ()
    streams: Dim = 0.0
    patch_values: Dim = 0.0
    extra_parameters: Dim = 0.0
    precision: Precision = Precision()
    card: str = ""
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> Dim:
        """Layers of the main stack."""
        total: Dim = sum((np.asarray(block.count, float) for block in self.blocks), start=np.float64(0.0))
        return total

    def signature(self) -> tuple[Any, ...]:
        """Types and flags of everything but sizes: models of one signature can be stacked."""
        signature: tuple[Any, ...] = _signature(replace(self, name="", family="", card="", notes=(), towers=()))
        return signature


def _signature(value: Any) -> Any:
    if isinstance(value, (DType, Scheme)):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value).__name__, *(_signature(getattr(value, f.name)) for f in fields(value)))
    if isinstance(value, tuple):
        return tuple(_signature(item) for item in value)
    if isinstance(value, (str, bool)) or value is None:
        return value
    # A size of zero says that something is absent: its ops are then not in the graph at all.
    return "none" if is_zero(value) else "size"


def is_zero(value: Dim) -> bool:
    """Whether a size is the plain number 0: absent, and not merely zero in some rows of a column."""
    return isinstance(value, (int, float)) and value == 0


def stack(models: Sequence[Model], index: NDArray[np.intp]) -> Model:
    """One model whose sizes are columns: row i is `models[index[i]]`. The name is the first's; towers are dropped.

    Raises SpecError when the models differ in more than sizes.
    """
    if len({model.signature() for model in models}) != 1:
        raise SpecError("only models of one structure can be stacked", at="models", got=[m.name for m in models])
    if len(models) == 1:
        return models[0]
    stacked: Model = _stack([replace(model, towers=(), notes=()) for model in models], index)
    return stacked


def _stack(values: Sequence[Any], index: NDArray[np.intp]) -> Any:
    first = values[0]
    if isinstance(first, (DType, Scheme, str, bool)) or first is None:
        return first
    if is_dataclass(first) and not isinstance(first, type):
        parts = {f.name: _stack([getattr(value, f.name) for value in values], index) for f in fields(first)}
        return replace(first, **parts)
    if isinstance(first, tuple):
        return tuple(_stack([value[i] for value in values], index) for i in range(len(first)))
    column: Any = np.asarray(values, dtype=np.float64)
    return first if np.all(column == column[0]) else column[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The tokens of one forward step: sequences that decode, and sequences that prefill, in one merged batch.

    Attributes:
        decode_seqs, decode_context: sequences that emit, and their mean KV length including the new tokens.
        decode_tokens: new tokens per decoding sequence (1, or 1 + drafts under speculation).
        prefill_seqs, prefill_tokens, prefill_prefix: prompts in the step, new tokens of each, tokens already cached.
        source_tokens: length of each sequence's encoder input (encoder-decoder models); prefilling sequences encode it.
        logits: rows through the head; None means one per prefilling sequence and every decoded token.
    """

    decode_seqs: Dim = 0.0
    decode_context: Dim = 0.0
    decode_tokens: Dim = 1.0
    prefill_seqs: Dim = 0.0
    prefill_tokens: Dim = 0.0
    prefill_prefix: Dim = 0.0
    source_tokens: Dim = 0.0
    logits: Dim | None = None

    @property
    def tokens(self) -> Dim:
        """Tokens that pass through every matmul."""
        return self.decode_seqs * self.decode_tokens + self.prefill_seqs * self.prefill_tokens

    @property
    def logits_rows(self) -> Dim:
        """Rows through the vocabulary projection."""
        if self.logits is not None:
            return self.logits
        return self.decode_seqs * self.decode_tokens + self.prefill_seqs
