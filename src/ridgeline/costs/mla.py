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
from ridgeline.costs.attention_prefill import expanded, tiled_time
from ridgeline.costs.coefficients import Coefficients
from ridgeline.costs.price import Price, Setting
from ridgeline.costs.room import facts_of, fastest, floor_of, priced
from ridgeline.hardware.chip import Chip, ChipColumns, Value
from ridgeline.workloads.ops import Attention

KIND = "mla"


def latent_kernels(op: Attention, chip: Chip, setting: Setting) -> tuple[str, ...]:
    """Families that may run: absorbed (latent-space) or expanded kernels of the runtime."""
    form = "absorbed" if op.absorbed or op.phase == "decode" else "expanded"
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
    kernels = latent_kernels(op, chips.chips[0], setting)
    return fastest(tuple(_one(op, chips, setting, kernel) for kernel in kernels))


def _one(op: Attention, chips: ChipColumns, setting: Setting, kernel: str) -> Price:
    c = Coefficients(KIND, kernel, chips)
    absorbed = "absorbed" in kernel
    terms: dict[str, Value]
    if absorbed:
        latent = replace(op, absorbed=True)
        facts = facts_of(chips, "bf16")
        terms = split_time(latent, facts, c, resident=setting.weights_cache == "hot")
        total, priced_op = decode_time(terms), latent
    else:
        priced_op = expanded(op)
        facts = facts_of(chips, op.kv.compute if kernel == "trtllm-expanded-kv8" else op.compute)
        terms = tiled_time(priced_op, facts, c, packed=False)
        total = sum(terms.values(), start=np.float64(0.0))
    if not setting.captured:
        terms["host"] = np.asarray(c["host_us"]) * 1e-6
        total = np.maximum(total, terms["host"])
    return priced(priced_op, total, floor_of(op, facts, setting), terms, c, kernel)
