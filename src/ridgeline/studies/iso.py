"""ISO: one prompt in two chunks, so that the sums of one hide behind the matmuls of the other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

SAVED = "share of the prefill time that is left on {}"
SIZES = (("llama-30b", 4), ("llama-2-70b", 8))
LENGTHS = [1024.0 * 2**i for i in range(6)]
CHIPS = {"RTX 4090": "rtx-4090", "A800": "a800-80gb-sxm"}


def _left(chip: str, model: str, tp: int) -> np.ndarray:
    """Time with two chunks over time with one, by length."""
    case = {"phase": "prefill", "model": model, "chip": chip, "runtime": "vllm", "tp": tp, "tokens": LENGTHS}
    whole, halves = (sweep("step", nano_batches=nano, **case)["time_s"] for nano in (1, 2))
    return np.asarray(np.minimum(halves / whole, 1.0))


def run(assumed: Mapping[str, float]) -> Outcome:
    """Means over lengths and both models; what the two streams take from each other is taken off what they hide."""
    left = {name: [_left(chip, *size) for size in SIZES] for name, chip in CHIPS.items()}
    kept = {name: [1.0 - (1.0 - one) * (1.0 - assumed["interference"]) for one in many] for name, many in left.items()}
    return Outcome(
        results={SAVED.format(name): float(np.mean(many)) for name, many in kept.items()},
        figure=Figure(
            title="Prefill in two chunks over prefill in one",
            x=LENGTHS,
            lines={
                f"{size[0]}, {size[1]} x {name}": many[i].tolist()
                for name, many in kept.items()
                for i, size in enumerate(SIZES)
            },
            x_label="tokens of the prompt",
            y_label="share of time left",
            x_log=True,
        ),
    )


STUDY = Study(
    name="iso",
    n=228,
    area="collectives-network",
    paper="Xiao and Su, ISO: Overlap of Computation and Communication within Sequence for LLM Inference (arXiv "
    "2409.11155)",
    idea="A prompt is cut in two; attention of the second chunk only needs the first one's keys, so the all-reduce "
    "of one runs beside the matmuls of the other. Here `nano_batches` of a prefill step, on PCIe and on NVLink.",
    claims=(
        Claim(metric=SAVED.format("RTX 4090"), value=0.65, baseline="one chunk, tensor parallelism over PCIe"),
        Claim(metric=SAVED.format("A800"), value=0.85, baseline="one chunk, tensor parallelism over NVLink"),
    ),
    assumptions=(
        Assumption(
            name="interference",
            value=0.1,
            source="share of the hidden time that kernels and copies cost each other when side by side; not in the "
            "paper",
            uncertain=True,
        ),
    ),
    run=run,
)
