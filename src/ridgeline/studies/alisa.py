"""ALISA: attend to a fifth of the tokens, keep what fits on the GPU, and fetch little from the host."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.hardware import machine
from ridgeline.steps import eager_kernels
from ridgeline.studies.frame import HOST_PER_KERNEL, Assumption, Claim, Figure, Outcome, Study, sweep
from ridgeline.workloads import Batch, forward, kv_bytes_per_token
from ridgeline.workloads.catalogue import model

CASES = {
    "OPT-6.7B, V100 16 GB": ("opt-6.7b", "v100-sxm2-16gb"),
    "OPT-13B, V100 32 GB": ("opt-13b", "v100-sxm2-32gb"),
    "OPT-30B, H100": ("opt-30b", "h100-sxm"),
}
BATCHES = (4.0, 8.0, 16.0, 32.0, 64.0)
PROMPT, OUTPUT = 128.0, 512.0
FLEXGEN = "throughput over FlexGen, best of models and batches"
VLLM = "throughput over vLLM, best of models and batches"


def _steps_s(name: str, chip: str, seqs: float, contexts: np.ndarray) -> np.ndarray:
    """Device seconds of a decode step with everything in device memory, by context."""
    case = {"phase": "decode", "model": name, "chip": chip, "runtime": "vllm", "weights": "fp16"}
    return sweep("step", batch=seqs, context=np.round(contexts), **case)["device_s"]


def _rates(name: str, chip: str, assumed: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Tokens/s of the three systems, by batch."""
    on, per_token = machine(chip), float(np.asarray(kv_bytes_per_token(model(name))))
    port = on.chip.port("host")
    assert port is not None, "cards have a host port"
    link = port.bandwidth_bytes_per_s * assumed["link efficiency"]
    weights = sweep("step", phase="decode", model=name, chip=chip, weights="fp16", context=1)["weights_bytes_per_chip"]
    room = on.chip.dram.capacity_bytes * assumed["usable memory"] - float(weights[0])
    contexts = PROMPT + np.arange(1.0, OUTPUT, 16.0)
    # Both are eager code that waits for each layer: what the host issues adds to what the device runs.
    kernels = float(np.asarray(eager_kernels(forward(model(name), Batch(decode_seqs=1.0, decode_context=PROMPT)))))
    choosing = float(np.asarray(model(name).layers)) * assumed["kernels of choosing tokens"]
    host_s, chosen_s = (count * assumed[HOST_PER_KERNEL.name] for count in (kernels, kernels + choosing))
    found: dict[str, list[float]] = {"FlexGen": [], "vLLM": [], "ALISA": []}
    for seqs in BATCHES:
        held = seqs * contexts * per_token
        beyond = np.maximum(held - room, 0.0)
        dense = _steps_s(name, chip, seqs, contexts) + host_s
        # FlexGen fetches what is beyond, or has the host attend to it, whichever is faster (arXiv 2303.06865, 4.1).
        found["FlexGen"].append(seqs / float(np.mean(dense + beyond / max(link, assumed["host attention"]))))
        # vLLM serves as many as fit; the others wait for their turn.
        fit = float(np.clip(np.floor(room / (contexts[-1] * per_token)), 1.0, seqs))
        waves = np.ceil(seqs / fit)
        found["vLLM"].append(seqs / float(waves * np.mean(_steps_s(name, chip, fit, contexts))))
        # Half of the kept tokens are the newest, on the GPU; of the others, those beyond the room are fetched.
        kept = assumed["kept share"]
        sparse = _steps_s(name, chip, seqs, np.maximum(contexts * kept, 1.0)) + chosen_s
        fetched = kept / 2.0 * held * beyond / held * assumed["compression"]
        # The host picks scattered tokens into a buffer that the link then reads.
        found["ALISA"].append(seqs / float(np.mean(sparse + fetched * (1.0 / link + 1.0 / assumed["host gathering"]))))
    return {system: np.array(rates) for system, rates in found.items()}


def run(assumed: Mapping[str, float]) -> Outcome:
    """Three models on three cards, batches of 4 to 64."""
    rates = {label: _rates(*case, assumed) for label, case in CASES.items()}
    return Outcome(
        results={
            FLEXGEN: float(max(np.max(one["ALISA"] / one["FlexGen"]) for one in rates.values())),
            VLLM: float(max(np.max(one["ALISA"] / one["vLLM"]) for one in rates.values())),
        },
        figure=Figure(
            title="ALISA over FlexGen",
            x=BATCHES,
            lines={label: (one["ALISA"] / one["FlexGen"]).tolist() for label, one in rates.items()},
            x_label="sequences",
            y_label="ratio of rates",
            x_log=True,
        ),
    )


STUDY = Study(
    name="alisa",
    n=128,
    area="kv-cache",
    paper="Zhao et al., ALISA: Accelerating Large Language Model Inference via Sparsity-Aware KV Caching, ISCA 2024 "
    "(arXiv 2403.17312)",
    idea="Caches that outgrow the GPU cross the host link at every token. A sparse window attention reads a fifth of "
    "the tokens, half of them recent ones that stay on the GPU, and stores the rest in eight bits.",
    claims=(
        Claim(metric=FLEXGEN, value=3.0, baseline="FlexGen; up to"),
        Claim(metric=VLLM, value=1.9, baseline="vLLM; up to"),
    ),
    assumptions=(
        Assumption(
            name="kept share",
            value=0.2,
            source="sparsity of 80 % keeps accuracy; abstract of the paper's results, recalled",
            uncertain=True,
        ),
        Assumption(name="compression", value=0.5, source="caches in int8 against fp16"),
        Assumption(
            name="link efficiency",
            value=0.8,
            source="pinned copies over PCIe reach about 80 % of the raw rate",
            uncertain=True,
        ),
        Assumption(
            name="host attention",
            value=60e9,
            unit="bytes/s",
            source="cache that a server socket attends to per second, about half of its memory's rate",
        ),
        Assumption(name="usable memory", value=0.92, source="context of the driver and activations"),
        HOST_PER_KERNEL,
        Assumption(
            name="kernels of choosing tokens",
            value=11,
            unit="per layer",
            whole=True,
            source="of eager code: sum of recent attention (2), largest ones (1), keys and values picked (2) and "
            "joined with recent ones (2), and made 16 bits wide again (4)",
        ),
        Assumption(
            name="host gathering",
            value=30e9,
            unit="bytes/s",
            source="each token is read and written again, at half the rate of host attention",
        ),
    ),
    run=run,
)
