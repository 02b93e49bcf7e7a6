"""Power and energy of published serving runs beside predictions: the kind `energy` of `ridgeline validate`.

Power is predicted at the measured timing: `calibrated` with the other measured runs of the chip, `extrapolated` with no
run of the model, neither in the fit nor beside it. Energy per token is predicted from our own timing by the law alone.
Diffusion runs, of which the law saw none, stand beside them (`diffusion_runs`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ridgeline.api.accuracy.diffusion_runs import diffusion_points
from ridgeline.api.accuracy.energy_runs import EnergyRuns, predicted_token_j, read_energy_runs
from ridgeline.api.accuracy.fit_serving_power import fitted, model_left_out, run_left_out, scored
from ridgeline.api.accuracy.validate import Points

Column = NDArray[np.float64]

POWER, ENERGY = "serving power", "serving energy"
"""Watts per chip at the measured timing; joules per output token at ours."""
SUSPECT = "suspect: far slower than the same model elsewhere"
BOUNDS = {0: "dense", 1: "experts"}


def validate_energy(data: Path) -> list[Points]:
    """All points that the folder's published tables give; none where they are missing. Needs scipy for the fits."""
    paths = [data / "published" / f"{name}.csv" for name in ("energy", "inference_llm")]
    if not all(path.is_file() for path in paths):
        return []
    runs = read_energy_runs(*paths)
    measured = scored(runs)
    near, beyond = run_left_out(measured, fitted(measured)), model_left_out(runs, measured)
    mixture = np.asarray(measured.load.mixture, dtype=np.intp)
    found = [
        _points(runs, POWER, "calibrated", near, measured.share, mixture),
        _points(runs, POWER, "extrapolated", beyond, measured.share, mixture),
        _points(runs, ENERGY, "physics", predicted_token_j(runs), runs.token_j, mixture),
    ]
    images = diffusion_points(paths[0])
    found += [] if images is None else [images]
    return [points.rows(np.isfinite(points.predicted)) for points in found]


def _points(
    runs: EnergyRuns, kind: str, regime: str, predicted: Column, measured: Column, mixture: NDArray[np.intp]
) -> Points:
    size = measured.size
    names = ("isl", "osl", "tp", "dp", "concurrency")
    numbers = zip(runs.model, *(runs.cases[name].tolist() for name in names), strict=True)
    labels = {
        "chip": runs.chip,
        "runtime": np.full(size, "vllm"),
        "version": np.full(size, ""),
        "dtype": np.array([BOUNDS[kind] for kind in mixture.tolist()]),
        "size": runs.task,
        "bound": np.full(size, ""),
        "kernel": np.full(size, ""),
        "case": np.array([_words(str(row[0]), names, row[1:]) for row in numbers]),
    }
    apart = np.where(runs.suspect, SUSPECT, "")
    return Points(kind=kind, regime=regime, predicted=predicted, measured=measured, labels=labels, apart=apart)


def _words(model: str, names: tuple[str, ...], values: tuple[float, ...]) -> str:
    return " ".join([model.rpartition("/")[2], *(f"{n}={v:g}" for n, v in zip(names, values, strict=True))])
