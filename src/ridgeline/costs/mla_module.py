"""A whole latent-attention block as libraries measure it: projections, norms and the attention kernel in one call.

Its ops are ordinary ones and a model's graph prices them one by one; this room prices the block as one measurement,
with a launch cost of its own (seven or more kernels) and activation passes between them. Linears take the larger of
arithmetic and weight streaming; the attention part is the kernel of `mla`, with coefficients fitted inside the block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.dtypes import DTYPES, DType, Scheme, scheme
from ridgeline.costs.attention_kernels import era, is_narrow
from ridgeline.costs.attention_places import latent_places
from ridgeline.costs.coefficients import Coefficients, coefficient_file
from ridgeline.costs.mla import latent_form, latent_time
from ridgeline.costs.power_runs import suffix_of
from ridgeline.costs.price import Price, Setting, pnorm, zero_where_empty
from ridgeline.costs.room import Facts, Numbers, Place, corrected, facts_of, fastest, in_chunks, price_by_kernel
from ridgeline.hardware.chip import Chip, ChipColumns, Value
from ridgeline.workloads.ops import Attention, Dim, Matmul, Op

KIND = "mla"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentShape:
    """Widths of a latent-attention block: hidden, ranks of the two compressions, and widths per head."""

    hidden: float
    q_rank: float
    latent: float
    rope: float
    nope: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One call of the block: `batch` sequences of `q_len` new tokens against `kv_len`, `heads` on this rank."""

    batch: Dim
    q_len: Dim
    kv_len: Dim
    heads: Dim
    phase: str
    scheme: Scheme
    kv: DType
    dtype: DType = DTYPES["bf16"]


def measured_shape() -> LatentShape:
    """The shape of the measured blocks (DeepSeek-V3)."""
    return LatentShape(**coefficient_file(KIND)["kernels"]["block"]["shared"])


def mla_module_ops(block: Block, shape: LatentShape, *, absorbed: bool) -> tuple[Op, ...]:
    """The block's ops: compressions, query expansion, keys and values (absorbed or expanded), attention, output."""
    tokens = np.asarray(block.batch, float) * block.q_len
    heads = np.asarray(block.heads, float)

    def linear(name: str, k: Dim, n: Dim, m: Dim = tokens, batch: Dim = 1.0, form: Scheme = block.scheme) -> Matmul:
        return Matmul(name=name, part="attention", m=m, n=n, k=k, batch=batch, scheme=form)

    attention = Attention(
        name="attention",
        part="attention",
        phase=block.phase,
        batch=block.batch,
        q_len=block.q_len,
        kv_len=block.kv_len,
        heads=heads,
        kv_heads=heads,
        head_dim=shape.nope + shape.rope,
        v_head_dim=shape.value,
        kv=block.kv,
        dtype=block.dtype,
        latent=shape.latent,
        rope=shape.rope,
        absorbed=absorbed,
    )
    wide = scheme("bf16")
    keys: tuple[Matmul, ...]
    if absorbed:
        keys = (
            linear("absorb_keys", shape.nope, shape.latent, batch=heads, form=wide),
            linear("absorb_values", shape.latent, shape.value, batch=heads, form=wide),
        )
    else:
        seen = np.asarray(block.batch, float) * block.kv_len
        keys = (linear("expand", shape.latent, heads * (shape.nope + shape.value), m=seen),)
    return (
        linear("compress", shape.hidden, shape.q_rank + shape.latent + shape.rope),
        linear("expand_queries", shape.q_rank, heads * (shape.nope + shape.rope)),
        *keys,
        attention,
        linear("output", heads * shape.value, shape.hidden),
    )


def price_mla_module(block: Block, chips: ChipColumns, setting: Setting, shape: LatentShape | None = None) -> Price:
    """Price one call of the block per row; rows without tokens cost nothing."""
    shape = shape or measured_shape()
    widths = shape

    def whole(rows: Block, columns: ChipColumns) -> Price:
        def choose(part: Block, chosen: ChipColumns, code: int) -> Price:
            kernels = module_kernels(part, chosen.chips[0], setting, absorbed=bool(code))
            return fastest(tuple(_one(part, widths, chosen, setting, kernel) for kernel in kernels))

        short = short_prompts(rows, columns.chips[0], setting)
        tokens = np.asarray(rows.batch, float) * rows.q_len
        return zero_where_empty(price_by_kernel(rows, columns, short.astype(np.intp), choose), tokens)

    return in_chunks(block, chips, whole)


def short_prompts(block: Block, chip: Chip, setting: Setting) -> NDArray[np.bool_]:
    """Rows that the runtime computes in the latent space: decode, and on vLLM short prompts too."""
    limit = 1.0
    if setting.runtime != "trtllm" and era(chip) in ("fa3", "next"):
        limits = coefficient_file(KIND)["kernels"]["absorbed_up_to"]["shared"]
        limit = limits["kv8"] if is_narrow(block.kv) else limits["kv16"]
    short: NDArray[np.bool_] = np.asarray(block.q_len) <= limit
    return short | (block.phase == "decode")


def module_kernels(block: Block, chip: Chip, setting: Setting, *, absorbed: bool) -> tuple[str, ...]:
    """Families of whole blocks that may run."""
    form = "absorbed" if absorbed else "expanded"
    suffix = "-kv8" if is_narrow(block.kv) else ""
    ours, flash = f"module-trtllm-{form}{suffix}", f"module-vllm-{form}{suffix}"
    if setting.runtime == "trtllm":
        return (ours,)
    kind = era(chip)
    if kind == "fa3" and (special := suffix_of(setting)):
        return (f"{flash}{special}",)
    return (ours, flash) if kind == "next" else (flash,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a block asks of a chip: its attention as the kernel computes it, and its linears summed up.

    `linear_s` is their arithmetic at peak; `weight_bytes` streams once, `activation_bytes` go between kernels; `narrow`
    says that linears have 8 bits or less, with kernels and quantise passes of their own.
    """

    attention: Attention
    ops: tuple[Op, ...]
    facts: Facts
    linear_s: Value
    weight_bytes: Value
    activation_bytes: Value
    narrow: bool


def block_work(block: Block, shape: LatentShape, chips: ChipColumns, kernel: str) -> Work:
    """The work of a block on each row's chip, in the form that a kernel family gives it."""
    ops = mla_module_ops(block, shape, absorbed="absorbed" in kernel)
    linears = [op for op in ops if isinstance(op, Matmul)]
    (attention,) = (op for op in ops if isinstance(op, Attention))
    form, compute = latent_form(attention, kernel)
    zero = np.float64(0.0)
    return Work(
        attention=form,
        ops=ops,
        facts=facts_of(chips, compute),
        linear_s=sum((op.flops() / facts_of(chips, op.compute).peak_flops_per_s for op in linears), start=zero),
        weight_bytes=sum((np.asarray(op.weight_bytes()) for op in linears), start=zero),
        activation_bytes=sum((2.0 * np.asarray(op.batch) * op.m * (op.k + op.n) for op in linears), start=zero),
        narrow=is_narrow(block.scheme.weight),
    )


def block_time(work: Work, c: Numbers, resident: bool) -> tuple[Value, dict[str, Value]]:
    """Seconds of a block and their terms: attention, linears (arithmetic overlaps weights), passes between kernels."""
    inner_s, parts = latent_time(work.attention, work.facts, c, resident)
    kept = work.facts.cache_bytes if resident else 0.0
    form = "_narrow" if work.narrow else ""
    quantise_s = np.asarray(c["quantise_us"]) * 1e-6 if work.narrow else 0.0
    streamed = np.maximum(work.weight_bytes - np.asarray(c["linear_cache_share"]) * kept, 0.0)
    terms: dict[str, Value] = {
        "launch": parts["launch"],
        "quantise": quantise_s,
        "attention": np.asarray(inner_s) - parts["launch"],
        "compute": work.linear_s / np.asarray(c["linear_share" + form]),
        "memory": streamed / (work.facts.bandwidth_bytes_per_s * np.asarray(c["linear_memory_share"])),
        "activations": c["linear_passes" + form] * work.activation_bytes / work.facts.bandwidth_bytes_per_s,
    }
    linears_s = pnorm(2.0, terms["compute"], terms["memory"])
    return inner_s + quantise_s + linears_s + terms["activations"], terms


def block_places(work: Work) -> list[Place]:
    """Where blocks lie in residual tables: apart by the width of their linears."""
    return latent_places(work.attention, "narrow" if work.narrow else "wide")


def block_floor(work: Work, hot: bool) -> Value:
    """Peak arithmetic of all ops; weights and cache at memory rate: what passes between kernels may stay on chip."""
    kept = work.facts.cache_bytes if hot else 0.0
    cache = sum(o.read_bytes for o in work.attention.operands() if o.role == "kv")
    bytes_s = np.maximum(work.weight_bytes + cache - kept, 0.0) / work.facts.bandwidth_bytes_per_s
    floor: Value = np.maximum(work.linear_s + work.attention.flops() / work.facts.peak_flops_per_s, bytes_s)
    return floor


def _one(block: Block, shape: LatentShape, chips: ChipColumns, setting: Setting, kernel: str) -> Price:
    c = Coefficients(KIND, kernel, chips)
    work = block_work(block, shape, chips, kernel)
    hot = setting.weights_cache == "hot"
    total, terms = block_time(work, c, resident=hot)
    total = corrected(KIND, kernel, chips, total, lambda: block_places(work))
    floor = block_floor(work, hot)
    operands = [operand for op in work.ops for operand in op.operands()]
    return Price(
        time_s=np.maximum(total, floor),
        floor_s=floor,
        flops=sum((np.asarray(op.flops()) for op in work.ops), start=np.float64(0.0)),
        read_bytes=sum((np.asarray(o.read_bytes) for o in operands), start=np.float64(0.0)),
        write_bytes=sum((np.asarray(o.write_bytes) for o in operands), start=np.float64(0.0)),
        terms=terms,
        calibrated=c.calibrated,
        kernel=kernel,
    )
