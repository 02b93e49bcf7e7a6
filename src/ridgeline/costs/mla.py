"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): its kernel, and the whole block as libraries measure it.

Decode takes scores in the latent space: one cache of `latent + rope` values serves all heads, so that bytes are few and
with many heads arithmetic bounds the kernel, at 16-bit rate whatever the cache format. Prompts are expanded to ordinary
heads first and run a tiled kernel; short prompts may use the absorbed form too (`absorbed`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgeline.costs.attention_decode import decode_time, split_time
from ridgeline.costs.attention_kernels import era, is_narrow
from ridgeline.costs.attention_places import latent_places
from ridgeline.costs.attention_prefill import expanded, tiled_time
from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.price import Price, Setting
from ridgeline.costs.room import Facts, Numbers, corrected, facts_of, fastest, price_by_kernel, priced
from ridgeline.hardware.chip import Chip, ChipColumns, Value
from ridgeline.workloads.ops import Attention

KIND = "mla"


def latent_kernels(op: Attention, chip: Chip, setting: Setting) -> tuple[str, ...]:
    """Families that may run: absorbed (latent-space) or expanded kernels of the runtime."""
    form = "absorbed" if op.absorbed else "expanded"
    kind = era(chip)
    if kind == "other":
        return (f"generic-{form}",)
    suffix = "-kv8" if is_narrow(op.kv) else ""
    ours = f"trtllm-{form}{suffix}"
    if setting.runtime == "trtllm":
        return (ours,)
    if kind == "fa2":
        return (f"triton-{form}",)
    flash = f"flashmla-{form}{suffix}"
    return (flash,) if kind == "fa3" else (ours, flash)


def price_latent(op: Attention, chips: ChipColumns, setting: Setting) -> Price:
    """Price the latent attention kernel; `captured=False` adds the host time that eager launches of vLLM show."""

    def choose(part: Attention, columns: ChipColumns, absorbed: int) -> Price:
        kernels = latent_kernels(replace(part, absorbed=bool(absorbed)), columns.chips[0], setting)
        return fastest(tuple(_one(part, columns, setting, kernel) for kernel in kernels))

    absorbed = np.asarray(op.absorbed or op.phase == "decode") | (np.asarray(op.q_len) <= 1)
    return price_by_kernel(op, chips, absorbed.astype(np.intp), choose)


def latent_form(op: Attention, kernel: str) -> tuple[Attention, str]:
    """The op as a family computes it, and the compute dtype of its products.

    Absorbed kernels multiply in 16 bits whatever the cache holds; TensorRT-LLM's expanded kernel multiplies an 8-bit
    cache in its own format.
    """
    if "absorbed" in kernel:
        return replace(op, absorbed=True), "bf16"
    return expanded(op), op.kv.compute if kernel.endswith("trtllm-expanded-kv8") else op.compute


def latent_time(op: Attention, facts: Facts, c: Numbers, resident: bool) -> tuple[Value, dict[str, Value]]:
    """Device seconds of an op in the form that `latent_form` gave it, and their terms."""
    if op.absorbed:
        terms = split_time(op, facts, c, resident)
        return decode_time(terms), terms
    terms = tiled_time(op, facts, c, packed=False)
    return sum(terms.values(), start=np.float64(0.0)), terms


def _one(op: Attention, chips: ChipColumns, setting: Setting, kernel: str) -> Price:
    c = Coefficients(KIND, kernel, chips)
    form, compute = latent_form(op, kernel)
    facts = facts_of(chips, compute)
    total, terms = latent_time(form, facts, c, resident=setting.weights_cache == "hot")
    total = corrected(KIND, kernel, chips, total, lambda: latent_places(form))
    if not setting.captured:
        terms = {**terms, "host": np.asarray(c["host_us"]) * 1e-6}
        total = np.maximum(total, terms["host"])
    return priced(form, total, facts, setting, terms, c, kernel)
