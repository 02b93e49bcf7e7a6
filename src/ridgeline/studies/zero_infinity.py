"""ZeRO-Infinity: weights, gradients and state over all chips' shares of host memory and drives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.hardware import chip
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

RATE, PEAK = "rate of a chip, 512 V100, TFLOP/s", "share of the peak"
LARGEST = "parameters of the largest model that one DGX-2 can hold, billions"
CHIPS = (64, 128, 256, 512)
CHIP = "v100-sxm2-32gb"


def _trained(assumed: Mapping[str, float], chips: list[int]) -> dict[str, np.ndarray]:
    """A trillion parameters: 128 layers of 25,600 (table 1), one copy of the weights over all chips."""
    return sweep(
        "training",
        layers=128,
        hidden=25600,
        heads=256,
        vocab=50257,
        seq=1024,
        chip=CHIP,
        chips=chips,
        micro_batch=assumed["sequences per chip"],
        global_batch=[count * assumed["sequences per chip"] for count in chips],
        precision="fp16",
        framework="deepspeed",
        zero=3,
        offload="nvme",
        recompute="full",
    )


def run(assumed: Mapping[str, float]) -> Outcome:
    """Steps of the step model with state on drives; and what drives of a node hold."""
    found = _trained(assumed, list(CHIPS))
    # The paper counts recomputed operations.
    rate = found["hardware_flops_per_s_per_chip"] / 1e12
    held = assumed["drives of a DGX-2"] / assumed["bytes per parameter"] / 1e9
    return Outcome(
        results={
            RATE: float(rate[-1]),
            PEAK: float(rate[-1]) * 1e12 / chip(CHIP).peak_flops_per_s("fp16"),
            LARGEST: held,
        },
        figure=Figure(
            title="A trillion parameters with state on drives",
            x=CHIPS,
            lines={"TFLOP/s of a V100": rate.tolist()},
            x_label="V100",
            y_label="TFLOP/s",
            x_log=True,
        ),
        notes=(
            f"Scaling is super-linear, as claimed without a number: {rate[-1] / rate[0]:.1f} from 64 to 512 chips.",
        ),
    )


STUDY = Study(
    name="zero-infinity",
    n=142,
    area="offload-memory",
    paper="Rajbhandari et al., ZeRO-Infinity: Breaking the GPU Memory Wall for Extreme Scale Deep Learning, SC 2021 "
    "(arXiv 2104.07857)",
    idea="State is cut over all chips, so that drives and host links of all nodes add up, and what a chip fetches "
    "shrinks as nodes are added. Here `zero=3` with `offload=nvme`.",
    claims=(
        Claim(metric=RATE, value=48.8, kind="absolute", source="abstract: more than 25 PFLOP/s on 512"),
        Claim(metric=PEAK, value=0.4, kind="absolute"),
        Claim(
            metric=LARGEST,
            value=1000.0,
            kind="absolute",
            source="abstract: a trillion on one DGX-2",
            why="The drives would hold half as much again; a trillion fits, says the abstract, not that no more does.",
        ),
    ),
    assumptions=(
        Assumption(name="sequences per chip", value=5, source="not given in the abstract", uncertain=True, whole=True),
        Assumption(name="drives of a DGX-2", value=30e12, unit="byte", source="8 x 3.84 TB, NVIDIA DGX-2 datasheet"),
        Assumption(name="bytes per parameter", value=20, source="16-bit weights and gradients, 16 of state, section 3"),
    ),
    run=run,
)
