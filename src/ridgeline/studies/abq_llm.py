"""ABQ-LLM: weights in two bits against activations in eight, as products of bit planes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

CHIPS = ("a800", "a100-80gb-sxm")
"""Of SM 80, for which engine/build.sh of bytedance/ABQ-LLM builds what its FasterTransformer runs models with."""
SPEED = "tokens/s of Llama-7B, best of two boards"
MEMORY = "memory of Llama-7B"
CONTEXTS = [128.0, 256.0, 512.0, 1024.0, 2048.0]


def _decode(chip: str, weights: str, contexts: list[float]) -> dict[str, np.ndarray]:
    case = {"phase": "decode", "model": "llama-7b", "chip": chip, "runtime": "trtllm", "kv": "bf16"}
    return sweep("step", weights=weights, context=contexts, **case)


def run(assumed: Mapping[str, float]) -> Outcome:
    """One sequence, step by step: what bounds it is bytes of weights, whatever the number of binary products."""
    at = [assumed["context"]]
    speed, memory, lines = [], [], {}
    for chip in CHIPS:
        eight, two = (_decode(chip, name, at) for name in ("int8", "w2a8"))
        speed.append(float(eight["time_s"][0] / two["time_s"][0]))
        total = [
            one["weights_bytes_per_chip"][0] + one["kv_bytes_per_chip"][0] + assumed["workspace"]
            for one in (eight, two)
        ]
        memory.append(float(total[0] / total[1]))
        lines[chip] = (_decode(chip, "int8", CONTEXTS)["time_s"] / _decode(chip, "w2a8", CONTEXTS)["time_s"]).tolist()
    return Outcome(
        results={SPEED: max(speed), MEMORY: max(memory)},
        figure=Figure(
            title="Two-bit over eight-bit weights, Llama-7B, one sequence",
            x=CONTEXTS,
            lines=lines,
            x_label="tokens of context",
            y_label="ratio of times",
            x_log=True,
        ),
    )


STUDY = Study(
    name="abq-llm",
    n=153,
    area="quantization",
    paper="Zeng et al., ABQ-LLM: Arbitrary-Bit Quantized Inference Acceleration for Large Language Models, AAAI 2025 "
    "(arXiv 2408.08554)",
    idea="A product of p-bit weights and q-bit activations is p q binary products. In decoding, arithmetic is idle "
    "and bytes count: two-bit weights are read in a quarter of the time of eight-bit ones. Here the scheme `w2a8`.",
    claims=(
        Claim(metric=SPEED, value=1.6, baseline="SmoothQuant W8A8"),
        Claim(metric=MEMORY, value=2.7, baseline="SmoothQuant W8A8"),
    ),
    assumptions=(
        Assumption(
            name="context",
            value=512,
            unit="tokens",
            source="mean of one sequence of 1,024 tokens from a short prompt: bytedance/ABQ-LLM, "
            "fastertransformer/examples/cpp/llama/llama_config.ini",
            uncertain=True,
            whole=True,
        ),
        Assumption(
            name="workspace",
            value=0.5e9,
            unit="bytes",
            source="buffers of FasterTransformer and the framework; not in the abstract",
            uncertain=True,
        ),
    ),
    run=run,
)
