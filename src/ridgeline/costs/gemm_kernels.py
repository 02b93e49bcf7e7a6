"""Which GEMM kernel family a runtime uses for a number format on a chip, and how that family covers the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ridgeline.core.dtypes import Scheme
from ridgeline.costs.gemm_tiles import ANY_ROWS, AUTO, BLOCK_WIDE, BY_M, BY_M_ADA, WHOLE_K, Menu
from ridgeline.hardware.chip import Chip

CUTLASS_RUNTIMES = ("vllm", "sglang")
NARROW = ("fp8", "fp4", "int8", "int4")
"""Compute formats that a chip either multiplies natively or widens to 16 bits first."""
BEFORE_HOPPER = ("maxwell", "volta", "turing", "ampere", "ada")

FAMILIES: Mapping[str, Menu] = {
    "cublas": AUTO,
    "cublas-fp8": AUTO,
    "cutlass-fp8": BY_M,
    "cutlass-fp8-ada": BY_M_ADA,
    "trtllm-fp8-block": WHOLE_K,
    "trtllm-fp8-block-ada": BLOCK_WIDE,
    "deepgemm": WHOLE_K,
    "triton-fp8-block": BLOCK_WIDE,
    "trt-int8-wo": WHOLE_K,
    "trt-int4-wo": WHOLE_K,
    "marlin-int8": AUTO,
    "marlin-int4": AUTO,
    "smooth-quant": WHOLE_K,
    "trtllm-fp4": WHOLE_K,
    "cutlass-fp4": WHOLE_K,
    "generic": ANY_ROWS,
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
    name = "generic" if is_foreign(chip) else _family(scheme, runtime, chip, widens=widens)
    return Kernel(
        name=name,
        menu=FAMILIES[name],
        quantises=scheme.quantises and native,
        widens=widens,
        a_bytes=scheme.activation.element_bytes if native else max(2.0, scheme.activation.element_bytes),
    )


def is_foreign(chip: Chip) -> bool:
    """Whether no measured kernel runs on a chip of this make."""
    return chip.vendor.casefold() != "nvidia" or chip.kind == "cpu"


def loop_of(runtime: str) -> str:
    """The coefficients of the benchmark loop that measured a runtime's tables."""
    return "loop-trtllm" if runtime == "trtllm" else "loop-vllm"


def lineage(chip: Chip) -> str:
    """Whose numbers stand in for a chip that was never measured: the nearest measured generation and kind of board.

    Boards with graphics or laptop memory have another cache and another power budget than server parts of the same
    generation: the one such board that was measured stands for them. A generation not listed is taken for the newest.
    """
    if is_foreign(chip):
        return chip.generation
    if chip.dram.technology.upper().startswith(("GDDR", "LPDDR")):
        return "ada"
    if chip.generation in BEFORE_HOPPER:
        return "ampere"
    return "hopper" if chip.generation == "hopper" else "blackwell"


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
    if scheme.compute == "fp8" and runtime in CUTLASS_RUNTIMES:
        return "cutlass-fp8-ada" if chip.generation in BEFORE_HOPPER else "cutlass-fp8"
    return "cublas-fp8" if scheme.compute == "fp8" else "cublas"


def _block_scaled(runtime: str, chip: Chip) -> str:
    """DeepGEMM needs Hopper or later; before it, vLLM compiles a Triton kernel and TensorRT-LLM has a CUTLASS one."""
    if chip.generation in BEFORE_HOPPER:
        return "triton-fp8-block" if runtime in CUTLASS_RUNTIMES else "trtllm-fp8-block-ada"
    return "deepgemm" if runtime in CUTLASS_RUNTIMES else "trtllm-fp8-block"
