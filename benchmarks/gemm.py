"""GEMM prices per second in one vectorised call: every tile and split, with and without a residual table."""

from __future__ import annotations

import numpy as np

from _timing import measure, report
from ridgeline.core.dtypes import scheme
from ridgeline.costs.gemm import price_matmul
from ridgeline.costs.price import Setting
from ridgeline.hardware.catalogue import chip
from ridgeline.hardware.chip import ChipColumns
from ridgeline.workloads.ops import Matmul

ROWS = 1_000_000
GOAL_PER_S = 5e6
REFERENCE_OPS = 100
"""Plain float32 multiplications of arrays that fit a core's cache, as many rows each: what prices compare to."""


def shapes(dtype: str) -> Matmul:
    """A million shapes from decode steps to large prefills, evenly in the logarithm of each size."""
    rng = np.random.default_rng(20)
    m, n, k = (np.floor(2.0 ** rng.uniform(low, 14.0, ROWS)) for low in (0.0, 7.0, 7.0))
    return Matmul(name="bench", part="ffn", m=m, n=n, k=k, scheme=scheme(dtype))


def plain() -> None:
    part = np.ones(16_384, np.float32)
    for _ in range(REFERENCE_OPS * ROWS // part.size):
        np.multiply(part, part, out=part)


def main() -> None:
    reference = measure(plain)
    report(f"{REFERENCE_OPS} multiplications per row", reference, count=ROWS, unit="rows")
    for name, dtype in (("b200_sxm", "bf16"), ("h100_sxm", "bf16"), ("h100_sxm", "fp8")):
        chips, op = ChipColumns((chip(name),)), shapes(dtype)
        timing = measure(lambda chips=chips, op=op: price_matmul(op, chips, Setting()))
        report(f"{name} {dtype}", timing, count=ROWS, unit="prices", goal_per_s=GOAL_PER_S, reference=reference)
    one = Matmul(name="bench", part="ffn", m=128.0, n=4096.0, k=4096.0, scheme=scheme("bf16"))
    chips = ChipColumns((chip("h100_sxm"),))
    report("one price alone", measure(lambda: [price_matmul(one, chips, Setting()) for _ in range(100)]), count=100)


if __name__ == "__main__":
    main()
