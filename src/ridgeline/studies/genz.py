"""GenZ: operators at the roofline of an imagined TPU, as its own regression files have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ridgeline.core.dtypes import SCHEMES
from ridgeline.costs.price import Setting
from ridgeline.costs.price_op import price
from ridgeline.hardware import chip
from ridgeline.hardware.chip import Chip, ChipColumns
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.model import FeedForward, GroupedQuery
from ridgeline.workloads.ops import Matmul

LAYER = "one layer of Llama-2-7B, {}, ms"
NEED = "compute for a prompt of 1,024 in 100 ms"
BF16 = SCHEMES["bf16"]


def _layer(tokens: float, keys: tuple[float, ...]) -> Iterator[Matmul]:
    """A layer as GenZ has it: matmuls only, with scores written to memory and read back."""
    of = model("llama-2-7b")
    block = of.blocks[0]
    mixer, ffn, hidden = block.mixer, block.ffn, float(of.hidden)
    assert isinstance(mixer, GroupedQuery) and isinstance(ffn, FeedForward), "Llama has plain blocks"
    heads, width = float(mixer.heads), float(mixer.head_dim)
    shapes = (
        ("qkv", (heads + 2.0 * float(mixer.kv_heads)) * width, hidden),
        ("out", hidden, heads * width),
        ("gate_up", 2.0 * float(ffn.inter), hidden),
        ("down", hidden, float(ffn.inter)),
    )
    for name, n, k in shapes:
        yield Matmul(name=name, part="layer", m=tokens, n=n, k=k, scheme=BF16)
    for length in keys:
        for name, n, k in (("logit", length, width), ("attend", width, length)):
            yield Matmul(name=name, part="layer", m=tokens, n=n, k=k, batch=heads, weights=False, scheme=BF16)


def _chip(assumed: Mapping[str, float]) -> Chip:
    """GenZ's accelerator: a peak and a bandwidth, each times an efficiency."""
    like = chip("tpu-v4")
    peak = assumed["peak"] * assumed["compute efficiency"]
    bandwidth = assumed["bandwidth"] * assumed["memory efficiency"]
    dram = replace(like.dram, bandwidth_bytes_per_s=bandwidth)
    return replace(like, name="genz-tpu", matrix_flops_per_s={"bf16": peak}, tiers=(dram,))


def _layer_ms(on: Chip, tokens: float, keys: tuple[float, ...]) -> float:
    chips = ChipColumns((on,))
    return sum(float(price(op, chips, Setting(runtime="ideal")).time_s) for op in _layer(tokens, keys)) * 1e3


def run(assumed: Mapping[str, float]) -> Outcome:
    """Both regression files, and the figure turns the roofline round: which compute rate a prompt asks for."""
    on = _chip(assumed)
    of = model("llama-2-7b")
    lengths = [128.0 * 2**i for i in range(8)]
    flops = [sum(float(op.flops()) for op in _layer(n, (n,))) * float(np.asarray(of.layers)) for n in lengths]
    return Outcome(
        results={
            LAYER.format("prefill of 1,024"): _layer_ms(on, 1024.0, (1024.0,)),
            LAYER.format("decode after 1,024 and 32"): _layer_ms(on, 1.0, (1024.0, 32.0)),
        },
        figure=Figure(
            title="What a first token asks of the compute of a machine (Llama-2-7B)",
            x=lengths,
            lines={f"{1e3 * limit:g} ms": [f / limit / 1e12 for f in flops] for limit in (0.1, 0.2, 1.0)},
            x_label="tokens of the prompt",
            y_label="TFLOP/s",
            x_log=True,
            y_log=True,
        ),
        notes=("The files call the first product Logit and the second Attend; neither is fused with the softmax.",),
    )


REPOSITORY = "abhibambhaniya/GenZ-LLM-Analyzer"
STUDY = Study(
    name="genz",
    n=136,
    area="perf-prediction",
    paper="Bambhaniya et al., Demystifying Platform Requirements for Diverse LLM Inference Use Cases (arXiv "
    "2406.01698)",
    idea="A roofline with efficiency factors per operator; turned round, it says which compute, capacity and "
    "bandwidth a use asks for. Here the same matmuls at the bounds of the same machine.",
    claims=(
        Claim(
            metric=LAYER.format("prefill of 1,024"),
            value=1.88969,
            kind="exact",
            source=f"{REPOSITORY}, tests/golden/llama_7b_prefill_on_TPU.csv, sum of latencies",
        ),
        Claim(
            metric=LAYER.format("decode after 1,024 and 32"),
            value=0.40962,
            kind="exact",
            source=f"{REPOSITORY}, tests/golden/llama_7b_decode_on_TPU.csv, sum of latencies",
        ),
    ),
    assumptions=(
        Assumption(
            name="peak", value=300e12, unit="FLOP/s", source="golden files: 240 TFLOP/s at an efficiency of 0.8"
        ),
        Assumption(name="compute efficiency", value=0.8, source="golden files, column `C Effcy`", uncertain=True),
        Assumption(
            name="bandwidth",
            value=1200 * 2**30,
            unit="bytes/s",
            source="golden files: 96.03 MiB in 0.0977 ms at an efficiency of 0.8",
        ),
        Assumption(name="memory efficiency", value=0.8, source="as the compute efficiency", uncertain=True),
    ),
    run=run,
)
