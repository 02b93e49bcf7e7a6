"""Number formats: what a value occupies in memory, and which engine rate multiplies it.

A `DType` is a storage format. A `Scheme` is what a matmul does with two of them: the format of the weights, the format
of the activations as they enter the engine, and the compute rate that applies. Block sizes and scale formats are those
of the OCP Microscaling specification v1.0 (mxfp4: 32 elements share one 8-bit scale) and of the NVIDIA Blackwell
documentation (nvfp4: 16 elements share one fp8 scale); 128x128 and 1x128 blocks with fp32 scales follow DeepSeek-V3
(arXiv 2412.19437, 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ridgeline.core.names import Names


@dataclass(frozen=True, slots=True, kw_only=True)
class DType:
    """A storage format. `bits` is the element alone, `scale_bits` the share of scales and zero points per element."""

    name: str
    bits: float
    compute: str
    scale_bits: float = 0.0

    @property
    def element_bytes(self) -> float:
        """Bytes per element, scales included."""
        return (self.bits + self.scale_bits) / 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How a matmul represents its operands.

    `quantises` says that activations arrive in 16 bits and are converted on the way in, which costs a pass over them;
    `block` is the number of elements that share a scale along k (0: one scale per tensor or row).
    """

    name: str
    weight: DType
    activation: DType
    compute: str
    quantises: bool = False
    block: int = 0

    @property
    def weight_only(self) -> bool:
        """Whether weights are widened to the activation format before they are multiplied."""
        return self.weight.bits < self.activation.bits


def _dtype(name: str, bits: float, compute: str, scale_bits: float = 0.0) -> DType:
    return DType(name=name, bits=bits, compute=compute, scale_bits=scale_bits)


GGUF: Mapping[str, tuple[int, float]] = {
    "q2_k": (2, 3.16),
    "q3_k_m": (3, 4.0),
    "q4_0": (4, 4.5),
    "q4_k_s": (4, 4.67),
    "q4_k_m": (4, 4.89),
    "q5_k_s": (5, 5.57),
    "q5_k_m": (5, 5.7),
    "q6_k": (6, 6.56),
    "q8_0": (8, 8.5),
}
"""Formats of GGUF files: bits of most elements, and bits per weight over a whole 8B model, whose embedding and some
matrices are kept wider (ggml-org/llama.cpp, tools/quantize/README.md, table of Llama 3.1 8B, as recalled; q4_0 and q8_0
by their blocks of 32)."""

DTYPES: Mapping[str, DType] = {
    d.name: d
    for d in (
        _dtype("fp64", 64, "fp64"),
        _dtype("fp32", 32, "fp32"),
        _dtype("tf32", 32, "tf32"),
        _dtype("bf16", 16, "bf16"),
        _dtype("fp16", 16, "fp16"),
        _dtype("fp8", 8, "fp8"),
        _dtype("fp8_e5m2", 8, "fp8"),
        _dtype("fp8_block", 8, "fp8", scale_bits=32 / (128 * 128)),
        _dtype("mxfp8", 8, "fp8", scale_bits=8 / 32),
        _dtype("mxfp6", 6, "fp8", scale_bits=8 / 32),
        _dtype("int8", 8, "int8"),
        _dtype("int4", 4, "int4", scale_bits=16 / 128),
        _dtype("mxfp4", 4, "fp4", scale_bits=8 / 32),
        _dtype("nvfp4", 4, "fp4", scale_bits=8 / 16),
        _dtype("int3", 3, "int8", scale_bits=16 / 128),
        _dtype("int2", 2, "int8", scale_bits=16 / 128),
        _dtype("int2_g32", 2, "int8", scale_bits=32 / 32),
        _dtype("ternary", 1.6, "int8", scale_bits=0.0),
        _dtype("int1", 1, "int8", scale_bits=0.0),
        *(_dtype(name, bits, "int8", scale_bits=mean - bits) for name, (bits, mean) in GGUF.items()),
        _dtype("int32", 32, "fp32"),
        _dtype("int64", 64, "fp64"),
    )
}
"""Storage formats. Ternary: five trits in a byte (BitNet b1.58, arXiv 2402.17764); int4, int3, int2: 128 weights share
a scale; int2_g32: 32 cached values share a 16-bit scale and a 16-bit offset (KIVI, arXiv 2402.02750)."""

DTYPE_NAMES = Names(
    "dtype",
    {
        "fp64": ("float64", "double"),
        "fp32": ("float32", "float", "f32"),
        "tf32": ("tensorfloat32",),
        "bf16": ("bfloat16", "amp_bf16", "bf16/fp16", "fp16/bf16"),
        "fp16": ("float16", "half", "f16"),
        "fp8": ("float8", "fp8_e4m3", "e4m3", "float8_e4m3fn", "fp8_tensor", "fp8_static", "fp8_dynamic"),
        "fp8_e5m2": ("e5m2", "float8_e5m2"),
        "fp8_block": ("fp8_blockwise", "deepseek_fp8"),
        "mxfp8": ("mx_fp8",),
        "mxfp6": (),
        "int8": ("i8", "sq", "smoothquant", "w8a8", "int8_sq"),
        "int4": ("i4", "uint4", "w4"),
        "mxfp4": ("mx_fp4",),
        "nvfp4": ("fp4", "nv_fp4"),
        "int3": ("w3",),
        "int2": ("w2",),
        "int2_g32": ("kivi2",),
        "ternary": ("1.58bit", "b1.58"),
        "int1": ("1bit", "binary", "bool"),
        **{name: (name.removesuffix("_m"),) if name.endswith("_k_m") else () for name in GGUF},
        "int32": ("i32",),
        "int64": ("i64", "long"),
    },
    listing="docs/reference lists the formats",
)


def dtype(name: str, *, at: str = "dtype") -> DType:
    """The storage format of that name. Raises UnknownNameError with the nearest names."""
    return DTYPES[DTYPE_NAMES.resolve(name, at=at)]


def _scheme(
    name: str, weight: str, activation: str, compute: str, *, quantises: bool = False, block: int = 0
) -> Scheme:
    return Scheme(
        name=name,
        weight=DTYPES[weight],
        activation=DTYPES[activation],
        compute=compute,
        quantises=quantises,
        block=block,
    )


SCHEMES: Mapping[str, Scheme] = {
    s.name: s
    for s in (
        _scheme("fp64", "fp64", "fp64", "fp64"),
        _scheme("fp32", "fp32", "fp32", "fp32"),
        _scheme("tf32", "fp32", "fp32", "tf32"),
        _scheme("bf16", "bf16", "bf16", "bf16"),
        _scheme("fp16", "fp16", "fp16", "fp16"),
        _scheme("fp8", "fp8", "fp8", "fp8", quantises=True),
        _scheme("fp8_block", "fp8_block", "fp8", "fp8", quantises=True, block=128),
        _scheme("mxfp8", "mxfp8", "mxfp8", "fp8", quantises=True, block=32),
        _scheme("int8", "int8", "int8", "int8", quantises=True),
        _scheme("nvfp4", "nvfp4", "nvfp4", "fp4", quantises=True, block=16),
        _scheme("mxfp4", "mxfp4", "mxfp4", "fp4", quantises=True, block=32),
        _scheme("fp8_wo", "fp8", "bf16", "bf16"),
        _scheme("int8_wo", "int8", "bf16", "bf16"),
        _scheme("int4_wo", "int4", "bf16", "bf16", block=128),
        _scheme("nvfp4_wo", "nvfp4", "bf16", "bf16", block=16),
        _scheme("w4a16_mxfp4", "mxfp4", "bf16", "bf16", block=32),
        _scheme("w4a8_mxfp4", "mxfp4", "fp8", "fp8", quantises=True, block=32),
        _scheme("w4a8_nvfp4", "nvfp4", "fp8", "fp8", quantises=True, block=16),
        _scheme("w4afp8", "int4", "fp8", "fp8", quantises=True, block=128),
        _scheme("w4a8", "int4", "int8", "int8", quantises=True, block=128),
        _scheme("int4", "int4", "int4", "int4", quantises=True, block=128),
        _scheme("int3_wo", "int3", "bf16", "bf16", block=128),
        _scheme("int2_wo", "int2", "bf16", "bf16", block=128),
        _scheme("w2a8", "int2", "int8", "int8", quantises=True, block=128),
        _scheme("ternary_wo", "ternary", "bf16", "bf16"),
        _scheme("ternary", "ternary", "int8", "int8", quantises=True),
        _scheme("int1_wo", "int1", "bf16", "bf16"),
        *(_scheme(name, name, "fp16", "fp16", block=32) for name in GGUF),
    )
}
"""What matmuls do, by the names that the case tables use in their `dtype` column."""

SCHEME_NAMES = Names(
    "number format",
    {
        **dict.fromkeys(SCHEMES, ()),
        "fp64": ("float64", "double"),
        "fp32": ("float32", "float"),
        "bf16": ("bfloat16", "bf16/fp16", "fp16/bf16"),
        "fp16": ("float16", "half"),
        "fp8": ("float8", "fp8_e4m3", "e4m3", "float8_e4m3fn", "w8a8_fp8", "fp8_static", "fp8_tensor"),
        "fp8_block": ("fp8_blockwise",),
        "int8": ("sq", "smoothquant", "w8a8", "int8_sq"),
        "nvfp4": ("fp4", "w4a4_nvfp4"),
        "mxfp4": ("w4a4_mxfp4",),
        "fp8_wo": ("w8a16_fp8",),
        "int8_wo": ("w8a16", "int8_weight_only"),
        "int4_wo": ("w4a16", "int4_weight_only", "awq", "gptq", "int4_awq", "int4_gptq", "int4 (gptq)", "int4 (awq)"),
        "nvfp4_wo": ("w4a16_nvfp4",),
        "w4a16_mxfp4": ("mxfp4_wo",),
        "w4a8_mxfp4": ("w4a8_mxfp4_mxfp8", "w4a8_mxfp4_fp8"),
        "w4afp8": ("w4a8_fp8", "int4_fp8"),
    },
    listing="docs/reference lists the formats",
)


def scheme(name: str, *, at: str = "dtype") -> Scheme:
    """The matmul scheme of that name. Raises UnknownNameError with the nearest names."""
    return SCHEMES[SCHEME_NAMES.resolve(name, at=at)]


def scheme_of(weight: DType, activation: DType) -> Scheme:
    """The scheme that multiplies weights stored as `weight` by activations entering the engine as `activation`."""
    for candidate in SCHEMES.values():
        if candidate.weight == weight and candidate.activation == activation:
            return candidate
    wider = weight if weight.bits > activation.bits else activation
    return Scheme(
        name=f"{weight.name}x{activation.name}",
        weight=weight,
        activation=activation,
        compute=wider.compute,
        quantises=activation.bits <= 8,
    )
