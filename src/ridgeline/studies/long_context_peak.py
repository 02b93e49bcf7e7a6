"""Challenges in deploying long-context transformers: what 50K of context costs on one A100, at peak rates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.hardware import chip
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep
from ridgeline.workloads import cache_bytes
from ridgeline.workloads.catalogue import model

LENGTHS = {"4K": 4096.0, "50K": 50_000.0}
PREFILL = "time to prefill {}, s"
DECODE = "time to generate after {} of context, s"
USERS = "users of {} whose caches fit at once"


def _table(lengths: list[float], generated: float) -> dict[str, np.ndarray]:
    """Prefill and decode of every length at the hardware's bounds, and how many caches the memory holds."""
    common = {"model": "yi-34b", "chip": "a100-80gb-sxm", "runtime": "ideal", "batch": 1}
    prefill = sweep("step", phase="prefill", tokens=lengths, **common)
    decode = sweep("step", phase="decode", context=[length + generated / 2 for length in lengths], **common)
    free = chip("a100-80gb-sxm").dram.capacity_bytes - prefill["weights_bytes_per_chip"]
    held = np.asarray(cache_bytes(model("yi-34b"), np.array(lengths)))
    return {
        "prefill": prefill["time_s"],
        "decode": decode["time_s"] * generated,
        "users": np.floor(free / held),
    }


def run(assumed: Mapping[str, float]) -> Outcome:
    """Three of the paper's four metrics; the fourth, a context switch, it draws without a number."""
    found = _table(list(LENGTHS.values()), assumed["generated tokens"])
    sweep_lengths = [4096.0 * 2**i for i in range(9)]
    far = _table(sweep_lengths, assumed["generated tokens"])
    metrics = ((DECODE, "decode"), (PREFILL, "prefill"), (USERS, "users"))
    return Outcome(
        results={
            metric.format(name): float(found[key][i]) for metric, key in metrics for i, name in enumerate(LENGTHS)
        },
        figure=Figure(
            title="Yi-34B on one A100, from 4K to 1M of context",
            x=sweep_lengths,
            lines={"prefill": far["prefill"].tolist(), "decode": far["decode"].tolist()},
            x_label="tokens of context",
            y_label="s",
            x_log=True,
            y_log=True,
        ),
        notes=(
            "Beyond 64K the cache of one user no longer fits beside the weights; times are those of the arithmetic.",
        ),
    )


STUDY = Study(
    name="long-context-peak",
    n=114,
    area="long-context",
    paper="Fu, Challenges in Deploying Long-Context Transformers (arXiv 2405.08944)",
    idea="Every further cost of long context comes from the cache: it is computed, read at every token, and held. "
    "All of it follows from peak FLOP/s, memory bandwidth and capacity, which is the runtime `ideal` here.",
    claims=(
        Claim(metric=DECODE.format("50K"), value=9.8, kind="absolute", source="section 2"),
        Claim(metric=DECODE.format("4K"), value=8.5, kind="absolute", source="section 2"),
        Claim(metric=PREFILL.format("50K"), value=14.1, kind="absolute", source="section 2"),
        Claim(metric=PREFILL.format("4K"), value=0.89, kind="absolute", source="section 2"),
        Claim(metric=USERS.format("4K"), value=20.0, kind="absolute", source="section 2"),
        Claim(metric=USERS.format("50K"), value=1.0, kind="absolute", source="section 2"),
    ),
    assumptions=(
        Assumption(
            name="generated tokens",
            value=250,
            source="one screen of tokens: 8.5 s at 2 TB/s over 68 GB of weights and the cache are 250 steps",
            uncertain=True,
            whole=True,
        ),
    ),
    run=run,
)
