"""Which grouped-matmul kernel a runtime runs for routed experts: families by runtime, generation, format and shape.

Families: `cutlass` (TensorRT-LLM), `triton` (vLLM's fused kernel), `flashinfer` (CUTLASS through FlashInfer),
`marlin` (weights of 4 bits widened on the way in). A suffix gives the format: 16, fp8, fp8-block, w4. Datacentre
chips after Hopper take the fastest of the families that exist for the format, except that vLLM's 8-bit path there is
TensorRT-LLM's.
"""

from __future__ import annotations

import numpy as np

from ridgeline.core.dtypes import Scheme
from ridgeline.costs.attention_kernels import Menu, era
from ridgeline.costs.power_runs import power_runs, suffix_of
from ridgeline.costs.price import Setting
from ridgeline.hardware.chip import Chip
from ridgeline.workloads.ops import Experts

MANY_EXPERTS = 256
"""vLLM's kernels for models with 4-bit floating-point weights and few experts end here; Marlin takes larger ones."""


def expert_menu(op: Experts, chip: Chip, setting: Setting) -> Menu:
    """Families per row; a choice of several means the fastest of them."""
    kind = era(chip)
    if kind == "other":
        return _all("generic")
    form = _format(op.scheme)
    if kind == "next" and op.scheme.weight.compute == "fp4":
        form = "fp8"  # multiplied as they are, beside 8-bit activations: nothing is widened on the way in
    if setting.runtime == "trtllm":
        return _all(f"cutlass-{form}" if op.gated or form not in ("16", "fp8") else f"cutlass-plain-{form}")
    if kind == "next":
        return _all(*(("cutlass-16", "triton-16") if form == "16" else (f"cutlass-{form}",)))
    return _vllm(op, setting, kind, form)


def _vllm(op: Experts, setting: Setting, kind: str, form: str) -> Menu:
    """Kernels of vLLM, and of runtimes that share them."""
    suffix = suffix_of(setting) if kind == "fa3" and form != "w4" else ""
    if suffix:
        return _all(f"triton-{form}{suffix}")
    if form == "w4" and op.scheme.weight.compute == "fp4":
        many = np.asarray(np.asarray(op.experts) > MANY_EXPERTS)
        few = "triton-w4" if kind == "fa3" else "marlin-mxfp4"
        return Menu(np.where(many, 1, 0).astype(np.intp), ((few,), ("marlin-mxfp4-wide",)))
    if form == "w4":
        return _all("marlin-int4")
    if kind == "fa2" or form == "16":
        return _all(f"triton-{form}")
    if form == "fp8":
        # FlashInfer's kernel, which the newest tables hold, takes twice as long as Triton's, which deployments run.
        return _all("flashinfer-fp8", *([f"triton-fp8{power_runs()[0].suffix}"] if setting.sustained else []))
    spread = np.asarray(np.asarray(op.ep) > 1)
    return Menu(np.where(spread, 1, 0).astype(np.intp), (("triton-fp8-block",), ("flashinfer-fp8-block",)))


def _format(scheme: Scheme) -> str:
    """16, fp8, fp8-block or w4: what decides the inner loop."""
    if scheme.weight.bits <= 4:
        return "w4" if scheme.weight_only and scheme.activation.bits > 8 else "fp8"
    if scheme.weight.bits > 8:
        return "16"
    return "fp8-block" if scheme.block >= 128 else "fp8"


def _all(*choice: str) -> Menu:
    return Menu(np.zeros((), np.intp), (choice,))
