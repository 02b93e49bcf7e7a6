"""The two-pass softmax: one pass over memory less, paid for with exponentials that are computed twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ridgeline.core.dtypes import DTYPES
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price
from ridgeline.hardware import chip
from ridgeline.hardware.chip import Chip, ChipColumns
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study
from ridgeline.workloads.ops import Vector

GAIN = "speed of two passes over the faster of two three-pass algorithms, {}"
MAXIMUM, ADDITION, SCALING = 1.0, 1.0, 1.0
"""Operations per element beside the exponential: the running maximum, the sum, the final product."""


def _passes(algorithm: str, assumed: Mapping[str, float]) -> tuple[tuple[float, float, float], ...]:
    """(reads, writes, operations) per element of each pass."""
    exp, pair = assumed["exponential"], assumed["exponential"] + assumed["extended exponent"]
    return {
        "recompute": ((1.0, 0.0, MAXIMUM), (1.0, 0.0, exp + ADDITION), (1.0, 1.0, exp + SCALING)),
        "reload": ((1.0, 0.0, MAXIMUM), (1.0, 1.0, exp + ADDITION), (1.0, 1.0, SCALING)),
        "two passes": ((1.0, 0.0, pair + MAXIMUM + ADDITION), (1.0, 1.0, pair + SCALING)),
    }[algorithm]


def _time_s(algorithm: str, elements: float, on: Chip, assumed: Mapping[str, float]) -> float:
    """Passes run one after another; each is bound by arithmetic, or by bytes of cache or memory."""
    total = 0.0
    for reads, writes, operations in _passes(algorithm, assumed):
        moved = writes * (1.0 + assumed["write-allocate"])
        op = Vector(
            name=algorithm,
            part="softmax",
            kind="softmax",
            elements=elements,
            reads=reads,
            writes=moved,
            flops_per_element=operations,
            dtype=DTYPES["fp32"],
        )
        total += float(price(op, ChipColumns((on,)), Setting(runtime="ideal")).time_s)
    return total


def _core(assumed: Mapping[str, float], lanes: float) -> Chip:
    """One core of the processor with vectors of `lanes` 32-bit values: the paper's code has one thread."""
    whole = chip("xeon-w-2135")
    share = lanes / 16.0 / whole.compute_units
    tiers = tuple(
        replace(
            tier,
            bandwidth_bytes_per_s=assumed["bandwidth of one core"]
            if tier.name == "dram"
            else tier.bandwidth_bytes_per_s / whole.compute_units,
        )
        for tier in whole.tiers
    )
    return replace(whole, vector_flops_per_s={"fp32": whole.vector_flops_per_s["fp32"] * share}, tiers=tiers)


def run(assumed: Mapping[str, float]) -> Outcome:
    """The gain out of cache for both widths of vectors, and over sizes for the wider one."""
    sizes = [2.0**i for i in range(12, 28)]

    def gain(elements: float, lanes: float) -> float:
        on = _core(assumed, lanes)
        slow = min(_time_s(name, elements, on, assumed) for name in ("recompute", "reload"))
        return slow / _time_s("two passes", elements, on, assumed)

    return Outcome(
        results={
            GAIN.format("AVX512"): gain(2.0**25, 16.0),
            GAIN.format("AVX2"): gain(2.0**25, 8.0),
        },
        figure=Figure(
            title="Two passes against the faster of the three-pass algorithms",
            x=sizes,
            lines={"AVX512": [gain(n, 16.0) for n in sizes], "AVX2": [gain(n, 8.0) for n in sizes]},
            x_label="elements",
            y_label="ratio of times",
            x_log=True,
        ),
    )


STUDY = Study(
    name="two-pass-softmax",
    n=127,
    area="kernels",
    paper="Dukhan and Ablavatski, The Two-Pass Softmax Algorithm (arXiv 2001.04438)",
    idea="Three passes read the input three times. Keeping exponents apart from mantissas, the maximum need not be "
    "known first, and two passes suffice. Out of cache, bytes decide: the passes here are elementwise ops on one "
    "core.",
    claims=(
        Claim(metric=GAIN.format("AVX512"), value=1.28, baseline="three passes, Skylake-X, out of cache"),
        Claim(metric=GAIN.format("AVX2"), value=1.18, baseline="three passes, Skylake-X, out of cache"),
    ),
    assumptions=(
        Assumption(
            name="exponential",
            value=20,
            unit="operations",
            source="range reduction, a polynomial of degree 5, reconstruction: ten fused multiply-adds",
        ),
        Assumption(
            name="extended exponent", value=6, unit="operations", source="scaling of two pairs to the larger exponent"
        ),
        Assumption(
            name="write-allocate",
            value=1,
            unit="reads per write",
            source="ordinary stores fetch the line that they overwrite; 0 with non-temporal stores",
            uncertain=True,
        ),
        Assumption(
            name="bandwidth of one core",
            value=12e9,
            unit="bytes/s",
            source="10 to 14 GB/s per core in STREAM runs on Skylake servers",
            uncertain=True,
        ),
    ),
    run=run,
)
