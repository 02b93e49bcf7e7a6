"""GEMM on Ada: times of CUTLASS kernels on an RTX 4070, from shapes and the board's datasheet."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.core.dtypes import scheme
from ridgeline.costs.gemm import price_matmul
from ridgeline.costs.gemm_tiles import Menu
from ridgeline.costs.price import Setting
from ridgeline.hardware import chip
from ridgeline.hardware.chip import ChipColumns
from ridgeline.studies.frame import Claim, Figure, Outcome, Study
from ridgeline.workloads.ops import Matmul

MEASURED = {
    "fp32": {1024: 0.15022, 2048: 0.80254, 4096: 6.39959, 8192: 50.7698},
    "fp16": {1024: 0.0576819, 2048: 0.2961, 4096: 2.29428, 8192: 17.3917},
}
"""Milliseconds of the fastest variant of each square size: `sgemm`, and `s16816gemm` (16 bits, sums in 32)."""
MENUS = {"fp32": Menu(tile_m=(256.0, 128.0), tile_n=(128.0, 128.0)), "fp16": None}
"""What the profiler was built with: two tiles of `sgemm` in four layouts, the eight variants of each size (a default
build of CUTLASS has cutlass_simt_sgemm_128x128_8x2 and _256x128_8x5); of `s16816gemm`, eight tiles, as libraries have.
"""
TIME = "{}, {} cubed, ms"


def run(assumed: Mapping[str, float]) -> Outcome:
    """Both formats and all sizes; the board runs at its boost clock unless its power limit says otherwise."""
    results: dict[str, float] = {}
    lines: dict[str, list[float]] = {}
    sizes = np.array(list(MEASURED["fp32"]), dtype=np.float64)
    for dtype, measured in MEASURED.items():
        op = Matmul(name="gemm", part="gemm", m=sizes, n=sizes, k=sizes, scheme=scheme(dtype))
        setting = Setting(runtime="torch", weights_cache="hot")
        ours = np.asarray(price_matmul(op, ChipColumns((chip("rtx-4070"),)), setting, MENUS[dtype]).time_s) * 1e3
        results |= {TIME.format(dtype, size): float(ms) for size, ms in zip(measured, ours, strict=True)}
        lines[f"{dtype}, theirs"] = [2.0 * n**3 / ms / 1e9 for n, ms in measured.items()]
        lines[f"{dtype}, ours"] = np.divide(2.0 * sizes**3, ours * 1e9).tolist()
    return Outcome(
        results=results,
        figure=Figure(
            title="Square matmuls on an RTX 4070",
            x=sizes.tolist(),
            lines=lines,
            x_label="rows, columns and depth",
            y_label="TFLOP/s",
            x_log=True,
        ),
        notes=(
            "No board of this chip was measured here: coefficients come from other Ada boards.",
            "The paper's own figures (mean error 15.57 %, tile choice up to 3.2x) are over 16,128 runs whose table "
            "its repository lists and does not hold.",
        ),
    )


STUDY = Study(
    name="gemm-on-ada",
    n=90,
    area="perf-prediction",
    paper="Understanding GEMM Performance and Energy on NVIDIA Ada Lovelace: A Machine Learning-Based Analytical "
    "Approach (2024)",
    idea="Tiles, layouts and occupancy decide the time of a matmul; a forest learns it from 16,128 runs. Here the "
    "price of the same shapes and tiles without one run of the board, beside the runs that its repository holds.",
    claims=tuple(
        Claim(
            metric=TIME.format(dtype, size),
            value=ms,
            kind="absolute",
            source="pavlyhalim/GPPerf, profiling_results_rtx4070_1/results.csv, fastest variant",
        )
        for dtype, measured in MEASURED.items()
        for size, ms in measured.items()
    ),
    run=run,
)
