"""Fit latent attention, its kernels and whole blocks, to the measured kernel tables.

`python -m ridgeline.costs.fits.mla FOLDER` reads `attention_prefill.parquet` and `attention_decode.parquet` in FOLDER
and rewrites `mla` of `coefficients` and `residuals`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.core.dtypes import dtype, scheme
from ridgeline.costs.attention_places import LATENT_GRID, latent_places
from ridgeline.costs.fits.attention import DECODE_KNOBS, HOT, NEXT, PREFILL_KNOBS, SPLIT_HABITS, TARGET, UNPACKED_TILES
from ridgeline.costs.fits.common import source
from ridgeline.costs.fits.families import Family, Load, fit_all, show
from ridgeline.costs.fits.robust import Array, Knob, Sample
from ridgeline.costs.fits.tables import count_rows, distinct, gpus_of, read_rows
from ridgeline.costs.mla import latent_form, latent_time
from ridgeline.costs.mla_module import Block, LatentShape, Work, block_floor, block_places, block_time, block_work
from ridgeline.costs.power_runs import power_runs
from ridgeline.costs.room import Facts, facts_of, floor_of
from ridgeline.hardware.catalogue import chip
from ridgeline.hardware.chip import Chip, ChipColumns
from ridgeline.workloads.ops import Attention

COMMAND = "python -m ridgeline.costs.fits.mla"
LATENT_HABITS = {**SPLIT_HABITS, "pad_rows": 64.0}

LATENT_ROWS: Mapping[str, str] = {
    "trtllm-{form}": "backend='trtllm' and kv_dtype='bfloat16'",
    "trtllm-{form}-kv8": "backend='trtllm' and kv_dtype='fp8'",
    "flashmla-{form}": "kernel='vllm_flash_attn_mla'",
    "flashmla-{form}-kv8": "kernel='vllm_flashmla'",
    "triton-{form}": "kernel='vllm_triton_mla'",
    "generic-{form}": "backend='trtllm' and kv_dtype='bfloat16'",
}
"""Latent attention kernels; vLLM's rows were launched eagerly and show host time (`host_us`) where work is small."""

PUBLISHED = {"generic-absorbed": {"ascend-910c": {"memory_share": 0.841, "compute_share": 0.654}}}
"""Shares of their peaks that a vendor's own kernel reaches on a die of Ascend 910C where memory, or arithmetic, binds
it: the table of MLA operators of arXiv 2506.12708, section 5.5.
"""

EAGER_KNOBS = {
    "host_us": Knob(start=150.0, low=20.0, high=600.0),
    "launch_cycles": Knob(start=18300.0, low=9150.0, high=36600.0, spread=0.1),
    "combine_cycles": Knob(start=5490.0, low=183.0, high=36600.0, spread=0.1),
    "start_us": Knob(start=1.6, low=0.05, high=33.0, spread=0.3),
    "slots_per_unit": Knob(start=0.7, low=0.2, high=2.0, spread=0.2),
    "combine_passes": Knob(start=1.0, low=0.05, high=5.0, spread=0.2),
}
"""Where host time hides what small work takes on the device, its constants stay near those of captured kernels."""

DEEPSEEK = {"latent": 512.0, "rope": 64.0, "head_dim": 192.0, "v_head_dim": 128.0}
"""The latent shape that the `mla` rows were measured with (DeepSeek-V3, arXiv 2412.19437, section 4.2)."""


MODULE_KNOBS = {
    "launch_cycles": Knob(start=73200.0, low=18300.0, high=458000.0),
    "linear_share": Knob(start=0.7, low=0.05, high=1.0, spread=0.4),
    "linear_memory_share": Knob(start=0.8, low=0.2, high=1.0, spread=0.2),
    "linear_cache_share": Knob(start=0.5, low=0.02, high=1.0, spread=0.7),
    "linear_passes": Knob(start=1.5, low=0.05, high=20.0),
    "linear_share_narrow": Knob(start=0.6, low=0.05, high=1.0, spread=0.4),
    "linear_passes_narrow": Knob(start=2.5, low=0.05, high=20.0),
    "quantise_us": Knob(start=8.0, low=0.5, high=100.0),
}
MODULE_SHAPE = {"hidden": 7168.0, "q_rank": 1536.0, "latent": 512.0, "rope": 64.0, "nope": 128.0, "value": 128.0}
"""The measured block (DeepSeek-V3, arXiv 2412.19437, section 4.2)."""
ABSORBED_UP_TO = {"kv16": 512.0, "kv8": 128.0}
"""Longest prompt that vLLM 0.24 computes in the latent space on Hopper, by the kernels that its rows report."""

(RUN,) = power_runs()

MODULE_ROWS: Mapping[str, tuple[str, str]] = {
    "module-trtllm-expanded": ("prefill", "backend='trtllm' and kv_dtype='bfloat16' and isl>1"),
    "module-trtllm-expanded-kv8": ("prefill", "backend='trtllm' and kv_dtype='fp8' and isl>1"),
    "module-vllm-expanded": ("prefill", "version='0.24.0' and kernel='FLASH_ATTN' and kv_dtype='bfloat16'"),
    "module-vllm-expanded-kv8": ("prefill", "version='0.24.0' and kernel='FLASH_ATTN' and kv_dtype='fp8'"),
    f"module-vllm-expanded{RUN.suffix}": ("prefill", f"version='{RUN.version}' and kv_dtype='bfloat16' and isl>512"),
    f"module-vllm-expanded-kv8{RUN.suffix}": ("prefill", f"version='{RUN.version}' and kv_dtype='fp8' and isl>128"),
    "module-trtllm-absorbed": ("decode", "backend='trtllm' and kv_dtype='bfloat16'"),
    "module-trtllm-absorbed-kv8": ("decode", "backend='trtllm' and kv_dtype='fp8'"),
    "module-vllm-absorbed": ("decode", "version='0.24.0' and kv_dtype='bfloat16'"),
    "module-vllm-absorbed-kv8": ("decode", "version='0.24.0' and kv_dtype='fp8'"),
    f"module-vllm-absorbed{RUN.suffix}": ("decode", f"version='{RUN.version}' and kv_dtype='bfloat16'"),
    f"module-vllm-absorbed-kv8{RUN.suffix}": ("decode", f"version='{RUN.version}' and kv_dtype='fp8'"),
}
"""Whole blocks: which rows show which family. The short prompts that vLLM absorbs are scored, not fitted."""


def latent_rows(columns: Mapping[str, Any], phase: str, kv: str) -> Attention:
    """The latent op of rows of a measured table."""
    prompt = phase == "prefill"
    length = columns["isl"] if prompt else columns["kv_len"]
    return Attention(
        name="attention",
        part="attention",
        phase=phase,
        batch=columns["batch"],
        q_len=length if prompt else 1.0,
        kv_len=length,
        heads=columns["heads"],
        kv_heads=columns["heads"],
        kv=dtype(kv),
        absorbed=not prompt,
        latent=DEEPSEEK["latent"],
        rope=DEEPSEEK["rope"],
        head_dim=DEEPSEEK["head_dim"],
        v_head_dim=DEEPSEEK["v_head_dim"],
    )


def _latent_samples(file: Path, phase: str, where: str, kernel: str) -> Load:
    key = ("batch", "isl" if phase == "prefill" else "kv_len", "heads")

    def load(gpu: str, half: str, rows: int) -> tuple[Sample, ...]:
        found = []
        for query, kv in distinct(file, ("dtype", "kv_dtype"), f"op='mla' and {where} and gpu='{gpu}'"):
            mine = f"op='mla' and {where} and gpu='{gpu}' and dtype='{query}' and kv_dtype='{kv}'"
            columns = read_rows(file, key, mine, half, rows)
            columns = {**columns, "kv_heads": columns["heads"]}
            op, compute = latent_form(latent_rows(columns, phase, kv), kernel)
            facts = facts_of(ChipColumns((chip(gpu),)), compute)
            found.append(
                Sample(
                    measured_s=columns["latency_ms"] / 1e3,
                    predict=latent_predictor(op, facts),
                    floor_s=floor_of(op, facts, HOT),
                    places=() if "vllm" in where else tuple(latent_places(op)),
                )
            )
        return tuple(found)

    return load


def latent_predictor(op: Attention, facts: Facts) -> Callable[[Mapping[str, float]], Array]:
    """Seconds of the op by a family's numbers, in a benchmark loop; no less than the host takes to launch it."""
    floor = floor_of(op, facts, HOT)

    def predict(c: Mapping[str, float]) -> Array:
        total, _ = latent_time(op, facts, c, resident=True)
        seconds: Array = np.maximum(np.maximum(total, floor), c["host_us"] * 1e-6)
        return seconds

    return predict


def block_rows(columns: Mapping[str, Any], phase: str, kv: str, query: str, linears: str) -> Block:
    """The block of rows of a measured table."""
    length = columns["isl"] if phase == "prefill" else columns["kv_len"]
    return Block(
        batch=columns["batch"],
        q_len=length if phase == "prefill" else 1.0,
        kv_len=length,
        heads=columns["heads"],
        phase=phase,
        scheme=scheme("bf16" if linears == "bfloat16" else linears),
        kv=dtype(kv),
        dtype=dtype(query),
    )


def _module_samples(file: Path, phase: str, where: str, kernel: str) -> Load:
    key = ("batch", "isl" if phase == "prefill" else "kv_len", "heads")

    def load(gpu: str, half: str, rows: int) -> tuple[Sample, ...]:
        found = []
        mine = f"op='mla_module' and {where} and gpu='{gpu}'"
        for query, kv, linears in distinct(file, ("dtype", "kv_dtype", "gemm_dtype"), mine):
            narrow = f"{mine} and dtype='{query}' and kv_dtype='{kv}' and gemm_dtype='{linears}'"
            columns = read_rows(file, key, narrow, half, rows)
            block = block_rows(columns, phase, kv, query, linears)
            found.append(block_sample(block, columns["latency_ms"] / 1e3, chip(gpu), kernel))
        return tuple(found)

    return load


def block_sample(block: Block, measured_s: Array, on: Chip, kernel: str) -> Sample:
    """Measured blocks of the measured shape, as a family computes them."""
    work = block_work(block, LatentShape(**MODULE_SHAPE), ChipColumns((on,)), kernel)
    return Sample(
        measured_s=measured_s,
        predict=_block_predictor(work),
        floor_s=block_floor(work, hot=True),
        places=tuple(block_places(work)),
    )


def _block_predictor(work: Work) -> Callable[[Mapping[str, float]], Array]:
    floor = block_floor(work, hot=True)

    def predict(c: Mapping[str, float]) -> Array:
        seconds: Array = np.maximum(block_time(work, c, resident=True)[0], floor)
        return seconds

    return predict


def module_families(folder: Path) -> list[Family]:
    """Families of whole latent blocks."""
    families = []
    for kernel, (phase, where) in MODULE_ROWS.items():
        file = folder / f"attention_{phase}.parquet"
        knobs, habits = (PREFILL_KNOBS, UNPACKED_TILES) if phase == "prefill" else (DECODE_KNOBS, LATENT_HABITS)
        families.append(
            Family(
                kernel=kernel,
                gpus=gpus_of(file, f"op='mla_module' and {where}"),
                load=_module_samples(file, phase, where, kernel),
                knobs={**knobs, **MODULE_KNOBS},
                habits=habits,
                grid=LATENT_GRID,
                borrowers=NEXT,
            )
        )
    return families


def fit_latent(folder: Path) -> Mapping[str, Any]:
    """Fit and write the latent kernels of both phases; returns errors by kernel and chip."""
    families = module_families(folder)
    for phase, form, knobs, habits in (
        ("prefill", "expanded", PREFILL_KNOBS, UNPACKED_TILES),
        ("decode", "absorbed", DECODE_KNOBS, LATENT_HABITS),
    ):
        file = folder / f"attention_{phase}.parquet"
        for name, where in LATENT_ROWS.items():
            kernel = name.format(form=form)
            eager = "vllm" in where
            families.append(
                Family(
                    kernel=kernel,
                    gpus=gpus_of(file, f"op='mla' and {where}"),
                    load=_latent_samples(file, phase, where, kernel),
                    knobs={
                        **knobs,
                        **{n: k for n, k in EAGER_KNOBS.items() if eager and (n in knobs or n == "host_us")},
                    },
                    habits=habits if eager else {**habits, "host_us": 0.0},
                    grid=LATENT_GRID,
                    borrowers=NEXT,
                    published=PUBLISHED.get(kernel, {}),
                )
            )
    facts = {"block": {"shared": MODULE_SHAPE}, "absorbed_up_to": {"shared": ABSORBED_UP_TO}}
    files = [folder / f"attention_{phase}.parquet" for phase in ("prefill", "decode")]
    data = [source(file, count_rows(file)) for file in files]
    return fit_all("mla", COMMAND, families, data, TARGET, facts)


def main() -> None:
    """Fit and print errors."""
    sys.stdout.write(show("mla", fit_latent(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
