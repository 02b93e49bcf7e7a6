"""One forward step of a model as a graph: embedding, repeated blocks, final norm, head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ridgeline.core.errors import SpecError
from ridgeline.workloads.families.attention import grouped_query, latent
from ridgeline.workloads.families.compressed import compressed_latent
from ridgeline.workloads.families.feed_forward import dense, mixture
from ridgeline.workloads.families.recurrent import linear_attention, state_space
from ridgeline.workloads.graph import Graph, Repeat
from ridgeline.workloads.model import (
    Batch,
    Block,
    CompressedLatent,
    FeedForward,
    GroupedQuery,
    Latent,
    LinearAttention,
    Mixer,
    Model,
    Precision,
    StateSpace,
    is_zero,
)
from ridgeline.workloads.ops import Dim, Embedding, Matmul, Op, Vector


def forward(model: Model, batch: Batch, *, drafts: bool = False) -> Graph:
    """The ops of one forward step over a merged batch of prefilling and decoding sequences.

    Args:
        model:  sizes, possibly stacked columns.
        batch:  tokens; a phase whose number of sequences is the plain number 0 has no ops in the graph.
        drafts: whether the multi-token prediction blocks run too.
    Returns: one `Repeat` per kind of block, with whole-model (not per-rank) sizes.
    """
    items: list[Op | Repeat] = []
    if model.encoder:
        source = Batch(prefill_seqs=batch.prefill_seqs, prefill_tokens=batch.source_tokens)
        items += [Repeat(_block(block, model, source), block.count) for block in model.encoder]
        items.append(_norm("norm_encoder", model.hidden, source.tokens, bias=False))
    items += _embeddings(model, batch)
    items += [Repeat(_block(block, model, batch), block.count) for block in model.blocks]
    if model.final_norm:
        items.append(_norm("norm_final", model.hidden, batch.tokens, bias=model.blocks[-1].norm_bias))
    items += _head(model, batch)
    if drafts:
        items += [Repeat(_draft(block, model, batch), block.count) for block in model.drafts]
    return Graph(model.name, tuple(items))


def _embeddings(model: Model, batch: Batch) -> Iterator[Op]:
    if is_zero(model.vocab):
        return
    tokens, width = batch.tokens, model.hidden if is_zero(model.embedding_width) else model.embedding_width
    rows = 0.0 if model.tied and model.head else model.vocab
    yield Embedding(name="embed", part="embedding", tokens=tokens, width=width, vocab=rows)
    if not is_zero(model.embedding_width):
        scheme = model.precision.head
        yield Matmul(name="embed_in", part="embedding", m=tokens, n=model.hidden, k=width, scheme=scheme)
    for name, table in (("embed_positions", model.positions), ("embed_types", model.token_types)):
        if not is_zero(table):
            yield Embedding(name=name, part="embedding", tokens=tokens, width=model.hidden, vocab=table)
    if model.embedding_norm:
        yield _norm("norm_embedding", model.hidden, tokens, bias=True)


def _head(model: Model, batch: Batch) -> Iterator[Op]:
    if not model.head or is_zero(model.vocab):
        return
    rows, width, scheme = batch.logits_rows, model.hidden, model.precision.head
    if not is_zero(model.embedding_width):
        width = model.embedding_width
        yield Matmul(name="embed_out", part="head", m=rows, n=width, k=model.hidden, scheme=scheme)
    yield Matmul(
        name="head", part="head", m=rows, n=model.vocab, k=width, scheme=scheme, shard="vocab", bias=model.head_bias
    )


def _block(block: Block, model: Model, batch: Batch) -> Graph:
    """One layer: norms before and after, the mixer, cross attention, the feed-forward."""
    hidden, tokens, precision = model.hidden, batch.tokens, model.precision

    def norms(*places: str) -> Iterator[Op]:
        for place in places:
            if place in block.norms:
                yield _norm(f"norm_{place}", hidden, tokens, bias=block.norm_bias)

    known = ("mixer", "mixer_out", "cross", "ffn_out")
    ops = [*_hyper("mixer", model, tokens), *norms("mixer")]
    if block.mixer is not None:
        ops += _mixer(block.mixer, hidden, batch, model)
    ops += norms("mixer_out", "cross")
    if block.cross is not None:
        ops += [_renamed(op, "cross_") for op in grouped_query(block.cross, hidden, batch, precision)]
    ops += _hyper("ffn", model, tokens)
    ops += norms(*(place for place in block.norms if place not in known))
    if isinstance(block.ffn, FeedForward):
        ops += dense(block.ffn, hidden, tokens, precision)
    elif block.ffn is not None:
        ops += mixture(block.ffn, hidden, tokens, precision)
    ops += norms("ffn_out")
    return Graph(block.name, tuple(_without_weights(op) for op in ops) if block.tied else tuple(ops))


def _without_weights(op: Op) -> Op:
    """The op of a layer that runs with the weights of another: they are read again, but held once."""
    match op:
        case Matmul():
            return replace(op, tied=True)
        case Vector():
            return replace(op, weights=0.0)
    if not is_zero(op.weight_elements()):
        raise SpecError("this op cannot share its weights", at=op.name, got=type(op).__name__)
    return op


def _hyper(place: str, model: Model, tokens: Dim) -> Iterator[Op]:
    """Hyper-connections (arXiv 2409.19606; manifold-constrained in DeepSeek-V4): weights from all streams, then their
    mix.
    """
    if is_zero(model.streams):
        return
    width = model.streams * model.hidden
    mixes = (2.0 + model.streams) * model.streams
    yield Matmul(name=f"hyper_{place}", part="norm", m=tokens, n=mixes, k=width, scheme=Precision().ffn, bias=True)
    yield Vector(name=f"hyper_{place}_mix", part="norm", kind="norm", elements=tokens * width, reads=2.0, writes=1.0)


def _mixer(mixer: Mixer, hidden: Dim, batch: Batch, model: Model) -> Iterator[Op]:
    match mixer:
        case GroupedQuery():
            return grouped_query(mixer, hidden, batch, model.precision)
        case Latent():
            return latent(mixer, hidden, batch, model.precision)
        case CompressedLatent():
            return compressed_latent(mixer, hidden, batch, model.precision)
        case StateSpace():
            return state_space(mixer, hidden, batch, model.precision)
        case LinearAttention():
            return linear_attention(mixer, hidden, batch, model.precision)
    raise SpecError("no ops are known for this mixer", at=model.name, got=type(mixer).__name__)


def _draft(block: Block, model: Model, batch: Batch) -> Graph:
    """A multi-token prediction block (arXiv 2412.19437, 2.2): two norms, a projection of [hidden, embedding], a layer,
    and the main model's head.
    """
    hidden, tokens = model.hidden, batch.tokens
    layer = _block(block, model, batch)
    joined = Vector(name="norm_draft", part="norm", kind="norm", elements=2.0 * tokens * hidden, weights=3.0 * hidden)
    project = Matmul(
        name="draft_in", part="draft", m=tokens, n=hidden, k=2.0 * hidden, scheme=model.precision.attention
    )
    head = [replace(op, tied=True) for op in _head(model, batch) if isinstance(op, Matmul)]
    return Graph(block.name, (joined, project, *layer.items, *head))


def _norm(name: str, hidden: Dim, tokens: Dim, *, bias: bool) -> Vector:
    """A normalisation fused with the residual addition: reads and writes both the stream and the branch."""
    weights = hidden * (2.0 if bias else 1.0)
    return Vector(name=name, part="norm", kind="norm", elements=tokens * hidden, reads=2.0, writes=2.0, weights=weights)


def _renamed(op: Op, prefix: str) -> Op:
    renamed: Op = replace(op, name=prefix + op.name)  # type: ignore[type-var]
    return renamed
