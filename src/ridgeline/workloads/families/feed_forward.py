"""Feed-forwards as ops: dense, and mixtures of routed and shared experts."""

from __future__ import annotations

from collections.abc import Iterator

from ridgeline.core.dtypes import Scheme
from ridgeline.workloads.model import FeedForward, MixtureOfExperts, Precision, is_zero
from ridgeline.workloads.ops import Dim, Experts, Matmul, Op, Vector


def dense(ffn: FeedForward, hidden: Dim, tokens: Dim, precision: Precision) -> Iterator[Op]:
    """Up (with a gate or not), activation, down."""
    names = ("gate_up" if ffn.gated else "ffn_up", "activation", "ffn_down")
    yield from _dense(names, "ffn", ffn.inter, hidden, tokens, precision.ffn, gated=ffn.gated, bias=ffn.bias)


def _dense(
    names: tuple[str, str, str],
    part: str,
    inter: Dim,
    hidden: Dim,
    tokens: Dim,
    scheme: Scheme,
    *,
    gated: bool,
    bias: bool = False,
) -> Iterator[Op]:
    up, act, down = names
    n = inter * (2.0 if gated else 1.0)
    yield Matmul(name=up, part=part, m=tokens, n=n, k=hidden, scheme=scheme, shard="column", bias=bias)
    yield Vector(name=act, part=part, kind="activation", elements=tokens * inter, reads=2.0 if gated else 1.0)
    yield Matmul(name=down, part=part, m=tokens, n=hidden, k=inter, scheme=scheme, shard="row", bias=bias)


def mixture(ffn: MixtureOfExperts, hidden: Dim, tokens: Dim, precision: Precision) -> Iterator[Op]:
    """Router, shared experts, routed experts. Dispatch and combine within a rank belong to the price of `experts`."""
    bf16 = Precision().ffn
    yield Matmul(name="router", part="router", m=tokens, n=ffn.experts, k=hidden, scheme=bf16, bias=ffn.router_bias)
    if not is_zero(ffn.shared_inter):
        names = ("shared_gate_up" if ffn.gated else "shared_up", "shared_activation", "shared_down")
        scheme = precision.ffn if precision.shared_experts is None else precision.shared_experts
        yield from _dense(names, "shared_experts", ffn.shared_inter, hidden, tokens, scheme, gated=ffn.gated)
        if ffn.shared_gate:
            yield Matmul(name="shared_gate", part="shared_experts", m=tokens, n=1.0, k=hidden, scheme=bf16)
    width = hidden
    if not is_zero(ffn.latent):
        width = ffn.latent
        yield Matmul(name="latent_down", part="experts", m=tokens, n=width, k=hidden, scheme=precision.ffn)
    yield Experts(
        name="experts",
        part="experts",
        tokens=tokens,
        hidden=width,
        inter=ffn.inter,
        topk=ffn.topk,
        experts=ffn.experts,
        scheme=precision.experts,
        gated=ffn.gated,
        distribution="random",
        bias=ffn.bias,
    )
    if not is_zero(ffn.latent):
        yield Matmul(name="latent_up", part="experts", m=tokens, n=hidden, k=width, scheme=precision.ffn)
