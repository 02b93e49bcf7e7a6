"""QMoE: a trillion parameters in under a bit each, because ternary weights are mostly zeros."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ridgeline.core.dtypes import DTYPES, SCHEMES, DType
from ridgeline.costs.machine_columns import MachineColumns
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price
from ridgeline.hardware import machine
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study
from ridgeline.workloads.ops import Matmul, Vector

BITS = "bits per parameter"
RATIO = "compression of bf16"
SIZE = "size of the model, GB"
SLOWER = "time of an expert's matmul, compressed over uncompressed"
CODEWORD = 16


def _bits(zeros: float, longest: int) -> float:
    """Bits per ternary weight when each 16-bit word names one of 2**16 sequences, the most probable ones.

    Sequences grow from the most probable one by a weight at a time (Tunstall, 1967), up to `longest` weights.
    """
    other = (1.0 - zeros) / 2.0
    leaves, done, count = [(-1.0, 0)], 0.0, 1
    while leaves and count + 2 <= 2**CODEWORD:
        chance, length = heapq.heappop(leaves)
        if length == longest:
            done += -chance * length
            continue
        for part in (zeros, other, other):
            heapq.heappush(leaves, (chance * part, length + 1))
        count += 2
    return CODEWORD / (done + sum(-chance * length for chance, length in leaves))


def _matmul_s(assumed: Mapping[str, float], stored: DType, *, decodes: bool) -> float:
    """The two matmuls of an expert for the few tokens that meet it, and the arithmetic of decoding its weights."""
    on = MachineColumns((machine("rtx-a6000"),))
    width, inner, tokens = assumed["width"], assumed["inner width"], 1.0
    scheme = replace(SCHEMES["bf16"], name="ternary words", weight=stored)
    setting = Setting(runtime="ideal")
    total = sum(
        float(
            np.asarray(
                price(Matmul(name="expert", part="experts", m=tokens, n=n, k=k, scheme=scheme), on, setting).time_s
            )
        )
        for n, k in ((inner, width), (width, inner))
    )
    if not decodes:
        return total
    words = Vector(
        name="decode",
        part="experts",
        kind="activation",
        elements=2.0 * width * inner,
        reads=0.0,
        writes=0.0,
        flops_per_element=assumed["decoding"],
    )
    return max(total, float(np.asarray(price(words, on, setting).time_s)))


def run(assumed: Mapping[str, float]) -> Outcome:
    """From zeros to bits, from bits to gigabytes, and what decoding costs an expert."""
    bits = _bits(1.0 - assumed["not zero"], int(assumed["longest sequence"]))
    others = assumed["parameters"] * (1.0 - assumed["share in experts"]) * DTYPES["bf16"].element_bytes
    packed = assumed["parameters"] * assumed["share in experts"] * bits / 8.0
    whole = assumed["parameters"] * DTYPES["bf16"].element_bytes
    stored = DType(name="qmoe", bits=bits, compute="bf16")
    shares = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95]
    entropy = [-z * np.log2(z) - (1 - z) * np.log2((1 - z) / 2) for z in shares]
    plain = _matmul_s(assumed, DTYPES["bf16"], decodes=False)
    return Outcome(
        results={
            RATIO: whole / (packed + others),
            BITS: bits,
            SIZE: (packed + others) / 1e9,
            SLOWER: _matmul_s(assumed, stored, decodes=True) / plain,
        },
        figure=Figure(
            title="Bits of a ternary weight",
            x=shares,
            lines={"16-bit words": [_bits(z, int(assumed["longest sequence"])) for z in shares], "entropy": entropy},
            x_label="share of zeros",
            y_label="bits",
        ),
    )


STUDY = Study(
    name="qmoe",
    n=129,
    area="moe",
    paper="Frantar and Alistarh, QMoE: Practical Sub-1-Bit Compression of Trillion-Parameter Models, MLSys 2024 "
    "(arXiv 2310.16795)",
    idea="Rounded to three values, nine in ten weights of the experts are zero; 16-bit words that name long "
    "sequences come close to the entropy. Reading them is quick; the kernel must only unpack them as fast.",
    claims=(
        Claim(metric=RATIO, value=20.0, baseline="bf16, SwitchTransformer-c2048"),
        Claim(metric=BITS, value=0.8, kind="absolute"),
        Claim(metric=SIZE, value=160.0, kind="absolute", source="abstract: less than 160 GB"),
        Claim(
            metric=SLOWER,
            value=1.05,
            baseline="uncompressed bf16, all in memory; less than",
            why="Bytes and arithmetic would let the packed expert run in 40 % of the time. The published kernel is "
            "bound by dependent table lookups, one word after another in each warp, which have no price here.",
        ),
    ),
    assumptions=(
        Assumption(name="parameters", value=1.571e12, source="Switch-C, Fedus et al. (arXiv 2101.03961), table 9"),
        Assumption(
            name="share in experts",
            value=0.999,
            source="30 layers of 2,048 experts of 2 x 2,080 x 6,144; the rest is 1.5e9",
        ),
        Assumption(
            name="not zero",
            value=0.114,
            source="natural sparsity of 88.6 % of the ternary c2048, section 5.2; recalled",
            uncertain=True,
        ),
        Assumption(
            name="longest sequence",
            value=28,
            unit="weights",
            source="14 pairs in 64 bits of a table entry, section 4; recalled",
            whole=True,
        ),
        Assumption(name="width", value=2080, source="Switch-C, Fedus et al. (arXiv 2101.03961), table 9"),
        Assumption(name="inner width", value=6144, source="Switch-C, Fedus et al. (arXiv 2101.03961), table 9"),
        Assumption(
            name="decoding",
            value=40,
            unit="operations per weight",
            source="extract, scale and accumulate one weight of a word in one lane; not in the abstract",
            uncertain=True,
        ),
    ),
    run=run,
)
