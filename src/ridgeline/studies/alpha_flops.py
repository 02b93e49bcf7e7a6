"""alpha-FLOPs: operations along the pixels of a convolution cost less time than those along its channels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

KERNELS = (1.0, 3.0, 5.0)
SIDES = np.array([7.0, 14.0, 28.0, 56.0, 112.0, 224.0])
CHANNELS = np.array([16.0, 32.0, 64.0, 128.0, 256.0, 512.0])
BETTER = "median error of times from FLOPs over that from alpha-FLOPs"
BETAS, GAMMAS = np.geomspace(1e-4, 1.0, 25), np.linspace(0.1, 1.0, 19)
STARTS = np.array([1.0, 16.0, 49.0, 196.0, 784.0, 3136.0])


def _cases(kernel: float) -> dict[str, np.ndarray]:
    """Every side with every number of channels."""
    sides, channels = (grid.ravel() for grid in np.meshgrid(SIDES, CHANNELS))
    return {
        "in_size": sides,
        "in_channels": channels,
        "out_channels": channels,
        "kernel_size": np.full(sides.size, kernel),
    }


def _times_s(chip: str, batch: float, cases: Mapping[str, np.ndarray]) -> np.ndarray:
    """Times of the convolutions as a framework runs them."""
    return sweep("ops", kind="conv", chip=chip, runtime="torch", dtype="fp32", batch=batch, **cases)["time_s"]


def _alpha(pixels: np.ndarray, start: np.ndarray, beta: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """The paper's factor: ((S_K + beta (S - S_K)) / S) ** gamma, for images of S pixels."""
    factor: np.ndarray = ((start + beta * np.maximum(pixels - start, 0.0)) / pixels) ** gamma
    return factor


def _error(times: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Median relative error of a time that is proportional to `work` (last axis: cases), at the best rate."""
    logs = np.log(times) - np.log(work)
    return np.asarray(np.median(np.abs(np.expm1(logs - np.median(logs, axis=-1, keepdims=True))), axis=-1))


def run(assumed: Mapping[str, float]) -> Outcome:
    """For each size of kernel the factor is fitted to half of the cases and judged on the rest."""
    before, after, lines = [], [], {}
    for kernel in KERNELS:
        cases = _cases(kernel)
        times = _times_s("v100-sxm2-16gb", assumed["images"], cases)
        pixels, flops = cases["in_size"] ** 2, (cases["in_size"] * cases["in_channels"] * kernel) ** 2
        start, beta, gamma = (grid.reshape(-1, 1) for grid in np.meshgrid(STARTS, BETAS, GAMMAS))
        work = flops * _alpha(pixels, start, beta, gamma)
        fitted = np.arange(times.size) % 2 == 0
        best = int(np.argmin(_error(times[fitted], work[:, fitted])))
        before.append(float(_error(times[~fitted], flops[~fitted])))
        after.append(float(_error(times[~fitted], work[best, ~fitted])))
        rate = flops.reshape(CHANNELS.size, SIDES.size)[-2] / times.reshape(CHANNELS.size, SIDES.size)[-2]
        lines[f"{kernel:g} x {kernel:g}"] = (rate / rate[-1]).tolist()
    return Outcome(
        results={BETTER: float(np.mean(before) / np.mean(after))},
        figure=Figure(
            title="Operations per second of convolutions with 256 channels, over those of the largest image",
            x=(SIDES**2).tolist(),
            lines=lines,
            x_label="pixels",
            y_label="ratio",
            x_log=True,
        ),
        notes=(
            f"Median errors of held-out shapes: {np.mean(before):.0%} from FLOPs, {np.mean(after):.0%} from "
            f"alpha-FLOPs.",
            "Times are our prices, not measurements. They have the asymmetry that the paper found, and little of it.",
        ),
    )


STUDY = Study(
    name="alpha-flops",
    n=254,
    area="perf-prediction",
    paper="Asperti et al., Dissecting FLOPs along Input Dimensions for GreenAI Cost Estimations, LOD 2021 (arXiv "
    "2107.11949)",
    idea="Two layers of equal FLOPs take different times: pixels run in parallel, channels are summed. A factor of "
    "the number of pixels, fitted per size of kernel, corrects FLOPs. Here it is fitted to our prices of "
    "convolutions.",
    claims=(
        Claim(metric=BETTER, value=(1.0, 1000.0), baseline="alpha-FLOPs; the abstract says that they correct FLOPs"),
    ),
    assumptions=(
        Assumption(
            name="images",
            value=1,
            source="single images; the abstract does not say",
            uncertain=True,
            whole=True,
        ),
    ),
    run=run,
)
