"""Weighted arithmetic intensity: weights and activations do not cost a network alike, and should not count alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep
from ridgeline.workloads.ops import Vector
from ridgeline.workloads.vision import network

NETWORKS = (
    *("vgg11", "vgg13", "vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("wide_resnet50_2", "resnext50_32x4d", "resnext101_32x8d", "densenet121", "densenet161", "densenet169"),
    *("densenet201", "mobilenetv1_100", "mobilenetv2_050", "mobilenetv2_100", "mobilenetv2_140"),
    *("mobilenetv3_small_100", "mobilenetv3_large_100", "mnasnet_100", "efficientnet_b0", "efficientnet_b4"),
)
CHIPS = ("v100-pcie-16gb", "t4")
BETTER = "rank correlation of weighted intensity with operations per joule over that of arithmetic intensity"


def _sizes(name: str) -> tuple[float, float, float]:
    """Multiply-accumulates, weights, and values that go in and out of convolutions and matmuls, for one image."""
    graph = network(name).graph(1.0)
    kept = [(op, float(np.asarray(times))) for op, times in graph.walk() if not isinstance(op, Vector)]
    macs = sum(times * float(np.asarray(op.flops())) / 2.0 for op, times in kept)
    moved = sum(
        times * float(np.asarray(o.read_bytes + o.write_bytes)) / 2.0
        for op, times in kept
        for o in op.operands()
        if o.role != "weights"
    )
    return macs, float(np.asarray(graph.parameters())), moved


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values)).astype(np.float64)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, without ties."""
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def run(assumed: Mapping[str, float]) -> Outcome:
    """Both intensities of 25 networks beside the operations per joule that are predicted on two GPUs."""
    macs, weights, values = np.array([_sizes(name) for name in NETWORKS]).T
    share, plain, weighted, lines = assumed["share of weights"], [], [], {}
    intensity = macs / (weights + values)
    typed = macs / (share * weights + (1.0 - share) * values)
    for chip in CHIPS:
        told = sweep("vision", model=NETWORKS, chip=chip, batch=assumed["images"], precision="fp32")
        per_joule = 2.0 * macs / told["energy_j_per_image"]
        plain.append(_correlation(intensity, per_joule))
        weighted.append(_correlation(typed, per_joule))
        order = np.argsort(typed)
        lines[chip] = (per_joule[order] / per_joule.max()).tolist()
    return Outcome(
        results={BETTER: float(np.mean(weighted) / np.mean(plain))},
        figure=Figure(
            title="Operations per joule of 25 networks, over those of the best",
            x=np.sort(typed).tolist(),
            lines=lines,
            x_label="multiply-accumulates per weighted value",
            y_label="ratio",
            x_log=True,
        ),
        notes=(
            f"Rank correlations, means of both GPUs: {np.mean(plain):.2f} of arithmetic intensity, "
            f"{np.mean(weighted):.2f} of the weighted one.",
            "Joules are our predictions, not measurements.",
        ),
    )


STUDY = Study(
    name="data-type-reuse",
    n=213,
    area="energy-power",
    paper="Jha and Mittal, Modeling Data Reuse in Deep Neural Networks by Taking Data-Types into Cognizance, 2020 "
    "(arXiv 2008.02565)",
    idea="Arithmetic intensity divides work by all data alike. Divided by a weighted mix of weights and activations it "
    "tells better how many operations a network gets out of a joule.",
    claims=(
        Claim(
            metric=BETTER,
            value=(1.0, 1000.0),
            baseline="arithmetic intensity; the abstract says that the weighted one is a better indicator",
        ),
    ),
    assumptions=(
        Assumption(
            name="share of weights",
            value=1.0 / 3.0,
            source="weights are read once for an image, activations written and read; the paper's own weight was not "
            "to be read",
            uncertain=True,
        ),
        Assumption(
            name="images",
            value=4,
            source="a small batch; the abstract does not say",
            uncertain=True,
            whole=True,
        ),
    ),
    run=run,
)
