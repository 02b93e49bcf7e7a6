"""Token mixers with a state instead of a cache: Mamba 1 and 2, gated delta rule, lightning attention."""

from __future__ import annotations

from collections.abc import Iterator

from ridgeline.workloads.families.attention import PART, phases
from ridgeline.workloads.model import Batch, LinearAttention, Precision, StateSpace, is_zero
from ridgeline.workloads.ops import Convolution, Dim, Matmul, Op, Scan, Vector


def state_space(mixer: StateSpace, hidden: Dim, batch: Batch, precision: Precision) -> Iterator[Op]:
    """Mamba 1 (arXiv 2312.00752, figure 3) or Mamba 2 (arXiv 2405.21060, figure 6)."""
    inner, tokens, scheme = mixer.heads * mixer.head_dim, batch.tokens, precision.attention
    second = mixer.kind == "mamba2"
    state_width = 2.0 * mixer.groups * mixer.state
    n = 2.0 * inner + (state_width + mixer.heads if second else 0.0)
    yield Matmul(name="in_proj", part=PART, m=tokens, n=n, k=hidden, scheme=scheme, shard="column", bias=mixer.bias)
    yield _conv(inner + (state_width if second else 0.0), mixer.conv, tokens, precision, bias=True)
    if not second:
        n = mixer.dt_rank + state_width
        yield Matmul(name="x_proj", part=PART, m=tokens, n=n, k=inner, scheme=scheme, shard="row")
        yield Matmul(
            name="dt_proj", part=PART, m=tokens, n=inner, k=mixer.dt_rank, scheme=scheme, shard="column", bias=True
        )
    # Decay and skip per channel (Mamba 1), or decay, skip and step bias per head (Mamba 2).
    held = 3.0 * mixer.heads if second else inner * (mixer.state + 1.0)
    for phase, seqs, q_len, _ in phases(batch):
        yield _scan(mixer.kind, phase, seqs, q_len, mixer.heads, mixer.head_dim, mixer.state, mixer.groups, held)
        held = 0.0
    if second:
        yield Vector(name="gated_norm", part=PART, kind="activation", elements=tokens * inner, reads=2.0, weights=inner)
    yield Matmul(name="out_proj", part=PART, m=tokens, n=hidden, k=inner, scheme=scheme, shard="row", bias=mixer.bias)


def linear_attention(mixer: LinearAttention, hidden: Dim, batch: Batch, precision: Precision) -> Iterator[Op]:
    """Gated delta rule (Qwen3-Next, arXiv 2412.06464) or lightning attention (MiniMax-01, arXiv 2501.08313)."""
    tokens, scheme = batch.tokens, precision.attention
    keys, values = mixer.key_heads * mixer.key_dim, mixer.value_heads * mixer.value_dim
    delta = mixer.kind == "delta"
    # Queries, keys, values and an output gate as wide as the values.
    n = 2.0 * keys + 2.0 * values
    yield Matmul(name="in_proj", part=PART, m=tokens, n=n, k=hidden, scheme=scheme, shard="column")
    if delta:
        heads = 2.0 * mixer.value_heads
        bf16 = Precision().attention
        yield Matmul(name="in_proj_gates", part=PART, m=tokens, n=heads, k=hidden, scheme=bf16, shard="column")
    if not is_zero(mixer.conv):
        yield _conv(2.0 * keys + values, mixer.conv, tokens, precision, bias=False)
    held = 2.0 * mixer.value_heads if delta else 0.0
    for phase, seqs, q_len, _ in phases(batch):
        groups = mixer.key_heads
        yield _scan(mixer.kind, phase, seqs, q_len, mixer.value_heads, mixer.value_dim, mixer.key_dim, groups, held)
        held = 0.0
    gains = mixer.value_dim if delta else values
    yield Vector(name="gated_norm", part=PART, kind="activation", elements=tokens * values, reads=2.0, weights=gains)
    yield Matmul(name="out_proj", part=PART, m=tokens, n=hidden, k=values, scheme=scheme, shard="row")


def _scan(
    kind: str, phase: str, seqs: Dim, q_len: Dim, heads: Dim, head_dim: Dim, state: Dim, groups: Dim, held: Dim
) -> Scan:
    return Scan(
        name=f"scan_{phase}",
        part=PART,
        kind=kind,
        phase=phase,
        batch=seqs,
        q_len=q_len,
        heads=heads,
        head_dim=head_dim,
        state=state,
        groups=groups,
        weights=held,
    )


def _conv(channels: Dim, taps: Dim, tokens: Dim, precision: Precision, *, bias: bool) -> Convolution:
    """The short causal convolution: one filter per channel."""
    return Convolution(
        name="conv",
        part=PART,
        batch=1.0,
        in_channels=channels,
        out_channels=channels,
        in_positions=tokens,
        out_positions=tokens,
        kernel=taps,
        groups=channels,
        scheme=Precision().attention,
        bias=bias,
    )
