"""COMET: most activations in four bits, outliers in eight, and a cache of four bits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgeline.core.errors import RidgelineError
from ridgeline.studies.frame import Assumption, Claim, Figure, Outcome, Study, sweep

SHAPES = {"qkv": (6144, 4096), "out": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}
"""Columns and depth of the matmuls of Llama-3-8B, one of the paper's family."""
ROWS = [16.0, 32.0, 64.0, 128.0, 256.0]
KERNEL = "matmul over cuBLAS in 16 bits, geometric mean of shapes and batches"
SERVED = "throughput over the best format of TensorRT-LLM, geometric mean of models"
MODELS = ("llama-3-8b", "llama-2-13b", "llama-3-70b")
BASELINES = ("bf16", "int8", "int4_wo")


def _matmuls(dtype: str) -> np.ndarray:
    """Seconds by shape and rows."""
    n, k = (np.repeat([shape[i] for shape in SHAPES.values()], len(ROWS)) for i in (0, 1))
    found = sweep("ops", kind="gemm", chip="a100-80gb-sxm", runtime="trtllm", dtype=dtype, m=ROWS * 4, n=n, k=k)
    return np.asarray(found["time_s"])


def _served(model: str, weights: str, kv: str) -> float:
    """Output tokens/s at saturation on one A100; 0 where it does not fit."""
    case = {"model": model, "chip": "a100-80gb-sxm", "runtime": "trtllm", "isl": 1024, "osl": 512, "load": "saturated"}
    try:
        return float(sweep("serving", weights=weights, kv=kv, **case)["output_tokens_per_s"][0])
    except RidgelineError:
        return 0.0


def run(assumed: Mapping[str, float]) -> Outcome:
    """Tiles of both widths share a launch, so that their times mix by their shares of the depth."""
    narrow = assumed["four-bit share"]
    wide, four, mixed = (_matmuls(name) for name in ("bf16", "int4", "w4a8"))
    kernel = wide / (narrow * four + (1.0 - narrow) * mixed)
    gains = []
    for model in MODELS:
        base = max(_served(model, name, "") for name in BASELINES)
        ours = 1.0 / (narrow / _served(model, "int4", "int4") + (1.0 - narrow) / _served(model, "w4a8", "int4"))
        gains.append(ours / base)
    by_rows = np.exp(np.log(kernel).reshape(len(SHAPES), len(ROWS)).mean(axis=0))
    return Outcome(
        results={
            KERNEL: float(np.exp(np.log(kernel).mean())),
            SERVED: float(np.exp(np.log(gains).mean())),
        },
        figure=Figure(
            title="Mixed four- and eight-bit matmuls over 16 bits, A100",
            x=ROWS,
            lines={"shapes of Llama-3-8B": by_rows.tolist()},
            x_label="rows",
            y_label="gain",
            x_log=True,
        ),
    )


STUDY = Study(
    name="comet",
    n=110,
    area="quantization",
    paper="Liu et al., COMET: Towards Practical W4A4KV4 LLMs Serving, ASPLOS 2025 (arXiv 2410.12168)",
    idea="Blocks of channels without outliers multiply in four bits, the others in four by eight; the cache has four "
    "bits. Matmuls run at the higher rate, weights and cache take a quarter, and the batch grows.",
    claims=(
        Claim(metric=KERNEL, value=2.88, baseline="cuBLAS, one A100"),
        Claim(metric=SERVED, value=2.02, baseline="TensorRT-LLM, one A100"),
    ),
    assumptions=(
        Assumption(
            name="four-bit share",
            value=0.84,
            source="most of the matmul work; the share is in the text of arXiv 2410.12168, recalled",
            uncertain=True,
        ),
    ),
    run=run,
)
