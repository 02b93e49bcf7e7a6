"""Fit the attention rooms to the measured kernel tables.

`python -m ridgeline.costs.fits.attention FOLDER [prefill] [decode]` reads `attention_prefill.parquet` and
`attention_decode.parquet` in FOLDER; it rewrites `attention_{prefill,decode}` of `coefficients` and `residuals`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.core.dtypes import dtype
from ridgeline.costs.attention import engine
from ridgeline.costs.attention_decode import decode_time, split_time
from ridgeline.costs.attention_places import DECODE_GRID, PREFILL_GRID, decode_places, prefill_places
from ridgeline.costs.attention_prefill import tiled_time
from ridgeline.costs.fits.common import source
from ridgeline.costs.fits.families import Family, Load, fit_all, show
from ridgeline.costs.fits.robust import Array, Knob, Sample
from ridgeline.costs.fits.tables import count_rows, distinct, gpus_of, read_rows
from ridgeline.costs.power_runs import power_runs
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

KIN = {"xqa-kv8": dict.fromkeys(("volta", "turing", "ampere", "ada"), "xqa")}
"""TensorRT-LLM's XQA for 8-bit caches is a kernel of Hopper alone (`supportConfigQGMMA` of decoderXQAImplJIT asks for
SM 90); older chips run the one for 16-bit caches on them."""

PREFILL_KNOBS = {
    "launch_cycles": Knob(start=16500.0, low=3660.0, high=110000.0),
    "cta_cycles": Knob(start=2000.0, low=10.0, high=30000.0),
    "share_64": Knob(start=0.6, low=0.05, high=1.0),
    "share_128": Knob(start=0.7, low=0.05, high=1.0),
    "share_256": Knob(start=0.7, low=0.05, high=1.0),
    "exp_cycles": Knob(start=1 / 16, low=0.005, high=0.5, spread=0.3),
    "tail": Knob(start=0.7, low=0.05, high=2.0, spread=0.5),
    "memory_share": Knob(start=0.85, low=0.2, high=0.92, spread=0.05),
    "cache_share": Knob(start=0.5, low=0.02, high=1.0, spread=0.7),
    "cache_bytes_per_clock": Knob(start=32.0, low=4.0, high=200.0, spread=0.7),
}
"""`exp_cycles`: one of the 16 special-function results per clock and SM of NVIDIA parts since Volta.

Launches take cycles of the chip's clock: 12,000 to 14,000 of FlashAttention 2 on A100 and on L40S. `memory_share`:
streams reach 79 to 92 % of the bandwidth on every measured chip; a kernel that seems to reach more tells of something
else."""

DECODE_KNOBS = {
    "launch_cycles": Knob(start=12800.0, low=3660.0, high=110000.0),
    "start_us": Knob(start=2.2, low=0.05, high=33.0),
    "width_power": Knob(start=0.3, low=0.02, high=2.0, spread=0.7),
    "slots_per_unit": Knob(start=1.0, low=0.2, high=6.0),
    "stream_bytes_per_clock": Knob(start=20.0, low=1.0, high=300.0),
    "memory_share": Knob(start=0.88, low=0.2, high=0.97, spread=0.1),
    "cache_share": Knob(start=0.4, low=0.02, high=1.0, spread=0.4),
    "cache_bytes_per_clock": Knob(start=20.0, low=4.0, high=64.0, spread=0.2),
    "combine_cycles": Knob(start=3660.0, low=183.0, high=36600.0),
    "combine_passes": Knob(start=1.0, low=0.05, high=20.0),
    "compute_share": Knob(start=0.5, low=0.1, high=1.0, spread=0.3),
}

"""The start of a CTA is a chain of loads that wait for memory, which takes as long on every chip (3.3 us of
FlashAttention 2 on L40S, 3.8 us on A100), whatever its clock. `memory_share` may lie a little above what streams reach:
held to 0.92, decode on chips left out is priced better still, but published rates of Blackwell are missed by more."""

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
    "regroup_cycles": 0.0,
}
FLASH2_HABITS = {**SPLIT_HABITS, "tile_keys": 128.0, "windowed_groups": 0.0, "lone_splits": 0.0}
FLASH2_KNOBS = {"regroup_cycles": Knob(start=5490.0, low=183.0, high=18300.0)}
FLASH3_HABITS = {**SPLIT_HABITS, "pad_rows": 64.0}
LONE_HABITS = {**SPLIT_HABITS, "tile_keys": 256.0, "group_limit": 0.0}
GROUPED = "(heads > kv_heads and heads <= 32 * kv_heads)"

(RUN,) = power_runs()

PREFILL_ROWS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "fmha": ("backend='trtllm' and dtype='bfloat16' and (kv_dtype='bfloat16' or gpu='l40s')", UNPACKED_TILES),
    "fmha-kv8": ("backend='trtllm' and dtype='bfloat16' and kv_dtype='fp8' and gpu<>'l40s'", UNPACKED_TILES),
    "fmha-fp8": ("backend='trtllm' and dtype='fp8'", UNPACKED_TILES),
    "fa2": ("kernel in ('vllm_flash_attn', 'vllm_flash_attn_fa2') and gpu in ('a100_sxm', 'l40s')", PREFILL_TILES),
    "fa3": ("kernel='vllm_flash_attn_fa3' and kv_dtype='bfloat16'", PREFILL_TILES),
    "fa3-kv8": ("kernel='vllm_flash_attn_fa3' and kv_dtype='fp8'", PREFILL_TILES),
    f"fa3{RUN.suffix}": (f"version='{RUN.version}' and kv_dtype='bfloat16' and head_dim<=256", PREFILL_TILES),
    f"fa3-kv8{RUN.suffix}": (f"version='{RUN.version}' and kv_dtype='fp8'", PREFILL_TILES),
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
    f"fa3{RUN.suffix}": (f"version='{RUN.version}' and kv_dtype='bfloat16' and head_dim<=256", FLASH3_HABITS),
    f"fa3-kv8{RUN.suffix}": (f"version='{RUN.version}' and kv_dtype='fp8'", FLASH3_HABITS),
    "fa4": ("kernel='vllm_flash_attn_fa4'", {**FLASH3_HABITS, "lone_splits": 0.0}),
    "flashinfer-kv8": ("kernel='vllm_flashinfer_fidecode'", SPLIT_HABITS),
    "triton-kv8": ("kernel='vllm_triton_attn'", {**SPLIT_HABITS, "split_limit": 1.0}),
    "generic": ("kv_dtype='bfloat16' and head_dim<=256 and (backend<>'trtllm' or gpu<>'a100_sxm')", SPLIT_HABITS),
}
"""TensorRT-LLM decode on A100 is left out: it exceeds the memory bandwidth (see the table's README)."""


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
                    predict=predictor(op, facts, phase),
                    floor_s=floor_of(op, facts, HOT),
                    places=tuple((prefill_places if phase == "prefill" else decode_places)(op)),
                )
            )
        return tuple(found)

    return load


def predictor(op: Attention, facts: Facts, phase: str) -> Callable[[Mapping[str, float]], Array]:
    """Seconds of the op by a family's numbers, in a benchmark loop."""
    floor = floor_of(op, facts, HOT)

    def predict(c: Mapping[str, float]) -> Array:
        if phase == "prefill":
            total = sum(tiled_time(op, facts, c, packed=c["packs_group"] > 0).values(), start=np.float64(0.0))
        else:
            total = decode_time(split_time(op, facts, c, resident=True))
        seconds: Array = np.maximum(total, floor)
        return seconds

    return predict


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
            "start_us": values["start_us"] * 2.0**0.5,
            "combine_cycles": values["combine_cycles"] / 3.0,
        }
        made[f"gen{name}"] = {"shared": kernels[f"xqa{name}"]["shared"], "default": {**values, **changed}}
    return made


def attention_families(file: Path, phase: str, only: str = "true") -> list[Family]:
    """Families of one phase, from the rows for which `only` holds."""
    rows, knobs = (PREFILL_ROWS, PREFILL_KNOBS) if phase == "prefill" else (DECODE_ROWS, DECODE_KNOBS)
    return [
        Family(
            kernel=kernel,
            gpus=gpus_of(file, f"op='attention' and {where} and {only}"),
            load=_samples(file, phase, f"{where} and {only}", kernel),
            knobs={**knobs, **(FLASH2_KNOBS if habits is FLASH2_HABITS else {})},
            habits={
                name: value for name, value in habits.items() if habits is not FLASH2_HABITS or name != "regroup_cycles"
            },
            grid=None if kernel == "generic" else PREFILL_GRID if phase == "prefill" else DECODE_GRID,
            borrowers=NEXT if phase == "decode" else {},
            kin=KIN.get(kernel, {}) if phase == "decode" else {},
        )
        for kernel, (where, habits) in rows.items()
    ]


def fit_attention(folder: Path, phase: str) -> Mapping[str, Any]:
    """Fit and write one phase; returns errors by kernel and chip."""
    file = folder / f"attention_{phase}.parquet"
    families = attention_families(file, phase)
    data = [source(file, count_rows(file))]
    derived = generated_kernels if phase == "decode" else lambda kernels: {}
    return fit_all(f"attention_{phase}", COMMAND, families, data, TARGET, {}, derived)


def main() -> None:
    """Fit the phases that the command line names (default: both) and print errors."""
    folder, *phases = sys.argv[1:]
    for phase in phases or ["prefill", "decode"]:
        sys.stdout.write(show(phase, fit_attention(Path(folder), phase)))


if __name__ == "__main__":
    main()
