"""ZeRO++ on Frontier in three levels: what is gathered stays on a module, then in a node, before it crosses nodes."""

from __future__ import annotations

from collections.abc import Mapping

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

OVER_PLUS = "rate per GCD, three levels over ZeRO++, best of 8 to 384 GCDs"
PLUS, BOTH = "rate per GCD, ZeRO++ over ZeRO-3, best", "rate per GCD, three levels over ZeRO-3, best"
SCALING = "rate per GCD at 384 over that at 8, three levels"
GCDS = (8, 16, 32, 64, 128, 256, 384)
SYSTEMS: Mapping[str, Mapping[str, object]] = {
    "ZeRO-3": {"zero_options": "none"},
    "ZeRO++": {"zero_options": "hpz,qwz,qgz"},
    "three levels": {"zero_options": "hpz,qwz,qgz", "shard": 8},
}


def run(assumed: Mapping[str, float]) -> Outcome:
    """A GPT of 20 billion parameters; the third level keeps shards of weights and gradients inside the node."""
    rates = {
        name: sweep(
            "training",
            model="gpt-neox-20b",
            chip="mi250x-gcd",
            chips=list(GCDS),
            global_batch=[gcds * assumed["sequences per GCD"] for gcds in GCDS],
            micro_batch=1,
            seq=2048,
            zero=3,
            framework="deepspeed",
            recompute="full",
            **options,
        )["model_flops_per_s_per_chip"]
        / 1e12
        for name, options in SYSTEMS.items()
    }
    three, plus, plain = rates["three levels"], rates["ZeRO++"], rates["ZeRO-3"]
    return Outcome(
        results={
            OVER_PLUS: float((three / plus).max()),
            PLUS: float((plus / plain).max()),
            BOTH: float((three / plain).max()),
            SCALING: float(three[-1] / three[0]),
        },
        figure=Figure(
            title="A model of 20 billion parameters on Frontier",
            x=GCDS,
            lines={name: rate.tolist() for name, rate in rates.items()},
            x_label="GCDs",
            y_label="TFLOP/s per GCD",
            x_log=True,
        ),
        notes=("Secondary shards lie on the two GCDs of a module here, which ZeRO++ of the paper keeps in the node.",),
    )


WHY = (
    "Links at the rates of the catalogue, overlapped as DeepSpeed overlaps elsewhere, cost ZeRO-3 less than a fifth of "
    "a step. What RCCL reached on Slingshot in the paper's runs is not known here."
)
STUDY = Study(
    name="frontier-partitioning",
    n=53,
    area="training",
    paper="Xu et al., Scaling Large Language Model Training on Frontier with Low-Bandwidth Partitioning (arXiv "
    "2501.04266)",
    idea="Dies of a module, GPUs of a node and nodes are linked at 200, 150 and 12.5 GB/s per die. Weights gathered "
    "over the nearest level, in 8 bits, cost memory and spare the network. Here `zero_options` and `shard`.",
    claims=(
        Claim(metric=OVER_PLUS, value=1.71, baseline="ZeRO++; up to", why=WHY),
        Claim(metric=PLUS, value=1.405, baseline="ZeRO-3", source="summary of the paper"),
        Claim(metric=BOTH, value=2.398, baseline="ZeRO-3; up to", source="summary of the paper", why=WHY),
        Claim(metric=SCALING, value=0.94, kind="absolute"),
    ),
    assumptions=(
        Assumption(
            name="sequences per GCD", value=1, uncertain=True, whole=True, source="not given; least work per exchange"
        ),
    ),
    run=run,
)
