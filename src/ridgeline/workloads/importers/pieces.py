"""Ops that importers of exported programs make alike: matmuls by the shapes of their operands, and what streams."""

from __future__ import annotations

from ridgeline.core.dtypes import Scheme
from ridgeline.workloads.ops import Dim, Matmul, Vector


def product(
    out: tuple[int, ...], depth: float, batch: Dim, scheme: Scheme, *, weights: bool, bias: bool = False
) -> Matmul:
    """The matmul that gives a tensor of shape `out` by sums over `depth`.

    Rows of all images are one matmul if an operand holds weights; otherwise each image and head has its own.
    """
    wide, size = float(out[-1]), 1.0
    for length in out[:-1]:
        size *= float(length)
    if weights:
        return Matmul(name="matmul", part="linear", m=batch * size, n=wide, k=depth, scheme=scheme, bias=bias)
    tall = float(out[-2]) if len(out) > 1 else 1.0
    many = batch * size / tall
    return Matmul(name="product", part="attention", m=tall, n=wide, k=depth, scheme=scheme, batch=many, weights=False)


def streamed(kind: str, elements: Dim, scheme: Scheme, *, reads: float = 1.0, weights: float = 0.0) -> Vector:
    """Elementwise or row-wise work that writes `elements` values and reads `reads` as many."""
    return Vector(
        name=kind,
        part="vector",
        kind=kind,
        elements=elements,
        reads=reads,
        weights=weights,
        dtype=scheme.activation,
    )
