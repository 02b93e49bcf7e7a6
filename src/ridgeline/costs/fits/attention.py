"""Fit the attention and latent-attention rooms to the measured kernel tables.

`python -m ridgeline.costs.fits.attention FOLDER [KIND ...]` reads `attention_prefill.parquet` and `attention_decode.parquet`
in FOLDER and rewrites `costs/coefficients/{attention_prefill,attention_decode,mla}.yaml`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.core.dtypes import dtype, scheme
from ridgeline.costs.attention import engine
from ridgeline.costs.attention_decode import decode_time, split_time
from ridgeline.costs.attention_places import (
    DECODE_GRID,
    LATENT_GRID,
    PREFILL_GRID,
    decode_places,
    latent_places,
    prefill_places,
)
from ridgeline.costs.attention_prefill import tiled_time
from ridgeline.costs.fits.common import source
from ridgeline.costs.fits.families import Family, Load, fit_all, show
from ridgeline.costs.fits.robust import Array, Knob, Sample
from ridgeline.costs.fits.tables import count_rows, distinct, gpus_of, read_rows
from ridgeline.costs.mla import latent_form, latent_time
from ridgeline.costs.mla_module import Block, LatentShape, Work, block_floor, block_places, block_time, block_work
from ridgeline.costs.price import Setting
from ridgeline.costs.room import Facts, facts_of, floor_of
from ridgeline.hardware.catalogue import chip
from ridgeline.hardware.chip import ChipColumns
from ridgeline.workloads.ops import Attention

TARGET = Path(__file__).parents[1]
COMMAND = "python -m ridgeline.costs.fits.attention"
DIMS = ("heads", "kv_heads", "head_dim", "window")
HOT = Setting(weights_cache="hot")

NEXT = {"blackwell": "hopper", "blackwell-ultra": "hopper"}
"""Datacentre parts after Hopper run kernels that descend from Hopper's."""

PREFILL_KNOBS = {
    "launch_us": Knob(start=9.0, low=2.0, high=60.0),
    "cta_cycles": Knob(start=2000.0, low=10.0, high=30000.0),
    "share_64": Knob(start=0.6, low=0.05, high=1.0),
    "share_128": Knob(start=0.7, low=0.05, high=1.0),
    "share_256": Knob(start=0.7, low=0.05, high=1.0),
    "exp_cycles": Knob(start=1 / 16, low=0.005, high=0.5, spread=0.3),
    "tail": Knob(start=0.7, low=0.05, high=2.0, spread=0.5),
    "memory_share": Knob(start=0.8, low=0.2, high=1.0, spread=0.2),
    "cache_share": Knob(start=0.5, low=0.02, high=1.0, spread=0.7),
    "cache_bytes_per_clock": Knob(start=32.0, low=4.0, high=200.0, spread=0.7),
}
"""`exp_cycles`: one of the 16 special-function results per clock and SM of NVIDIA parts since Volta."""

DECODE_KNOBS = {
    "launch_us": Knob(start=7.0, low=2.0, high=60.0),
    "cta_cycles": Knob(start=4000.0, low=100.0, high=60000.0),
    "width_power": Knob(start=0.3, low=0.02, high=2.0, spread=0.7),
    "slots_per_unit": Knob(start=1.0, low=0.2, high=6.0),
    "stream_bytes_per_clock": Knob(start=20.0, low=1.0, high=300.0),
    "memory_share": Knob(start=0.88, low=0.2, high=1.0, spread=0.2),
    "cache_share": Knob(start=0.4, low=0.02, high=1.0, spread=0.4),
    "cache_bytes_per_clock": Knob(start=20.0, low=4.0, high=64.0, spread=0.2),
    "combine_us": Knob(start=2.0, low=0.1, high=20.0),
    "combine_passes": Knob(start=1.0, low=0.05, high=20.0),
    "compute_share": Knob(start=0.5, low=0.1, high=1.0, spread=0.3),
}

PREFILL_TILES = {"tile_rows": 128.0, "tile_keys": 64.0, "packs_group": 1.0}
UNPACKED_TILES = {"tile_rows": 64.0, "tile_keys": 64.0, "packs_group": 0.0}
SPLIT_HABITS = {
    "tile_rows": 64.0,
    "tile_keys": 64.0,
    "pad_rows": 16.0,
    "split_limit": 256.0,
    "group_limit": 1e9,
    "windowed_groups": 1.0,
    "lone_splits": 1.0,
    "regroup_us": 0.0,
}
FLASH2_HABITS = {**SPLIT_HABITS, "tile_keys": 128.0, "windowed_groups": 0.0, "lone_splits": 0.0}
FLASH2_KNOBS = {"regroup_us": Knob(start=3.0, low=0.1, high=10.0)}
FLASH3_HABITS = {**SPLIT_HABITS, "pad_rows": 64.0}
LONE_HABITS = {**SPLIT_HABITS, "tile_keys": 256.0, "group_limit": 0.0}
GROUPED = "(heads > kv_heads and heads <= 32 * kv_heads)"
LATENT_HABITS = {**SPLIT_HABITS, "pad_rows": 64.0}

PREFILL_ROWS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "fmha": ("backend='trtllm' and dtype='bfloat16' and (kv_dtype='bfloat16' or gpu='l40s')", UNPACKED_TILES),
    "fmha-kv8": ("backend='trtllm' and dtype='bfloat16' and kv_dtype='fp8' and gpu<>'l40s'", UNPACKED_TILES),
    "fmha-fp8": ("backend='trtllm' and dtype='fp8'", UNPACKED_TILES),
    "fa2": ("kernel in ('vllm_flash_attn', 'vllm_flash_attn_fa2') and gpu in ('a100_sxm', 'l40s')", PREFILL_TILES),
    "fa3": ("kernel='vllm_flash_attn_fa3' and kv_dtype='bfloat16'", PREFILL_TILES),
    "fa3-kv8": ("kernel='vllm_flash_attn_fa3' and kv_dtype='fp8'", PREFILL_TILES),
    "fa3-v0.22": ("version='0.22.0' and kv_dtype='bfloat16' and head_dim<=256", PREFILL_TILES),
    "fa3-kv8-v0.22": ("version='0.22.0' and kv_dtype='fp8'", PREFILL_TILES),
    "fa4": ("kernel='vllm_flash_attn_fa4'", PREFILL_TILES),
    "flashinfer-kv8": ("kernel='vllm_flashinfer_fiprefill'", PREFILL_TILES),
    "triton-kv8": ("kernel='vllm_triton_attn'", {**PREFILL_TILES, "tile_rows": 64.0}),
    "generic": ("dtype='bfloat16' and kv_dtype='bfloat16' and head_dim<=256", PREFILL_TILES),
}
"""Which rows show which family, and how that family cuts work."""

DECODE_ROWS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "xqa": (f"backend='trtllm' and kv_dtype='bfloat16' and gpu<>'a100_sxm' and {GROUPED}", SPLIT_HABITS),
    "xqa-kv8": (f"backend='trtllm' and kv_dtype='fp8' and {GROUPED}", SPLIT_HABITS),
    "mmha": (f"backend='trtllm' and kv_dtype='bfloat16' and gpu<>'a100_sxm' and not {GROUPED}", LONE_HABITS),
    "mmha-kv8": (f"backend='trtllm' and kv_dtype='fp8' and not {GROUPED}", LONE_HABITS),
    "fa2": ("kernel in ('vllm_flash_attn', 'vllm_flash_attn_fa2') and gpu in ('a100_sxm', 'l40s')", FLASH2_HABITS),
    "fa3": ("kernel='vllm_flash_attn_fa3' and kv_dtype='bfloat16'", FLASH3_HABITS),
    "fa3-kv8": ("kernel='vllm_flash_attn_fa3' and kv_dtype='fp8'", FLASH3_HABITS),
    "fa3-v0.22": ("version='0.22.0' and kv_dtype='bfloat16' and head_dim<=256", FLASH3_HABITS),
    "fa3-kv8-v0.22": ("version='0.22.0' and kv_dtype='fp8'", FLASH3_HABITS),
    "fa4": ("kernel='vllm_flash_attn_fa4'", {**FLASH3_HABITS, "lone_splits": 0.0}),
    "flashinfer-kv8": ("kernel='vllm_flashinfer_fidecode'", SPLIT_HABITS),
    "triton-kv8": ("kernel='vllm_triton_attn'", {**SPLIT_HABITS, "split_limit": 1.0}),
    "generic": ("kv_dtype='bfloat16' and head_dim<=256 and (backend<>'trtllm' or gpu<>'a100_sxm')", SPLIT_HABITS),
}
"""TensorRT-LLM decode on A100 is left out: it exceeds the memory bandwidth (see the table's README)."""

LATENT_ROWS: Mapping[str, str] = {
    "trtllm-{form}": "backend='trtllm' and kv_dtype='bfloat16'",
    "trtllm-{form}-kv8": "backend='trtllm' and kv_dtype='fp8'",
    "flashmla-{form}": "kernel='vllm_flash_attn_mla'",
    "flashmla-{form}-kv8": "kernel='vllm_flashmla'",
    "triton-{form}": "kernel='vllm_triton_mla'",
    "generic-{form}": "backend='trtllm' and kv_dtype='bfloat16'",
}
"""Latent attention kernels; vLLM's rows were launched eagerly and show host time (`host_us`) where work is small."""

EAGER_KNOBS = {
    "host_us": Knob(start=150.0, low=20.0, high=600.0),
    "launch_us": Knob(start=10.0, low=5.0, high=20.0, spread=0.1),
    "combine_us": Knob(start=3.0, low=0.1, high=20.0, spread=0.1),
    "cta_cycles": Knob(start=3000.0, low=100.0, high=60000.0, spread=0.3),
    "slots_per_unit": Knob(start=0.7, low=0.2, high=2.0, spread=0.2),
    "combine_passes": Knob(start=1.0, low=0.05, high=5.0, spread=0.2),
}
"""Where host time hides what small work takes on the device, its constants stay near those of captured kernels."""

DEEPSEEK = {"latent": 512.0, "rope": 64.0, "head_dim": 192.0, "v_head_dim": 128.0}
"""The latent shape that the `mla` rows were measured with (DeepSeek-V3, arXiv 2412.19437, section 4.2)."""


def attention_rows(columns: Mapping[str, Any], phase: str, kv: str, query: str) -> Attention:
    """The op of rows of a measured table."""
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
        kv_heads=columns["kv_heads"],
        head_dim=columns["head_dim"],
        v_head_dim=columns["head_dim"],
        window=columns["window"],
        kv=dtype(kv),
        dtype=dtype(query),
    )


MODULE_KNOBS = {
    "launch_us": Knob(start=40.0, low=10.0, high=250.0),
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

MODULE_ROWS: Mapping[str, tuple[str, str]] = {
    "module-trtllm-expanded": ("prefill", "backend='trtllm' and kv_dtype='bfloat16' and isl>1"),
    "module-trtllm-expanded-kv8": ("prefill", "backend='trtllm' and kv_dtype='fp8' and isl>1"),
    "module-vllm-expanded": ("prefill", "version='0.24.0' and kernel='FLASH_ATTN' and kv_dtype='bfloat16'"),
    "module-vllm-expanded-kv8": ("prefill", "version='0.24.0' and kernel='FLASH_ATTN' and kv_dtype='fp8'"),
    "module-vllm-expanded-v0.22": ("prefill", "version='0.22.0' and kv_dtype='bfloat16' and isl>512"),
    "module-vllm-expanded-kv8-v0.22": ("prefill", "version='0.22.0' and kv_dtype='fp8' and isl>128"),
    "module-trtllm-absorbed": ("decode", "backend='trtllm' and kv_dtype='bfloat16'"),
    "module-trtllm-absorbed-kv8": ("decode", "backend='trtllm' and kv_dtype='fp8'"),
    "module-vllm-absorbed": ("decode", "version='0.24.0' and kv_dtype='bfloat16'"),
    "module-vllm-absorbed-kv8": ("decode", "version='0.24.0' and kv_dtype='fp8'"),
    "module-vllm-absorbed-v0.22": ("decode", "version='0.22.0' and kv_dtype='bfloat16'"),
    "module-vllm-absorbed-kv8-v0.22": ("decode", "version='0.22.0' and kv_dtype='fp8'"),
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


def _samples(file: Path, phase: str, where: str, kernel: str) -> Load:
    key = ("batch", "isl" if phase == "prefill" else "kv_len", *DIMS)

    def load(gpu: str, half: str, rows: int) -> tuple[Sample, ...]:
        found = []
        for query, kv in distinct(file, ("dtype", "kv_dtype"), f"op='attention' and {where} and gpu='{gpu}'"):
            mine = f"op='attention' and {where} and gpu='{gpu}' and dtype='{query}' and kv_dtype='{kv}'"
            if phase == "prefill":
                mine += " and isl > 1"
            columns = read_rows(file, key, mine, half, rows)
            op = attention_rows(columns, phase, kv, query)
            facts = facts_of(ChipColumns((chip(gpu),)), engine(op, kernel) if phase == "prefill" else op.compute)
            found.append(
                Sample(
                    measured_s=columns["latency_ms"] / 1e3,
                    predict=_predictor(op, facts, phase),
                    floor_s=floor_of(op, facts, HOT),
                    places=tuple((prefill_places if phase == "prefill" else decode_places)(op)),
                )
            )
        return tuple(found)

    return load


def _predictor(op: Attention, facts: Facts, phase: str) -> Callable[[Mapping[str, float]], Array]:
    floor = floor_of(op, facts, HOT)

    def predict(c: Mapping[str, float]) -> Array:
        if phase == "prefill":
            total = sum(tiled_time(op, facts, c, packed=c["packs_group"] > 0).values(), start=np.float64(0.0))
        else:
            total = decode_time(split_time(op, facts, c, resident=True))
        seconds: Array = np.maximum(total, floor)
        return seconds

    return predict


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
                    predict=_latent_predictor(op, facts),
                    floor_s=floor_of(op, facts, HOT),
                    places=() if "vllm" in where else tuple(latent_places(op)),
                )
            )
        return tuple(found)

    return load


def _latent_predictor(op: Attention, facts: Facts) -> Callable[[Mapping[str, float]], Array]:
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
            work = block_work(block, LatentShape(**MODULE_SHAPE), ChipColumns((chip(gpu),)), kernel)
            found.append(
                Sample(
                    measured_s=columns["latency_ms"] / 1e3,
                    predict=_block_predictor(work),
                    floor_s=block_floor(work, hot=True),
                    places=tuple(block_places(work)),
                )
            )
        return tuple(found)

    return load


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
                )
            )
    facts = {"block": {"shared": MODULE_SHAPE}, "absorbed_up_to": {"shared": ABSORBED_UP_TO}}
    files = [folder / f"attention_{phase}.parquet" for phase in ("prefill", "decode")]
    data = [source(file, count_rows(file)) for file in files]
    return fit_all("mla", COMMAND, families, data, TARGET, facts)


def generated_kernels(kernels: Mapping[str, Any]) -> dict[str, Any]:
    """TensorRT-LLM's generated decode kernels for Blackwell, from Hopper's XQA by what is known of them (assumed).

    They split the cache over all SMs and reduce partial outputs inside the kernel (FlashInfer's trtllm-gen backend,
    `multiCtasKv`): a slot per SM, a third of the combine, a start-up that is longer by the square root of two.
    """
    made = {}
    for name in ("", "-kv8"):
        values = kernels[f"xqa{name}"]["generations"]["hopper"]
        changed = {
            "slots_per_unit": 1.0,
            "cta_cycles": values["cta_cycles"] * 2.0**0.5,
            "combine_us": values["combine_us"] / 3.0,
        }
        made[f"gen{name}"] = {"shared": kernels[f"xqa{name}"]["shared"], "default": {**values, **changed}}
    return made


def fit_attention(folder: Path, phase: str) -> Mapping[str, Any]:
    """Fit and write one phase; returns errors by kernel and chip."""
    file = folder / f"attention_{phase}.parquet"
    rows, knobs = (PREFILL_ROWS, PREFILL_KNOBS) if phase == "prefill" else (DECODE_ROWS, DECODE_KNOBS)
    families = [
        Family(
            kernel=kernel,
            gpus=gpus_of(file, f"op='attention' and {where}"),
            load=_samples(file, phase, where, kernel),
            knobs={**knobs, **(FLASH2_KNOBS if habits is FLASH2_HABITS else {})},
            habits={
                name: value for name, value in habits.items() if habits is not FLASH2_HABITS or name != "regroup_us"
            },
            grid=None if kernel == "generic" else PREFILL_GRID if phase == "prefill" else DECODE_GRID,
            borrowers=NEXT if phase == "decode" else {},
        )
        for kernel, (where, habits) in rows.items()
    ]
    data = [source(file, count_rows(file))]
    derived = generated_kernels if phase == "decode" else lambda kernels: {}
    return fit_all(f"attention_{phase}", COMMAND, families, data, TARGET, {}, derived)


def main() -> None:
    """Fit what the command line names (default: everything) and print errors."""
    folder, *kinds = sys.argv[1:]
    for kind in kinds or ["prefill", "decode", "mla"]:
        scores = fit_latent(Path(folder)) if kind == "mla" else fit_attention(Path(folder), kind)
        sys.stdout.write(show(kind, scores))


if __name__ == "__main__":
    main()
