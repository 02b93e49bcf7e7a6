"""How many training layouts and vision networks are predicted per second, from a table in memory to its results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import ridgeline as rl
from _timing import measure, report
from ridgeline.hardware import catalogue
from ridgeline.hardware.chip import ChipColumns
from ridgeline.search.layouts import Space, legal_layouts, search_layouts
from ridgeline.training import Host, Layout, Setup, Work, coefficients, links_of, profile, recipe, work_of

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


def every_layout() -> tuple[Work, Setup, Layout]:
    """GPT-3 175B on 64 A100: everything that a layout may choose."""
    chip = catalogue.chip("a100-80gb-sxm")
    setup = Setup(
        chips=ChipColumns((chip,)),
        links=links_of([catalogue.default_node(chip)]),
        profile=profile("megatron-bridge"),
        recipe=recipe("bf16"),
        coefficients=coefficients(),
        host=Host(host_bytes_per_s=32e9, nvme_bytes_per_s=6.5e9),
    )
    work = work_of(rl.model("GPT3-175B"), 2048.0)
    space = replace(Space.everything(), offload=(0, 1, 2, 3))
    return work, setup, legal_layouts(work, chips=64, seq=2048, global_batch=1536, space=space)


def main() -> None:
    work, setup, found = every_layout()
    count = len(found.tp)
    took = measure(lambda: search_layouts(work, setup, every_layout()[2], most=10), repeats=3)
    report(
        "all layouts of GPT-3 175B on 64 A100, enumerated and priced",
        took,
        count=count,
        unit="layouts",
        goal_per_s=LAYOUTS_GOAL_PER_S,
    )
    for name, mixed, goal in (("one model and chip", False, LAYOUTS_GOAL_PER_S), ("mixed", True, MIXED_GOAL_PER_S)):
        table = layouts(100_000, mixed=mixed)
        took = measure(lambda table=table: rl.predict_table("training", table), repeats=3)
        report(f"training layouts, {name}", took, count=100_000, unit="rows", goal_per_s=goal)
    table = images(20_000)
    took = measure(lambda: rl.predict_table("vision", table), repeats=3)
    report("vision networks", took, count=20_000, unit="rows", goal_per_s=MIXED_GOAL_PER_S)


if __name__ == "__main__":
    main()
