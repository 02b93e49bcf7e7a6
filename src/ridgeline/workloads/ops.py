"""Ops: what is computed, never how long it takes.

Every dimension is a number or a numpy array, and arrays broadcast, so one op value may stand for a million
configurations. A multiply-accumulate is 2 FLOPs. `part` says to which part of a model an op belongs (attention, ffn,
experts, head, ...): rewrites and breakdowns go by it. `shard` says how tensor parallelism may cut a matmul: along its
columns (outputs), its rows (inputs, leaving partial sums), along the vocabulary, or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.dtypes import DTYPES, DType, Scheme

Dim = float | NDArray[np.float64]
"""A number or an array of one number per configuration. Counts are exact in float64 up to 2**53."""

BF16 = DTYPES["bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """Bytes that one operand moves at least once. `role`: weights, activations, kv or state."""

    role: str
    read_bytes: Dim = 0.0
    write_bytes: Dim = 0.0


@runtime_checkable
class Op(Protocol):
    """What every op can say of itself."""

    @property
    def name(self) -> str:
        """Its name within a block."""

    @property
    def part(self) -> str:
        """The part of the model that it belongs to."""

    @property
    def compute(self) -> str:
        """The compute dtype whose engine rate applies."""

    def flops(self) -> Dim:
        """Floating-point (or integer) operations, 2 per multiply-accumulate."""

    def operands(self) -> tuple[Operand, ...]:
        """Bytes by operand, each touched once."""

    def weight_elements(self) -> Dim:
        """Parameters that this op holds."""

    def weight_bytes(self) -> Dim:
        """Memory that these parameters occupy, scales included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matmul:
    """C[batch, m, n] = A[batch, m, k] B[batch, k, n]; B holds weights unless `weights` is False.

    `tied` weights are read here but held by another op. `kv_width` columns of n belong to key and value heads, which a
    plan must replicate once there are more ranks than such heads.
    """

    name: str
    part: str
    m: Dim
    n: Dim
    k: Dim
    scheme: Scheme
    batch: Dim = 1.0
    shard: str = "none"
    weights: bool = True
    tied: bool = False
    bias: bool = False
    kv_width: Dim = 0.0
    out: DType = BF16

    @property
    def compute(self) -> str:
        """The scheme's compute dtype."""
        return self.scheme.compute

    @property
    def holds_weights(self) -> bool:
        """Whether B is a parameter that this op owns."""
        return self.weights and not self.tied

    def flops(self) -> Dim:
        """2 m n k per batch."""
        return 2.0 * self.batch * self.m * self.n * self.k

    def operands(self) -> tuple[Operand, ...]:
        """A is read in the format in which it arrives (16-bit where the scheme quantises on the way in)."""
        arrives = BF16.element_bytes if self.scheme.quantises else self.scheme.activation.element_bytes
        b_bytes = self.batch * self.n * self.k * self.scheme.weight.element_bytes
        return (
            Operand(role="activations", read_bytes=self.batch * self.m * self.k * arrives),
            Operand(role="weights" if self.weights else "activations", read_bytes=b_bytes),
            Operand(role="activations", write_bytes=self.batch * self.m * self.n * self.out.element_bytes),
        )

    def weight_elements(self) -> Dim:
        """Elements n k (+ n with a bias) per batch, or none when B is an activation or tied."""
        return self.batch * self.n * (self.k + float(self.bias)) if self.holds_weights else 0.0

    def weight_bytes(self) -> Dim:
        """Biases stay in 16 bits."""
        if not self.holds_weights:
            return 0.0
        bias = self.n * BF16.element_bytes if self.bias else 0.0
        return self.batch * (self.n * self.k * self.scheme.weight.element_bytes + bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Routed experts of one layer: grouped gate/up and down matmuls over the tokens that one rank receives.

    `tokens` are offered to the layer by all ranks of the expert group; the rank computes those routed to its
    `experts / ep` local experts, each expert's inner width cut by `tp`. `distribution` is the skew of expert loads:
    balanced, random (every token draws its experts anew), or power_law_ALPHA (density x**-ALPHA). `bias` counts one
    vector per matmul and expert. `seen_frac` is the share of the token-expert pairs that the rank sorts: 1 where it
    holds all tokens and takes its own from among them,
    1/ep where a dispatch brought it only those that it computes.
    """

    name: str
    part: str
    tokens: Dim
    hidden: Dim
    inter: Dim
    topk: Dim
    experts: Dim
    scheme: Scheme
    tp: Dim = 1.0
    ep: Dim = 1.0
    gated: bool = True
    distribution: str = "balanced"
    bias: bool = False
    seen_frac: Dim = 1.0

    @property
    def compute(self) -> str:
        """The scheme's compute dtype."""
        return self.scheme.compute

    @property
    def matrices(self) -> float:
        """Weight matrices per expert: 3 with a gate, else 2."""
        return 3.0 if self.gated else 2.0

    def rows(self) -> Dim:
        """Token-expert pairs that one rank computes when loads are even."""
        return self.tokens * self.topk / self.ep

    def active_experts(self) -> Dim:
        """Expected local experts that receive at least one token: E/ep (1 - (1 - k/E)**tokens)."""
        idle = np.power(np.clip(1.0 - np.asarray(self.topk) / self.experts, 0.0, 1.0), self.tokens)
        active: Dim = self.experts / self.ep * (1.0 - idle)
        return active

    def flops(self) -> Dim:
        """2 FLOPs per weight of an expert and routed token."""
        return 2.0 * self.rows() * self.matrices * self.hidden * self.inter / self.tp

    def operands(self) -> tuple[Operand, ...]:
        """Weights of the active experts once; rows in and out once."""
        per_expert = self.matrices * self.hidden * self.inter / self.tp * self.scheme.weight.element_bytes
        row_bytes = self.rows() * self.hidden * BF16.element_bytes
        return (
            Operand(role="weights", read_bytes=self.active_experts() * per_expert),
            Operand(role="activations", read_bytes=row_bytes, write_bytes=row_bytes),
        )

    def weight_elements(self) -> Dim:
        """Parameters of the local experts."""
        bias = (self.hidden + (self.matrices - 1.0) * self.inter / self.tp) if self.bias else 0.0
        return self.experts / self.ep * (self.matrices * self.hidden * self.inter / self.tp + bias)

    def weight_bytes(self) -> Dim:
        """Their bytes, scales included."""
        return self.weight_elements() * self.scheme.weight.element_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Scores, softmax and values of `batch` sequences: `q_len` new tokens each against `kv_len` keys (new ones
    included).

    `window` > 0 limits what a query sees; `causal` masks the future among the new tokens. With `latent` > 0 this is
    multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): the cache holds `latent` + `rope` values per token,
    shared by all heads, and `absorbed` says that scores are taken in the latent space (decode) instead of expanded
    heads. `selected` > 0 caps the keys that a query reads after an indexer chose them (DeepSeek-V3.2 sparse attention).
    `cross` marks keys that come from another sequence or layer and are not written. `shard` is `heads` where tensor
    parallelism divides the heads, `none` where every rank does them all (an indexer). Dims are per rank after
    parallelism.
    """

    name: str
    part: str
    phase: str
    batch: Dim
    q_len: Dim
    kv_len: Dim
    heads: Dim
    kv_heads: Dim
    head_dim: Dim
    v_head_dim: Dim
    kv: DType = BF16
    dtype: DType = BF16
    window: Dim = 0.0
    selected: Dim = 0.0
    causal: bool = True
    latent: Dim = 0.0
    rope: Dim = 0.0
    absorbed: bool = False
    cross: bool = False
    sinks: bool = False
    shard: str = "heads"

    @property
    def compute(self) -> str:
        """The compute dtype of the score and value products."""
        return self.dtype.compute

    @property
    def is_latent(self) -> bool:
        """Whether the cache is an MLA latent."""
        return bool(np.any(np.asarray(self.latent) > 0))

    def visible_pairs(self) -> Dim:
        """Query-key pairs of one sequence that are not masked (exact for causal, windowed and full attention)."""
        q, past = np.asarray(self.q_len, float), np.asarray(self.kv_len, float) - self.q_len
        if not self.causal:
            pairs = q * self.kv_len
        else:
            window = _unlimited(self.window)
            growing = np.clip(window - past, 0.0, q)
            pairs = growing * past + growing * (growing + 1.0) / 2.0 + (q - growing) * np.minimum(window, self.kv_len)
        limit: Dim = np.minimum(pairs, _selected_keys(q, self.selected))
        return limit

    def score_width(self) -> Dim:
        """Multiply-accumulates per head and visible pair: query-key plus probability-value."""
        if self.is_latent and self.absorbed:
            return 2.0 * self.latent + self.rope
        return self.head_dim + self.v_head_dim

    def flops(self) -> Dim:
        """2 per multiply-accumulate of both products; softmax is not counted."""
        return 2.0 * self.batch * self.heads * self.visible_pairs() * self.score_width()

    def kv_values_per_token(self) -> Dim:
        """Cached values per token and layer on this rank."""
        if self.is_latent:
            return self.latent + self.rope
        return self.kv_heads * (self.head_dim + self.v_head_dim)

    def cached_tokens_read(self) -> Dim:
        """Keys of one sequence that some query reads: all, or the window around the new tokens, or the selection."""
        reach = np.minimum(self.kv_len, _unlimited(self.window) + np.asarray(self.q_len) - 1.0)
        tokens: Dim = np.minimum(reach, _selected_keys(self.q_len, self.selected))
        return tokens

    def operands(self) -> tuple[Operand, ...]:
        """Queries in, outputs out, the visible cache once per sequence, the new keys and values written."""
        per_token = self.kv_values_per_token() * self.kv.element_bytes
        tokens = self.batch * self.q_len
        written = 0.0 if self.cross else tokens * per_token
        q_width = self.heads * (self.latent + self.rope if self.absorbed else self.head_dim)
        o_width = self.heads * (self.latent if self.absorbed else self.v_head_dim)
        return (
            Operand(role="activations", read_bytes=tokens * q_width * BF16.element_bytes),
            Operand(role="kv", read_bytes=self.batch * self.cached_tokens_read() * per_token, write_bytes=written),
            Operand(role="activations", write_bytes=tokens * o_width * BF16.element_bytes),
        )

    def weight_elements(self) -> Dim:
        """One sink logit per head where the model has them."""
        return self.heads if self.sinks else 0.0

    def weight_bytes(self) -> Dim:
        """Sinks are 16-bit."""
        return self.weight_elements() * BF16.element_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """Element-by-element or row-wise work: norm, softmax, rope, activation, residual, quantise.

    `reads` and `writes` are passes over `elements`; `weights` are the parameters it holds (norm gains).
    """

    name: str
    part: str
    kind: str
    elements: Dim
    reads: float = 1.0
    writes: float = 1.0
    flops_per_element: float = 4.0
    weights: Dim = 0.0
    dtype: DType = BF16

    @property
    def compute(self) -> str:
        """Vector engines compute in fp32 whatever they load."""
        return "fp32"

    def flops(self) -> Dim:
        """Operations per element times elements."""
        return self.flops_per_element * self.elements

    def operands(self) -> tuple[Operand, ...]:
        """Passes over the elements."""
        one = self.elements * self.dtype.element_bytes
        return (Operand(role="activations", read_bytes=one * self.reads, write_bytes=one * self.writes),)

    def weight_elements(self) -> Dim:
        """Gains and offsets."""
        return self.weights

    def weight_bytes(self) -> Dim:
        """Kept in 16 bits."""
        return self.weights * BF16.element_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Rows of a [vocab, width] table gathered for `tokens` tokens. `vocab` 0 means a table held elsewhere (tied)."""

    name: str
    part: str
    tokens: Dim
    width: Dim
    vocab: Dim
    dtype: DType = BF16

    @property
    def compute(self) -> str:
        """No arithmetic to speak of."""
        return "fp32"

    def flops(self) -> Dim:
        """None."""
        return 0.0 * self.tokens

    def operands(self) -> tuple[Operand, ...]:
        """Each token's row read and written."""
        row = self.tokens * self.width * self.dtype.element_bytes
        return (Operand(role="weights", read_bytes=row), Operand(role="activations", write_bytes=row))

    def weight_elements(self) -> Dim:
        """The whole table."""
        return self.vocab * self.width

    def weight_bytes(self) -> Dim:
        """The whole table's bytes."""
        return self.weight_elements() * self.dtype.element_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A 1-3 dimensional convolution: `out_positions` outputs per image and channel, `kernel` taps, `groups` groups."""

    name: str
    part: str
    batch: Dim
    in_channels: Dim
    out_channels: Dim
    in_positions: Dim
    out_positions: Dim
    kernel: Dim
    scheme: Scheme
    groups: Dim = 1.0
    bias: bool = False
    weights: bool = True

    @property
    def compute(self) -> str:
        """The scheme's compute dtype."""
        return self.scheme.compute

    def flops(self) -> Dim:
        """2 taps x channels of the group for each output."""
        per_output = 2.0 * self.kernel * self.in_channels / self.groups
        return self.batch * self.out_positions * self.out_channels * per_output

    def operands(self) -> tuple[Operand, ...]:
        """Input, weights and output once."""
        one = self.scheme.activation.element_bytes
        return (
            Operand(role="activations", read_bytes=self.batch * self.in_channels * self.in_positions * one),
            Operand(role="weights", read_bytes=self.weight_bytes()),
            Operand(role="activations", write_bytes=self.batch * self.out_channels * self.out_positions * one),
        )

    def weight_elements(self) -> Dim:
        """Taps x channels of the group x outputs (+ bias)."""
        if not self.weights:
            return 0.0
        return self.out_channels * (self.kernel * self.in_channels / self.groups + float(self.bias))

    def weight_bytes(self) -> Dim:
        """In the scheme's weight format."""
        return self.weight_elements() * self.scheme.weight.element_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A recurrence over tokens with a state of `head_dim` x `state` per head: Mamba, gated delta rule, linear
    attention.

    `kind`: mamba1 (elementwise), mamba2 (chunked matmuls, arXiv 2405.21060), delta (gated delta rule, arXiv
    2412.06464), linear (lightning attention, arXiv 2401.04658). `phase` as in Attention; `chunk` is the block length of
    prefill.
    """

    name: str
    part: str
    kind: str
    phase: str
    batch: Dim
    q_len: Dim
    heads: Dim
    head_dim: Dim
    state: Dim
    groups: Dim = 1.0
    chunk: float = 64.0
    weights: Dim = 0.0
    dtype: DType = BF16
    state_dtype: DType = DTYPES["fp32"]

    @property
    def compute(self) -> str:
        """Chunked forms run on the matrix engine, the elementwise scan of Mamba 1 on the vector engine."""
        return "fp32" if self.kind == "mamba1" else self.dtype.compute

    def state_elements(self) -> Dim:
        """State values of one sequence and layer on this rank."""
        return self.heads * self.head_dim * self.state

    def flops(self) -> Dim:
        """Update and read-out per token (6 per state value, 8 with the delta correction) plus in-chunk products."""
        per_state = 8.0 if self.kind == "delta" else 6.0
        tokens = self.batch * self.q_len
        update = per_state * tokens * self.state_elements()
        if self.phase == "decode" or self.kind == "mamba1":
            return update
        span = np.minimum(self.chunk, np.asarray(self.q_len, float))
        inner: Dim = tokens * self.heads * span * (self.state + self.head_dim)
        return update + inner

    def operands(self) -> tuple[Operand, ...]:
        """Inputs and outputs per token; the state is read and written once per sequence."""
        tokens = self.batch * self.q_len
        width = 2.0 * self.heads * self.head_dim + 2.0 * self.groups * self.state
        state = self.batch * self.state_elements() * self.state_dtype.element_bytes
        one = self.dtype.element_bytes
        return (
            Operand(role="activations", read_bytes=tokens * width * one),
            Operand(role="state", read_bytes=state, write_bytes=state),
            Operand(role="activations", write_bytes=tokens * self.heads * self.head_dim * one),
        )

    def weight_elements(self) -> Dim:
        """Decay, skip and step parameters."""
        return self.weights

    def weight_bytes(self) -> Dim:
        """Kept in fp32."""
        return self.weights * 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fft:
    """`batch` complex fast Fourier transforms of `length` points: 5 n log2 n operations each (Cooley-Tukey)."""

    name: str
    part: str
    batch: Dim
    length: Dim
    dtype: DType = DTYPES["fp32"]

    @property
    def compute(self) -> str:
        """Vector arithmetic."""
        return self.dtype.compute

    def flops(self) -> Dim:
        """5 n log2 n."""
        flops: Dim = 5.0 * self.batch * self.length * np.log2(np.maximum(np.asarray(self.length, float), 1.0))
        return flops

    def operands(self) -> tuple[Operand, ...]:
        """Complex values once in and once out."""
        one = 2.0 * self.batch * self.length * self.dtype.element_bytes
        return (Operand(role="activations", read_bytes=one, write_bytes=one),)

    def weight_elements(self) -> Dim:
        """None."""
        return 0.0

    def weight_bytes(self) -> Dim:
        """None."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """Communication among `ranks` chips: `kind` is all_reduce, all_gather, reduce_scatter, alltoall or send_recv.

    `message_bytes` is the full buffer of the operation as nccl-tests count it (the gathered size for all_gather, the
    size before reduction for reduce_scatter, the bytes one rank holds for alltoall). `axis` is the parallel axis it
    serves (tp, ep, dp, cp, pp) and `stride` the distance between its ranks, from which the machine finds the links it
    crosses.
    """

    name: str
    part: str
    kind: str
    message_bytes: Dim
    ranks: Dim
    axis: str = "tp"
    stride: Dim = 1.0
    dtype: DType = BF16

    @property
    def compute(self) -> str:
        """Reductions run in 32 bits."""
        return "fp32"

    def flops(self) -> Dim:
        """Reductions are counted as bandwidth, not arithmetic."""
        return 0.0 * self.message_bytes

    def operands(self) -> tuple[Operand, ...]:
        """The buffer is read and written once in memory."""
        return (Operand(role="activations", read_bytes=self.message_bytes, write_bytes=self.message_bytes),)

    def weight_elements(self) -> Dim:
        """None."""
        return 0.0

    def weight_bytes(self) -> Dim:
        """None."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """`size_bytes` moved from one memory tier to another (dram, host, nvme, peer); within dram it reads and writes."""

    name: str
    part: str
    size_bytes: Dim
    source: str = "dram"
    target: str = "dram"
    role: str = "activations"

    @property
    def compute(self) -> str:
        """No arithmetic."""
        return "fp32"

    def flops(self) -> Dim:
        """None."""
        return 0.0 * self.size_bytes

    def operands(self) -> tuple[Operand, ...]:
        """Read once, written once."""
        return (Operand(role=self.role, read_bytes=self.size_bytes, write_bytes=self.size_bytes),)

    def weight_elements(self) -> Dim:
        """None."""
        return 0.0

    def weight_bytes(self) -> Dim:
        """None."""
        return 0.0


def _unlimited(limit: Dim) -> NDArray[np.float64]:
    """0 means no limit."""
    values = np.asarray(limit, dtype=np.float64)
    return np.where(values > 0, values, np.inf)


def _selected_keys(queries: Dim, selected: Dim) -> NDArray[np.float64]:
    """Keys that the queries read together when each reads `selected` of them (0: no limit)."""
    chosen = np.asarray(selected, dtype=np.float64)
    return np.where(chosen > 0, np.asarray(queries) * chosen, np.inf)
