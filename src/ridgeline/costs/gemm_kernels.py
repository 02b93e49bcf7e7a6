"""Which GEMM kernel family a runtime uses for a number format on a chip, and how that family covers the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ridgeline.core.dtypes import Scheme
from ridgeline.costs.gemm_tiles import AUTO, BY_M, FEWEST_WAVES, Menu
from ridgeline.hardware.chip import Chip

CUTLASS_RUNTIMES = ("vllm", "sglang")
NARROW = ("fp8", "fp4", "int8", "int4")
"""Compute formats that a chip either multiplies natively or widens to 16 bits first."""

FAMILIES: Mapping[str, Menu] = {
    "cublas": AUTO,
    "cublas-fp8": AUTO,
    "cutlass-fp8": BY_M,
    "trtllm-fp8-block": FEWEST_WAVES,
    "deepgemm": FEWEST_WAVES,
    "triton-fp8-block": AUTO,
    "trt-int8-wo": AUTO,
    "trt-int4-wo": AUTO,
    "marlin-int8": AUTO,
    "marlin-int4": AUTO,
    "smooth-quant": AUTO,
    "trtllm-fp4": AUTO,
    "cutlass-fp4": AUTO,
    "generic": AUTO,
}
"""Kernel families and the menus they choose from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A family as it runs one scheme on one generation.

    Attributes:
        name: the family, a key of `coefficients/gemm.yaml`.
        menu: its tiles.
        quantises: whether activations are converted by a kernel of their own first.
        widens: whether weights are widened on the compute units.
        a_bytes: bytes per activation as the engine reads it.
    """

    name: str
    menu: Menu
    quantises: bool
    widens: bool
    a_bytes: float


def kernel_of(scheme: Scheme, runtime: str, chip: Chip) -> Kernel:
    """The kernel that `runtime` runs for `scheme` on chips like `chip`; new ones get the nearest known."""
    native = scheme.compute not in NARROW or scheme.compute in chip.matrix_flops_per_s
    widens = scheme.weight_only or not native
    name = "generic" if chip.vendor.casefold() != "nvidia" else _family(scheme, runtime, chip, widens=widens)
    return Kernel(
        name=name,
        menu=FAMILIES[name],
        quantises=scheme.quantises and native,
        widens=widens,
        a_bytes=scheme.activation.element_bytes if native else max(2.0, scheme.activation.element_bytes),
    )


def loop_of(runtime: str) -> str:
    """The coefficients of the benchmark loop that measured a runtime's tables."""
    return "loop-trtllm" if runtime == "trtllm" else "loop-vllm"


def _family(scheme: Scheme, runtime: str, chip: Chip, *, widens: bool) -> str:
    if widens:
        library = "trt-int{}-wo" if runtime == "trtllm" and not scheme.quantises else "marlin-int{}"
        return library.format(8 if scheme.weight.bits > 4 else 4)
    if scheme.compute == "int8":
        return "smooth-quant"
    if scheme.compute == "fp4":
        return "cutlass-fp4" if runtime in CUTLASS_RUNTIMES else "trtllm-fp4"
    if scheme.name == "fp8_block":
        return _block_scaled(runtime, chip)
    if scheme.compute == "fp8":
        return "cutlass-fp8" if runtime in CUTLASS_RUNTIMES else "cublas-fp8"
    return "cublas"


def _block_scaled(runtime: str, chip: Chip) -> str:
    """DeepGEMM needs Hopper or later; before it, vLLM compiles a Triton kernel."""
    if runtime not in CUTLASS_RUNTIMES:
        return "trtllm-fp8-block"
    return "triton-fp8-block" if chip.generation in ("ada", "ampere", "turing", "volta") else "deepgemm"
