"""Which attention kernel a runtime launches: families by runtime, chip generation, head width and cache format.

A family is named after its source (FlashAttention 2, 3 and 4; FlashInfer; TensorRT-LLM's context FMHA, XQA and
generated kernels; Triton). A suffix `-kv8` marks caches of 8 bits or less, `-fp8` also 8-bit queries: their inner
loops differ. Chips newer than any measured run kernels that were tuned for them: each of their rows takes the fastest
of the families known for datacentre parts. Chips of other vendors have their own kernels, priced by the `generic`
family, pooled over all that were measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.dtypes import DType
from ridgeline.costs.power_runs import suffix_of
from ridgeline.costs.price import Setting
from ridgeline.hardware.chip import Chip
from ridgeline.workloads.ops import Attention

BEFORE_HOPPER = ("volta", "turing", "ampere", "ada")
HOPPER = ("hopper",)
WIDE_HEAD = 256
"""FlashAttention 2 and 3 end here; wider heads go to FlashAttention 4 or Triton."""

XQA_GROUP = 32.0
"""Largest group of query heads that TensorRT-LLM's XQA kernel serves; others run its masked multi-head kernel, which
reads the cache once per query head (inferred from timings)."""

FLASHINFER_WIDTHS = (64.0, 128.0, 256.0)
"""Head widths that FlashInfer compiles; vLLM falls back to Triton for others."""

NARROW_BITS = 8


@dataclass(frozen=True, slots=True)
class Menu:
    """`codes` gives per row (or for all, 0-d) the place in `choices`; a choice is one family or several candidates."""

    codes: NDArray[np.intp]
    choices: tuple[tuple[str, ...], ...]


def is_narrow(kv: DType) -> bool:
    """Whether cached values have 8 bits or less."""
    return kv.bits <= NARROW_BITS


def era(chip: Chip) -> str:
    """fa2 (up to Ada, and consumer parts after it), fa3 (Hopper), next (datacentre parts after Hopper), or other."""
    if chip.vendor.casefold() != "nvidia":
        return "other"
    if chip.generation in BEFORE_HOPPER:
        return "fa2"
    if chip.generation in HOPPER:
        return "fa3"
    return "next" if chip.has_hbm else "fa2"


def _era(chip: Chip, setting: Setting) -> str:
    """The same for attention: torch runs FlashAttention 2 on every generation."""
    kind = era(chip)
    return "fa2" if setting.runtime == "torch" and kind != "other" else kind


def prefill_menu(op: Attention, chip: Chip, setting: Setting) -> Menu:
    """Families for prompts."""
    kind = _era(chip, setting)
    if kind == "other":
        return _all(("generic",))
    narrow = is_narrow(op.kv)
    if kind == "next":
        wide = ("fmha",) if narrow and not is_narrow(op.dtype) else ()
        flash = () if setting.runtime == "trtllm" else ("fa3-kv8" if narrow else "fa3",)
        return _all((_fmha(op, kind), *flash, *wide))
    if setting.runtime == "trtllm":
        return _all((_fmha(op, kind),))
    return _flash(op, setting, kind, narrow)


def decode_menu(op: Attention, chip: Chip, setting: Setting) -> Menu:
    """Families for one or few new tokens per sequence."""
    kind = _era(chip, setting)
    if kind == "other":
        return _all(("generic",))
    narrow = is_narrow(op.kv)
    tail = "-kv8" if narrow else ""
    group = np.asarray(op.heads, float) / np.maximum(op.kv_heads, 1.0)
    if kind == "next":
        codes = np.where(group > 1.0, 1, 0).astype(np.intp)
        lone, grouped = ((f"{family}{tail}", f"fa3{tail}", *([family] if narrow else [])) for family in ("mmha", "gen"))
        return Menu(codes, (lone, grouped))
    if setting.runtime == "trtllm":
        return _either((group > 1.0) & (group <= XQA_GROUP), f"xqa{tail}", f"mmha{tail}")
    return _flash(op, setting, kind, narrow)


def _fmha(op: Attention, kind: str) -> str:
    """From Hopper on 16-bit queries are converted to the format of an 8-bit cache; before, the cache is widened."""
    if is_narrow(op.dtype):
        return "fmha-fp8"
    return "fmha-kv8" if is_narrow(op.kv) and kind != "fa2" else "fmha"


def _flash(op: Attention, setting: Setting, kind: str, narrow: bool) -> Menu:
    """vLLM, SGLang and torch: FlashAttention of the generation, FlashInfer or Triton where it lacks the format."""
    width = np.asarray(np.maximum(op.head_dim, op.v_head_dim), float)
    wide = width > WIDE_HEAD
    if kind == "fa3":
        family = ("fa3-kv8" if narrow else "fa3") + suffix_of(setting)
        return _either(wide, "triton-kv8" if narrow else "fa4", family)
    if narrow:
        return _either(~np.isin(width, FLASHINFER_WIDTHS), "triton-kv8", "flashinfer-kv8")
    return _either(wide, "fa4", "fa2")


def _all(choice: tuple[str, ...]) -> Menu:
    return Menu(np.zeros((), np.intp), (choice,))


def _either(condition: NDArray[np.bool_], then: str, otherwise: str) -> Menu:
    return Menu(np.where(condition, 1, 0).astype(np.intp), ((otherwise,), (then,)))
