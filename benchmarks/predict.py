"""How many deployments and kernels a core predicts per second, from columns in memory and from file to file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from _timing import Timing, measure, report
from ridgeline.api.predictions.predict import predict
from ridgeline.api.tables.tasks import predict_file, predict_table
from ridgeline.core.tables import from_mapping, write_table

ROWS = 100_000
ONE_MODEL_GOAL, MIXED_GOAL, OPS_GOAL = 200_000, 20_000, 500_000
CALL_GOAL_S = 0.02
"""A page that answers while a slider moves."""

MODELS = (
    "meta-llama/Llama-3.1-8B",
    "meta-llama/Llama-3.1-70B",
    "Qwen/Qwen3-32B",
    "Qwen/Qwen3-235B-A22B",
    "mistralai/Mixtral-8x7B-v0.1",
    "deepseek-ai/DeepSeek-V3",
    "openai/gpt-oss-120b",
    "google/gemma-3-27b-it",
)
CHIPS = ("a100-80gb-sxm", "h100-sxm", "h200-sxm", "b200-sxm", "mi300x", "l40s")


def deployments(models: tuple[str, ...], chips: tuple[str, ...]) -> dict[str, Any]:
    """Random deployments of the models on the chips."""
    rng = np.random.default_rng(0)
    return {
        "model": rng.choice(np.array(models, dtype=object), ROWS),
        "chip": rng.choice(np.array(chips, dtype=object), ROWS),
        "tp": rng.choice([1.0, 2.0, 4.0, 8.0], ROWS),
        "isl": rng.integers(64, 16_000, ROWS).astype(float),
        "osl": rng.integers(16, 2_000, ROWS).astype(float),
        "concurrency": rng.integers(1, 512, ROWS).astype(float),
    }


def kernels(rows: int) -> dict[str, Any]:
    """Random matmuls on four chips."""
    rng = np.random.default_rng(0)
    sizes = {name: 2.0 ** rng.integers(4, 14, rows) for name in ("m", "n", "k")}
    chips = rng.choice(np.array(("a100_sxm", "h100_sxm", "h200_sxm", "l40s"), dtype=object), rows)
    return {"kind": ["gemm"] * rows, "chip": chips, "dtype": ["bfloat16"] * rows, **sizes}


def file_to_file() -> Timing:
    """A million kernels from Parquet to Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        cases, out = Path(folder) / "cases.parquet", Path(folder) / "prices.parquet"
        write_table(from_mapping(kernels(1_000_000), columns={}), {}, cases)
        return measure(lambda: predict_file("ops", cases, out), repeats=3)


def one_call() -> Timing:
    """One deployment, with its phases op by op, as the page shows it."""
    asked = {"model": MODELS[1], "on": "8x h100-sxm", "tp": 8, "isl": 1024, "osl": 1024, "concurrency": 64}
    return measure(lambda: predict("serving", **asked).phases, repeats=25)


def main() -> None:
    """Print the rates beside their goals."""
    reference = measure(lambda: np.power(np.random.default_rng(0).random(ROWS * 20), 1.5), repeats=3)
    for name, case, goal in (
        ("serving, one model on one chip", deployments(MODELS[:1], CHIPS[1:2]), ONE_MODEL_GOAL),
        ("serving, 8 models on 6 chips mixed", deployments(MODELS, CHIPS), MIXED_GOAL),
    ):
        timing = measure(lambda case=case: predict_table("serving", case), repeats=3)  # type: ignore[misc]
        report(name, timing, count=ROWS, unit="rows", goal_per_s=goal, reference=reference)
    report("serving, one call with its phases", one_call(), goal_s=CALL_GOAL_S, reference=reference)
    report("ops, Parquet to Parquet", file_to_file(), count=1_000_000, unit="rows", goal_per_s=OPS_GOAL)


if __name__ == "__main__":
    main()
