"""How many training layouts and vision networks are predicted per second, from a table in memory to its results."""

from __future__ import annotations

from typing import Any

import numpy as np

import ridgeline as rl
from _timing import measure, report

LAYOUTS_GOAL_PER_S = 50_000
MIXED_GOAL_PER_S = 20_000


def layouts(rows: int, *, mixed: bool) -> dict[str, Any]:
    """Legal layouts of one model on one chip, or of several models, chips and frameworks."""
    draw = np.random.default_rng(7)
    tp, pp = draw.choice([1, 2, 4, 8], rows), draw.choice([1, 2, 4, 8], rows)
    dp = draw.choice([8, 16, 32], rows)
    models = ["meta-llama/Llama-3.1-70B", "Qwen/Qwen3-30B-A3B", "meta-llama/Llama-3.1-8B"]
    chips, frameworks = ["h100-sxm", "gb200", "a100-80gb-sxm"], ["megatron-bridge", "torchtitan"]

    def one(choices: list[str]) -> np.ndarray:
        return np.array(choices)[draw.integers(0, len(choices) if mixed else 1, rows)]

    return {
        "model": one(models),
        "chip": one(chips),
        "framework": one(frameworks),
        "chips": tp * pp * dp,
        "tp": tp,
        "pp": pp,
        "seq": np.full(rows, 8192.0),
        "micro_batch": np.ones(rows),
        "global_batch": dp * 16,
    }


def images(rows: int) -> dict[str, Any]:
    """Batches of a few networks on a few chips."""
    draw = np.random.default_rng(7)
    models, chips = np.array(["resnet50", "vit_base_patch16", "efficientnet_b0"]), np.array(["h100-sxm", "rtx-4090"])
    return {
        "model": models[draw.integers(0, 3, rows)],
        "chip": chips[draw.integers(0, 2, rows)],
        "batch": draw.integers(1, 512, rows),
    }


def main() -> None:
    for name, mixed, goal in (("one model and chip", False, LAYOUTS_GOAL_PER_S), ("mixed", True, MIXED_GOAL_PER_S)):
        table = layouts(100_000, mixed=mixed)
        took = measure(lambda table=table: rl.predict_table("training", table), repeats=3)
        report(f"training layouts, {name}", took, count=100_000, unit="rows", goal_per_s=goal)
    table = images(20_000)
    took = measure(lambda: rl.predict_table("vision", table), repeats=3)
    report("vision networks", took, count=20_000, unit="rows", goal_per_s=MIXED_GOAL_PER_S)


if __name__ == "__main__":
    main()
