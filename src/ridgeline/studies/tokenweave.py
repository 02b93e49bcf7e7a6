"""TokenWeave: two halves of the tokens, one computing while the other is summed over NVLink."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

MODELS = {"Llama-3.3-70B": "llama-3.1-70b", "Qwen2.5-72B": "qwen2.5-72b", "Mixtral-8x22B": "mixtral-8x22b"}
LENGTHS = [1024.0 * 2**i for i in range(7)]
BASE = "prefill of 8K tokens with Llama-3.3-70B, ms"
WITHOUT = "the same without communication, ms"
WOVEN = "the same in two halves, ms"
BEST = "best gain in latency, 1K to 64K tokens, three models"


def _prefill(model: str, lengths: list[float], nano: int) -> dict[str, np.ndarray]:
    return sweep(
        "step",
        phase="prefill",
        model=model,
        chip="h100-sxm",
        node="dgx-h100",
        runtime="vllm",
        tp=8,
        tokens=lengths,
        nano_batches=nano,
    )


def run(assumed: Mapping[str, float]) -> Outcome:
    """One step over every length, in one piece and in two; the fused all-reduce and norm keeps some SMs for itself."""
    gains, kept = {}, 1.0 - assumed["SMs of the collective"] / assumed["SMs of the chip"]
    for name, card in MODELS.items():
        whole, halves = (_prefill(card, LENGTHS, nano) for nano in (1, 2))
        split = np.minimum(whole["time_s"], halves["time_s"] / kept)
        gains[name] = whole["time_s"] / split
        if name == "Llama-3.3-70B":
            at = LENGTHS.index(8192.0)
            told = whole["time_s"][at], whole["time_s"][at] - whole["communication_s"][at], split[at]
    return Outcome(
        results={
            BEST: float(max(gain.max() for gain in gains.values())),
            BASE: float(told[0]) * 1e3,
            WITHOUT: float(told[1]) * 1e3,
            WOVEN: float(told[2]) * 1e3,
        },
        figure=Figure(
            title="Gain of two halves over one batch, eight H100",
            x=LENGTHS,
            lines={name: gain.tolist() for name, gain in gains.items()},
            x_label="tokens",
            y_label="ratio of times",
            x_log=True,
        ),
        notes=(
            "A batch runs as one where two halves would be slower; the paper decides the same way, by waves of tiles.",
        ),
    )


ARTIFACT = "microsoft/tokenweave, artifact/csvs"
STUDY = Study(
    name="tokenweave",
    n=99,
    area="collectives-network",
    paper="Gond et al., TokenWeave: Efficient Compute-Communication Overlap for Distributed LLM Inference (arXiv "
    "2505.11329)",
    idea="Under tensor parallelism every layer waits for two all-reduces. Two halves of a batch hide one half's sums "
    "behind the other's matmuls. Here: `nano_batches` of a prefill step, with the priced all-reduces of eight H100.",
    claims=(
        Claim(metric=BEST, value=1.29, baseline="one batch, multimem all-reduce"),
        Claim(metric=BASE, value=356.0, kind="absolute", source=f"{ARTIFACT}, Llama-3.3-70B, TP8"),
        Claim(metric=WITHOUT, value=289.5, kind="absolute", source=f"{ARTIFACT}, Llama-3.3-70B, TP8"),
        Claim(metric=WOVEN, value=279.8, kind="absolute", source=f"{ARTIFACT}, Llama-3.3-70B, TP8"),
    ),
    assumptions=(
        Assumption(
            name="SMs of the collective",
            value=8,
            source="abstract: 2 to 8 suffice; the larger number",
            uncertain=True,
        ),
        Assumption(name="SMs of the chip", value=132, source="catalogue, h100-sxm"),
    ),
    run=run,
)
